"""The old name of `sojourn.doctor.browser`, for who imports from here."""
