"""A store that answers an acquire so late that the relay's allotment is over by then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.idempotency import Replayed
from sojourn.lease import Acquire, Denied, Lease
from sojourn.license import WhenFull
from sojourn.region.gate import Gate, GatedStore, Limit
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import OPERATOR, POOL, acquire, beat, give_back, key, pool, usage


class SlowStore(MemoryStore):
    """Carries out the next acquire, then does not answer for as long as it is told."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.ticks = clock
        self.late = 0  # ms

    def acquire(self, requests: Sequence[Acquire]) -> list[Any]:
        outcomes = super().acquire(requests)
        late, self.late = self.late, 0
        self.ticks.advance(milliseconds=late)
        return outcomes


class Relay:
    """A store behind a gate, with one pool."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = SlowStore(self.clock)
        self.store.define([pool(2)])
        self.at_deadline: Callable[[], None] = self.end
        gate = Gate(self.clock.now, lambda _name, over: self.at_deadline() if over else None)
        self.gate, self.gated = gate, GatedStore(self.store, gate)
        self.allot(MINUTE)

    def allot(self, lasting: int) -> None:
        self.gate.limit({POOL: Limit(seats=2, deadline=self.clock.now() + lasting, stop=SECOND)})

    def end(self) -> None:
        """End the allotment, as a relay does at its deadline."""
        self.store.drop([POOL], OPERATOR)
        self.store.define([pool(0, when_full=WhenFull.DENY)])
        self.gate.limit({})

    def ask(self, **fields: Any) -> Any:
        return self.gated.acquire([acquire("ann", **fields)])[0]


@pytest.fixture
def relay() -> Relay:
    return Relay()


def left_of(relay: Relay, answer: Any) -> int:
    """Return for how long (ms) a copy's answer says that its lease lives."""
    assert isinstance(answer, Replayed)
    return int(answer.answer.expires_at - answer.at)


@pytest.mark.parametrize("named", [False, True], ids=["without a key", "with a key"])
def test_a_late_grant_is_told_to_nobody(relay: Relay, named: bool) -> None:
    """The allotment is over: there is no seat, and a copy of the request is told of none that lasts."""
    once = {"idempotency": key()} if named else {}
    relay.store.late = 2 * MINUTE
    assert isinstance(relay.ask(**once), Denied)
    held = usage(relay.store)
    assert held is not None
    assert held.in_use == 0
    if named:
        assert left_of(relay, relay.ask(**once)) <= 0


@pytest.mark.parametrize("named", [False, True], ids=["without a key", "with a key"])
def test_a_late_grant_is_granted_anew(relay: Relay, named: bool) -> None:
    """A new allotment came meanwhile: what its sender is told of is a lease that lives."""
    relay.at_deadline = lambda: relay.allot(MINUTE)
    once = {"idempotency": key()} if named else {}
    relay.store.late = 2 * MINUTE
    lease = relay.ask(**once)
    assert isinstance(lease, Lease)
    assert beat(relay.store, lease) is not None
    if named:
        assert left_of(relay, relay.ask(**once)) <= 0, "of the first lease, which was taken back"
        assert beat(relay.store, lease) is not None


def test_a_copy_of_a_grant_in_time(relay: Relay) -> None:
    """Is told the lease as long as it lives, and not a moment longer."""
    lease = relay.ask(idempotency=key())
    assert isinstance(lease, Lease)
    relay.clock.advance(milliseconds=SECOND)
    copy = relay.ask(idempotency=key())
    assert isinstance(copy, Replayed)
    assert replace(copy.answer, expires_at=lease.expires_at) == lease
    assert 0 < left_of(relay, copy) <= lease.expires_at - relay.clock.now()
    assert give_back(relay.store, lease)
    assert left_of(relay, relay.ask(idempotency=key())) <= 0
