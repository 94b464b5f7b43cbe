"""Measures equal what brute force makes of the raw events, on random histories."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.histories import (
    GRANTS,
    History,
    history_of,
    holds_of,
    level_at,
    levels_of,
    quantile_of,
)

from sojourn.analytics.buckets import spread
from sojourn.analytics.counts import Counts, counted
from sojourn.analytics.holds import measurable
from sojourn.analytics.in_memory import MemoryUsage
from sojourn.analytics.keeper import Changes, Cursor, UsageKeeper
from sojourn.analytics.levels import Levels, add, mean, peak, quantile, seat_time
from sojourn.analytics.measuring import Measuring
from sojourn.clock import DAY, HOUR
from sojourn.event import Event, EventKind
from sojourn.ledger import Audit

SEEDS = st.integers(min_value=0, max_value=2**32)


def measured(history: History, page: int, keeper: UsageKeeper | None = None) -> UsageKeeper:
    """Measure a history in pages of so many events."""
    keeper = keeper or MemoryUsage(history.audits)
    measuring = Measuring(source(history.events), keeper, lambda: history.now, page=page)
    while measuring.step() is not None:
        pass
    return keeper


def source(events: list[Event]) -> Callable[[int, int], list[Event]]:
    def read(after: int, limit: int) -> list[Event]:
        return [event for event in events if event.id > after][:limit]

    return read


def levels_by(keeper: UsageKeeper, pool: str, history: History, *, span: int) -> dict[int, Levels]:
    """Read what is known of a pool by hours, or by days, up to now."""
    cursor = keeper.cursor()
    assert cursor is not None
    since = cursor.since // span * span
    known = keeper.span(pool, since, history.now + 1, by_day=span == DAY)
    if span == HOUR:
        whole = spread(pool, known.hours, known.before, since=since, until=history.now, span=HOUR)
        return {each.at: dict(each.levels) for each in whole}
    found: dict[int, Levels] = {}
    before = known.before
    for day in range(since, history.now, DAY):
        until = min(history.now, day + DAY)
        buckets = known.days if day in known.days else known.hours
        step = DAY if day in known.days else HOUR
        for each in spread(pool, buckets, before, since=day, until=until, span=step):
            add(found.setdefault(day, {}), each.levels)
            before = type(before)(each.at, each.last)
    return found


@given(seed=SEEDS, page=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_concurrency_is_that_of_brute_force(seed: int, page: int) -> None:
    """Time at each level, peak, quantiles and means are those of every stretch between two instants."""
    history = history_of(seed)
    keeper = measured(history, page)
    holds = holds_of(history.events)
    for pool in history.pools:
        for span in (HOUR, DAY):
            for at, found in levels_by(keeper, pool.id, history, span=span).items():
                expected = levels_of(holds, pool, at, min(at + span, history.now))
                assert found == dict(expected)
                assert peak(found) == max(expected, default=0)
                for share in (0.5, 0.95, 1.0):
                    assert quantile(found, share) == quantile_of(expected, share)
                assert seat_time(found) == sum(x * lasted for x, lasted in expected.items())
                assert mean(found) == pytest.approx(
                    sum(x * lasted for x, lasted in expected.items()) / max(1, expected.total())
                )


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_level_is_what_the_store_said(seed: int) -> None:
    """At every instant that the store was asked, it counted as many seats as follow from the events."""
    history = history_of(seed, outages=False)
    holds = holds_of(history.events)
    for (pool_id, at), in_use in history.in_use.items():
        pool = next(each for each in history.pools if each.id == pool_id)
        assert level_at(holds, pool, at) == in_use


@given(seed=SEEDS, page=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_counts_are_those_of_brute_force(seed: int, page: int) -> None:
    """Grants, refusals, ends by reason, lengths and ghosts add up to what the events say, hour by hour."""
    history = history_of(seed)
    keeper = measured(history, page)
    holds = holds_of(history.events)
    for pool in history.pools:
        known = keeper.span(pool.id, 0, history.now + 1, by_day=False)
        mine = [event for event in history.events if event.pool_id == pool.id]
        for hour, bucket in known.hours.items():
            here = [event for event in mine if hour <= event.at < hour + HOUR]
            kinds = Counter(str(event.kind) for event in here)
            counts = bucket.counts
            got = (counts.granted, counts.resumed, counts.taken_over, counts.entered)
            assert got == (*(kinds[kind] for kind in GRANTS), kinds["lease.waiting"])
            denied = Counter(str(e.data["reason"]) for e in here if e.kind == "lease.denied")
            assert counts.denied == denied
            over = [
                hold
                for hold in holds
                if hold.pool == pool.id
                and hold.until is not None
                and hour <= hold.until < hour + HOUR
            ]
            assert counts.ended == Counter(hold.reason for hold in over if hold.reason)
            assert counts.held.number == len(over)
            assert counts.held.total == sum((x.until or 0) - x.since for x in over)
            silent = [hold.silent for hold in over if hold.reason in ("expired", "evicted")]
            assert (counts.ghosts.number, counts.ghosts.total) == (len(silent), sum(silent))
        everything = counted(bucket.counts for bucket in known.hours.values())
        assert everything.denials == sum(event.kind == "lease.denied" for event in mine)


@given(seed=SEEDS, page=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_shares_are_those_of_brute_force(seed: int, page: int) -> None:
    """Each user's and client's time is the sum of what they held; grants and refusals are counted."""
    history = history_of(seed)
    keeper = measured(history, page)
    holds = holds_of(history.events)
    for pool in history.pools:
        for kind in ("user", "client"):
            held: Counter[str] = Counter()
            for hold in holds:
                if hold.pool == pool.id:
                    end = history.now if hold.until is None else hold.until
                    held[getattr(hold, kind)] += end - hold.since
            denied: Counter[str] = Counter()
            for event in history.events:
                if event.pool_id == pool.id and event.kind == "lease.denied":
                    denied[getattr(event, f"{kind}_id")] += 1
            found = keeper.shares(pool.id, kind, 0, history.now, limit=100).items
            assert {each.name: each.held for each in found if each.held} == +held
            assert {each.name: each.denied for each in found if each.denied} == denied


@given(seed=SEEDS, page=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_incidents_are_those_of_brute_force(seed: int, page: int) -> None:
    """Refusals no more than ten minutes apart are one incident; who was refused is told with each."""
    history = history_of(seed)
    keeper = measured(history, page)
    for pool in history.pools:
        groups: list[list[Event]] = []
        for event in history.events:
            if event.pool_id != pool.id or event.kind != "lease.denied":
                continue
            if not groups or event.at - groups[-1][-1].at > 600_000:
                groups.append([])
            groups[-1].append(event)
        found = keeper.incidents(pool.id, 0, history.now + 1, limit=1_000)
        assert [
            (each.started_at, each.ended_at, each.times, each.users) for each in found[::-1]
        ] == [
            (group[0].at, group[-1].at, len(group), dict(Counter(e.user_id for e in group)))
            for group in groups
        ]


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_pages_and_crashes_make_no_difference(seed: int) -> None:
    """However events are parted into pages, and whoever is killed between reading and writing, the measures
    are the same as of one page."""
    history = history_of(seed)
    whole = measured(history, 10_000)
    chance = random.Random(seed)
    parted = Killed(history.audits, chance)
    read = source(history.events)
    while (at := parted.cursor()) is None or at.event_id < history.events[-1].id:
        Measuring(read, parted, lambda: history.now, page=chance.randint(1, 30)).step()
    for pool in history.pools:
        one, two = (told(keeper, pool.id, history) for keeper in (whole, parted))
        assert one == two
        for kind in ("user", "client"):
            assert whole.shares(pool.id, kind, 0, history.now) == parted.shares(
                pool.id, kind, 0, history.now
            )


class Killed(MemoryUsage):
    """Measures whose server is killed before it writes them, now and then."""

    def __init__(self, trail: list[Audit], chance: random.Random) -> None:
        super().__init__(trail)
        self._chance = chance

    def commit(self, before: Cursor, changes: Changes) -> bool:
        return self._chance.random() < 0.6 and super().commit(before, changes)


def told(keeper: UsageKeeper, pool: str, history: History) -> list[object]:
    """Return what is kept of a pool's hours."""
    hours = keeper.span(pool, 0, history.now + 1, by_day=False).hours
    return [(x.at, x.level, x.last, x.levels, x.counts) for _, x in sorted(hours.items())]


def test_events_of_nothing_count_nothing() -> None:
    """Names of pools that are none are strangers' words: nothing is kept of them."""
    event = Event(
        kind=EventKind.LEASE_DENIED,
        pool_id="nobody:knows",
        user_id="ann",
        data={"reason": "feature_unknown"},
    )
    assert not measurable(event)
    assert Counts().denials == 0
