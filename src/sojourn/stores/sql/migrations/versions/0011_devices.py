"""Sessions know what their users call the devices, and what they were last used from."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, inspect

from sojourn.stores.sql.schema import JSON, Key

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_sessions"):
        return  # it was lost: the repair that follows makes it, with every column
    there = {column["name"] for column in found.get_columns("sojourn_sessions")}
    for column in (Column("label", Key(64)), Column("last_device", JSON)):
        if column.name not in there:
            op.add_column("sojourn_sessions", column)
