"""Webhooks: events of the store, delivered to receivers by HTTP.

`webhook` and `book` say what they are and where they are kept, `signature` proves them, `reach` and
`sender` bring one to its receiver, `deliverer` does so again and again.
"""
