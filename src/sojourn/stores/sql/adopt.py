"""Writing sessions that were begun elsewhere: a batch in one transaction, with their times and tokens.

No position is kept between runs. Writing is idempotent, since a session's id follows from its old
token, so who was interrupted starts over, and what is there already costs a look-up per batch. A
position would be wrong anyway: tokens are random, and who signs in meanwhile does so behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError

from sojourn.clock import DAY
from sojourn.event import Event, EventKind
from sojourn.session import TOMBSTONE, Session
from sojourn.signing_in import cut_of
from sojourn.stores.sql import cutoffs, events
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.rows import device_to_json, to_json
from sojourn.stores.sql.sessions import TAKEN
from sojourn.stores.sql.store import SqlStore

Pairs = Sequence[tuple[bytes, Session]]
ACTOR = "system:adopt"
REPEAT_WITHIN = min(DAY, TOMBSTONE)
"""As long as the tombstones of sessions that ended since: later, adopting again would revive them."""

COPIED = (
    *("id", "user_id", "revision", "created_at", "authenticated_at", "last_used_at"),
    *("idle_timeout", "idle_at", "expires_at", "level"),
)
INSERT = f"""
INSERT INTO sojourn_sessions (token_hash, data, device, {", ".join(COPIED)})
VALUES (:token_hash, :data, :device, {", ".join(f":{name}" for name in COPIED)})
"""  # noqa: S608 - of the constant above
MARK = "SELECT value FROM sojourn_marks WHERE name = :name"
NOTE = "INSERT INTO sojourn_marks (name, value) VALUES (:name, :at)"


class AdoptedSessions:
    """The sessions of a store."""

    def __init__(self, store: SqlStore) -> None:
        self._db: Database = store._db  # noqa: SLF001 - of the same package

    def now(self) -> int:
        return self._db.read(Tx.now)

    def put(self, pairs: Pairs, *, write: bool) -> list[bool | None]:
        """Write sessions that are not there yet, or say what would be written; see `moving.adopt`."""
        if write:
            return self._db.transaction(lambda tx: _write(tx, pairs))
        return self._db.read(lambda tx: _look(tx, pairs)[0])

    def rehearse(self, pairs: Pairs) -> None:
        """Write, and undo it: to see that it would succeed, and how long it takes."""
        self._db.rehearse(lambda tx: _write(tx, pairs))

    def first_adopted(self, source: str) -> int | None:
        """Return when this source was first adopted from, if it was."""
        return self._db.read(lambda tx: _mark(tx, source))

    def note(self, source: str) -> None:
        """Note that this source is being adopted from, unless that is known."""

        def work(tx: Tx) -> None:
            if _mark(tx, source) is None:
                try:
                    tx.do(NOTE, {"name": source, "at": tx.now()})
                except IntegrityError as error:
                    raise Again from error  # somebody else has just noted it

        self._db.transaction(work)


def _mark(tx: Tx, name: str) -> int | None:
    return next((int(row[0]) for row in tx.rows(MARK, {"name": name})), None)


def _look(tx: Tx, pairs: Pairs) -> tuple[list[bool | None], int]:
    """Say of each whether it is new; and the store's now."""
    params = {
        "ids": tx.dialect.keys([session.id for _, session in pairs]),
        "hashes": tx.dialect.hashes([token_hash for token_hash, _ in pairs]),
    }
    taken: set[str | bytes | None] = set()
    for row in tx.rows(TAKEN, params):
        taken.update(bytes(each) if isinstance(each, bytearray) else each for each in row)
    users = {session.user_id for _, session in pairs if session.user_id is not None}
    now, cuts = cutoffs.now_and_cuts(tx, users)
    answers: list[bool | None] = []
    for token_hash, session in pairs:
        if session.id in taken or token_hash in taken:
            answers.append(False)
        elif cut_of(session.created_at, cutoffs.cuts_of(cuts, session.user_id)) is not None:
            answers.append(None)
        else:
            answers.append(True)
    return answers, now


def _write(tx: Tx, pairs: Pairs) -> list[bool | None]:
    answers, now = _look(tx, pairs)
    new = [pair for pair, is_new in zip(pairs, answers, strict=True) if is_new]
    if not new:
        return answers
    rows = [_row(token_hash, session) for token_hash, session in new]
    try:
        tx.many(INSERT, sorted(rows, key=lambda row: str(row["id"])))
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Again from error  # another adoption was faster: look again
        raise
    # One for all: a million of "created" would be news of what began long ago.
    data = {"action": "adopt", "sessions": len(new)}
    events.append(tx, [Event(kind=EventKind.OPERATOR_ACTED, actor=ACTOR, data=data)], now)
    return answers


def _row(token_hash: bytes, session: Session) -> dict[str, Any]:
    row = {name: getattr(session, name) for name in COPIED}
    row["token_hash"] = token_hash
    row["data"] = to_json(session.data)
    row["device"] = device_to_json(session.device)
    return row
