"""What operators want of relays (commands, how many seats, for how long), and what these report."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
)

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_relay_commands",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("relay", Key(256), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("verb", Key(32), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("actor", Key(256), nullable=False),
    Column("asked_at", INSTANT, nullable=False),
    Column("answered_at", INSTANT),
    Column("answer", JSON),
    UniqueConstraint("relay", "seq", name="sojourn_relay_commands_seq"),
    Index("sojourn_relay_commands_asked", "asked_at"),
    **IN_MYSQL,
)

Table(
    "sojourn_relay_orders",
    metadata,
    Column("relay", Key(256), nullable=False),
    Column("pool_id", Key(200), nullable=False),
    Column("least", BigInteger, nullable=False),
    Column("most", BigInteger),
    Column("until", INSTANT),
    Column("actor", Key(256), nullable=False),
    PrimaryKeyConstraint("relay", "pool_id", name="sojourn_relay_orders_pkey"),
    **IN_MYSQL,
)

Table(
    "sojourn_relay_reports",
    metadata,
    Column("relay", Key(256), primary_key=True),
    Column("event_id", BigInteger, nullable=False),
    **IN_MYSQL,
)

Table(
    "sojourn_relay_uses",
    metadata,
    Column("relay", Key(256), nullable=False),
    Column("pool_id", Key(200), nullable=False),
    Column("day", INSTANT, nullable=False),
    Column("granted", BigInteger, nullable=False),
    Column("denied", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    PrimaryKeyConstraint("relay", "pool_id", "day", name="sojourn_relay_uses_pkey"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_licenses"):
        return  # it was lost: the repair that follows makes it, with every column
    if "allotment_ttl" not in {column["name"] for column in found.get_columns("sojourn_licenses")}:
        op.add_column("sojourn_licenses", Column("allotment_ttl", BigInteger))
