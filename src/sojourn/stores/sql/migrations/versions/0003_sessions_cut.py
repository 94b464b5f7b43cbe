"""Sweeps say how many sessions they found behind a cutoff."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, inspect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_sweeps"):
        return  # lost: it is made anew, as it must be now, when all steps are taken
    there = {column["name"] for column in found.get_columns("sojourn_sweeps")}
    if "sessions_cut" not in there:
        op.add_column(
            "sojourn_sweeps", Column("sessions_cut", BigInteger, nullable=False, server_default="0")
        )
