"""Sessions: looked up by the hash of their token, never brought back once gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace

from sojourn.device import NO_DEVICES, Device, check_label
from sojourn.errors import Conflict
from sojourn.event import Event, EventKind
from sojourn.idempotency import IdempotencyKey, Repeated
from sojourn.session import Gone, GoneReason, Save, Session, SessionPage
from sojourn.signing_in import ended, why_gone
from sojourn.store import bounded
from sojourn.stores.sql import events
from sojourn.stores.sql.cutoffs import CUTS, LIVE, cut_from
from sojourn.stores.sql.database import Database, Rows, Tx, Verbs
from sojourn.stores.sql.requests import once
from sojourn.stores.sql.rows import (
    SESSION,
    SESSION_COLUMNS,
    data_to_json,
    device_to_json,
    session_of,
    to_json,
)

TAKEN = """
SELECT id, token_hash, previous_hash FROM sojourn_sessions
WHERE id {in ids} OR token_hash {in_hashes hashes} OR previous_hash {in_hashes hashes}
"""
# Two look-ups in an index each, rather than one scan of all: hence not OR.
LOAD = """
SELECT {now}, s.token_hash, s.ended_at, s.ended_by, s.end_reason, {cuts}, {session}
FROM sojourn_sessions AS s {join_cuts} WHERE s.token_hash {in_hashes hashes}
UNION ALL
SELECT {now}, s.previous_hash, s.ended_at, s.ended_by, s.end_reason, {cuts}, {session}
FROM sojourn_sessions AS s {join_cuts}
WHERE s.previous_hash {in_hashes hashes} AND s.previous_until > {now}
""".replace("{cuts}", CUTS)
TOKEN_HASH, ENDED_AT, CUT_AT, CUT_ALL_AT = 1, 2, 5, 8  # in LOAD
FIRST = 11  # of the columns of a session in LOAD
CREATED_AT = FIRST + SESSION_COLUMNS.index("created_at")
USER_ID = SESSION_COLUMNS.index("user_id")
IDLE_AT = FIRST + SESSION_COLUMNS.index("idle_at")
EXPIRES_AT = FIRST + SESSION_COLUMNS.index("expires_at")

LOCK = """
SELECT {now}, {session} FROM sojourn_sessions AS s WHERE s.id {in ids} AND {live_session}
ORDER BY s.id {update}
""".replace("{live_session}", LIVE)
OF = """
SELECT {now}, {session} FROM sojourn_sessions AS s WHERE s.user_id = :user AND {live_session}
ORDER BY s.created_at DESC, s.id LIMIT :limit
""".replace("{live_session}", LIVE)
# One look at the user's cutoff, and not one for each of a user's ten thousand sessions.
LIVE_OF_USER = LIVE.replace("c.user_id = s.user_id", "c.user_id = :user")
# Without the data, which may weigh a megabyte.
PAGE = """
SELECT {now}, {shown} FROM sojourn_sessions AS s WHERE s.user_id = :user AND {live_session}{after}
ORDER BY s.created_at DESC, s.id LIMIT :limit
""".replace("{live_session}", LIVE_OF_USER).replace("{shown}", SESSION.replace("s.data", "'{}'"))
FIRST_PAGE = PAGE.replace("{after}", "")
NEXT_PAGE = PAGE.replace(
    "{after}", " AND s.created_at <= :at AND (s.created_at < :at OR s.id > :after)"
)
COUNT = (
    "SELECT count(*) FROM sojourn_sessions AS s WHERE s.user_id = :user AND {live_session}".replace(
        "{live_session}", LIVE_OF_USER
    )
)
GONE = """
SELECT {now}, s.id, s.ended_at, s.ended_by, s.end_reason, {cuts}, s.created_at, s.idle_at, s.expires_at
FROM sojourn_sessions AS s {join_cuts} WHERE s.id {in ids}
""".replace("{cuts}", CUTS)
LIST = """
SELECT {now}, {session} FROM sojourn_sessions AS s WHERE s.id > :after AND {live_session}
ORDER BY s.id LIMIT :limit
""".replace("{live_session}", LIVE)
LIST_OF = LIST.replace("WHERE", "WHERE s.user_id = :user AND", 1)

TOUCH = """
UPDATE sojourn_sessions AS s SET last_used_at = {greatest}(last_used_at, {now}),
    idle_at = {greatest}(idle_at, {least}({now} + idle_timeout, expires_at)){last_device}
WHERE s.id {in ids} AND {live_session}
""".replace("{live_session}", LIVE)
TOUCH_SQLITE = f"{TOUCH} RETURNING id"
# Most are used where they were used before, and say nothing.
LAST_DEVICE_SQLITE = """,
    last_device = coalesce((SELECT d.value FROM json_each(:devices) AS d WHERE d.key = s.id), last_device)"""
LAST_DEVICE_POSTGRES = ", last_device = coalesce(:devices::json ->> t.id, last_device)"
LAST_DEVICE_MYSQL = ", last_device = CASE id {devices} ELSE last_device END"
LOCKED_FIRST = """
t.id IN (SELECT s.id FROM sojourn_sessions AS s
    WHERE s.id {in ids} AND {live_session} ORDER BY s.id FOR UPDATE)
""".replace("{live_session}", LIVE)
TOUCH_POSTGRES = f"""
{TOUCH.partition("WHERE")[0].replace("AS s", "AS t")} WHERE {LOCKED_FIRST} RETURNING t.id
"""
TOUCHED = "SELECT s.id FROM sojourn_sessions AS s WHERE s.id {in ids} AND {live_session}".replace(
    "{live_session}", LIVE
)
RENAME = "UPDATE sojourn_sessions SET label = :label WHERE id = :id"
SAVE = "UPDATE sojourn_sessions SET data = :data, revision = :revision WHERE id = :id"
SAVE_POSTGRES = """
UPDATE sojourn_sessions AS s SET data = r.data, revision = r.revision
FROM json_to_recordset(:rows::json) AS r (id text, data text, revision bigint) WHERE s.id = r.id
"""
SAVE_MYSQL = """
UPDATE sojourn_sessions SET data = CASE id {data} END, revision = CASE id {revision} END WHERE id {in ids}
"""
# The old hash is taken over first: MySQL assigns from left to right.
ROTATE = """
UPDATE sojourn_sessions SET previous_hash = token_hash, previous_until = :until, token_hash = :new,
    level = :level, authenticated_at = :authenticated_at
WHERE id = :id
"""
ROTATE_AT_ONCE = """
UPDATE sojourn_sessions SET previous_hash = NULL, previous_until = NULL, token_hash = :new,
    level = :level, authenticated_at = :authenticated_at
WHERE id = :id
"""

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


class SessionVerbs(Verbs):
    """Verbs that read or change sessions one by one."""

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        """Look sessions up; see `Store.load`."""
        if not token_hashes:
            return []
        hashes = self._db.dialect.hashes(token_hashes)
        rows = self._db.read(lambda tx: tx.trusted(LOAD, {"hashes": hashes}))
        found = {bytes(row[TOKEN_HASH]): _session_or_gone(row) for row in rows}
        absent = Gone(reason=GoneReason.ABSENT)
        return [found.get(token_hash, absent) for token_hash in token_hashes]

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        """Say why sessions are gone, by their ids; see `Store.gone`."""
        if not ids:
            return []
        keys = self._db.dialect.keys(sorted(set(ids)))
        rows = self._db.read(lambda tx: tx.trusted(GONE, {"ids": keys}))
        found = {row[1]: _why_gone(row, *row[-3:]) for row in rows}
        absent = Gone(reason=GoneReason.ABSENT)
        return [found.get(session_id, absent) for session_id in ids]

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        """Merge top-level keys; see `Store.save`."""
        if not saves:
            return []
        sets = [_parts.decode(to_json(each.set)) for each in saves]
        keys = [each.idempotency for each in saves]

        def work(tx: Tx) -> list[int | Repeated | None]:
            def decide(some: list[int]) -> list[int | None]:
                return _save(tx, [saves[i] for i in some], [sets[i] for i in some])

            return once(tx, keys, decide)

        return self._db.transaction(work)

    def touch(
        self, ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES
    ) -> list[bool]:
        """Mark sessions as used now; see `Store.touch`."""
        if not ids:
            return []
        touched = sorted(set(ids))
        known = {
            each: device_to_json(last_devices[each]) for each in touched if each in last_devices
        }

        def work(tx: Tx) -> set[str]:
            params = {"now": tx.instant, "ids": tx.dialect.keys(touched)}
            touch, more = _touch(tx, known)
            if not tx.dialect.returning:
                tx.do(touch, params | more)
                touch, more = TOUCHED, {}
            found = {row[0] for row in tx.rows(touch, params | more)}
            if len(found) < len(touched):
                tx.doubted()
            return found

        live = self._db.write(work)
        return [session_id in live for session_id in ids]

    def rename(self, session_id: str, *, user_id: str, label: str | None) -> bool:
        """Call the device of a live session of this user so; see `Store.rename`."""
        check_label(label)

        def work(tx: Tx) -> bool:
            mine = [row for row in _lock(tx, [session_id]) if row[1 + USER_ID] == user_id]
            if mine:
                tx.do(RENAME, {"id": session_id, "label": label})
            return bool(mine)

        return self._db.transaction(work)

    def rotate(
        self,
        session_id: str,
        new_token_hash: bytes,
        *,
        grace: int = 0,
        level: int | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session | Repeated | None:
        """Replace the token; see `Store.rotate`."""

        def work(tx: Tx) -> Session | None:
            rows = _lock(tx, [session_id])
            if not rows:
                return None
            params = {"ids": tx.dialect.keys([""]), "hashes": tx.dialect.hashes([new_token_hash])}
            if tx.rows(TAKEN, params):
                raise Conflict("The new token's hash is in use already.")
            now = int(rows[0][0])
            session = session_of(rows[0][1:], now)
            if level is not None:
                session = replace(session, level=level, authenticated_at=now)
            # Without a grace the old token is forgotten: no clock that is set back revives it.
            params = {
                "id": session_id,
                "new": new_token_hash,
                "until": now + grace,
                "level": session.level,
                "authenticated_at": session.authenticated_at,
            }
            tx.do(ROTATE if grace > 0 else ROTATE_AT_ONCE, params)
            rotated = Event(
                kind=EventKind.SESSION_ROTATED, subject=session.id, user_id=session.user_id
            )
            events.append(tx, [rotated], now)
            return session

        def first_of(tx: Tx) -> Session | Repeated | None:
            answer: Session | Repeated | None = once(tx, [idempotency], lambda _: [work(tx)])[0]
            return answer

        return self._db.transaction(first_of)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        """Return a user's live sessions, newest first."""
        return _listed(self._db, OF, {"user": user_id, "limit": bounded(limit)})

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        """Read a user's live sessions, newest first, and count them; see `Store.page`."""
        params: dict[str, Any] = {"user": user_id, "limit": bounded(limit)}
        if after is not None:
            params |= {"at": after[0], "after": after[1]}
        shown = _listed(self._db, FIRST_PAGE if after is None else NEXT_PAGE, params)
        total = len(shown)
        if after is not None or total >= bounded(limit):  # else the page itself is all there is
            rows = self._db.read(lambda tx: tx.rows(COUNT, {"now": tx.instant, "user": user_id}))
            total = int(rows[0][0])
        return SessionPage(sessions=tuple(shown), total=total)

    def sessions(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        """List live sessions by id, after an id."""
        params = {"after": after or "", "limit": bounded(limit), "user": user_id}
        if user_id is None:
            del params["user"]  # or PostgreSQL would ask for its type
        return _listed(self._db, LIST if user_id is None else LIST_OF, params)


def _touch(tx: Tx, devices: Mapping[str, str | None]) -> tuple[str, dict[str, Any]]:
    """Return the statement that marks sessions as used, some of them from these devices, as JSON."""
    touch = tx.dialect.pick(sqlite=TOUCH_SQLITE, postgres=TOUCH_POSTGRES, mysql=TOUCH)
    if not devices:
        return _from("", touch), {}
    if tx.dialect.returning:
        last = tx.dialect.pick(sqlite=LAST_DEVICE_SQLITE, postgres=LAST_DEVICE_POSTGRES, mysql="")
        return _from(last, touch), {"devices": to_json(devices)}
    params: dict[str, Any] = {}
    for i, (session_id, device) in enumerate(devices.items()):
        params |= {f"session_{i}": session_id, f"device_{i}": device}
    return _from(_last_device_mysql(len(devices)), touch), params


@cache
def _from(last_device: str, touch: str) -> str:
    return touch.replace("{last_device}", last_device)


@cache
def _last_device_mysql(count: int) -> str:
    cases = " ".join(f"WHEN :session_{i} THEN :device_{i}" for i in range(count))
    return LAST_DEVICE_MYSQL.replace("{devices}", cases)


def _session_or_gone(row: Sequence[Any]) -> Session | Gone:
    """Read a row of LOAD."""
    if row[ENDED_AT] is row[CUT_AT] is row[CUT_ALL_AT] is None and row[IDLE_AT] > row[0]:
        return session_of(row[FIRST:], row[0])  # as nearly all are
    why = _why_gone(row, row[CREATED_AT], row[IDLE_AT], row[EXPIRES_AT])
    return session_of(row[FIRST:], row[0]) if why is None else why


def _why_gone(row: Sequence[Any], created_at: int, idle_at: int, expires_at: int) -> Gone | None:
    """Read the columns that LOAD and GONE begin with. Returns why the session is gone, or None."""
    now, _, ended_at, ended_by, end_reason = row[:CUT_AT]
    return why_gone(
        now=now,
        created=created_at,
        idle_at=idle_at,
        expires_at=expires_at,
        tombstone=None if ended_at is None else ended(ended_at, ended_by, end_reason),
        cuts=(cut_from(row[CUT_AT:CUT_ALL_AT]), cut_from(row[CUT_ALL_AT:FIRST])),
    )


def _save(
    tx: Tx, saves: Sequence[Save], sets: Sequence[dict[str, msgspec.Raw]]
) -> list[int | None]:
    # Values that are not changed are copied as they are, undecoded.
    live = {
        row[1]: (_parts.decode(row[3]), int(row[4])) for row in _lock(tx, [x.id for x in saves])
    }
    answers: list[int | None] = []
    for each, changes in zip(saves, sets, strict=True):
        if each.id not in live:
            answers.append(None)
            continue
        data, revision = live[each.id]
        for key in each.unset:
            data.pop(key, None)
        live[each.id] = (data | changes, revision + 1)
        answers.append(revision + 1)
    rows = [
        {"id": session_id, "data": data_to_json(data), "revision": revision}
        for session_id, (data, revision) in live.items()
    ]
    if rows:
        _write_data(tx, rows)
    return answers


def _write_data(tx: Tx, rows: list[dict[str, Any]]) -> None:
    if tx.dialect.takes_rows:
        tx.do(SAVE_POSTGRES, {"rows": tx.dialect.rows(rows)})
    elif tx.dialect.one_writer:
        tx.many(SAVE, rows)
    else:
        params = {f"{name}_{i}": row[name] for i, row in enumerate(rows) for name in row}
        tx.do(_mysql_save(len(rows)), params | {"ids": [row["id"] for row in rows]})


@cache
def _mysql_save(count: int) -> str:
    """Return the statement for so many sessions; MySQL has no UPDATE … FROM a list."""
    cases = {
        name: " ".join(f"WHEN :id_{i} THEN :{name}_{i}" for i in range(count))
        for name in ("data", "revision")
    }
    return SAVE_MYSQL.replace("{data}", cases["data"]).replace("{revision}", cases["revision"])


def _lock(tx: Tx, ids: Sequence[str]) -> Rows:
    """Lock the live ones of these sessions: rows of now and SESSION_COLUMNS."""
    return tx.judged(tx.rows(LOCK, {"now": tx.instant, "ids": tx.dialect.keys(ids)}))


def _listed(db: Database, query: str, params: dict[str, Any]) -> list[Session]:
    rows = db.read(lambda tx: tx.judged(tx.rows(query, params | {"now": tx.instant})))
    return [session_of(row[1:], int(row[0])) for row in rows]
