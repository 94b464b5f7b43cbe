"""What differs between databases in a statement that is otherwise the same.

Statements are constants beside the verb that runs them, with `:name` for a value and `{fragment}` for
what a database says in its own words. They are rendered once per database, never from values:

    {now}        the store's now: `:now` if one was given (see `steady`), else the database's own clock
    {clock}      the database's own clock
    {in name}    IN a list given as `:name`, not empty: see `Dialect.keys`
    {in_hashes name}   likewise for `Dialect.hashes`
    {lease} {pool} {session}   the columns of a row of sojourn_leases AS l, of pools, of sojourn_sessions AS s
    {unended} {live}   which sojourn_leases AS l of `:pool` hold a seat: see acquires.py
    {live_among}       the same, where another condition than the pool names a few of them
    {leases_by_user_id} {leases_by_client_id}   sojourn_leases AS l of `:pool`; where a planner needs to be
                       told, looked up by each of `:keys`
    {force name} where a planner needs to be told: by this index
    {join_holders name}   LEFT JOIN sojourn_leases AS l, of the holders given as `:name`
    {join_cuts}  LEFT JOIN sojourn_session_users, of the user of sojourn_sessions AS s as u, and of
                 everybody as e
    {feature}    the feature in `pool_id`
    {device key} a value of the device of sojourn_sessions AS s
    {update} {share} {skip}   row locks: FOR UPDATE, FOR SHARE, SKIP LOCKED
    {least} {greatest}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from sojourn.stores.sql.rows import LEASE, POOL, SESSION
from sojourn.text import bare

_encode = msgspec.json.Encoder(enc_hook=bare).encode
FRAGMENT = re.compile(r"\{(\w+)(?: (\w+))?\}")
PARAMETER = re.compile(r"(?<![:\w]):([a-z_0-9]+)")

CLOCK_POSTGRES = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
CLOCK_MYSQL = "timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(3)) DIV 1000"

SHARED = {
    "lease": LEASE,
    "pool": POOL,
    "session": SESSION,
    "unended": "l.pool_id = :pool AND l.ended_at IS NULL AND NOT l.lapsed",
    "live": "l.pool_id = :pool AND l.ended_at IS NULL AND NOT l.lapsed AND l.expires_at > :at",
    "join_cuts": "LEFT JOIN sojourn_session_users AS u ON u.user_id = s.user_id"
    " LEFT JOIN sojourn_session_users AS e ON e.user_id = ''",
    # Worded so that no planner prefers the index of all that have not ended.
    "leases_by_user_id": "sojourn_leases AS l",
    "leases_by_client_id": "sojourn_leases AS l",
    "live_among": "l.pool_id = :pool AND coalesce(l.ended_at, 0) = 0 AND NOT l.lapsed"
    " AND l.expires_at > :at",
}


T = TypeVar("T")


class Backend(StrEnum):
    SQLITE = "sqlite"
    POSTGRES = "postgresql"
    MYSQL = "mysql"  # and MariaDB


class Dialect:
    """How one database spells what the statements leave open."""

    def __init__(
        self,
        backend: Backend,
        fragments: dict[str, str],
        *,
        begin: str,
        placeholder: str,
        array: Callable[[Iterable[Any]], Any],
    ) -> None:
        self.backend = backend
        self.begin = begin
        self.keys = array
        """Turn a list of strings or integers into the value of an {in name}."""
        self._fragments = SHARED | fragments
        self._placeholder = placeholder
        self._rendered: dict[str, str] = {}
        self._numbered: dict[str, tuple[str, tuple[str, ...]]] = {}

    @property
    def one_writer(self) -> bool:
        """Whether transactions that write take turns, so that no row needs a lock."""
        return self.backend is Backend.SQLITE

    @property
    def takes_rows(self) -> bool:
        """Whether a statement reads many rows out of one JSON document: see `rows`."""
        return self.backend is Backend.POSTGRES

    @property
    def returning(self) -> bool:
        """Whether statements that write have RETURNING."""
        return self.backend is not Backend.MYSQL  # MariaDB has it for some, MySQL for none

    def pick(self, *, sqlite: T, postgres: T, mysql: T) -> T:
        """Return what is meant for this database."""
        if self.backend is Backend.SQLITE:
            return sqlite
        return postgres if self.backend is Backend.POSTGRES else mysql

    def render(self, template: str) -> str:
        """Return the statement in this database's words."""
        sql = self._rendered.get(template)
        if sql is None:
            sql = FRAGMENT.sub(self._fragment, template)
            if self._placeholder != r":\1":
                sql = PARAMETER.sub(self._placeholder, sql.replace("%", "%%"))
            self._rendered[template] = sql
        return sql

    def numbered(self, template: str) -> tuple[str, tuple[str, ...]]:
        """Return the statement with its values numbered ($1, on SQLite ?1), and their names in that order."""
        known = self._numbered.get(template)
        if known is None:
            names: dict[str, int] = {}
            sign = "?" if self.backend is Backend.SQLITE else "$"
            sql = PARAMETER.sub(
                lambda found: f"{sign}{names.setdefault(found[1], len(names) + 1)}",
                FRAGMENT.sub(self._fragment, template),
            )
            known = self._numbered[template] = sql, tuple(names)
        return known

    def _fragment(self, match: re.Match[str]) -> str:
        return self._fragments[match[1]].replace("?", match[2] or "")

    def hashes(self, hashes: Iterable[bytes]) -> Any:
        """Turn a list of hashes into the value of an {in_hashes name}."""
        if self.backend is Backend.SQLITE:
            return self.keys(value.hex() for value in hashes)
        if self.backend is Backend.POSTGRES:
            # As one string, which costs a fraction of what the driver takes for an array.
            return "{" + ",".join([rf'"\\x{value.hex()}"' for value in hashes]) + "}"
        return list(hashes)

    def holders(self, holders: Iterable[tuple[str, str, str]]) -> Any:
        """Turn (pool, user, client)s into the value of a {join_holders name}."""
        given = list(holders)
        return given if self.backend is Backend.MYSQL else _json(given)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Turn rows into the value that PostgreSQL's json_to_recordset reads."""
        return _encode(rows).decode()


def _json(values: Iterable[Any]) -> str:
    return _encode(list(values)).decode()


SQLITE = Dialect(
    Backend.SQLITE,
    {
        "now": ":now",  # always given: the file's clock is this host's
        "in": "IN (SELECT value FROM json_each(:?))",
        "in_hashes": "IN (SELECT from_hex(value) FROM json_each(:?))",
        "join_holders": "LEFT JOIN sojourn_leases AS l ON (l.pool_id, l.user_id, l.client_id)"
        " IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:?))",
        "leases_by_user_id": "sojourn_leases AS l INDEXED BY sojourn_leases_user_id",
        "device": "s.device ->> '$.?'",
        "feature": "substr(pool_id, instr(pool_id, ':') + 1)",
        "update": "",
        "share": "",
        "skip": "",
        "least": "min",
        "greatest": "max",
    },
    begin="BEGIN IMMEDIATE",
    placeholder=r":\1",
    array=_json,
)
POSTGRES = Dialect(
    Backend.POSTGRES,
    {
        "now": f"coalesce(:now::bigint, {CLOCK_POSTGRES})",
        "clock": CLOCK_POSTGRES,
        "in": "= ANY(:?)",
        "in_hashes": "= ANY(:?::bytea[])",
        # OFFSET 0: holder by holder, however few or many leases the planner believes there are.
        "join_holders": """LEFT JOIN (json_array_elements(:?::json) AS h CROSS JOIN LATERAL (
            SELECT * FROM sojourn_leases WHERE pool_id = h ->> 0 AND user_id = h ->> 1
            AND client_id = h ->> 2 OFFSET 0) AS l) ON TRUE""",
        "leases_by_user_id": """unnest(:keys::text[]) AS k (key) CROSS JOIN LATERAL (
            SELECT * FROM sojourn_leases WHERE pool_id = :pool AND user_id = k.key OFFSET 0) AS l""",
        "leases_by_client_id": """unnest(:keys::text[]) AS k (key) CROSS JOIN LATERAL (
            SELECT * FROM sojourn_leases WHERE pool_id = :pool AND client_id = k.key OFFSET 0) AS l""",
        # OFFSET 0: session by session; it would read all users if it believes that they are few.
        "join_cuts": """LEFT JOIN LATERAL (
            SELECT * FROM sojourn_session_users WHERE user_id = s.user_id OFFSET 0) AS u ON TRUE
            LEFT JOIN sojourn_session_users AS e ON e.user_id = ''""",
        "device": "s.device::json ->> '?'",
        "feature": "split_part(pool_id, ':', 2)",
        "update": "FOR UPDATE",
        "share": "FOR SHARE",
        "skip": "SKIP LOCKED",
        "least": "least",
        "greatest": "greatest",
    },
    begin="BEGIN",
    placeholder=r"%(\1)s",
    array=list,
)


def _mysql(force: str) -> Dialect:
    """`force`: how a statement says by which index a table is read."""

    def forced(index: str) -> str:
        return force.replace("?", index)

    return Dialect(
        Backend.MYSQL,
        {
            # Statement time, whatever the session's time zone.
            "now": f"coalesce(:now, {CLOCK_MYSQL})",
            "clock": CLOCK_MYSQL,
            "in": "IN :?",
            "in_hashes": "IN :?",
            "in_held": "IN :?",
            "force": force,
            # Left to itself, MariaDB merges or filters by other indexes, or scans the pool.
            "join_holders": f"LEFT JOIN sojourn_leases AS l {forced('sojourn_leases_holder')}"
            " ON (l.pool_id, l.user_id, l.client_id) IN :?",
            "leases_by_user_id": f"sojourn_leases AS l {forced('sojourn_leases_user_id')}",
            "leases_by_client_id": f"sojourn_leases AS l {forced('sojourn_leases_holder')}",
            "device": "json_value(s.device, '$.?') COLLATE utf8mb4_bin",
            "feature": "substring_index(pool_id, ':', -1)",
            "update": "FOR UPDATE",
            "share": "LOCK IN SHARE MODE",
            "skip": "SKIP LOCKED",
            "least": "least",
            "greatest": "greatest",
        },
        begin="BEGIN",
        placeholder=r"%(\1)s",
        array=list,
    )


MYSQL = _mysql("FORCE INDEX (?)")
MYSQL_UNFORCED = _mysql("")
"""For as long as the new name of `leases` is a view, of which no index can be named: see `names.mysql`."""
