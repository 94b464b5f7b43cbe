"""The stream of events: a Redis stream whose ids are the events' own numbers, without a gap."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.event import Event
from sojourn.stores.redis.codec import event_of
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.faults import translated
from sojourn.stores.redis.seats import bounded

PAGE = 1_000
"""Events that are read at once to look for those that are asked for."""


def read(
    db: Connection,
    *,
    after: int,
    limit: int,
    kinds: Sequence[str],
    pool_id: str | None,
    user_id: str | None,
    newest_first: bool,
) -> list[Event]:
    """Read the stream; see `Store.events`."""
    limit = bounded(limit)
    sifted = bool(kinds) or pool_id is not None or user_id is not None
    found: list[Event] = []
    while len(found) < limit:
        count = PAGE if sifted else limit - len(found)
        page = _page(db, after, count, newest_first=newest_first)
        found += [
            event
            for event in page
            if (not kinds or event.kind in kinds)
            and (pool_id is None or event.pool_id == pool_id)
            and (user_id is None or event.user_id == user_id)
        ]
        if len(page) < count:
            break
        after = page[-1].id
    return found[:limit]


def _page(db: Connection, after: int, count: int, *, newest_first: bool) -> list[Event]:
    with translated():
        if newest_first:
            start = f"({after}-0" if after else "+"
            entries = db.client.xrevrange(db.key("ev"), start, "-", count)
        else:
            entries = db.client.xrange(db.key("ev"), f"{after + 1}-0", "+", count)
    return [event_of(entry, fields[b"e"]) for entry, fields in entries]
