"""Requests that came with a key, and what was answered first: read and written in the transaction that
decides.

Nobody locks a key before it is decided. Two copies at once are both decided, and then one of them finds
that the other's key is there: it undoes everything, starts over, and finds the answer. So copies that
are not at once cost one look, and requests without a key nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy.exc import IntegrityError

from sojourn.idempotency import ANSWERS_KEPT, IdempotencyKey, Kept, Repeated, answer_once
from sojourn.session import Session
from sojourn.stores.answers import FirstAnswer, answer_of, keeps, kept_of, sessions_in
from sojourn.stores.sql.database import Again, Tx, Verbs
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.rows import session_of

# Now is told where no key is known, too.
KNOWN = """
SELECT c.now, r.digest, r.fingerprint, r.note, r.answer, r.at
FROM (SELECT {now} AS now) AS c LEFT JOIN sojourn_requests AS r ON r.digest {in_hashes digests}
"""
SESSIONS = "SELECT {session} FROM sojourn_sessions AS s WHERE s.id {in ids}"
DROP = "DELETE FROM sojourn_requests WHERE digest {in_hashes digests}"
KEEP = """
INSERT INTO sojourn_requests (digest, fingerprint, note, answer, at)
VALUES (:digest, :fingerprint, :note, :answer, :at)
"""

_decode = msgspec.json.Decoder(FirstAnswer).decode
_encode = msgspec.json.Encoder().encode


def once(
    tx: Tx,
    keys: Sequence[IdempotencyKey | None],
    decide: Callable[[list[int]], Sequence[Any]],
) -> list[Any]:
    """Decide requests that come for the first time, and keep the answers of those with a key."""
    named = [key for key in keys if key is not None]
    if not named:
        return list(decide(list(range(len(keys)))))
    now, known, old = _read(tx, named)
    answers, new = answer_once(keys, known, decide, now=now, keeps=keeps)
    if new:
        if replaced := sorted(old & new.keys()):
            tx.do(DROP, {"digests": tx.dialect.hashes(replaced)})
        _keep(tx, new, now)
    return answers


class RequestVerbs(Verbs):
    """The verb that looks up first answers."""

    def answered(self, keys: Sequence[IdempotencyKey]) -> list[Repeated | None]:
        """Say what was answered first; see `Store.answered`."""
        if not keys:
            return []
        now, known, _ = self._db.read(lambda tx: _read(tx, keys))
        found = [known.get(key.digest) for key in keys]
        return [
            None if kept is None else kept.again(key, now)
            for kept, key in zip(found, keys, strict=True)
        ]


def _read(tx: Tx, keys: Sequence[IdempotencyKey]) -> tuple[int, dict[bytes, Kept], set[bytes]]:
    """Return now, what is known of these keys, and which are there although nothing is known any more."""
    digests = sorted({key.digest for key in keys})
    params = {"now": tx.instant, "digests": tx.dialect.hashes(digests)}
    rows = tx.rows(KNOWN, params)
    now = int(rows[0][0])
    tx.judge(now)
    there = {bytes(row[1]): row[2:] for row in rows if row[1] is not None}
    fresh = {i: (row, _decode(row[2])) for i, row in there.items() if row[3] > now - ANSWERS_KEPT}
    sessions = _sessions(tx, sessions_in(kept for _, kept in fresh.values()), now)
    known = {}
    for digest, ((fingerprint, note, *_), kept) in fresh.items():
        answer = answer_of(kept, sessions)
        if answer is not None:
            known[digest] = Kept(bytes(fingerprint), answer, note)
    return now, known, there.keys() - known.keys()


def _sessions(tx: Tx, ids: set[str], now: int) -> dict[str, Session]:
    if not ids:
        return {}
    rows = tx.rows(SESSIONS, {"ids": tx.dialect.keys(sorted(ids))})
    return {row[0]: session_of(row, now) for row in rows}


def _keep(tx: Tx, new: dict[bytes, Kept], now: int) -> None:
    rows = [
        {
            "digest": digest,
            "fingerprint": kept.fingerprint,
            "note": kept.note,
            "answer": _encode(kept_of(kept.answer)).decode(),
            "at": now,
        }
        for digest, kept in sorted(new.items())  # in one order, so that no two wait for each other
    ]
    tx.send()  # whatever fails of it is no matter of keys
    try:
        tx.many(KEEP, rows)
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Again from error  # a copy was faster: start over, and find its answer
        raise
