"""Requests that came with a key, and what was answered first."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Index, MetaData, Table

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import DIGEST, IN_MYSQL, INSTANT, JSON, Key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_requests",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("fingerprint", DIGEST, nullable=False),
    Column("note", Key(128), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", INSTANT, nullable=False),
    Index("sojourn_requests_at", "at"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
