"""The catalogue of faults in a database's tables, each made for real."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.schema import CreateIndex
from tests.doctor.planted import Plant, Planted, Ward

from sojourn.finding import Verdict
from sojourn.stores.sql import migrations, schema

WARNING = Verdict.WARNING
TABLES = [*(str(table.name) for table in schema.metadata.sorted_tables), schema.VERSION_TABLE]
SPARE = """
INSERT INTO sojourn_sessions (id, token_hash, user_id, data, revision, created_at, authenticated_at,
    last_used_at, idle_timeout, idle_at, expires_at, level)
SELECT 'spare', {hash}, 'spare', {data}, 1, created_at, authenticated_at, last_used_at, idle_timeout,
    idle_at, expires_at, level FROM sojourn_sessions WHERE id = 's1'
"""
FORGET_SPARE = "DELETE FROM sojourn_sessions WHERE id = 'spare'"
TWO_HOURS = 7_200_000
LONG_AGO = 3 * 86_400_000


def common(kind: str) -> list[Planted]:
    return [*tables(kind), *ADDED, *content(kind)]


def old_sessions(ward: Ward) -> None:
    """1,500 sessions that nobody has used for days."""
    digits = " CROSS JOIN ".join(f"(SELECT 0 AS {c} {TENS}) AS {c}_" for c in "abc")
    hashes = {
        "sqlite": "from_hex(printf('%064x', 1000 + n))",
        "postgresql": "decode(lpad(to_hex(1000 + n), 64, '0'), 'hex')",
        "mysql": "unhex(lpad(hex(1000 + n), 64, '0'))",
    }[ward.kind]
    ward.execute(
        f"""
        INSERT INTO sojourn_sessions (id, token_hash, user_id, data, revision, created_at, authenticated_at,
            last_used_at, idle_timeout, idle_at, expires_at, level)
        SELECT {ward.concat("'old'", "n")}, {hashes}, 'old', '{{}}', 1, t, t, t, 1, t, t, 1
        FROM (SELECT a * 100 + b * 10 + c + 1000 * d AS n, created_at - {LONG_AGO} AS t
            FROM sojourn_sessions CROSS JOIN {digits} CROSS JOIN (SELECT 0 AS d UNION SELECT 1) AS d_
            WHERE id = 's1') AS numbers
        """
    )


HEAD = migrations.head()
TENS = " ".join(f"UNION SELECT {n}" for n in range(1, 10))
ADDED = [
    Planted(
        name="column missing that says whether somebody waits",
        check="schema.columns",
        plant=["ALTER TABLE sojourn_pools DROP COLUMN line_until"],
        names="pools.line_until",
    ),
    Planted(
        name="column missing that names the origins of a license",
        check="schema.columns",
        plant=["ALTER TABLE sojourn_licenses DROP COLUMN allowed_origins"],
        names="licenses.allowed_origins",
    ),
    Planted(
        name="columns missing of a line, none of which says who waits",
        check="schema.columns",
        plant=[
            f"ALTER TABLE sojourn_waiting DROP COLUMN {column}"
            for column in ("priority", "offer_until", "reservation")
        ],
        names="waiting.priority",
    ),
]
"""Columns that are gone, and that came after the first schema."""


def tables(kind: str) -> list[Planted]:
    """Faults of the tables that are made in the same words on every database."""
    theirs: dict[str, Plant] = {
        "sqlite": theirs_sqlite,
        "mysql": THEIRS_MYSQL,
        "postgresql": THEIRS_POSTGRES,
    }
    return [
        Planted(
            name="table dropped",
            check="schema.tables",
            plant=["DROP TABLE sojourn_sweeps"],
            names="sojourn_sweeps",
        ),
        Planted(
            name="schema behind",
            check="schema.version",
            plant=["UPDATE sojourn_schema SET version_num = '0001'"],
            names="behind",
        ),
        Planted(
            name="migration cut off half way",
            check="schema.version",
            plant=[
                "UPDATE sojourn_schema SET version_num = '0001'",
                "DROP TABLE sojourn_webhook_deliveries",
                "ALTER TABLE sojourn_sweeps DROP COLUMN sessions_cut",
            ],
            also=frozenset({"schema.tables", "schema.columns"}),
        ),
        Planted(
            name="two versions at once",
            check="schema.version",
            plant=["INSERT INTO sojourn_schema VALUES ('0001')"],
            names="cut off",
        ),
        Planted(
            name="version forgotten",
            check="schema.version",
            plant=["DELETE FROM sojourn_schema"],
        ),
        Planted(
            name="schema ahead",
            check="schema.version",
            verdict=WARNING,
            plant=["UPDATE sojourn_schema SET version_num = '9999'"],
            mended=False,
            cure=[f"UPDATE sojourn_schema SET version_num = '{HEAD}'"],
            names="newer",
        ),
        Planted(
            name="column missing, ended sessions stay ended",
            check="schema.columns",
            plant=["ALTER TABLE sojourn_sessions DROP COLUMN ended_at"],
            names="sessions.ended_at",
        ),
        Planted(
            name="column missing that no row may lack",
            check="schema.columns",
            plant=["ALTER TABLE sojourn_leases DROP COLUMN lapsed"],
        ),
        Planted(
            name="a column of somebody else's refuses every new row",
            check="schema.columns",
            plant=theirs[kind],
            names="none of ours",
        ),
    ]


def content(kind: str) -> list[Planted]:
    """Faults of what the tables hold, likewise."""
    drop_index = (
        "DROP INDEX sojourn_leases_session ON sojourn_leases"
        if kind == "mysql"
        else "DROP INDEX sojourn_leases_session"
    )
    blob = {"sqlite": "x'%s'", "postgresql": "'\\x%s'::bytea", "mysql": "x'%s'"}[kind]
    bad = [SPARE.format(hash=blob % ("ab" * 32), data="'{not json'")]
    return [
        Planted(name="index missing", check="schema.indexes", verdict=WARNING, plant=[drop_index]),
        Planted(
            name="mark missing",
            check="schema.marks",
            plant=["DELETE FROM sojourn_marks WHERE name = 'audits'"],
            names="audits",
        ),
        Planted(
            name="ids that were given are given again",
            check="schema.marks",
            plant=["UPDATE sojourn_marks SET value = 1 WHERE name = 'events'"],
            names="events",
        ),
        Planted(name="a session's data is not JSON", check="schema.rows", plant=bad, names="spare"),
        Planted(
            name="a seat's device cannot be read",
            check="schema.rows",
            plant=["UPDATE sojourn_leases SET device = '[1' WHERE id = 'l1'"],
            names="device",
        ),
        Planted(
            name="a seat of no known origin",
            check="schema.rows",
            plant=["UPDATE sojourn_leases SET origin = 'elsewhere' WHERE id = 'l0'"],
            names="l0",
        ),
        Planted(
            name="rows that lie in the future",
            check="schema.times",
            verdict=WARNING,
            plant=[
                f"UPDATE sojourn_leases SET acquired_at = acquired_at + {TWO_HOURS} WHERE id = 'l2'"
            ],
            mended=False,
            cure=[
                f"UPDATE sojourn_leases SET acquired_at = acquired_at - {TWO_HOURS} WHERE id = 'l2'"
            ],
            names="leases",
        ),
        Planted(name="nobody sweeps", check="schema.backlog", verdict=WARNING, plant=old_sessions),
    ]


THEIRS_POSTGRES = [
    "ALTER TABLE sojourn_sessions ADD COLUMN theirs int DEFAULT 1 NOT NULL",
    "ALTER TABLE sojourn_sessions ALTER COLUMN theirs DROP DEFAULT",
]
THEIRS_MYSQL = [
    "ALTER TABLE sojourn_sessions ADD COLUMN theirs INT NOT NULL",
    "ALTER TABLE sojourn_sessions ALTER COLUMN theirs DROP DEFAULT",
]


def theirs_sqlite(ward: Ward) -> None:
    remake(
        ward,
        "sojourn_sessions",
        lambda sql: sql.replace("level ", "theirs INT NOT NULL, level "),
        "theirs",
        "7",
    )


def remake(
    ward: Ward, table: str, change: Callable[[str], str], *more: str, twice: bool = False
) -> None:
    """Make a SQLite table anew, as a tool for its schema does; `more` is a column, and its value."""
    made = change(ward.ask(f"SELECT sql FROM sqlite_master WHERE name = '{table}'"))
    names = [column.name for column in schema.metadata.tables[table].columns]
    into = ", ".join([*names, *more[:1]])
    values = ", ".join([*names, *more[1:]])
    fill = f"INSERT INTO {table} ({into}) SELECT {values} FROM remade"
    ward.execute(
        f"ALTER TABLE {table} RENAME TO remade",
        made,
        *([fill, fill] if twice else [fill]),
        "DROP TABLE remade",
        *(
            str(CreateIndex(index).compile(dialect=sqlite_dialect()))
            for index in schema.metadata.tables[table].indexes
        ),
    )


def columns(ward: Ward, table: str, **types: str) -> None:
    """Give columns of a SQLite table other types."""

    def change(sql: str) -> str:
        for name, kind in types.items():
            sql, times = re.subn(rf"\b{name} [A-Z]+(\(\d+\))?( NOT NULL)?", f"{name} {kind}", sql)
            assert times == 1, (name, sql)
        return sql

    remake(ward, table, change)


def keyless(table: str, *, twice: bool = False, key: str = "") -> Callable[[Ward], None]:
    """Make a SQLite table without its keys, as CREATE TABLE … AS SELECT does."""

    def change(sql: str) -> str:
        sql = re.sub(r",?\s*PRIMARY KEY \([\w, ]+\)", "", sql)
        sql = re.sub(r",?\s*CONSTRAINT \w+ UNIQUE \([\w, ]+\)", "", sql)
        return sql.rstrip().removesuffix(")") + (f", {key})" if key else ")")

    return lambda ward: remake(ward, table, change, twice=twice)


def twins_of(table: str) -> frozenset[str]:
    assert table in TABLES
    return frozenset({"schema.duplicates"})


SQLITE = [
    Planted(
        name="a hash that is none",
        check="schema.rows",
        plant=[SPARE.replace("'spare'", "'short'").format(hash="x'abcd'", data="'{}'")],
        names="short",
    ),
    Planted(
        name="primary key and unique gone",
        check="schema.keys",
        plant=keyless("sojourn_sessions"),
        names="no primary key",
    ),
    Planted(
        name="every row twice",
        check="schema.keys",
        plant=keyless("sojourn_sessions", twice=True),
        also=twins_of("sojourn_sessions"),
    ),
    Planted(
        name="another primary key",
        check="schema.keys",
        plant=keyless("sojourn_leases", key="PRIMARY KEY (client_id, id)"),
        names="client_id, id",
    ),
    Planted(
        name="every seat twice",
        check="schema.keys",
        plant=keyless("sojourn_leases", twice=True),
        also=twins_of("sojourn_leases"),
    ),
    Planted(
        name="ids that are numbers",
        check="schema.types",
        plant=lambda ward: columns(
            ward, "sojourn_leases", user_id="INTEGER NOT NULL", fence="TEXT NOT NULL"
        ),
        names="integer",
    ),
    Planted(
        name="a visitor may not be",
        check="schema.types",
        plant=lambda ward: columns(ward, "sojourn_sessions", user_id="VARCHAR(256) NOT NULL"),
        names="must be given",
    ),
    Planted(
        name="ids blind to case",
        check="schema.collation",
        plant=lambda ward: columns(
            ward, "sojourn_leases", user_id="VARCHAR(256) COLLATE NOCASE NOT NULL"
        ),
        names="NOCASE",
    ),
    Planted(
        name="index on another column",
        check="schema.indexes",
        verdict=WARNING,
        plant=[
            "DROP INDEX sojourn_leases_session",
            "CREATE INDEX sojourn_leases_session ON sojourn_leases (client_id)",
        ],
        names="client_id",
    ),
]
