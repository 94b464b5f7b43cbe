"""When a seat is free, when a pool is full: right where something is known, silent where nothing is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.staleness.test_scores import NOW, lease

from sojourn.lease import DenialReason, Denied, Usage
from sojourn.license import Policy
from sojourn.staleness.forecast import (
    AHEAD_MAX,
    FULL_AHEAD_MAX,
    POOLS_MAX,
    RATE_WINDOW,
    Silent,
    Turnover,
    free_in,
    full_in,
)
from sojourn.staleness.suspicion import Suspicion
from sojourn.staleness.trends import SAMPLE_EVERY, SAMPLES_MAX, Trends

POOL = "lic_1:editor"
MINUTE = 60_000


def test_nothing_is_told_where_nothing_is_known() -> None:
    assert free_in(0.0, []) is None
    assert full_in([], 10) is None
    assert full_in([(0, 1), (MINUTE, 2)], 10) is None


def test_seats_that_change_hands_every_minute() -> None:
    """The median wait of a Poisson process: ln 2 of its mean; the second in line waits for longer."""
    assert free_in(1 / MINUTE, []) == pytest.approx(MINUTE * math.log(2), rel=0.01)
    assert free_in(1 / MINUTE, [], ahead=1) == pytest.approx(MINUTE * 1.69, rel=0.01)


def test_a_holder_that_is_surely_gone_frees_its_seat_when_its_time_is_up() -> None:
    assert free_in(0.0, [Silent(phi=8, free_in=20_000)]) == 20_000
    assert free_in(0.0, [Silent(phi=0, free_in=20_000)]) is None


@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 300), st.integers(-(10**6), 10**9)), max_size=30),
    st.integers(0, 50),
)
def test_a_forecast_is_none_or_within_an_hour(
    rate: float, silent: list[tuple[float, int]], ahead: int
) -> None:
    holders = [Silent(phi=phi, free_in=at) for phi, at in silent]
    told = free_in(rate, holders, ahead=ahead)
    assert told is None or 0 <= told <= AHEAD_MAX
    if told is not None:  # who is further back waits for no less
        later = free_in(rate, holders, ahead=ahead + 1)
        assert later is None or later >= told


def test_a_pool_that_fills_steadily() -> None:
    growing = [(i * MINUTE, 10 + i) for i in range(31)]
    assert full_in(growing, 60) == pytest.approx(20 * MINUTE, rel=0.01)
    assert full_in(growing, 40) == 0
    assert full_in([(at, 50 - n) for at, n in growing], 60) is None
    assert full_in([(at, 20) for at, _ in growing], 60) is None


def test_a_burst_that_is_over_is_no_trend() -> None:
    flat = [(i * MINUTE, 20 + (30 if i == 15 else 0)) for i in range(31)]
    assert full_in(flat, 60) is None


@given(
    st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**7)), max_size=90),
    st.integers(0, 10**7),
)
def test_any_history_gives_none_or_a_time(used: list[tuple[int, int]], capacity: int) -> None:
    told = full_in(sorted(used), capacity)
    assert told is None or 0 <= told <= FULL_AHEAD_MAX


def test_fences_tell_how_fast_seats_change_hands() -> None:
    """Those of grants by other servers in between are counted, though nobody here saw them."""
    turnover = Turnover()
    turnover.granted(POOL, [5])  # before it was full: not counted
    turnover.found_full(POOL, 0)
    turnover.granted(POOL, [10])
    turnover.granted(POOL, [19])
    assert turnover.rate(POOL, 10 * MINUTE) == 10 / (10 * MINUTE)
    assert turnover.rate("lic_1:other", MINUTE) == 0.0


def test_old_changes_of_hands_are_forgotten() -> None:
    turnover = Turnover()
    turnover.found_full(POOL, 0)
    turnover.granted(POOL, [10])
    turnover.found_full(POOL, RATE_WINDOW + 1)
    assert turnover.rate(POOL, RATE_WINDOW + 2) == 0.0


def test_turnover_and_trends_are_bounded() -> None:
    turnover, trends = Turnover(), Trends(pools_max=5)
    for number in range(POOLS_MAX + 50):
        turnover.found_full(f"lic_{number}:editor", number)
        trends.active(f"lic_{number}:editor")
    assert turnover.rate("lic_0:editor", 10) == 0.0
    assert len(trends) == 5
    last = f"lic_{POOLS_MAX + 49}:editor"
    for minute in range(3 * SAMPLES_MAX):
        trends.note([_usage(last, minute, at=minute * SAMPLE_EVERY)])
    assert len(trends._samples[last]) == SAMPLES_MAX  # what is kept is the promise


def test_trends_forecast_from_what_was_sampled() -> None:
    trends = Trends()
    trends.active(POOL)
    for half in range(40):
        trends.note([_usage(POOL, half // 2, at=half * SAMPLE_EVERY // 2)])
    told = trends.full_in(_usage(POOL, 20, at=20 * SAMPLE_EVERY))
    assert told == pytest.approx(30 * SAMPLE_EVERY, rel=0.1)
    assert trends.full_in(_usage("lic_1:unseen", 20, at=0)) is None


def _usage(pool_id: str, in_use: int, *, at: int) -> Usage:
    return Usage(pool_id=pool_id, capacity=50, in_use=in_use, suspect=0, leases=in_use, at=at)


def test_a_denial_is_told_when_a_silent_holder_is_out() -> None:
    clock = [NOW]
    suspicion = Suspicion(now=lambda: clock[0])
    policy = Policy(capacity=2)
    silent, living = lease("lse_1", 55_000), lease("lse_2", 1_000)
    denied = Denied(
        reason=DenialReason.SEAT_LIMIT, at=NOW, limit=2, in_use=2, evidence=(silent, living)
    )
    told = suspicion.denied(POOL, denied, policy)
    assert told == 15_000  # suspect after 60 s, reclaimed 10 s later
    clock[0] += 500
    assert suspicion.denied(POOL, denied, policy) == told  # told again for a second
    nobody_silent = Denied(reason=DenialReason.SEAT_LIMIT, at=NOW + 2_000, evidence=(living,))
    clock[0] += 2_000
    assert suspicion.denied(POOL, nobody_silent, policy) is None
    gone = Denied(reason=DenialReason.SESSION_GONE, at=NOW)
    assert suspicion.denied(POOL, gone, policy) is None
