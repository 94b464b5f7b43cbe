"""The stream of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from sojourn.api.call import OperatorCall, operator
from sojourn.event import Event, EventKind
from sojourn.license import split_pool_id
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Answer, Done, Limit, Name, Page, Wire, optional, rfc3339, seconds
from sojourn.wire.paging import page_of


class EventBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the stream. Durations inside `data` are seconds, as everywhere on the wire."""

    id: int
    kind: EventKind
    at: str
    license_id: str | None = None
    feature: str | None = None
    subject: str | None = None  # the lease or session it is about
    user_id: str | None = None
    client_id: str | None = None
    actor: str | None = None  # absent: the holder itself
    data: dict[str, Any] = field(default_factory=dict)


class EventsQuery(Wire, frozen=True, kw_only=True):
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Limit = 100
    kind: tuple[EventKind, ...] = ()
    user_id: Name | UnsetType = UNSET
    newest_first: bool = False


@operator("GET", "/api/events", may=Permission.READ)
def list_events(ask: OperatorCall, query: EventsQuery) -> Done[Page[EventBody]]:
    """List events after an id, oldest first.

    Ids are in the order of commits: whoever has read up to one, and asks for what is after it, misses
    nothing. With `newestFirst`, `after` means before. `kind` may be repeated.
    """
    store = ask.context.services.store

    def read(after: int, limit: int) -> Sequence[Event]:
        return store.events(
            after=after,
            limit=limit,
            kinds=query.kind,
            user_id=optional(query.user_id),
            newest_first=query.newest_first,
        )

    return Done(
        data=page_of(
            read,
            event_body,
            after=query.after,
            limit=query.limit,
            cursor=lambda event: event.id,
            name=lambda event: str(event.id),
        )
    )


DURATIONS = frozenset(
    {
        *("silentFor", "heldFor", "expiredFor", "retryAfter", "lastBeatAgo", "expiresIn", "lasted"),
    }
)
"""What the store records in milliseconds."""


def in_seconds(data: Any) -> Any:
    """Turn the durations in an event's data, however deep, into seconds."""
    if isinstance(data, list):
        return [in_seconds(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        name: seconds(value) if name in DURATIONS and isinstance(value, int) else in_seconds(value)
        for name, value in data.items()
    }


def event_body(event: Event) -> EventBody:
    license_id, feature = split_pool_id(event.pool_id) if event.pool_id else (None, None)
    return EventBody(
        id=event.id,
        kind=event.kind,
        at=rfc3339(event.at),
        license_id=license_id,
        feature=feature,
        subject=event.subject,
        user_id=event.user_id,
        client_id=event.client_id,
        actor=event.actor,
        data=in_seconds(event.data),
    )


CALLS = (list_events,)
