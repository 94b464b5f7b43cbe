"""Sessions for web frameworks: one module each. `desk` is what they have in common."""
