"""Which server processes run over this ledger, and fingerprints of their secrets."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Index, MetaData, Table

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_instances",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("host", Key(256), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("version", Key(64), nullable=False),
    Column("fingerprints", JSON, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("seen_at", INSTANT, nullable=False),
    Column("stopped_at", INSTANT),
    Index("sojourn_instances_seen", "seen_at"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
