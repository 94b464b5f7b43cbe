"""People and their own sessions: what they see of them, and what they do about them."""
