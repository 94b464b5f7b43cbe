"""Alembic's entry point: the connection is handed in by `migrate`, which also holds the locks."""

from alembic import context

from sojourn.stores.sql import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
)
context.run_migrations()
