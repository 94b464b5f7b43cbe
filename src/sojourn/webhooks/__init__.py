"""Webhooks: events of the store, delivered to receivers by HTTP.

`reach` and `sender` bring a delivery to its receiver, `deliverer` does so again and again, `service` is
what operators do. What a webhook is and where it is kept stands in the domain: `webhook`, `webhook_store`.
"""
