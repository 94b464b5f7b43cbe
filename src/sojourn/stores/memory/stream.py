"""The ground the rest stands on: one lock, one clock, one stream of events."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sojourn.clock import DAY, Clock, HostClock
from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind, of_canary
from sojourn.store import Action, bounded

EVENT_RETENTION = 30 * DAY


class MemoryStream:
    """Events in the order they were committed, which is the order of their ids."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._host = HostClock()
        self._events: list[Event] = []
        self._last_event_id = 0

    def now(self) -> int:
        now = self._clock.now()
        return self._host.now() if now is None else now

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
        with self._lock:
            stream = self._events
            if newest_first:
                end = bisect_left(stream, after, key=_id) if after else len(stream)
                stream = stream[:end][::-1]
            else:
                stream = stream[bisect_right(stream, after, key=_id) :]
            found = [
                event
                for event in stream
                if (not kinds or event.kind in kinds)
                and (pool_id is None or event.pool_id == pool_id)
                and (user_id is None or event.user_id == user_id)
            ]
            return [replace(x, data=copy_json(x.data)) for x in found[: bounded(limit)]]

    def _append(self, events: Iterable[Event], now: int) -> None:
        for event in events:
            if of_canary(event):
                continue
            self._last_event_id += 1
            data = copy_json(event.data)
            self._events.append(replace(event, id=self._last_event_id, at=now, data=data))

    def _forget_events(self, until: int, limit: int) -> int:
        old = {event.id for event in self._events if event.at <= until}
        forgotten = set(sorted(old)[:limit])
        if forgotten:
            self._events = [event for event in self._events if event.id not in forgotten]
        return len(forgotten)


def _id(event: Event) -> int:
    return event.id


def action_event(action: Action, **data: Any) -> Event:
    """Record what an operator did; what the caller adds to the audit never hides what was done."""
    return Event(
        kind=EventKind.OPERATOR_ACTED,
        actor=action.actor,
        data={**action.data, "name": action.name, **data},
    )


def copy_json(data: dict[str, Any]) -> dict[str, Any]:
    """Copy as JSON does, so that no caller shares an object with the store."""
    try:
        copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(data))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error
    return copied
