"""`sojourn demo`: people share seats, and everything that can go wrong goes wrong.

A server of its own, real client processes over HTTP, a network that can be cut; nothing is simulated
but the people.
"""
