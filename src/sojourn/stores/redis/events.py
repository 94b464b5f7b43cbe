"""The stream of events: a Redis stream whose ids are the events' own numbers, without a gap."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.event import Event, EventKind
from sojourn.store import LIST_MAX, bounded
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import event_of
from sojourn.stores.redis.connection import Connection, Verbs
from sojourn.stores.redis.faults import translated

PAGE = 1_000
"""Events that are read at once to look for those that are asked for."""


class EventVerbs(Verbs):
    """The verb that reads the stream."""

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        kinds: Sequence[str] = (),
        pool_id: str | None = None,
        user_id: str | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        """Read the stream; see `Store.events`."""
        limit = bounded(limit)
        sifted = bool(kinds) or pool_id is not None or user_id is not None
        found: list[Event] = []

        def wanted(page: list[Event]) -> list[Event]:
            return [
                event
                for event in page
                if (not kinds or event.kind in kinds)
                and (pool_id is None or event.pool_id == pool_id)
                and (user_id is None or event.user_id == user_id)
            ]

        if newest_first and {*kinds} == {EventKind.LEASE_DENIED} and (pool_id or user_id):
            after, indexed = _denials(self._db, pool_id, user_id, after, limit)
            found = wanted(indexed)
            if after == 1:  # there is nothing before it
                return found[:limit]
        while len(found) < limit:
            count = PAGE if sifted else limit - len(found)
            page = _page(self._db, after, count, newest_first=newest_first)
            found += wanted(page)
            if len(page) < count:
                break
            after = page[-1].id
        return found[:limit]


def _denials(
    db: Connection, pool_id: str | None, user_id: str | None, before: int, limit: int
) -> tuple[int, list[Event]]:
    """Look up the latest denials of a pool or a user, those of the user if both are named; and say before
    which event the rest is to be searched for (0: all of the stream)."""
    most = LIST_MAX if pool_id and user_id else limit
    on, *flat = db.run(scripts.DENIALS, [pool_id or False, user_id or False, before, most])
    return on, [event_of(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]


def _page(db: Connection, after: int, count: int, *, newest_first: bool) -> list[Event]:
    with translated():
        if newest_first:
            start = f"({after}-0" if after else "+"
            entries = db.client.xrevrange(db.key("ev"), start, "-", count)
        else:
            entries = db.client.xrange(db.key("ev"), f"{after + 1}-0", "+", count)
    return [event_of(entry, fields[b"e"]) for entry, fields in entries]
