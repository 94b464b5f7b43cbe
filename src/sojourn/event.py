"""What happened, written in the same atomic step as the change itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, field

CANARY_USER = "sojourn:doctor:"
"""What the ids of doctor's canaries begin with."""
CANARY_LICENSE = "sojourn.doctor"
"""The license of their pools. No ledger has it: only doctor gets at them."""
SWEEP_LICENSE = "sojourn.sweeps"
"""The license of the pool with one seat, whose holder carries out planned sweeps. No ledger has it."""
OWN_LICENSES = (CANARY_LICENSE, SWEEP_LICENSE)
"""Licenses of Sojourn's own pools: no event tells of them, and no list shows their leases unasked."""


class EventKind(StrEnum):
    """Stable names. A plain renewal is no event."""

    SESSION_CREATED = "session.created"
    SESSION_NEW_DEVICE = "session.new_device"
    SESSION_ROTATED = "session.rotated"
    SESSION_ENDED = "session.ended"
    LEASE_ACQUIRED = "lease.acquired"
    LEASE_RESUMED = "lease.resumed"
    LEASE_TAKEN_OVER = "lease.taken_over"
    LEASE_RELEASED = "lease.released"
    LEASE_EVICTED = "lease.evicted"
    LEASE_REVOKED = "lease.revoked"
    LEASE_EXPIRED = "lease.expired"
    LEASE_DENIED = "lease.denied"
    LEASE_ASKED = "lease.asked"  # a pool's doubtful holders, before somebody is denied for them
    LEASE_WAITING = "lease.waiting"  # there was no seat: its holder waits in the pool's line
    LEASE_OFFERED = "lease.offered"  # a free seat is held for somebody in the line
    STORE_RETURNED = "store.returned"
    STORE_REPLACED = "store.replaced"  # by a server that may lack what was answered last
    STORE_TABLE_MISSING = "store.table_missing"  # dropped, or never made; told once
    STORE_TABLE_BACK = "store.table_back"
    ALLOTMENT_CHANGED = "allotment.changed"  # a relay may grant more or fewer seats of a pool
    AUTHORITY_RESTORED = "authority.restored"  # relays may hold what is not known here
    OPERATOR_ACTED = "operator.acted"


class Event(Struct, frozen=True, kw_only=True):
    """One entry of the stream.

    Ids are given in commit order: whoever has read up to id n and asks for what is after n misses
    nothing, on any store, with any number of writers.
    """

    kind: EventKind
    id: int = 0  # given by the store
    at: int = 0  # given by the store
    pool_id: str | None = None
    subject: str | None = None  # the lease or session it is about
    user_id: str | None = None
    client_id: str | None = None
    actor: str | None = None  # who did it: "key:<id>", "system:sweep"; None: the holder itself
    data: dict[str, Any] = field(default_factory=dict)


def kind_of(text: str) -> EventKind:
    """Return the kind by this name, as a stream has it.

    One that only newer servers know is none of ours, so nobody here takes it for something else. It keeps
    its name, under which it is shown, recorded and sent to webhooks.
    """
    try:
        return EventKind(text)
    except ValueError:
        unknown = str.__new__(EventKind, text)
        unknown._name_ = unknown._value_ = text
        return unknown


def of_canary(event: Event) -> bool:
    """Tell whether it is about nobody: no stream tells of doctor's canaries, who leave no trace, nor of
    Sojourn's own pools."""
    if event.pool_id is not None:
        return event.pool_id.partition(":")[0] in OWN_LICENSES
    return event.user_id is not None and event.user_id.startswith(CANARY_USER)


def asked_event(pool_id: str, actor: str | None, data: dict[str, Any] | None) -> Event:
    """Ask the doubtful holders of a pool whether they are there, or tell what came of it."""
    return Event(kind=EventKind.LEASE_ASKED, pool_id=pool_id, actor=actor, data=data or {})
