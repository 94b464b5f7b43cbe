"""The tables of what operators want of relays, and these report: see `relay_commands.py`, and `schema`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from sojourn.stores.sql.columns import IN_MYSQL, INSTANT, JSON, Key, metadata

commands = Table(
    "sojourn_relay_commands",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("relay", Key(256), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("verb", Key(32), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("actor", Key(256), nullable=False),
    Column("asked_at", INSTANT, nullable=False),
    Column("answered_at", INSTANT),  # none: it is pending
    Column("answer", JSON),
    UniqueConstraint("relay", "seq", name="sojourn_relay_commands_seq"),
    Index("sojourn_relay_commands_asked", "asked_at"),
    **IN_MYSQL,
)

orders = Table(
    "sojourn_relay_orders",
    metadata,
    Column("relay", Key(256), nullable=False),
    Column("pool_id", Key(200), nullable=False),  # empty: of all pools
    Column("least", BigInteger, nullable=False),
    Column("most", BigInteger),  # none: no bound
    Column("until", INSTANT),  # none: until it is taken back
    Column("actor", Key(256), nullable=False),
    PrimaryKeyConstraint("relay", "pool_id", name="sojourn_relay_orders_pkey"),
    **IN_MYSQL,
)

reports = Table(
    "sojourn_relay_reports",
    metadata,
    Column("relay", Key(256), primary_key=True),
    Column("event_id", BigInteger, nullable=False),  # of the relay's stream
    **IN_MYSQL,
)

uses = Table(
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

TABLES = (commands, orders, reports, uses)
