"""Events in sentences: who did what, for feeds, timelines and the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.console.seats import feature_of, person_link, pool_link
from sojourn.console.words import When, exact, when
from sojourn.event import Event, EventKind
from sojourn.license import split_pool_id
from sojourn.service.operators import USER as OPERATOR

INCIDENT_GAP = 10 * MINUTE
"""Refusals of one pool that lie no further apart are one incident."""


class Story(Struct, frozen=True, kw_only=True):
    """One event: `who` did or met with `what`."""

    sign: str  # an icon's name
    tone: str  # ok, warn, bad or dim
    who: str
    person: str  # where to read of them; empty: nobody in particular
    what: str
    at: When
    event_id: int = 0


class Incident(Struct, frozen=True, kw_only=True):
    """Refusals of one pool within a short time."""

    feature: str
    license_id: str
    link: str
    times: int
    people: tuple[tuple[str, str], ...]  # user and link, each once
    at: When
    lasted: str
    said: str


def stories(events: Sequence[Event], now: int) -> list[Story]:
    """Tell events in their order. A sign-in on a new device is told once, and operators' own not at all."""
    new = {e.subject for e in events if e.kind is EventKind.SESSION_NEW_DEVICE}
    return [
        story(event, now)
        for event in events
        if not (event.kind is EventKind.SESSION_CREATED and event.subject in new)
        and not (event.user_id or "").startswith(OPERATOR)
    ]


def story(event: Event, now: int) -> Story:
    """Say what happened, in words."""
    sign, tone, words = _SAID.get(event.kind, ("unknown", "dim", _otherwise))
    user = event.user_id or ""
    return Story(
        sign=sign,
        tone=tone,
        who=user or event.actor or ("The store" if sign == "store" else "Sojourn"),
        person=person_link(user) if user else "",
        what=words(event),
        at=when(event.at, now),
        event_id=event.id,
    )


def _seat(words: str) -> Callable[[Event], str]:
    def said(event: Event) -> str:
        return words.format(seat=_a_seat(event), feature=feature_of(event.pool_id or ":?"))

    return said


def _a_seat(event: Event) -> str:
    feature = feature_of(event.pool_id or ":?")
    return f"{'an' if feature[:1].lower() in tuple('aeiou') else 'a'} {feature} seat"


def _denied(event: Event) -> str:
    return f"was refused {_a_seat(event)}: {why_full(event)}"


def why_full(event: Event) -> str:
    """Say why a refusal was given."""
    if event.data.get("reason") != "seat_limit":
        return str(event.data.get("reason", "refused")).replace("_", " ")
    kept = int(event.data.get("reservedFree", 0))
    if kept:
        return f"the {kept:,} that are free are reserved for others"
    return f"all {event.data.get('limit', 0):,} are in use"


def _asked(event: Event) -> str:
    feature = feature_of(event.pool_id or ":?")
    return f"asked {feature} holders whether they are there"


def _evicted(event: Event) -> str:
    seat, silent = _a_seat(event), int(event.data.get("silentFor", 0))
    if event.data.get("reason") == "moved":
        return f"moved {seat} to another device"
    return f"lost {seat} to somebody who needed it, silent for {exact(silent)}"


def _ended(event: Event) -> str:
    reason = str(event.data.get("reason", "ended")).replace("_", " ")
    by = f" by {event.actor}" if event.actor else ""
    return f"was signed out{by}: {reason}"


def _acted(event: Event) -> str:
    action = str(event.data.get("name", "acted")).replace("_", " ")
    ended = event.data.get("ended")
    much = f", {ended} ended" if isinstance(ended, int) else ""
    return f"{action}{much}"


def _allotted(event: Event) -> str:
    feature = split_pool_id(event.pool_id or ":?")[1]
    seats, had = int(event.data.get("seats", 0)), int(event.data.get("had", 0))
    relay = event.subject or "a relay"
    if event.data.get("expired"):
        return f"took {had:,} {feature} seats back from {relay}, which fell silent"
    return f"lets {relay} grant {seats:,} {feature} seats instead of {had:,}"


def _otherwise(event: Event) -> str:
    return event.kind.value.replace(".", ": ").replace("_", " ")


_SAID: dict[EventKind, tuple[str, str, Callable[[Event], str]]] = {
    EventKind.LEASE_ACQUIRED: ("seat", "ok", _seat("took {seat}")),
    EventKind.LEASE_RESUMED: ("seat", "ok", _seat("came back to {seat}")),
    EventKind.LEASE_TAKEN_OVER: ("seat", "ok", _seat("took their own {feature} seat again")),
    EventKind.LEASE_RELEASED: ("gone", "dim", _seat("gave {seat} back")),
    EventKind.LEASE_EXPIRED: ("ghost", "warn", _seat("fell silent: their {feature} seat is free")),
    EventKind.LEASE_EVICTED: ("ghost", "warn", _evicted),
    EventKind.LEASE_REVOKED: ("gone", "warn", _seat("had {seat} taken away")),
    EventKind.LEASE_WAITING: ("hourglass", "bad", _seat("waits in line for {seat}")),
    EventKind.LEASE_OFFERED: ("seat", "ok", _seat("is offered {seat}")),
    EventKind.LEASE_ASKED: ("hourglass", "dim", _asked),
    EventKind.LEASE_DENIED: ("denied", "bad", _denied),
    EventKind.SESSION_CREATED: ("sign-in", "ok", lambda _: "signed in"),
    EventKind.SESSION_NEW_DEVICE: (
        "desktop",
        "dim",
        lambda event: f"signed in on a new device: {event.data.get('device', 'unknown')}",
    ),
    EventKind.SESSION_ROTATED: ("key", "dim", lambda _: "got a new session token"),
    EventKind.SESSION_ENDED: ("sign-out", "dim", _ended),
    EventKind.OPERATOR_ACTED: ("key", "warn", _acted),
    EventKind.ALLOTMENT_CHANGED: ("seat", "dim", _allotted),
    EventKind.AUTHORITY_RESTORED: (
        "store",
        "bad",
        lambda _: "gives nothing to relays until all have said what they hold",
    ),
    EventKind.STORE_RETURNED: (
        "store",
        "warn",
        lambda _: "was away; living leases got the time back",
    ),
    EventKind.STORE_REPLACED: (
        "store",
        "bad",
        lambda _: "came back without what was answered last",
    ),
    EventKind.STORE_TABLE_MISSING: ("store", "bad", lambda _: "found a table missing"),
    EventKind.STORE_TABLE_BACK: ("store", "ok", lambda _: "found the table back"),
}


def incidents(denials: Sequence[Event], now: int) -> list[Incident]:
    """Group refusals, newest first, by pool and by time, newest incident first."""
    groups: list[list[Event]] = []
    latest: dict[str, list[Event]] = {}
    for event in denials:
        pool = event.pool_id or ""
        group = latest.get(pool)
        if group is None or group[-1].at - event.at > INCIDENT_GAP:
            group = latest[pool] = []
            groups.append(group)
        group.append(event)
    return [_incident(group, now) for group in groups]


def _incident(group: Sequence[Event], now: int) -> Incident:
    last, first = group[0], group[-1]
    license_id, feature = split_pool_id(last.pool_id or ":?")
    users = list(dict.fromkeys(event.user_id for event in group if event.user_id))
    suspects = int(last.data.get("suspect", 0))
    said = f"{last.data.get('inUse', 0):,} of {last.data.get('limit', 0):,} seats were in use"
    if suspects:
        said += f", {suspects:,} of them suspect"
    if last.data.get("reason") != "seat_limit" or last.data.get("reservedFree"):
        why = why_full(last)
        said = why[:1].upper() + why[1:]
    return Incident(
        feature=feature,
        license_id=license_id,
        link=pool_link(license_id, feature),
        times=len(group),
        people=tuple((user, person_link(user)) for user in users),
        at=when(last.at, now),
        lasted=exact(last.at - first.at) if last.at - first.at >= 1_000 else "",
        said=said,
    )
