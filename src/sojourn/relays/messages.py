"""What a relay and its authority tell each other about seats: a beat, and its answer.

There is one of each in an interval, and its size grows with the pools that a relay serves, never with its
clients. Instants do not travel: each side judges time by its own clock. Durations are in milliseconds.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from sojourn.decoding import prepared


class RelayRefusal(StrEnum):
    """Why a beat is answered with nothing. Each is a code of the API."""

    CLONED = "relay_cloned"
    """Another process beats with this relay's name, and has begun later."""


@prepared
class AllotmentWish(Struct, frozen=True):
    """A pool in a beat: what the relay holds of it, and what it would like to."""

    pool_id: str
    seats: int = 0  # that it may grant: at most as many as under this fence it was given
    fence: int = 0  # of the allotment that it goes by; 0: none
    held: int = 0  # seats that its clients hold
    want: int = 0  # seats that its region could use


@prepared
class RelayBeat(Struct, frozen=True):
    """From a relay. `life` is drawn anew by each process, `number` grows over all lives of a relay."""

    relay: str
    life: str
    number: int
    epoch: int = 0  # of the authority, as last heard; 0: never
    wishes: tuple[AllotmentWish, ...] = ()


@prepared
class AllotmentGrant(Struct, frozen=True):
    """A pool in an answer: what the relay may go by from now on."""

    pool_id: str
    seats: int
    fence: int
    ttl: int  # ms, from the instant before the beat left that is answered
    keep: int | None = None  # give back what is above, if nobody sits there


@prepared
class RelayAnswer(Struct, frozen=True):
    """To a relay: which of its beats is answered, and what holds for each pool that it spoke of."""

    epoch: int
    number: int
    grants: tuple[AllotmentGrant, ...] = ()
    refused: RelayRefusal | None = None
