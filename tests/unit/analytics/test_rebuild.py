"""A rebuild loses nothing: what events do not tell any more stays, and each event counts once."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.histories import History, history_of
from tests.unit.analytics.test_measures import source, told

from sojourn.analytics.in_memory import MemoryUsage
from sojourn.analytics.measuring import Measuring
from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.event import Event, EventKind

SEEDS = st.integers(min_value=0, max_value=2**32)


def counted(keeper: MemoryUsage, history: History) -> list[object]:
    """Return what each event adds to: counts of hours, shares and incidents."""
    found: list[object] = []
    for pool in history.pools:
        hours = keeper.span(pool.id, 0, history.now + 1, by_day=False).hours
        for hour, bucket in sorted(hours.items()):
            c = bucket.counts
            numbers = (c.granted, c.resumed, c.taken_over, c.entered, c.denied)
            if any(numbers):
                found.append((pool.id, hour, numbers))
        for kind in ("user", "client"):
            shares = keeper.shares(pool.id, kind, 0, history.now + 1, limit=100).items
            found.append(sorted((x.name, x.granted, x.denied) for x in shares))
        found.append(keeper.incidents(pool.id, 0, history.now + 1))
    return found


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_each_event_counts_once(seed: int) -> None:
    """After a rebuild, and once the rest is measured, every event counts once, however many were measured and
    however many of those are not kept any more. Where that cannot be, nothing is changed."""
    history = history_of(seed)
    chance = random.Random(seed)
    whole = MemoryUsage(history.audits)
    Measuring(source(history.events), whole, lambda: history.now).run()
    known = chance.randint(1, len(history.events))
    instants = [event.at for event in history.events]
    kept = instants.index(instants[chance.randint(0, known - 1)])  # events are forgotten by age
    part = MemoryUsage(history.audits)
    Measuring(source(history.events[:known]), part, lambda: history.now).run()
    before = [told(part, pool.id, history) for pool in history.pools]
    later = Measuring(source(history.events[kept:]), part, lambda: history.now)
    begun = later.rebuild()
    if not begun:
        assert [told(part, pool.id, history) for pool in history.pools] == before
    later.run()
    assert counted(part, history) == counted(whole, history)


def refusal(number: int, at: int) -> Event:
    data = {"reason": "seat_limit", "limit": 1, "inUse": 1}
    return Event(
        id=number,
        at=at,
        kind=EventKind.LEASE_DENIED,
        pool_id="lic_1:editor",
        user_id="ann",
        client_id="desk",
        data=data,
    )


MIDNIGHT = 1_790_000_000_000 // DAY * DAY
EVENTS = [
    refusal(1, MIDNIGHT + 9 * HOUR),
    refusal(2, MIDNIGHT + 15 * HOUR),
    refusal(3, MIDNIGHT + DAY - 2 * MINUTE),
    refusal(4, MIDNIGHT + DAY + 2 * MINUTE),
    refusal(5, MIDNIGHT + DAY + HOUR),
]


def refused(keeper: MemoryUsage) -> tuple[int, int, int]:
    """Return how many refusals hours, shares and incidents have."""
    pool, until = "lic_1:editor", MIDNIGHT + 9 * DAY
    hours = keeper.span(pool, 0, until, by_day=False).hours.values()
    shares = keeper.shares(pool, "user", 0, until)
    return (
        sum(hour.counts.denials for hour in hours),
        shares.whole.denied,
        sum(each.times for each in keeper.incidents(pool, 0, until)),
    )


def test_an_incident_over_midnight_counts_each_refusal_once() -> None:
    """The day of the first event that is kept stays, and the incident that goes on after its midnight."""
    keeper = MemoryUsage()
    Measuring(source(EVENTS), keeper, lambda: 0).run()
    again = Measuring(source(EVENTS[1:]), keeper, lambda: 0)
    assert again.rebuild()
    again.run()
    assert refused(keeper) == (5, 5, 5)


def test_a_day_that_was_not_measured_to_its_end_is_kept() -> None:
    """Measured until 15:00, of which the events from before 10:00 are gone: a rebuild changes nothing."""
    keeper = MemoryUsage()
    Measuring(source(EVENTS[:2]), keeper, lambda: MIDNIGHT + 3 * DAY).run()
    again = Measuring(source(EVENTS[1:]), keeper, lambda: MIDNIGHT + 3 * DAY)
    assert not again.rebuild()
    again.run()
    assert refused(keeper) == (5, 5, 5)


def test_a_lost_cursor_keeps_the_days_before() -> None:
    """What was measured through the midnight after the first event that is kept stays."""
    keeper = MemoryUsage()
    Measuring(source(EVENTS), keeper, lambda: 0).run()
    keeper._cursor = None  # the row of its table is gone
    Measuring(source(EVENTS[2:]), keeper, lambda: 0).run()
    assert refused(keeper) == (5, 5, 5)
