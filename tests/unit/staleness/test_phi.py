"""Suspicion by silence: what it is worth, and that it is a number whatever it is asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.staleness.phi import PHI_MAX, Expectation, chance_alive, ghost_chance, phi

ANY = st.floats(allow_nan=True, allow_infinity=True)
EXPECTED = st.builds(Expectation, due=ANY, deviation=ANY, stall=ANY, stall_length=ANY)
SANE = st.builds(
    Expectation,
    due=st.floats(0, 1e7),
    deviation=st.floats(0, 1e7),
    stall=st.floats(0, 1),
    stall_length=st.floats(0, 1e7),
)
STEADY = Expectation(due=30_000, deviation=3_000, stall=0.0, stall_length=15_000)


@given(expected=SANE, silence=st.floats(0, 1e9), more=st.floats(0, 1e9))
def test_doubt_never_falls_with_the_silence(
    expected: Expectation, silence: float, more: float
) -> None:
    assert phi(silence + more, expected) >= phi(silence, expected)


@given(silence=ANY, expected=EXPECTED)
def test_doubt_is_a_number_for_anything(silence: float, expected: Expectation) -> None:
    """Zero deviation, a clock that went back, NaN and infinities: still between nothing and PHI_MAX."""
    assert 0.0 <= phi(silence, expected) <= PHI_MAX
    assert 0.0 <= chance_alive(silence, expected) <= 1.0


@pytest.mark.parametrize(
    ("silence", "chance"), [(30_000, 0.5), (33_000, 0.158655), (36_000, 0.02275), (39_000, 0.00135)]
)
def test_the_body_is_the_normal_distribution(silence: int, chance: float) -> None:
    """As in Hayashibara's paper and in Akka: mean, one, two and three deviations late."""
    assert chance_alive(silence, STEADY) == pytest.approx(chance, rel=1e-3)
    assert phi(silence, STEADY) == pytest.approx(-math.log10(chance), rel=1e-3)


def test_the_tail_is_that_of_clients_that_have_stalled() -> None:
    """As in Cassandra: each `stall_length` makes it e times less likely that a client comes back."""
    expected = Expectation(due=30_000, deviation=3_000, stall=0.2, stall_length=15_000)
    late, later = chance_alive(75_000, expected), chance_alive(90_000, expected)
    assert late == pytest.approx(0.2 * math.exp(-3), rel=1e-6)
    assert late / later == pytest.approx(math.e, rel=1e-6)


def test_doubt_ends_somewhere() -> None:
    """A silence of a year is no error."""
    assert phi(365 * 86_400_000, STEADY) == PHI_MAX


@given(suspicion=st.floats(0, PHI_MAX), more=st.floats(0, PHI_MAX), ghosts=st.floats(0, 1))
def test_more_doubt_is_more_likely_a_ghost(suspicion: float, more: float, ghosts: float) -> None:
    less = ghost_chance(suspicion, ghosts=ghosts)
    assert 0.0 <= less <= ghost_chance(suspicion + more, ghosts=ghosts) <= 1.0
