"""Floods by a stranger, and what they do to an honest client. See `campaign`."""
