"""Sessions: looked up by the hash of their token, never brought back once gone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from sojourn.errors import Conflict, InvalidInput
from sojourn.event import Event, EventKind
from sojourn.lease import EndReason
from sojourn.seating import end_event
from sojourn.session import Gone, GoneReason, NewSession, Save, Session
from sojourn.stores.sql import events
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.events import bounded
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.rows import (
    SESSION_COLUMNS,
    device_to_json,
    session_of,
    to_json,
)
from sojourn.stores.sql.schema import sessions as table
from sojourn.stores.sql.seats import end_leases, lock_live

TAKEN = """
SELECT id, token_hash, previous_hash FROM sessions
WHERE id {in ids} OR token_hash {in_hashes hashes} OR previous_hash {in_hashes hashes}
"""
INSERT = """
INSERT INTO sessions (id, token_hash, user_id, data, revision, created_at, authenticated_at,
    last_used_at, idle_timeout, idle_at, expires_at, device, level)
VALUES (:id, :token_hash, :user_id, :data, :revision, :created_at, :authenticated_at,
    :last_used_at, :idle_timeout, :idle_at, :expires_at, :device, :level)
"""
# Two look-ups in an index each, rather than one scan of all: hence not OR.
LOAD = """
SELECT {now}, token_hash, ended_at, ended_by, end_reason, {session}
FROM sessions WHERE token_hash {in_hashes hashes}
UNION ALL
SELECT {now}, previous_hash, ended_at, ended_by, end_reason, {session}
FROM sessions WHERE previous_hash {in_hashes hashes} AND previous_until > {now}
"""
# `idle_at` is never after `expires_at`.
LIVE = "ended_at IS NULL AND idle_at > {now}"
LOCK = """
SELECT {now}, token_hash, {session} FROM sessions WHERE id {in ids} AND {live_session}
ORDER BY id {update}
""".replace("{live_session}", LIVE)
END = """
UPDATE sessions SET ended_at = :at, ended_by = :actor, end_reason = :reason WHERE id {in ids}
"""
OF_USER = """
SELECT id FROM sessions WHERE user_id = :user AND {live_session} ORDER BY created_at, id
""".replace("{live_session}", LIVE)
LEASES_OF = "SELECT id FROM leases WHERE session_id {in ids} AND coalesce(ended_at, 0) = 0 AND NOT lapsed"

TOUCH = """
UPDATE sessions SET last_used_at = {greatest}(last_used_at, {now}),
    idle_at = {greatest}(idle_at, {least}({now} + idle_timeout, expires_at))
WHERE id {in ids} AND {live_session}
""".replace("{live_session}", LIVE)
TOUCH_SQLITE = f"{TOUCH} RETURNING id"
LOCKED_FIRST = """
id IN (SELECT id FROM sessions WHERE id {in ids} AND {live_session} ORDER BY id FOR UPDATE)
""".replace("{live_session}", LIVE)
TOUCH_POSTGRES = f"""{TOUCH.partition("WHERE")[0]} WHERE {LOCKED_FIRST} RETURNING id"""
TOUCHED = "SELECT id FROM sessions WHERE id {in ids} AND {live_session}".replace(
    "{live_session}", LIVE
)
SAVE = "UPDATE sessions SET data = :data, revision = :revision WHERE id = :id"
SAVE_POSTGRES = """
UPDATE sessions AS s SET data = r.data, revision = r.revision
FROM json_to_recordset(:rows::json) AS r (id text, data text, revision bigint) WHERE s.id = r.id
"""
SAVE_MYSQL = """
UPDATE sessions SET data = CASE id {data} END, revision = CASE id {revision} END WHERE id {in ids}
"""
ROTATE = """
UPDATE sessions SET previous_hash = token_hash, previous_until = :until, token_hash = :new
WHERE id = :id
"""
ROTATE_AT_ONCE = """
UPDATE sessions SET previous_hash = NULL, previous_until = NULL, token_hash = :new WHERE id = :id
"""

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


def create(db: Database, new: Sequence[NewSession]) -> list[Session | None]:
    """Create sessions, overwriting none; see `Store.create`."""
    if not new:
        return []
    texts = [to_json(each.data) for each in new]
    return db.transaction(lambda tx: _create(tx, new, texts))


def _create(tx: Tx, new: Sequence[NewSession], texts: Sequence[str]) -> list[Session | None]:
    ids = tx.dialect.keys([each.id for each in new])
    hashes = tx.dialect.hashes([each.token_hash for each in new])
    taken: set[str | bytes | None] = set()
    for row in tx.rows(TAKEN, {"ids": ids, "hashes": hashes}):
        taken.update(row)
    now = tx.now()
    rows: list[dict[str, Any]] = []
    answers: list[Session | None] = []
    for each, text in zip(new, texts, strict=True):
        if each.id in taken or each.token_hash in taken:
            answers.append(None)
            continue
        taken |= {each.id, each.token_hash}
        values = _new_row(each, text, now)
        rows.append(values)
        answers.append(session_of([values[name] for name in SESSION_COLUMNS]))
    if rows:
        try:
            tx.many(INSERT, sorted(rows, key=lambda row: row["id"]))
        except IntegrityError as error:
            fault = classify(error)
            if fault is not None and fault.kind == "duplicate":
                raise Again from error  # somebody was faster: look again
            raise
    created = [_event(EventKind.SESSION_CREATED, x.id, x.user_id) for x in answers if x is not None]
    events.append(tx, created, now)
    return answers


def _new_row(new: NewSession, data: str, now: int) -> dict[str, Any]:
    return {
        "id": new.id,
        "token_hash": new.token_hash,
        "user_id": new.user_id,
        "data": data,
        "revision": 1,
        "created_at": now,
        "authenticated_at": now,
        "last_used_at": now,
        "idle_timeout": new.idle_timeout,
        "idle_at": now + min(new.idle_timeout, new.lifetime),
        "expires_at": now + new.lifetime,
        "device": device_to_json(new.device),
        "level": new.level,
    }


def load(db: Database, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
    """Look sessions up; see `Store.load`."""
    if not token_hashes:
        return []
    hashes = db.dialect.hashes(token_hashes)
    rows = db.read(lambda tx: tx.rows(LOAD, {"now": tx.instant, "hashes": hashes}))
    found = {bytes(row[1]): _session_or_gone(row) for row in rows}
    absent = Gone(reason=GoneReason.ABSENT)
    return [found.get(token_hash, absent) for token_hash in token_hashes]


def _session_or_gone(row: Sequence[Any]) -> Session | Gone:
    """Read a row of LOAD; a session that is gone went by whatever came first."""
    now, _, ended_at, ended_by, end_reason = row[:5]
    if ended_at is not None:
        return Gone(reason=GoneReason.ENDED, ended_by=ended_by, end_reason=end_reason, at=ended_at)
    idle_at, expires_at = row[13], row[14]
    if idle_at <= now:
        reason = GoneReason.IDLE if idle_at < expires_at else GoneReason.EXPIRED
        return Gone(reason=reason, at=idle_at)
    return session_of(row[5:])


def save(db: Database, saves: Sequence[Save]) -> list[int | None]:
    """Merge top-level keys; see `Store.save`."""
    if not saves:
        return []
    sets = [_parts.decode(to_json(each.set)) for each in saves]
    return db.transaction(lambda tx: _save(tx, saves, sets))


def _save(
    tx: Tx, saves: Sequence[Save], sets: Sequence[dict[str, msgspec.Raw]]
) -> list[int | None]:
    # Values that are not changed are copied as they are, undecoded.
    live = {
        row[2]: (_parts.decode(row[4]), int(row[5])) for row in _lock(tx, [x.id for x in saves])
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
        {"id": session_id, "data": to_json(data), "revision": revision}
        for session_id, (data, revision) in live.items()
    ]
    if rows:
        _write_data(tx, rows)
    return answers


def _write_data(tx: Tx, rows: list[dict[str, Any]]) -> None:
    if tx.dialect.backend is Backend.POSTGRES:
        tx.do(SAVE_POSTGRES, {"rows": tx.dialect.rows(rows)})
    elif tx.dialect.backend is Backend.SQLITE:
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


def _lock(tx: Tx, ids: Sequence[str]) -> Sequence[Sequence[Any]]:
    """Lock the live ones of these sessions: rows of now, the token's hash, and SESSION_COLUMNS."""
    return tx.rows(LOCK, {"now": tx.instant, "ids": tx.dialect.keys(ids)}) if ids else []


def touch(db: Database, ids: Sequence[str]) -> list[bool]:
    """Mark sessions as used now; see `Store.touch`."""
    if not ids:
        return []

    def work(tx: Tx) -> set[str]:
        params = {"now": tx.instant, "ids": tx.dialect.keys(sorted(set(ids)))}
        match tx.dialect.backend:
            case Backend.POSTGRES:
                rows = tx.rows(TOUCH_POSTGRES, params)
            case Backend.SQLITE:
                rows = tx.rows(TOUCH_SQLITE, params)
            case Backend.MYSQL:
                tx.do(TOUCH, params)
                rows = tx.rows(TOUCHED, params)
        return {row[0] for row in rows}

    live = db.write(work)
    return [session_id in live for session_id in ids]


def rotate(db: Database, session_id: str, new_hash: bytes, *, grace: int) -> Session | None:
    """Replace the token; see `Store.rotate`."""

    def work(tx: Tx) -> Session | None:
        rows = _lock(tx, [session_id])
        if not rows:
            return None
        params = {"ids": tx.dialect.keys([""]), "hashes": tx.dialect.hashes([new_hash])}
        if tx.rows(TAKEN, params):
            raise Conflict("The new token's hash is in use already.")
        now, session = int(rows[0][0]), session_of(rows[0][2:])
        # Without a grace the old token is forgotten: no clock that is set back revives it.
        params = {"id": session_id, "new": new_hash, "until": now + grace}
        tx.do(ROTATE if grace > 0 else ROTATE_AT_ONCE, params)
        events.append(tx, [_event(EventKind.SESSION_ROTATED, session.id, session.user_id)], now)
        return session

    return db.transaction(work)


def end(
    db: Database,
    *,
    ids: Sequence[str] | None,
    user_id: str | None,
    keep: Sequence[str],
    reason: str,
    actor: str | None,
) -> list[str]:
    """End sessions, and release the leases that belong to them; see `Store.end`."""
    if (ids is None) == (user_id is None):
        raise InvalidInput("Name sessions by their ids or by their user: one of the two.")

    def work(tx: Tx) -> list[str]:
        named = ids
        if named is None:
            rows = tx.rows(OF_USER, {"now": tx.instant, "user": user_id})
            named = [row[0] for row in rows]
        kept = set(keep)
        rows = _lock(tx, [x for x in dict.fromkeys(named) if x not in kept])
        if not rows:
            return []
        order = {session_id: place for place, session_id in enumerate(named)}
        ended = sorted((session_of(row[2:]) for row in rows), key=lambda x: order[x.id])
        now = int(rows[0][0])
        tx.do(
            END,
            {
                "ids": tx.dialect.keys([session.id for session in ended]),
                "at": now,
                "actor": actor,
                "reason": reason,
            },
        )
        happened = [
            _event(EventKind.SESSION_ENDED, x.id, x.user_id, actor=actor, reason=reason)
            for x in ended
        ]
        happened += _end_leases(tx, [x.id for x in ended], actor, now)
        events.append(tx, happened, now)
        return [session.id for session in ended]

    return db.transaction(work)


def _end_leases(tx: Tx, session_ids: list[str], actor: str | None, now: int) -> list[Event]:
    """Release what belongs to sessions; return the events."""
    found = tx.rows(LEASES_OF, {"ids": tx.dialect.keys(session_ids)})
    live, _ = lock_live(tx, [row[0] for row in found], now)
    order = {session_id: place for place, session_id in enumerate(session_ids)}
    live = [lease for lease in live if lease.session_id in order]  # as it is now, locked
    end_leases(tx, live, EndReason.SESSION_ENDED, now)
    live.sort(key=lambda lease: order[lease.session_id or ""])
    return [end_event(lease, EndReason.SESSION_ENDED, actor, now) for lease in live]


def of(db: Database, user_id: str, *, limit: int) -> list[Session]:
    """Return a user's live sessions, newest first."""
    column = table.c

    def work(tx: Tx) -> Sequence[Sequence[Any]]:
        query = (
            select(*(column[name] for name in SESSION_COLUMNS))
            .where(column.user_id == user_id, column.ended_at.is_(None))
            .where(column.idle_at > tx.now())
            .order_by(column.created_at.desc(), column.id)
            .limit(bounded(limit))
        )
        return tx.core(query).all()

    return [session_of(row) for row in db.read(work)]


def _event(
    kind: EventKind,
    session_id: str,
    user_id: str,
    *,
    actor: str | None = None,
    reason: str | None = None,
) -> Event:
    data = {} if reason is None else {"reason": reason}
    return Event(kind=kind, subject=session_id, user_id=user_id, actor=actor, data=data)
