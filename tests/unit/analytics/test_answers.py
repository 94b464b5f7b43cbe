"""Answers of use over time equal brute force over the raw events, by hour and by day.

For how long no seat was left is judged by the capacity of each instant, whatever hour or day it lies in.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.histories import (
    History,
    Hold,
    history_of,
    holds_of,
    level_at,
    levels_of,
    quantile_of,
)
from tests.unit.analytics.test_measures import measured

from sojourn.analytics.answers import Usage, usage_of
from sojourn.analytics.holds import PolicyAt
from sojourn.analytics.measuring import policies_of
from sojourn.clock import DAY, HOUR, MINUTE, ManualClock
from sojourn.event import Event
from sojourn.license import Policy, Pool
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import POOL, give_back, pool, take

SEEDS = st.integers(min_value=0, max_value=2**32)


@given(seed=SEEDS, page=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_use_over_time_is_that_of_brute_force(seed: int, page: int) -> None:
    """Peak, quantiles, mean, refusals and full time of hours, days and the whole are sums over every
    stretch between two changes of the level or of the capacity. The last hour counts only until now."""
    history = history_of(seed)
    keeper = measured(history, page)
    holds = holds_of(history.events)
    cursor = keeper.cursor()
    assert cursor is not None
    for each in history.pools:
        policies = policies_for(history, each)
        mine = [hold for hold in holds if hold.pool == each.id]
        for span in (HOUR, DAY):
            told = usage_of(
                keeper, each.id, policies, since=cursor.since, until=history.now, span=span
            )
            for point in told.points:
                end = min(point.at + span, history.now)
                levels = levels_of(mine, each, point.at, end)
                assert point.peak == max(levels)
                assert point.p95 == quantile_of(levels, 0.95)
                assert point.p50 == quantile_of(levels, 0.5)
                assert point.mean == pytest.approx(mean_of(levels))
                assert point.denied == refusals_of(history, each, point.at, point.at + span)
                assert point.full == full_of(mine, each, policies, point.at, end)
            whole = levels_of(mine, each, told.points[0].at, history.now)
            assert (told.peak, told.p50) == (max(whole), quantile_of(whole, 0.5))
            assert told.mean == pytest.approx(mean_of(whole))
            assert told.full == full_of(mine, each, policies, told.since, history.now)


def mean_of(levels: Counter[int]) -> float:
    return sum(level * lasted for level, lasted in levels.items()) / levels.total()


def refusals_of(history: History, pool: Pool, since: int, until: int) -> int:
    return sum(
        event.kind == "lease.denied" and event.pool_id == pool.id and since <= event.at < until
        for event in history.events
    )


def policies_for(history: History, pool: Pool) -> list[PolicyAt]:
    told = [x for audit in history.audits for x in policies_of(audit)]
    return [policy for name, policy in told if name == pool.id]


def full_of(holds: list[Hold], pool: Pool, policies: list[PolicyAt], since: int, until: int) -> int:
    """Measure by brute force for how long as many seats were held as there were, or more."""
    marks = {since, until} | {each.at for each in policies}
    marks |= {x for hold in holds for x in (hold.since, hold.until) if x is not None}
    full = 0
    for begin, end in pairwise(sorted(x for x in marks if since <= x <= until)):
        known = [each.policy for each in policies if each.at <= begin]
        capacity = known[-1].capacity if known and known[-1] else 0
        if capacity and level_at(holds, pool, begin) >= capacity:
            full += end - begin
    return full


class Shop:
    """A pool of two seats from 12:00 on, both taken at 12:10, whose capacity is changed by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_790_000_000_000 // DAY * DAY + 12 * HOUR)
        self.store = MemoryStore(self.clock, max_pause=100 * DAY)
        self.store.define([pool(2, lost_after=DAY)])
        self.policies = [PolicyAt(self.clock.now(), Policy(capacity=2))]
        self.leases = []
        self.clock.advance(milliseconds=10 * MINUTE)
        self.leases = [take(self.store, "ann"), take(self.store, "ben")]

    def resize(self, seats: int | None, *, after: int) -> None:
        self.clock.advance(milliseconds=after)
        policy = None if seats is None else Policy(capacity=seats)
        self.policies.append(PolicyAt(self.clock.now(), policy))

    def usage(self, *, span: int, since: int, until: int | None = None) -> Usage:
        events: list[Event] = self.store.events(limit=1_000)
        now = self.clock.now() if until is None else until
        history = History(pools=[], events=events, audits=[], in_use={}, now=now)
        keeper = measured(history, 100)
        return usage_of(keeper, POOL, self.policies, since=since, until=now, span=span)


@pytest.mark.parametrize("span", [HOUR, DAY])
def test_a_capacity_that_grew_in_the_middle_of_an_hour(span: int) -> None:
    """Two of two seats were held from 12:10 to 12:30, then two of nine: it was full for 20 minutes."""
    shop = Shop()
    shop.resize(9, after=20 * MINUTE)
    shop.clock.advance(milliseconds=2 * HOUR)
    since = shop.policies[0].at
    told = shop.usage(span=span, since=since)
    assert told.full == 20 * MINUTE
    assert (told.capacity, told.points[0].capacity) == (9, 9)
    assert told.capacities == [(since // span * span, None if span == DAY else 2)] + (
        [(since, 2)] if span == DAY else []
    ) + [(since + 30 * MINUTE, 9)]


def test_a_capacity_that_shrank_after_the_end_of_the_answer() -> None:
    """What comes after `until` judges nothing before it."""
    shop = Shop()
    until = shop.clock.now() + 10 * MINUTE
    shop.resize(1, after=20 * MINUTE)
    told = shop.usage(span=HOUR, since=shop.policies[0].at, until=until)
    assert (told.full, told.points[-1].capacity) == (10 * MINUTE, 2)


def test_a_feature_that_was_taken_away_is_full_of_nothing() -> None:
    shop = Shop()
    shop.resize(None, after=5 * MINUTE)
    shop.resize(2, after=10 * MINUTE)
    give_back(shop.store, shop.leases[0])
    shop.clock.advance(milliseconds=HOUR)
    told = shop.usage(span=HOUR, since=shop.policies[0].at)
    assert told.full == 5 * MINUTE
    assert [seats for _, seats in told.capacities] == [2, None, 2]


def test_the_day_after_the_first_begins_at_its_level() -> None:
    """Measures begin at noon, and a seat is held until the next evening: it is held on that whole day."""
    shop = Shop()
    shop.clock.advance(milliseconds=11 * HOUR)
    give_back(shop.store, shop.leases[0])
    shop.clock.advance(milliseconds=20 * HOUR)
    told = shop.usage(span=DAY, since=shop.policies[0].at)
    assert [point.peak for point in told.points] == [2, 1]
    assert told.points[1].mean == 1
