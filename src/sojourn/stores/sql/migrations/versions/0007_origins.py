"""Licenses name the origins whose pages may use their keys."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, inspect

from sojourn.stores.sql.schema import JSON

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_licenses"):
        return  # it was lost: the repair that follows makes it, with every column
    there = {column["name"] for column in found.get_columns("sojourn_licenses")}
    if "allowed_origins" not in there:
        op.add_column("sojourn_licenses", Column("allowed_origins", JSON))
