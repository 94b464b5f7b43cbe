"""The catalogue of faults in tables that differ between PostgreSQL and MariaDB, each made for real."""

from __future__ import annotations

from tests.doctor.planted import Planted
from tests.doctor.sql_faults import FORGET_SPARE, SPARE, TABLES, WARNING, twins_of

POSTGRES = [
    Planted(
        name="tables in a schema that is not searched",
        check="schema.place",
        plant=["CREATE SCHEMA lost", *(f"ALTER TABLE {name} SET SCHEMA lost" for name in TABLES)],
        mended=False,
        cure=[
            *(f"ALTER TABLE lost.{name} SET SCHEMA public" for name in TABLES),
            "DROP SCHEMA lost",
        ],
        names="lost",
    ),
    Planted(
        name="primary key dropped",
        check="schema.keys",
        plant=["ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_pkey"],
        names="no primary key",
    ),
    Planted(
        name="every row twice, and a key that is refused",
        check="schema.keys",
        plant=[
            "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_pkey",
            "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_token",
            "INSERT INTO sojourn_sessions SELECT * FROM sojourn_sessions",
        ],
        also=twins_of("sojourn_sessions"),
    ),
    Planted(
        name="a session that ended is there again",
        check="schema.keys",
        plant=[
            "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_pkey",
            "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_token",
            "CREATE TABLE old AS SELECT * FROM sojourn_sessions WHERE id = 's0'",
            "UPDATE old SET ended_at = NULL, ended_by = NULL, end_reason = NULL, revision = 9",
            "INSERT INTO sojourn_sessions SELECT * FROM old",
            "DROP TABLE old",
        ],
        also=twins_of("sojourn_sessions"),
    ),
    Planted(
        name="another primary key, and a row without id",
        check="schema.keys",
        plant=[
            "ALTER TABLE sojourn_leases DROP CONSTRAINT sojourn_leases_pkey",
            "ALTER TABLE sojourn_leases ADD PRIMARY KEY (client_id)",
            "ALTER TABLE sojourn_leases ALTER COLUMN id DROP NOT NULL",
            "CREATE TABLE one AS SELECT * FROM sojourn_leases WHERE id = 'l0'",
            "UPDATE one SET id = NULL, client_id = 'none'",
            "INSERT INTO sojourn_leases SELECT * FROM one",
            "DROP TABLE one",
        ],
        names="client_id",
    ),
    Planted(
        name="instants as text, one of which is none",
        check="schema.types",
        plant=[
            FORGET_SPARE,
            SPARE.format(hash="decode(repeat('ab', 32), 'hex')", data="'{}'"),
            "ALTER TABLE sojourn_sessions ALTER COLUMN expires_at TYPE text",
            "UPDATE sojourn_sessions SET expires_at = 'soon' WHERE id = 'spare'",
        ],
        names="expires_at",
    ),
    Planted(
        name="instants as timestamps",
        check="schema.types",
        plant=[
            (
                "ALTER TABLE sojourn_leases ALTER COLUMN acquired_at TYPE timestamptz"
                " USING to_timestamp(acquired_at / 1000.0)"
            )
        ],
    ),
    Planted(
        name="hashes as text",
        check="schema.types",
        plant=[
            "ALTER TABLE sojourn_sessions ALTER COLUMN token_hash TYPE text USING encode(token_hash, 'hex')"
        ],
        names="bytea",
    ),
    Planted(
        name="data as jsonb",
        check="schema.types",
        plant=["ALTER TABLE sojourn_sessions ALTER COLUMN data TYPE jsonb USING data::jsonb"],
        names="jsonb",
    ),
    Planted(
        name="names are cut off",
        check="schema.types",
        plant=["ALTER TABLE sojourn_sessions ALTER COLUMN user_id TYPE varchar(20)"],
        also=frozenset({"schema.collation"}),  # whose words were left out
        names="varying(20)",
    ),
    Planted(
        name="a visitor may not be",
        check="schema.types",
        plant=[
            "ALTER TABLE sojourn_sessions ALTER COLUMN device SET DEFAULT ''",
            "UPDATE sojourn_sessions SET device = NULL",
            "ALTER TABLE sojourn_sessions ALTER COLUMN user_id SET NOT NULL",
        ],
        names="user_id",
    ),
    Planted(
        name="ids sorted by the rules of a language",
        check="schema.collation",
        plant=[
            'ALTER TABLE sojourn_leases ALTER COLUMN user_id TYPE varchar(256) COLLATE "default"'
        ],
        verdict=WARNING,
        names="default",
    ),
    Planted(
        name="a crash empties the table",
        check="schema.storage",
        plant=["ALTER TABLE sojourn_sessions SET UNLOGGED"],
        names="not logged",
    ),
    Planted(
        name="index left invalid",
        check="schema.indexes",
        verdict=WARNING,
        plant=[
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sojourn_leases_session'::regclass"
        ],
        names="invalid",
    ),
    Planted(
        name="a column gone that nothing tells of",
        check="schema.columns",
        plant=[
            "CREATE TABLE backup AS SELECT id, user_id FROM sojourn_sessions",
            "ALTER TABLE sojourn_sessions DROP COLUMN user_id",
        ],
        mended=False,
        cure=[
            'ALTER TABLE sojourn_sessions ADD COLUMN user_id varchar(256) COLLATE "C"',
            (
                "UPDATE sojourn_sessions SET user_id = b.user_id FROM backup AS b"
                " WHERE b.id = sojourn_sessions.id"
            ),
            "CREATE INDEX sojourn_sessions_user ON sojourn_sessions (user_id, created_at)",
            "DROP TABLE backup",
        ],
        also=frozenset({"schema.indexes"}),
    ),
    Planted(
        name="dead rows pile up",
        check="schema.bloat",
        verdict=WARNING,
        plant=[
            "ALTER TABLE sojourn_session_users SET (autovacuum_enabled = false)",
            "INSERT INTO sojourn_session_users SELECT 'gone' || n FROM generate_series(1, 25000) AS n",
            "DELETE FROM sojourn_session_users WHERE user_id LIKE 'gone%'",
            "SELECT pg_stat_force_next_flush()",
        ],
        mended=False,
        cure=[
            "ALTER TABLE sojourn_session_users RESET (autovacuum_enabled)",
            "VACUUM (ANALYZE) sojourn_session_users",
            "SELECT pg_stat_force_next_flush()",
        ],
        names="autovacuum_enabled=false",
    ),
]

MARIADB = [
    Planted(
        name="primary key dropped",
        check="schema.keys",
        plant=["ALTER TABLE sojourn_sessions DROP PRIMARY KEY"],
        names="no primary key",
    ),
    Planted(
        name="every row twice, and a key that is refused",
        check="schema.keys",
        plant=[
            "ALTER TABLE sojourn_sessions DROP PRIMARY KEY, DROP INDEX sojourn_sessions_token",
            "INSERT INTO sojourn_sessions SELECT * FROM sojourn_sessions",
        ],
        also=twins_of("sojourn_sessions"),
    ),
    Planted(
        name="another primary key, and a unique under another name",
        check="schema.keys",
        plant=[
            (
                "ALTER TABLE sojourn_leases DROP PRIMARY KEY, ADD PRIMARY KEY (client_id),"
                " DROP INDEX sojourn_leases_holder,"
                " ADD CONSTRAINT holder UNIQUE (pool_id, client_id, user_id)"
            )
        ],
        names="client_id",
    ),
    Planted(
        name="ids blind to case",
        check="schema.collation",
        plant=[
            (
                "ALTER TABLE sojourn_leases MODIFY user_id VARCHAR(256) CHARACTER SET utf8mb4"
                " COLLATE utf8mb4_general_ci NOT NULL"
            )
        ],
        names="general_ci",
    ),
    Planted(
        name="a table that cannot hold every letter",
        check="schema.collation",
        plant=["ALTER TABLE sojourn_events CONVERT TO CHARACTER SET latin1"],
        names="latin1",
    ),
    Planted(
        name="a table without transactions",
        check="schema.storage",
        plant=["ALTER TABLE sojourn_sessions ENGINE = Aria ROW_FORMAT = PAGE"],
        names="Aria",
    ),
    Planted(
        name="instants as text, one of which is none",
        check="schema.types",
        plant=[
            FORGET_SPARE,
            SPARE.format(hash="unhex(repeat('ab', 32))", data="'{}'"),
            "ALTER TABLE sojourn_sessions MODIFY expires_at VARCHAR(40) NOT NULL",
            "UPDATE sojourn_sessions SET expires_at = 'soon' WHERE id = 'spare'",
        ],
        names="expires_at",
    ),
    Planted(
        name="hashes in letters",
        check="schema.types",
        plant=[
            "ALTER TABLE sojourn_sessions MODIFY token_hash VARBINARY(64) NOT NULL",
            "UPDATE sojourn_sessions SET token_hash = lower(hex(token_hash))",
            "ALTER TABLE sojourn_sessions MODIFY token_hash VARCHAR(64) CHARACTER SET ascii NOT NULL",
        ],
        names="token_hash",
    ),
    Planted(
        name="instants end in 2038",
        check="schema.types",
        plant=["ALTER TABLE sojourn_leases MODIFY fence INT NOT NULL"],
        names="fence",
    ),
    Planted(
        name="data is cut off at 64 KiB",
        check="schema.types",
        plant=["ALTER TABLE sojourn_sessions MODIFY data TEXT NOT NULL"],
        names="longtext",
    ),
    Planted(
        name="index on another column",
        check="schema.indexes",
        verdict=WARNING,
        plant=[
            "DROP INDEX sojourn_leases_session ON sojourn_leases",
            "CREATE INDEX sojourn_leases_session ON sojourn_leases (client_id)",
        ],
        names="client_id",
    ),
]
