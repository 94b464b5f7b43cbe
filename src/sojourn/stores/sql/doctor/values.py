"""How values are carried over into a table as it must be: which can be read, and what stands in for a
column that is gone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct
from sqlalchemy import Column, Table, UniqueConstraint
from sqlalchemy.engine import Dialect as Compiler

from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.flaws import affinity, bare
from sojourn.stores.sql.doctor.shape import Column as ColumnSeen

DERIVED: dict[tuple[str, str], str] = {
    # What is ended must stay ended, and no lifetime may grow.
    ("sojourn_sessions", "data"): "'{}'",
    ("sojourn_sessions", "revision"): "0",
    ("sojourn_sessions", "level"): "1",
    ("sojourn_sessions", "created_at"): "authenticated_at",
    ("sojourn_sessions", "authenticated_at"): "created_at",
    ("sojourn_sessions", "last_used_at"): "idle_at - idle_timeout",
    ("sojourn_sessions", "idle_timeout"): "idle_at - last_used_at",
    ("sojourn_sessions", "idle_at"): "{least}(last_used_at + idle_timeout, expires_at)",
    ("sojourn_sessions", "expires_at"): "idle_at",
    ("sojourn_sessions", "ended_at"): "CASE WHEN end_reason IS NOT NULL THEN last_used_at END",
    ("sojourn_sessions", "end_reason"): "CASE WHEN ended_at IS NOT NULL THEN 'ended' END",
    ("sojourn_sessions", "ended_by"): "NULL",
    ("sojourn_sessions", "device"): "NULL",
    ("sojourn_sessions", "label"): "NULL",
    ("sojourn_sessions", "last_device"): "NULL",
    ("sojourn_sessions", "previous_hash"): "NULL",
    ("sojourn_sessions", "previous_until"): "NULL",
    ("sojourn_leases", "acquired_at"): "last_beat_at",
    ("sojourn_leases", "last_beat_at"): "acquired_at",
    ("sojourn_leases", "suspect_at"): "expires_at",
    ("sojourn_leases", "origin"): "'granted'",
    ("sojourn_leases", "session_id"): "NULL",
    ("sojourn_leases", "idle_since"): "NULL",
    ("sojourn_leases", "device"): "NULL",
    ("sojourn_leases", "graced_at"): "NULL",
    ("sojourn_leases", "ended_at"): "CASE WHEN end_reason IS NOT NULL THEN last_beat_at END",
    ("sojourn_leases", "end_reason"): "CASE WHEN ended_at IS NOT NULL THEN 'released' END",
    ("sojourn_leases", "lapsed"): "FALSE",
    ("sojourn_leases", "overdraft"): "FALSE",
    ("sojourn_leases", "member_of"): "NULL",
    ("sojourn_pools", "overdraft"): "0",
    ("sojourn_pools", "reservations"): "NULL",
    ("sojourn_pools", "allotments"): "NULL",  # relays tell: their fences are not known then
    ("sojourn_pools", "line_until"): "0",  # whoever waits asks again, and moves it on
    (
        "sojourn_pools",
        "fence",
    ): "(SELECT coalesce(max(l.fence), 0) FROM sojourn_leases AS l WHERE l.pool_id = sojourn_pools.id)",
    ("sojourn_waiting", "priority"): "0",
    ("sojourn_waiting", "offer_until"): "NULL",
    ("sojourn_waiting", "reservation"): "NULL",
    ("sojourn_licenses", "allowed_origins"): "NULL",  # none: no page gets in that was not named
    ("sojourn_licenses", "allotment_ttl"): "NULL",
    ("sojourn_events", "data"): "'{}'",
    **{
        ("sojourn_events", name): "NULL"
        for name in ("pool_id", "subject", "user_id", "client_id", "actor")
    },
    ("sojourn_audits", "data"): "'{}'",
    **{
        ("sojourn_sweeps", name): "0"
        for name in (
            *("took", "leases_expired", "leases_removed", "sessions_cut", "sessions_removed"),
            "events_removed",
        )
    },
    ("sojourn_sweeps", "error"): "NULL",
    ("sojourn_sweep_plans", "paused"): "TRUE",
    ("sojourn_sweep_plans", "created_by"): "''",
    ("sojourn_sweep_plans", "revision"): "1",
    **{("sojourn_sweep_plans", name): "NULL" for name in ("next_at", "closes_at")},
    **{("sojourn_sweep_runs", name): "0" for name in ("looked", "ended", "noted", "taken_up")},
    **{
        ("sojourn_sweep_runs", name): "NULL"
        for name in (
            *("plan_id", "plan_name", "due_at", "closes_at", "finished_at", "last_id", "error"),
            "next_at",
        )
    },
    **{("sojourn_relay_commands", name): "NULL" for name in ("answered_at", "answer")},
    ("sojourn_relay_commands", "actor"): "''",
    ("sojourn_relay_orders", "actor"): "''",
    ("sojourn_relay_orders", "least"): "0",
    ("sojourn_instances", "schema_version"): "NULL",
    ("sojourn_webhooks", "description"): "''",
    ("sojourn_webhooks", "disabled_because"): "NULL",
    ("sojourn_webhooks", "claimed_by"): "NULL",
    ("sojourn_webhooks", "claimed_until"): "0",
    ("sojourn_webhooks", "hold_until"): "0",
    ("sojourn_webhook_deliveries", "last_at"): "NULL",
    ("sojourn_webhook_deliveries", "last_status"): "NULL",
    ("sojourn_webhook_deliveries", "last_error"): "NULL",
}
"""What a column that is gone can be told from. What is not here cannot: it needs a backup."""

KEPT_OF_TWINS: dict[str, tuple[str, ...]] = {
    # A row that ended wins over its twin that has not: a restart of an old script revives nobody.
    "sojourn_sessions": ("ended_at IS NULL", "revision DESC", "last_used_at DESC"),
    "sojourn_leases": ("fence DESC", "ended_at IS NULL", "last_beat_at DESC"),
    "sojourn_pools": ("fence DESC",),
    "sojourn_session_users": ("cut_at IS NULL", "cut_at DESC"),
    "sojourn_marks": ("value IS NULL", "value DESC"),
    "sojourn_licenses": ("status DESC",),  # suspended before active
    "sojourn_api_keys": ("revoked_at IS NULL", "expires_at IS NULL", "expires_at"),
    "sojourn_webhooks": ("enabled", "position DESC"),
    "sojourn_webhook_deliveries": ("attempts DESC",),
}
"""Of rows with the same key, the first in this order is kept in the table."""


class Value(Struct, frozen=True):
    """How a column is read from the table as it is: the value, and where it can be read at all."""

    sql: str
    readable: str = ""  # empty: always
    instead: str = ""  # of NULL, where there must be a value


def keys(table: Table) -> list[list[str]]:
    """Return what must be unique, the primary key first."""
    unique = [
        [column.name for column in constraint.columns]
        for constraint in sorted(table.constraints, key=lambda x: str(x.name))
        if isinstance(constraint, UniqueConstraint)
    ]
    return [[column.name for column in table.primary_key.columns], *unique]


def order_of_twins(table: Table) -> str:
    return ", ".join(KEPT_OF_TWINS.get(table.name, ())) or "1"


def derivable(column: Column[object], there: Iterable[str]) -> bool:
    """Tell whether a column can be told from those that are there."""
    sql = DERIVED.get((column.table.name, column.name))
    if sql is None:
        return False
    named = set(re.findall(r"\w+", sql)) & set(column.table.columns.keys())
    return named - {column.name} <= set(there)


def value_of(
    column: Column[object], columns: Mapping[str, ColumnSeen], compiler: Compiler, backend: Backend
) -> Value:
    """Say how a column is read from a table that has these columns."""
    name, seen = column.name, columns.get(column.name)
    if seen is None:
        return Value(DERIVED[column.table.name, name])
    value = _READ[backend](name, bare(column.type.compile(compiler)), seen.type.lower())
    empty, given = (
        f"({name} IS NULL OR {value.readable})",
        f"({name} IS NOT NULL AND {value.readable})",
    )
    if column.nullable:
        return Value(value.sql, empty if value.readable else "")
    if derivable(column, columns):
        instead = DERIVED[column.table.name, name]
        return Value(value.sql, empty if value.readable else "", instead)
    return Value(value.sql, given if value.readable else f"{name} IS NOT NULL")


def _postgres(name: str, needed: str, there: str) -> Value:
    text = f"{name}::text"
    if needed == bare(there):
        return Value(name)
    if needed in ("bigint", "integer"):
        if there.startswith("timestamp"):
            return Value(f"floor(extract(epoch FROM {name}) * 1000)::bigint")
        most = 18 if needed == "bigint" else 9
        readable = f"({text} ~ '^-?[0-9]+$' AND length(ltrim({text}, '-')) <= {most})"
        return Value(f"CASE WHEN {readable} THEN {text}::{needed} END", readable)
    if needed == "bytea":
        hexed = f"regexp_replace({text}, '^.x', '')"  # of bytea's own text: \x…
        readable = f"(length({hexed}) = 64 AND {hexed} ~ '^[0-9a-fA-F]+$')"
        return Value(f"CASE WHEN {readable} THEN decode({hexed}, 'hex') END", readable)
    if needed == "boolean":
        readable = f"{text} IN ('0', '1', 't', 'f', 'true', 'false')"
        return Value(f"CASE WHEN {readable} THEN {text}::boolean END", readable)
    length = needed.partition("(")[2].rstrip(")")
    return Value(text, f"length({text}) <= {length}" if length else "")


def _mysql(name: str, needed: str, there: str) -> Value:
    if needed in ("bigint", "integer", "bool"):
        readable = f"({name} REGEXP '^-?[0-9]+$' AND char_length({name}) <= 18)"
        return Value(name, "" if "int" in there else readable)
    if needed == "binary(32)":
        if there == needed:
            return Value(name)
        hexed = f"(length({name}) = 64 AND {name} REGEXP '^[0-9a-fA-F]+$')"
        sql = f"CASE WHEN {hexed} THEN unhex({name}) ELSE {name} END"
        return Value(sql, f"(length({name}) = 32 OR {hexed})")
    length = needed.partition("(")[2].rstrip(")")
    return Value(name, f"char_length({name}) <= {length}" if length else "")


def _sqlite(name: str, needed: str, _there: str) -> Value:
    match affinity(needed):
        case "integer":
            digits = f"ltrim({name}, '-')"
            readable = (
                f"(typeof({name}) = 'integer' OR (length({digits}) BETWEEN 1 AND 18"
                f" AND {digits} NOT GLOB '*[^0-9]*'))"
            )
            return Value(f"CAST({name} AS INTEGER)", readable)
        case "blob":
            hexed = f"(length({name}) = 64 AND {name} NOT GLOB '*[^0-9a-fA-F]*')"
            sql = f"CASE WHEN typeof({name}) = 'blob' THEN {name} WHEN {hexed} THEN from_hex({name}) END"
            return Value(sql, f"(typeof({name}) = 'blob' OR {hexed})")
        case "text":
            return Value(f"CAST({name} AS TEXT)")
        case _:
            return Value(name, f"{name} IN (0, 1)")


_READ = {Backend.POSTGRES: _postgres, Backend.MYSQL: _mysql, Backend.SQLITE: _sqlite}
