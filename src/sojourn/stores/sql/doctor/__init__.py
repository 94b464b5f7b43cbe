"""What doctor looks at in a database, and how it mends it: one module per kind of question."""
