"""The first schema.

The tables are written out, and not taken from `schema`, so that this step stays what it was, but for their
names: where a database has them by the old ones, they are renamed before the first step is taken. Tables
that exist already, made by hand or by a start that was killed, are kept.
"""

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
    UniqueConstraint,
    false,
    text,
)

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import HASH, HOT, IN_MYSQL, INSTANT, JSON, Key

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_pools",
    metadata,
    Column("id", Key(200), primary_key=True),
    Column("license_id", Key(128), nullable=False),
    Column("feature", Key(64), nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("heartbeat_interval", BigInteger, nullable=False),
    Column("lost_after", BigInteger, nullable=False),
    Column("suspect_after", BigInteger),
    Column("linger", BigInteger, nullable=False),
    Column("resume_window", BigInteger, nullable=False),
    Column("count_by", Key(16), nullable=False),
    Column("when_full", Key(32), nullable=False),
    Column("idle_after", BigInteger),
    Column("max_lease", BigInteger),
    Column("status", Key(16), nullable=False),  # or DROPPED: the row keeps the fence growing
    Column("valid_from", INSTANT),
    Column("valid_until", INSTANT),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    **IN_MYSQL,
    **HOT,
)

Table(
    "sojourn_leases",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("pool_id", Key(200), nullable=False),
    Column("user_id", Key(256), nullable=False),
    Column("client_id", Key(256), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("acquired_at", INSTANT, nullable=False),
    Column("last_beat_at", INSTANT, nullable=False),
    Column("suspect_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("origin", Key(16), nullable=False),
    Column("session_id", Key(128)),
    Column("idle_since", INSTANT),
    Column("device", JSON),
    Column("ended_at", INSTANT),
    Column("end_reason", Key(32)),
    Column("graced_at", INSTANT),
    # An acquire has counted it as expired: no beat that set out earlier may bring it back.
    Column("lapsed", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("pool_id", "client_id", "user_id", name="sojourn_leases_holder"),
    Index(
        "sojourn_leases_pool",
        "pool_id",
        "ended_at",
        postgresql_where=text("ended_at IS NULL"),
        sqlite_where=text("ended_at IS NULL"),
    ),
    Index("sojourn_leases_user_id", "user_id"),
    Index("sojourn_leases_session", "session_id"),
    **IN_MYSQL,
    **HOT,
)

Table(
    "sojourn_sessions",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("token_hash", HASH, nullable=False),
    Column("previous_hash", HASH),
    Column("previous_until", INSTANT),
    Column("user_id", Key(256)),  # none: a visitor's
    Column("data", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("authenticated_at", INSTANT, nullable=False),
    Column("last_used_at", INSTANT, nullable=False),
    Column("idle_timeout", BigInteger, nullable=False),
    Column("idle_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("device", JSON),
    Column("level", Integer, nullable=False),
    Column("impersonator", Key(256)),
    Column("ended_at", INSTANT),
    Column("ended_by", Key(256)),
    Column("end_reason", Key(256)),
    UniqueConstraint("token_hash", name="sojourn_sessions_token"),
    Index(
        "sojourn_sessions_previous",
        "previous_hash",
        postgresql_where=text("previous_hash IS NOT NULL"),
        sqlite_where=text("previous_hash IS NOT NULL"),
    ),
    Index("sojourn_sessions_user", "user_id", "created_at"),
    **IN_MYSQL,
    **HOT,
)

Table(
    "sojourn_session_users",
    metadata,
    Column("user_id", Key(256), primary_key=True),  # '': everybody
    Column("cut_at", INSTANT),
    Column("cut_by", Key(256)),
    Column("cut_reason", Key(256)),
    Index("sojourn_session_users_cut", "cut_at"),
    **IN_MYSQL,
)

Table(
    "sojourn_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # from marks: see events.py
    Column("at", INSTANT, nullable=False),
    Column("kind", Key(64), nullable=False),
    Column("pool_id", Key(200)),
    Column("subject", Key(256)),
    Column("user_id", Key(256)),
    Column("client_id", Key(256)),
    Column("actor", Key(256)),
    Column("data", JSON, nullable=False),
    Index("sojourn_events_pool", "pool_id", "id"),
    Index("sojourn_events_user", "user_id", "id"),
    **IN_MYSQL,
)

Table(
    "sojourn_marks",
    metadata,
    Column("name", Key(32), primary_key=True),
    Column(
        "value", BigInteger
    ),  # of `pulse` its instant, of `events audits sweeps` the last id given
    **IN_MYSQL,
    postgresql_with={"fillfactor": 10},
)

Table(
    "sojourn_licenses",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", Key(16), nullable=False),
    Column("valid_from", INSTANT),
    Column("valid_until", INSTANT),
    Column("created_at", INSTANT, nullable=False),
    Column("key_hash", HASH, nullable=False),
    UniqueConstraint("key_hash", name="sojourn_licenses_key"),
    **IN_MYSQL,
)

Table(
    "sojourn_features",
    metadata,
    Column("license_id", Key(128), nullable=False),
    Column("feature", Key(64), nullable=False),
    Column("policy", JSON, nullable=False),
    PrimaryKeyConstraint("license_id", "feature", name="sojourn_features_pkey"),
    **IN_MYSQL,
)

Table(
    "sojourn_api_keys",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Key(16), nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT),
    Column("revoked_at", INSTANT),
    Column("key_hash", HASH, nullable=False),
    UniqueConstraint("key_hash", name="sojourn_api_keys_key"),
    **IN_MYSQL,
)

Table(
    "sojourn_audits",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", INSTANT, nullable=False),
    Column("actor", Key(256), nullable=False),
    Column("action", Key(64), nullable=False),
    Column("subject", Key(256), nullable=False),
    Column("data", JSON, nullable=False),
    **IN_MYSQL,
)

Table(
    "sojourn_sweeps",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("started_at", INSTANT, nullable=False),
    Column("took", BigInteger, nullable=False),
    Column("actor", Key(256), nullable=False),
    Column("leases_expired", BigInteger, nullable=False),
    Column("leases_removed", BigInteger, nullable=False),
    Column("sessions_removed", BigInteger, nullable=False),
    Column("events_removed", BigInteger, nullable=False),
    Column("error", Text),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
