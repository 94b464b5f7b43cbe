"""Measures of how seats were used: hours, days, holders, shares, incidents, policies."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
)

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_usage_cursor",
    metadata,
    Column("name", Key(16), primary_key=True),  # one row: see usage.py
    Column("event_id", BigInteger, nullable=False),
    Column("audit_id", BigInteger, nullable=False),
    Column("since", INSTANT, nullable=False),
    Column("at", INSTANT, nullable=False),
    Column("revision", BigInteger, nullable=False),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_buckets",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("unit", Key(8), nullable=False),  # hour or day
    Column("at", INSTANT, nullable=False),
    Column("level", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("peak", BigInteger, nullable=False),
    Column("seat_time", BigInteger, nullable=False),
    Column("stepped_at", INSTANT, nullable=False),
    Column("levels", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    PrimaryKeyConstraint("pool_id", "unit", "at", name="sojourn_usage_buckets_pkey"),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_steps",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("at", INSTANT, nullable=False),  # the hour's beginning
    Column("revision", BigInteger, nullable=False),  # of the cursor that wrote them
    Column("steps", JSON, nullable=False),
    PrimaryKeyConstraint("pool_id", "at", "revision", name="sojourn_usage_steps_pkey"),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_holds",
    metadata,
    Column("id", Key(32), primary_key=True),
    Column("seat", Key(32), nullable=False),
    Column("pool_id", Key(200), nullable=False),
    Column("lease_id", Key(256), nullable=False),
    Column("user_id", Key(256), nullable=False),
    Column("client_id", Key(256), nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("resumed", Boolean, nullable=False),
    Column("ended_at", INSTANT),  # none: the seat is held
    Column("past", JSON, nullable=False),
    Index("sojourn_usage_holds_seat", "seat"),
    Index("sojourn_usage_holds_pool", "pool_id"),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_shares",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("kind", Key(8), nullable=False),  # user or client
    Column("at", INSTANT, nullable=False),  # the day's beginning
    Column("name", Key(256), nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("granted", BigInteger, nullable=False),
    Column("denied", BigInteger, nullable=False),
    PrimaryKeyConstraint("pool_id", "kind", "at", "name", name="sojourn_usage_shares_pkey"),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_incidents",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("users", JSON, nullable=False),
    Column("unnamed", BigInteger, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("seats", BigInteger, nullable=False),
    Column("in_use", BigInteger, nullable=False),
    PrimaryKeyConstraint("pool_id", "started_at", name="sojourn_usage_incidents_pkey"),
    Index("sojourn_usage_incidents_started", "started_at"),
    **IN_MYSQL,
)

Table(
    "sojourn_usage_policies",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("at", INSTANT, nullable=False),
    Column("policy", JSON),  # none: the feature was removed
    PrimaryKeyConstraint("pool_id", "at", name="sojourn_usage_policies_pkey"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
