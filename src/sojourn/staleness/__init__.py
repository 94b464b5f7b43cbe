"""Staleness: who is probably gone, told from how its client has beaten so far.

It orders whom to ask and forecasts, with reasons in words. It ends no lease: a lease ends when its contract
says so, or when its holder was asked and did not answer. Everything here is pure but for memory: clocks and
stores are the caller's. See docs/guide/staleness.md and docs/adr/0039.
"""
