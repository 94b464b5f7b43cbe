"""Webhooks, and their deliveries."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_webhooks",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("kinds", JSON, nullable=False),  # empty: all
    Column("secrets", JSON, nullable=False),  # readable, as they must sign
    Column("enabled", Boolean, nullable=False),
    Column("disabled_because", Key(256)),
    Column("created_at", INSTANT, nullable=False),
    Column("position", BigInteger, nullable=False),  # the last event that was read for it
    Column("last_seq", BigInteger, nullable=False),  # of its deliveries
    Column("hold_until", INSTANT, nullable=False),
    Column("claimed_by", Key(64)),
    Column("claimed_until", INSTANT, nullable=False),
    **IN_MYSQL,
)

Table(
    "sojourn_webhook_deliveries",
    metadata,
    Column("webhook_id", Key(128), nullable=False),
    Column("seq", BigInteger, nullable=False, autoincrement=False),
    Column("kind", Key(64), nullable=False),
    Column("event_id", BigInteger),
    Column("event_at", INSTANT, nullable=False),
    Column("body", JSON, nullable=False),
    Column("state", Key(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", INSTANT, nullable=False),
    Column("last_at", INSTANT),
    Column("last_status", Integer),
    Column("last_error", Text),
    PrimaryKeyConstraint("webhook_id", "seq", name="sojourn_webhook_deliveries_pkey"),
    Index("sojourn_webhook_deliveries_state", "state", "webhook_id", "seq"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
