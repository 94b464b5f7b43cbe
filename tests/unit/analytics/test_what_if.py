"""The past, replayed: by the policy that was in force it refuses whom the store refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.histories import history_of

from sojourn.analytics.holds import PolicyAt
from sojourn.analytics.in_memory import MemoryUsage
from sojourn.analytics.measuring import Measuring, policies_of
from sojourn.analytics.what_if import Replay, Scenario, replay
from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.event import Event
from sojourn.license import Policy
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import POOL, acquire, beat, give_back, pool, take

SEEDS = st.integers(min_value=0, max_value=2**32)


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_real_policy_gives_the_recorded_refusals(seed: int) -> None:
    """Whatever the policy, its changes, reservations, overdraft, lines, doubts and outages were."""
    history = history_of(seed)
    for each in history.pools:
        events = [event for event in history.events if event.pool_id == each.id]
        policies = [
            policy
            for audit in history.audits
            for pool_id, policy in policies_of(audit)
            if pool_id == each.id
        ]
        told = replay(events, [], policies)
        assert told.denied == refused(events)
        assert told.recorded == len(told.denied)
        assert told.spared == 0


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_enough_seats_refuse_nobody(seed: int) -> None:
    history = history_of(seed)
    for each in history.pools:
        events = [event for event in history.events if event.pool_id == each.id]
        told = replay(events, [], [PolicyAt(0, each.policy)], Scenario(seats=1_000))
        assert (told.denied, told.refused_users) == ([], [])
        assert told.spared == told.recorded == len(refused(events))


def refused(events: list[Event]) -> list[int]:
    return [
        event.id
        for event in events
        if event.kind == "lease.denied" and event.data["reason"] == "seat_limit"
    ]


class Day:
    """Two seats; three people who want one, one of whom falls silent."""

    def __init__(self, **policy: Any) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock, max_pause=100 * MINUTE)
        self.pool = pool(2, **policy)
        self.store.define([self.pool])

    def replay(self, **scenario: Any) -> Replay:
        events = self.store.events(limit=1_000)
        policies = [PolicyAt(0, self.pool.policy)]
        return replay(events, [], policies, Scenario(**scenario))


def test_one_seat_more_and_one_fewer() -> None:
    day = Day()
    ann, ben = take(day.store, "ann"), take(day.store, "ben")
    day.store.acquire([acquire("cem")])
    day.clock.advance(seconds=20)
    give_back(day.store, ann)
    give_back(day.store, ben)
    assert day.replay().refused_users == ["cem"]
    more = day.replay(seats=1)
    assert (more.denied, more.spared, more.peak) == ([], 1, 3)
    fewer = day.replay(seats=-1)
    assert fewer.refused_users == ["ben", "cem"]
    assert fewer.peak == 1


def test_a_shorter_patience_frees_a_silent_seat_in_time() -> None:
    """Ann is silent for 50 s when cem is refused: with half the patience her seat had been his."""
    day = Day(linger=0)
    take(day.store, "ann")
    day.clock.advance(seconds=30)
    ben = take(day.store, "ben")
    day.clock.advance(seconds=20)
    beat(day.store, ben)
    day.store.acquire([acquire("cem")])
    day.clock.advance(seconds=60)
    day.store.sweep()
    assert day.replay().refused_users == ["cem"]
    quick = day.replay(suspect_after=30 * SECOND)
    assert (quick.denied, quick.evicted) == ([], 0 + 1)
    sooner = day.replay(lost_after=45 * SECOND, suspect_after=45 * SECOND)
    assert sooner.denied == []


def test_a_line_makes_waiting_of_refusals() -> None:
    """Cem comes 20 s before a seat is free: he waits for it, if he has the patience."""
    day = Day()
    ann, ben = take(day.store, "ann"), take(day.store, "ben")
    day.clock.advance(seconds=10)
    day.store.acquire([acquire("cem")])
    day.clock.advance(seconds=20)
    give_back(day.store, ann)
    day.clock.advance(seconds=20)
    give_back(day.store, ben)
    patient = day.replay(wait=MINUTE)
    assert (patient.denied, patient.waits) == ([], [20 * SECOND])
    brief = day.replay(wait=5 * SECOND)
    assert (brief.refused_users, brief.gave_up) == (["cem"], 1)


def test_seats_that_are_held_from_before_count() -> None:
    """A seat that was granted before the first event, and is held still, is taken in the replay, too."""
    clock = ManualClock()
    store = MemoryStore(clock, max_pause=100 * MINUTE)
    store.define([pool(1)])
    take(store, "ann")
    usage = MemoryUsage()
    Measuring(lambda after, limit: store.events(after=after, limit=limit), usage, clock.now).run()
    mark = store.events(limit=10)[-1].id
    store.acquire([acquire("ben")])
    held = [hold for hold in usage._holds.values() if hold.pool_id == POOL]
    told = replay(store.events(after=mark), held, [PolicyAt(0, Policy(capacity=1))])
    assert told.refused_users == ["ben"]
