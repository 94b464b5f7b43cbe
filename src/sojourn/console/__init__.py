"""Pages for people: where one is signed in, and, growing from the same frame, the operators' console."""
