"""The tables, once for all databases.

Instants are BIGINT milliseconds UTC, JSON is TEXT, hashes are 32 bytes. Ids compare byte by byte: case,
trailing spaces and accents matter, and no collation may make two people one.

No index holds a column that a renewal or a touch changes (`last_beat_at suspect_at expires_at
idle_since`, `last_used_at idle_at`), and pages are left more than half empty, so that PostgreSQL
rewrites a row within its page and touches no index (HOT), even if all rows of a page change at once.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from sojourn.stores.sql import columns, older, relay_tables, usage_tables

MYSQL_FAMILY = columns.MYSQL_FAMILY
VERSION_TABLE = "sojourn_schema"
"""Alembic's version table, under a name that cannot be an application's own."""
Key = columns.Key
INSTANT = columns.INSTANT
JSON = columns.JSON
DIGEST = columns.DIGEST
HASH = columns.HASH
IN_MYSQL = columns.IN_MYSQL
HOT: dict[str, Any] = {"postgresql_with": {"fillfactor": 40}}
older.learn()

metadata = columns.metadata
usage = usage_tables.TABLES
relay_commands = relay_tables.TABLES

pools = Table(
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
    Column("overdraft", BigInteger, nullable=False, server_default="0"),
    Column("reservations", JSON),  # none: no seat is reserved
    Column("status", Key(16), nullable=False),  # or DROPPED: the row keeps the fence growing
    Column("valid_from", INSTANT),
    Column("valid_until", INSTANT),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    # Until when somebody may stand in its line: later, no acquire looks for them.
    Column("line_until", INSTANT, nullable=False, server_default=text("0")),
    Column("allotments", JSON),  # none: no relay ever had seats of it
    **IN_MYSQL,
    **HOT,
)

leases = Table(
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
    Column("overdraft", Boolean, nullable=False, server_default=false()),
    Column("member_of", JSON),  # none: no group was proved
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

waiting = Table(
    "sojourn_waiting",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("user_id", Key(256), nullable=False),
    Column("client_id", Key(256), nullable=False),
    Column("id", Key(128), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("since", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("offer_until", INSTANT),
    Column("reservation", Key(64)),
    PrimaryKeyConstraint("pool_id", "client_id", "user_id", name="sojourn_waiting_pkey"),
    **IN_MYSQL,
    **HOT,
)

relays = Table(
    "sojourn_relays",
    metadata,
    Column("name", Key(256), primary_key=True),
    Column("life", Key(256), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("heard_at", INSTANT, nullable=False),
    **IN_MYSQL,
)

sessions = Table(
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
    Column("label", Key(64)),  # what its user calls the device
    Column("last_device", JSON),  # none: `device`
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

session_users = Table(
    "sojourn_session_users",
    metadata,
    Column("user_id", Key(256), primary_key=True),  # '': everybody
    Column("cut_at", INSTANT),
    Column("cut_by", Key(256)),
    Column("cut_reason", Key(256)),
    Index("sojourn_session_users_cut", "cut_at"),
    **IN_MYSQL,
)

events = Table(
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

marks = Table(
    "sojourn_marks",
    metadata,
    Column("name", Key(32), primary_key=True),
    Column(
        "value", BigInteger
    ),  # of `pulse` its instant, of `events audits sweeps` the last id given, of a key's id its last use
    **IN_MYSQL,
    postgresql_with={"fillfactor": 10},
)

requests = Table(
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

licenses = Table(
    "sojourn_licenses",
    metadata,
    Column("id", Key(128), primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", Key(16), nullable=False),
    Column("valid_from", INSTANT),
    Column("valid_until", INSTANT),
    Column("created_at", INSTANT, nullable=False),
    Column("key_hash", HASH, nullable=False),
    Column("allowed_origins", JSON),  # NULL: none
    Column("allotment_ttl", BigInteger),  # NULL: as the server has it
    UniqueConstraint("key_hash", name="sojourn_licenses_key"),
    **IN_MYSQL,
)

features = Table(
    "sojourn_features",
    metadata,
    Column("license_id", Key(128), nullable=False),
    Column("feature", Key(64), nullable=False),
    Column("policy", JSON, nullable=False),
    PrimaryKeyConstraint("license_id", "feature", name="sojourn_features_pkey"),
    **IN_MYSQL,
)

api_keys = Table(
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

audits = Table(
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

sweeps = Table(
    "sojourn_sweeps",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("started_at", INSTANT, nullable=False),
    Column("took", BigInteger, nullable=False),
    Column("actor", Key(256), nullable=False),
    Column("leases_expired", BigInteger, nullable=False),
    Column("leases_removed", BigInteger, nullable=False),
    Column("sessions_cut", BigInteger, nullable=False, server_default="0"),
    Column("sessions_removed", BigInteger, nullable=False),
    Column("events_removed", BigInteger, nullable=False),
    Column("error", Text),
    **IN_MYSQL,
)

sweep_plans = Table(
    "sojourn_sweep_plans",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("name", Key(128), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("schedule", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("created_by", Key(256), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("next_at", INSTANT),  # none: it is paused
    Column("closes_at", INSTANT),  # past that, its next run is too late
    UniqueConstraint("name", name="sojourn_sweep_plans_name"),
    **IN_MYSQL,
)

sweep_runs = Table(
    "sojourn_sweep_runs",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("actor", Key(256), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("state", Key(16), nullable=False),
    Column("plan_id", Key(64)),  # none: by hand
    Column("plan_name", Key(128)),
    Column("due_at", INSTANT),
    Column("closes_at", INSTANT),
    Column("finished_at", INSTANT),
    Column("looked", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("noted", BigInteger, nullable=False),
    Column("taken_up", BigInteger, nullable=False),
    Column("last_id", Key(128)),
    Column("error", Text),
    Column("next_at", INSTANT),
    # Once for each time that a plan is due, whatever its servers believe.
    UniqueConstraint("plan_id", "due_at", name="sojourn_sweep_runs_due"),
    Index("sojourn_sweep_runs_started", "started_at", "id"),
    Index("sojourn_sweep_runs_state", "state"),
    **IN_MYSQL,
)

webhooks = Table(
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

webhook_deliveries = Table(
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

instances = Table(
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
    Column("schema_version", Key(32)),  # that its code needs; none: it is older than this column
    Index("sojourn_instances_seen", "seen_at"),
    **IN_MYSQL,
)
