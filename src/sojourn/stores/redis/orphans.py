"""What the older deployment left in Redis: session keys, sets of users' sessions, counters of features.

It kept a set of session names for each user beside the sessions, and a counter for each feature, and
forgot to take names and counts back. Of these, an orphan is what nobody can need:

    a name in a user's set whose session is not there
    a session that never ends, and nobody has used for a month
    a counter that nobody has changed for a month

What may still be in use is left alone, and told: another application may have keys of such names. What is
taken out of the way is renamed, and gone a week later, so that it can be brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import redis
from msgspec import Struct

from sojourn.finding import Finding, Fix, Step, ok, skipped, warning
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.faults import DENIED, code_of, translated
from sojourn.stores.redis.old_seats import (
    ANY,
    IS_COUNTER,
    IS_SESSION,
    IS_SET,
    SESSIONS,
    counters,
    untouched,
)

UNUSED = 30 * 86_400
"""Seconds after which what never ends is taken to be forgotten."""
KEPT = 7 * 86_400
PAGE = 500
SCANNED = 2_000
KEYS_MAX = 2_000_000


class Left(Struct):
    """Attributes: names: of a user's set, those without a session; living: how many keys may be in use."""

    names: dict[bytes, list[bytes]]
    sessions: list[bytes]
    counters: list[bytes]
    living: int = 0

    @property
    def found(self) -> int:
        return len(self.sessions) + len(self.counters) + sum(map(len, self.names.values()))


def look(db: Connection) -> Left:
    """Scan all names once for each kind of value, and look closer at those of the older layout."""
    left = Left({}, [], [])
    with translated():
        for keys in _pages(db, "string"):
            _unused(db, [key for key in keys if IS_SESSION(key)], left, left.sessions)
            _unused(db, [key for key in keys if IS_COUNTER(key)], left, left.counters)
        for keys in _pages(db, "hash"):
            _unused(db, [key for key in keys if IS_SESSION(key)], left, left.sessions)
        for keys in _pages(db, "set"):
            for key in filter(IS_SET, keys):
                if dead := _dead(db, key):
                    left.names[key] = dead
    return left


def _pages(db: Connection, kind: str) -> Iterator[list[bytes]]:
    """Yield keys of one kind that Sojourn did not write. Each comes once, which SCAN does not promise."""
    ours, seen = db.base.encode(), 0
    told: set[bytes] = set()
    cursor = -1
    while cursor and seen < KEYS_MAX:
        cursor, keys = db.client.scan(max(cursor, 0), count=SCANNED, _type=kind)
        seen += len(keys)
        page = [key for key in dict.fromkeys(keys) if ours not in key and ANY(key)]
        fresh = [key for key in page if key not in told]
        told.update(fresh)
        if fresh:
            yield fresh


def _unused(db: Connection, keys: list[bytes], left: Left, found: list[bytes]) -> None:
    """Sort keys into those that nobody needs, and others."""
    if not keys:
        return
    pipe = db.client.pipeline(transaction=False)
    for key in keys:
        pipe.ttl(key)
    endless = [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == -1]
    for key in endless:
        pipe.object("idletime", key)
    idle = pipe.execute(raise_on_error=False) if endless else []
    unused = [k for k, i in zip(endless, idle, strict=True) if isinstance(i, int) and i >= UNUSED]
    found += unused
    left.living += len(keys) - len(unused)


def _dead(db: Connection, key: bytes) -> list[bytes]:
    """Return the names in a user's set for which there is no session, under any name it could have."""
    dead: list[bytes] = []
    names = list(db.client.sscan_iter(key, count=PAGE))
    heads = [pattern[:-1].encode() for pattern in SESSIONS]
    for start in range(0, len(names), PAGE):
        page = names[start : start + PAGE]
        pipe = db.client.pipeline(transaction=False)
        for name in page:
            pipe.exists(name, *(head + name for head in heads))
        dead += [name for name, there in zip(page, pipe.execute(), strict=True) if not there]
    return dead


def judge(db: Connection) -> Finding:
    """Say what there is of it."""
    if hasattr(db.client, "get_primaries"):
        return skipped("The older layout was never on a Cluster.")
    try:
        left = look(db)
        with translated(), untouched(db.client) as client:
            seen = [] if client is None else counters(client, db.base)
        odd = [each for each in seen if each.said != each.sessions]
    except Exception as error:
        if code_of(error.__cause__ or error) in DENIED:
            return skipped(
                "The ACL lets us see our own keys only: run doctor with a user who sees all."
            )
        raise
    names = sum(map(len, left.names.values()))
    evidence = [
        f"{len(left.sessions):,} session keys never end, and have not been used for a month.",
        f"{names:,} names in {len(left.names):,} users' sets have no session.",
        f"{len(left.counters):,} counters have not changed for a month.",
    ]
    if left.living:
        evidence.append(f"{left.living:,} keys of such names may be in use; they are left alone.")
    said = [
        f"{x.key} says {x.said:,}; of {x.feature}, so many sessions are there: {x.sessions:,}."
        for x in odd
    ]
    if odd and not left.found:
        return warning(
            f"{len(odd):,} counters of the older deployment disagree with its sessions.",
            evidence=said,
            means="Whoever goes by a counter refuses people while seats are free, or lets too many in.",
            fix=Fix(
                text="Take its seats over with `sojourn adopt`, which counts them anew: see the guide, "
                "moving-in.",
            ),
        )
    if not left.found:
        return ok("The older deployment has left nothing behind that nobody needs.", *evidence[3:])
    return warning(
        "The older deployment has left keys behind that nobody needs.",
        evidence=[*evidence, *said],
        means="They take memory, and its counters tell of people who are not there.",
        fix=Fix(
            text="Move them aside; they are gone a week later.", command="sojourn doctor --fix"
        ),
    )


class Removal:
    """Takes them out of the way: names from sets, keys aside for a week."""

    def __init__(self, opened: Callable[[], Connection]) -> None:
        self._open = opened

    def plan(self) -> Sequence[Step]:
        return _steps(look(self._open()))

    def apply(self) -> Iterator[Step]:
        db = self._open()
        left = look(db)
        with translated():
            for key, names in left.names.items():
                _keep(db, key, names)
            for key in (*left.sessions, *left.counters):
                _move(db, key)
        yield from _steps(left)


def _steps(left: Left) -> list[Step]:
    steps = []
    if left.names:
        steps.append(
            Step(
                what="Take names without a session out of users' sets.",
                why="Their sessions are not there.",
                rows=sum(map(len, left.names.values())),
                undo=f"They are kept a week in {_aside(b'THE-SET').decode()}: SUNIONSTORE.",
            )
        )
    for kind, keys in (("session keys", left.sessions), ("counters", left.counters)):
        if keys:
            steps.append(
                Step(
                    what=f"Move {kind} aside that nobody has used for a month.",
                    why="Nothing ends them.",
                    rows=len(keys),
                    undo=f"RENAME {_aside(b'KEY').decode()} KEY, and PERSIST KEY, within a week. A "
                    "second copy of a day is under another name: KEYS sojourn-aside:*:KEY.",
                )
            )
    return steps


def _aside(key: bytes, number: int = 1) -> bytes:
    """Name what a key is moved to; the number where that name is somebody else's copy already."""
    day = f"{datetime.now(UTC):%Y%m%d}" + (f"-{number}" if number > 1 else "")
    return f"sojourn-aside:{day}:".encode() + key


def _keep(db: Connection, key: bytes, names: Sequence[Any]) -> None:
    """Take names out of a set once they are in another: a transaction of Redis's undoes nothing."""
    for number in count(1):
        aside = _aside(key, number)
        try:
            with db.client.pipeline(transaction=True) as pipe:
                pipe.sadd(aside, *names)
                pipe.expire(aside, KEPT)
                pipe.execute()
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
        else:
            with db.client.pipeline(transaction=True) as pipe:
                pipe.srem(key, *names)
                pipe.execute()
            return


def _move(db: Connection, key: bytes) -> None:
    """Rename a key to a name that is free: of the same day there may be a copy."""
    for number in count(1):
        aside = _aside(key, number)
        try:
            with db.client.pipeline(transaction=True) as pipe:
                pipe.renamenx(key, aside)
                pipe.expire(aside, KEPT)
                moved, _ = pipe.execute()
        except redis.ResponseError as error:
            if "no such key" not in str(error).lower():
                raise
            return  # gone meanwhile: then there is nothing to do
        if moved:
            return
