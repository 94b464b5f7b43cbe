"""What is learned from beats, and in how many bytes."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.staleness.history import BYTES, TRUSTED, WINDOW, Beats, heard
from sojourn.staleness.pauses import SETTLING, TICK, TOLERANCE, Pauses
from sojourn.staleness.tracker import Tracker

HABIT = 30_000


def after(gaps: list[int], *, announce: int | None = None) -> Beats:
    """Beat with these gaps."""
    now = 1_000
    kept = heard(None, now, announce)
    for gap in gaps:
        now += gap
        kept = heard(kept, now, announce)
    return Beats.unpack(kept)


def then(history: Beats, gap: int, announce: int | None = None) -> Beats:
    """Beat once more."""
    return Beats.unpack(heard(packed(history), history.last + gap, announce))


def packed(history: Beats) -> bytes:
    return struct.pack("<qffeBI", *history)


def test_a_steady_habit_is_learned() -> None:
    history = after([HABIT + wobble for wobble in (0, 900, -900) * 6])
    assert history.mean == pytest.approx(HABIT, rel=0.02)
    assert history.variance**0.5 == pytest.approx(735, rel=0.2)
    assert history.stalls == 0


def test_one_late_beat_is_a_stall_and_no_new_habit() -> None:
    """Akka leaves out the first beat after a suspicion; here it moves the mean a little, and is counted."""
    steady = after([HABIT] * 20)
    stalled = then(steady, 600_000)
    assert stalled.mean < HABIT * 1.05
    assert stalled.stalls > 0


def test_a_new_habit_is_learned_in_a_few_beats() -> None:
    """A page that is hidden beats once a minute, for as long as it stays hidden."""
    history = after([HABIT] * 40 + [60_000] * 12)
    assert history.mean == pytest.approx(60_000, rel=0.2)


def test_a_retry_tells_nothing() -> None:
    history = after([HABIT] * 12)
    assert then(history, 300) == history._replace(last=history.last + 300)


def test_an_announced_beat_is_judged_by_its_word() -> None:
    """Who says 60 s and comes after 60 s is as punctual as who comes after the usual 30 s."""
    history = after([HABIT] * 12)
    promised = then(history, HABIT, 60_000)
    kept = then(promised, 60_000)
    assert kept.mean == pytest.approx(HABIT)
    assert kept.stalls == 0


WORDS = st.none() | st.integers(-(2**62), 2**62)


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), WORDS, st.booleans()), max_size=60))
def test_no_sequence_of_beats_breaks_a_history(beats: list[tuple[int, int | None, bool]]) -> None:
    """Clocks that go back, beats at once, absurd announcements: all of it can be kept, as numbers."""
    kept, now = None, 0
    for gap, announced, learn in beats:
        now += gap
        kept = heard(kept, now, announced, -(2**62) if learn else 2**62)
        history = Beats.unpack(kept)
        assert 0 <= history.learned <= WINDOW
        assert 0 <= history.stalls <= 1
        assert history.mean >= 0
        assert history.variance >= 0
        assert history.deviation >= 1


def test_what_is_kept_of_a_lease_is_small() -> None:
    """Published in docs/guide/staleness.md: 23 bytes, and with what Python and its dicts add under 250."""
    assert BYTES == 23
    tracker = Tracker(Pauses())
    names = [f"lse_{number:022}" for number in range(20_000)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for name in names:
        tracker.beat(name, 1_000_000_000)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / len(names) < 250


@given(st.lists(st.integers(0, 40), max_size=200))
def test_memory_is_bounded(beats: list[int]) -> None:
    """However many leases beat, no more than `tracked_max` are kept, and the one that beat last is."""
    tracker = Tracker(Pauses(), tracked_max=10)
    for now, lease in enumerate(beats):
        tracker.beat(f"lse_{lease}", now)
        assert len(tracker) <= 11
        assert tracker.history(f"lse_{lease}") is not None


def test_who_beats_is_kept_when_others_are_forgotten() -> None:
    tracker = Tracker(Pauses(), tracked_max=10)
    for now in range(100):
        tracker.beat("lse_faithful", now * HABIT)
        tracker.beat(f"lse_{now}", now * HABIT)
    known = tracker.history("lse_faithful")
    assert known is not None
    assert known.learned == WINDOW
    assert tracker.history("lse_1") is None


def test_a_lease_that_ended_is_forgotten() -> None:
    tracker = Tracker(Pauses())
    tracker.beat("lse_1", 0)
    tracker.forget("lse_1")
    assert tracker.history("lse_1") is None
    assert len(tracker) == 0


def test_a_pause_of_ours_teaches_nothing() -> None:
    """Beats that had waited in the sockets of a process that stood still come all at once, and late."""
    pauses = Pauses()
    tracker = Tracker(pauses)
    now = 0
    for _ in range(TRUSTED * 2):
        pauses.tick(now)
        tracker.beat("lse_1", now)
        for _ in range(HABIT // TICK):
            pauses.tick(now := now + TICK)
    before = tracker.history("lse_1")
    assert before is not None
    pauses.tick(now := now + 500_000)  # stood still
    tracker.beat("lse_1", now)
    known = tracker.history("lse_1")
    assert known == before._replace(last=now)
    assert pauses.within(now - 500_000, now) == 500_000


@given(st.lists(st.integers(-5_000, 100_000), max_size=60), st.integers(0, 10**6))
def test_time_stood_still_is_no_more_than_there_was(gaps: list[int], since: int) -> None:
    pauses, now = Pauses(), 0
    for gap in gaps:
        pauses.tick(now := max(0, now + gap))
    assert 0 <= pauses.within(since, now) <= max(0, now - since)


def test_a_late_tick_is_no_pause() -> None:
    pauses = Pauses()
    pauses.tick(0)
    pauses.tick(TICK + TOLERANCE)
    assert pauses.within(0, TICK + TOLERANCE) == 0
    pauses.tick(2 * (TICK + TOLERANCE) + 1)
    assert pauses.within(0, 2 * (TICK + TOLERANCE) + 1 + SETTLING) > 0
