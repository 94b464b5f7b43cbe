"""Tables are called `sojourn_…`, and servers say which version of the schema they know.

Tables by their old names have been renamed before the first step: see `names.change.take_over`.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, inspect

from sojourn.stores.sql.schema import Key

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_instances"):
        return  # it was lost: the repair that follows makes it, with every column
    there = {column["name"] for column in found.get_columns("sojourn_instances")}
    if "schema_version" not in there:
        op.add_column("sojourn_instances", Column("schema_version", Key(32)))
