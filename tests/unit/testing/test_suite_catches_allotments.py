"""The contract suite can fail: stores with one planted bug each about allotments, and what finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from unittest import mock

import pytest
from msgspec.structs import replace
from tests.unit.testing.planted import outcomes

from sojourn import allotment
from sojourn.allotment import AllotmentWish, RelayAnswer, RelayBeat, Shares
from sojourn.stores.memory import MemoryStore
from sojourn.testing.machine import drive

pytest_plugins = ("pytester",)


class AcquireIgnoresRelays(MemoryStore):
    """Grants seats that a relay may grant."""

    def _allotted(self, pool_id: str, now: int) -> int:
        return 0


class OverTooSoon(MemoryStore):
    """Takes seats back before their relay has stopped."""

    def _allotted(self, pool_id: str, now: int) -> int:
        return super()._allotted(pool_id, now + 1)


class DoubtsNothing(MemoryStore):
    """Grants what seems to be free after a restore."""

    def _doubtful(self, pool_id: str, now: int) -> bool:
        return False


class LateBeatCounts(MemoryStore):
    """Hears beats in the order in which they come."""

    def _allot(self, beat: RelayBeat, ttl: int, ttls: Mapping[str, int]) -> RelayAnswer:
        known = self._authority.relays.get(beat.relay)
        if known is not None:
            relays = {**self._authority.relays, beat.relay: replace(known, number=0)}
            self._authority = replace(self._authority, relays=relays)
        return super()._allot(beat, ttl, ttls)


class Planted(MemoryStore):
    """Decides by other rules than those of `allotment`."""

    rule = ""

    def instead(self, pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        raise NotImplementedError

    def _allot(self, beat: RelayBeat, ttl: int, ttls: Mapping[str, int]) -> RelayAnswer:
        with mock.patch.object(allotment, self.rule, self.instead):
            return super()._allot(beat, ttl, ttls)


give, learn = allotment._give, allotment._learn


class SameFence(Planted):
    """Gives a larger number under the fence of the smaller one."""

    rule = "_give"

    def instead(self, pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        given, mine = give(pool, relay, wish, now), pool.allotments.get(relay)
        if mine is None or given is pool:
            return given
        return allotment._put(pool, relay, replace(given.allotments[relay], fence=mine.fence))


class GivesReserved(Planted):
    """Gives what is kept for others."""

    rule = "_give"

    def instead(self, pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        return give(replace(pool, kept=0), relay, wish, now)


class ShrinksUnheard(Planted):
    """Takes a smaller number under an older fence for what the relay holds."""

    rule = "_learn"

    def instead(self, pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        mine = pool.allotments.get(relay)
        fence = wish.fence if mine is None else max(mine.fence, wish.fence)
        return learn(pool, relay, replace(wish, fence=fence), now)


class ShortensTheLiving(Planted):
    """Lets a shorter ttl count for what a relay was told before."""

    rule = "_learn"

    def instead(self, pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        mine = pool.allotments.get(relay)
        if mine is not None:
            pool = allotment._put(pool, relay, replace(mine, expires_at=now + 1))
        return learn(pool, relay, wish, now)


BUGS: dict[type[MemoryStore], str] = {
    AcquireIgnoresRelays: "test_relay_gets_what_it_wants_and_others_what_is_left",
    OverTooSoon: "test_silent_relay_has_its_seats_until_they_are_over",
    DoubtsNothing: "test_in_doubt_only_who_comes_back_gets_a_seat",
    LateBeatCounts: "test_late_beat_is_refused_and_changes_nothing",
    SameFence: "test_larger_number_takes_a_new_fence",
    GivesReserved: "test_reserved_seats_are_not_given",
    ShrinksUnheard: "test_smaller_number_counts_when_it_is_said_under_its_fence",
    ShortensTheLiving: "test_shorter_ttl_shortens_nothing",
}
RARE = {OverTooSoon}
"""What the machine will hardly meet: the very millisecond before an allotment is over."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_suite_finds(bug: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The test that is there for this bug fails on a store that has it."""
    assert outcomes(pytester, bug, [BUGS[bug]])[1] > 0


@pytest.mark.parametrize("bug", [x for x in BUGS if x not in RARE], ids=lambda bug: bug.__name__)
def test_machine_finds(bug: Callable[..., MemoryStore]) -> None:
    """The state machine finds it too, without having been told what to look for."""
    with pytest.raises(AssertionError):
        drive(bug, examples=1_000, shrink=False)
