"""Is what the tables hold in order: ids, marks, times, and no more than is needed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from sojourn.clock import HOUR, MINUTE
from sojourn.finding import Area, Check, Finding, Fix, Part, Repair, failure, ok, warning
from sojourn.session import TOMBSTONE
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import unreadable, values
from sojourn.stores.sql.doctor.flaws import Kind
from sojourn.stores.sql.doctor.job import FIX, filled
from sojourn.stores.sql.doctor.rebuild import Rebuild
from sojourn.stores.sql.doctor.repairs import Marks, Prune, marks_wrong
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.doctor.tables import found

SWEPT_WITHIN = 2 * HOUR
"""A server sweeps every quarter of an hour: what is due for longer has been left lying."""
BACKLOG_MAX = 1_000
DATED = frozenset({Part.SESSIONS, Part.LEASES, Part.EVENTS, Part.MARKS})
FUTURE = 5 * MINUTE
DEAD_MIN, DEAD_SHARE = 20_000, 2.0
"""PostgreSQL cleans up when a fifth of a table is dead; twice as many dead as living is not normal."""

OFTEN_CHANGED = [
    f"sojourn_{noun}" for noun in ("sessions", "leases", "pools", "marks", "session_users")
]
DUE = {
    "sessions": "SELECT count(*) FROM sojourn_sessions WHERE coalesce(ended_at, idle_at) <= :until",
    "leases": "SELECT count(*) FROM sojourn_leases WHERE coalesce(ended_at, expires_at) <= :until",
}
LATER = {
    "sessions": "SELECT count(*) FROM sojourn_sessions WHERE created_at > :at OR last_used_at > :at",
    "leases": "SELECT count(*) FROM sojourn_leases WHERE acquired_at > :at OR last_beat_at > :at",
    "events": "SELECT count(*) FROM sojourn_events WHERE at > :at",
    "marks": "SELECT count(*) FROM sojourn_marks WHERE name = 'pulse' AND value > :at",
}
DEAD_POSTGRES = """
SELECT s.relname, n_dead_tup, n_live_tup, coalesce(array_to_string(c.reloptions, ', '), '')
FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
WHERE s.relname = ANY(:names) AND pg_table_is_visible(s.relid)
"""
FREE_MYSQL = """
SELECT table_name, data_free, data_length + index_length FROM information_schema.tables
WHERE table_schema = database() AND table_name IN :names
"""


def _check(
    source: Source,
    noun: str,
    title: str,
    looked_at: str,
    look: Callable[[Source], Finding],
    *,
    repair: Repair | None = None,
    quick: bool = False,
    more: tuple[str, ...] = (),
    reads: frozenset[Part] = frozenset(),
    without_tables: bool = False,
) -> Check:
    """`more`: kinds of flaws that must not be; `without_tables`: it looks at those that are there."""
    nouns = ("columns", *more) if without_tables else ("tables", "columns", *more)
    return Check(
        id=source.id("schema", noun),
        area=Area.SCHEMA,
        title=title,
        looked_at=looked_at,
        look=lambda: look(source),
        repair=repair,
        quick=quick,
        needs=(source.id("store", "reachable"), *(source.id("schema", each) for each in nouns)),
        reads=reads,
    )


def checks(source: Source) -> Iterator[Check]:
    check = partial(_check, source)
    yield check(
        "duplicates",
        "Is every id there only once?",
        "tables whose key is missing",
        duplicates,
        repair=Rebuild(source, Kind.KEY),
        without_tables=True,
    )
    yield check(
        "rows",
        "Can every session and every seat be read?",
        "every row of sessions, leases and pools",
        unreadable.look,
        repair=unreadable.SetAside(source),
        more=("types", "keys"),
        reads=frozenset({Part.SESSIONS, Part.LEASES, Part.POOLS}),
    )
    yield check(
        "marks",
        "Do new events get ids that are new?",
        "the table sojourn_marks",
        marks,
        repair=Marks(source),
        quick=True,
        reads=frozenset({Part.MARKS, Part.EVENTS, Part.AUDITS, Part.SWEEPS}),
    )
    yield check(
        "times",
        "Do all rows lie in the past?",
        "when sessions began, seats were taken, events happened",
        times,
        more=("types",),
        reads=DATED,
    )
    yield check(
        "backlog",
        "Is what has ended cleared away in time?",
        "sessions and seats that ended more than a day ago",
        backlog,
        repair=Prune(source, DUE, TOMBSTONE + SWEPT_WITHIN),
        more=("types",),
        reads=DATED | {Part.SESSION_USERS, Part.REQUESTS},
    )
    yield check(
        "bloat",
        "Are the tables free of dead rows?",
        "the database's own statistics",
        bloat,
        without_tables=True,
    )


def duplicates(source: Source) -> Finding:
    """Count the rows whose id another row has; where there is a key, there can be none."""
    keyless = list(dict.fromkeys(f.table for f in found(source, [Kind.KEY])))
    if not keyless:
        return ok("Every id is there only once: the keys see to that.")

    def count(tx: Tx) -> dict[str, int]:
        there = {}
        for name in keyless:
            keys = values.keys(schema.metadata.tables[name])
            there[name] = max(_twins(tx, name, key) for key in keys)
        return {name: number for name, number in there.items() if number}

    twins = source.db().read(count)
    if not twins:
        return ok("Every id is there only once, although no key sees to that.", *keyless)
    evidence = [f"{name}: {number:,} rows too many" for name, number in twins.items()]
    return failure(
        f"Ids are there more than once: in {', '.join(twins)}.",
        evidence=evidence,
        means="Which of the rows counts is left to chance; no key can be made while they are there.",
        fix=FIX,
    )


def _twins(tx: Tx, table: str, key: list[str]) -> int:
    columns = ", ".join(key)
    sql = "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {table} GROUP BY {key}) AS g"
    return int(tx.rows(filled(sql, table=table, key=columns), {})[0][0])


def marks(source: Source) -> Finding:
    wrong = source.db().read(marks_wrong)
    if not wrong:
        return ok("New events get new ids.")
    return failure(
        wrong[0][1],
        evidence=[why for _, why in wrong],
        means="Nobody can sign in or take a seat: each of these writes an event, which is refused.",
        fix=FIX,
    )


def times(source: Source) -> Finding:
    def look(tx: Tx) -> tuple[int, dict[str, int]]:
        now = tx.now()
        at = {"at": now + FUTURE}
        return now, {name: int(tx.rows(sql, at)[0][0]) for name, sql in LATER.items()}

    now, counted = source.db().read(look)
    later = {name: number for name, number in counted.items() if number}
    if not later:
        return ok("All rows lie in the past.")
    instant = datetime.fromtimestamp(now / 1_000, UTC).isoformat(timespec="seconds")
    return warning(
        "Some rows lie in the future: a clock was wrong, or is.",
        evidence=[
            *(f"{name}: {number:,}" for name, number in later.items()),
            f"the database's clock says {instant}",
        ],
        means="Sessions that seem just used live longer than they should; an outage may pass unseen.",
        fix=Fix(
            text="Let the database keep time by NTP; what is wrong passes when that time has come.",
            command="timedatectl set-ntp true",
        ),
    )


def backlog(source: Source) -> Finding:
    def look(tx: Tx) -> dict[str, int]:
        until = {"until": tx.now() - TOMBSTONE - SWEPT_WITHIN}
        return {name: int(tx.rows(sql, until)[0][0]) for name, sql in DUE.items()}

    due = source.db().read(look)
    evidence = [f"{name}: {number:,}" for name, number in due.items()]
    if sum(due.values()) <= BACKLOG_MAX:
        return ok("What has ended is cleared away in time.", *evidence)
    return warning(
        f"{sum(due.values()):,} rows ended more than a day ago, and are still there.",
        evidence=evidence,
        means="Nobody is let in by them, but everything gets slower.",
        fix=Fix(
            text="Clear them away; and see that a server runs, which does so every quarter of an hour.",
            command="sojourn sweep run",
        ),
    )


def bloat(source: Source) -> Finding:
    db = source.db()
    if db.dialect.backend is Backend.SQLITE:
        free, pages = db.read(lambda tx: [int(tx.rows(f"PRAGMA {p}", {})[0][0]) for p in PAGES])
        return ok(
            "The database file reuses its free pages.", f"{free:,} of {pages:,} pages are free"
        )
    names = {"names": db.dialect.keys(OFTEN_CHANGED)}
    if db.dialect.backend is Backend.MYSQL:
        rows = db.read(lambda tx: tx.rows(FREE_MYSQL, names))
        said = [
            f"{row[0]}: {(row[1] or 0) >> 20} MiB free of {(row[2] or 0) >> 20}" for row in rows
        ]
        return ok("InnoDB reuses what is free.", *said)
    rows = db.read(lambda tx: tx.rows(DEAD_POSTGRES, names))
    bad = [r for r in rows if r[1] > max(DEAD_MIN, DEAD_SHARE * r[2])]
    evidence = [f"{r[0]}: {r[1]:,} dead rows beside {r[2]:,}; {r[3] or 'defaults'}" for r in rows]
    if not bad:
        return ok("The tables are free of dead rows.", *evidence)
    names_bad = [str(row[0]) for row in bad]
    return warning(
        f"Dead rows pile up in {', '.join(names_bad)}: autovacuum does not keep up.",
        evidence=evidence,
        means="Every look-up and every heartbeat takes longer and longer.",
        fix=Fix(
            text="Clean up now, and let autovacuum do it from now on; then look for a transaction that "
            "has been open for hours.",
            sql="\n".join(
                f"VACUUM (ANALYZE) {name};\nALTER TABLE {name} RESET (autovacuum_enabled);"
                for name in names_bad
            ),
        ),
    )


PAGES = ("freelist_count", "page_count")
