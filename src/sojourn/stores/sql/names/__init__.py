"""The names of our tables: `sojourn_…` since version 0006, and bare nouns such as `sessions` before.

In an application's own database, `sessions` and `events` are likely to be the application's.
`change.take_over` renames our tables of an older version, without a row being copied; a table of somebody
else's stays. Programs of the older version know the old names alone: where a database server may have some,
these stay as views that can be written through, until `change.finish` finds no such program any more. See
docs/adr/0031.
"""
