"""Relays as their authority hears them, for tests of what is allotted."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sojourn.allotment import (
    ALLOTMENT_TTL,
    AllotmentGrant,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    Shares,
)
from sojourn.lease import Lease
from sojourn.store import Store
from sojourn.testing.builders import POOL, acquire

TTL = ALLOTMENT_TTL


class Region(Struct):
    """A relay as its authority hears it. It believes what it was told last."""

    store: Store
    name: str = "east"
    life: str = "life-1"
    number: int = 0
    epoch: int = 0
    seats: int = 0
    fence: int = 0
    pool_id: str = POOL

    def next_beat(self, want: int, *, held: int = 0) -> RelayBeat:
        self.number += 1
        wish = AllotmentWish(self.pool_id, self.seats, self.fence, held, want)
        return RelayBeat(self.name, self.life, self.number, self.epoch, (wish,))

    def hear(self, answer: RelayAnswer) -> AllotmentGrant | None:
        """Take an answer over, as a relay does."""
        assert answer.refused is None, answer.refused
        self.epoch = answer.epoch
        for grant in answer.grants:
            if grant.fence > self.fence:
                self.seats, self.fence = grant.seats, grant.fence
            return grant
        return None

    def ask(self, want: int, *, held: int = 0, **ttl: Any) -> AllotmentGrant | None:
        """Beat, and take the answer over."""
        return self.hear(self.store.allot([self.next_beat(want, held=held)], **ttl)[0])

    def keep(self, seats: int) -> AllotmentGrant | None:
        """Give seats back, so that so many are left."""
        self.seats = seats
        return self.ask(seats)


def shares(store: Store, pool_id: str = POOL) -> Shares:
    return store.authority([pool_id])[0].pools[pool_id]


def agreed(store: Store, *regions: Region) -> None:
    """Check that the authority and its relays believe the same."""
    known = shares(store).allotments
    assert {x.name: x.seats for x in regions} == {name: x.seats for name, x in known.items()}


def crowd(store: Store, count: int) -> int:
    """Let so many new holders acquire; return how many got a seat."""
    answers = store.acquire([acquire(f"crowd-{n}") for n in range(count)])
    return sum(isinstance(answer, Lease) for answer in answers)
