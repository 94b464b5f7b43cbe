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
    there = {column["name"] for column in inspect(op.get_bind()).get_columns("sojourn_instances")}
    if "schema_version" not in there:
        op.add_column("sojourn_instances", Column("schema_version", Key(32)))
