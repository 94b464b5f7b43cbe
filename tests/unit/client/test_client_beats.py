"""The thread behind the seats: its pace, its patience, and what it spares a server that is away."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from tests.unit.client.client_fakes import (
    START,
    answers,
    problem,
    refused,
    scene,
)

from sojourn.client import SeatState
from sojourn.client.hold import BACKOFF_MAX, MARGIN
from sojourn.client.world import World, sleepless_clock

SAFE, JEOPARDY, LOST = SeatState.SAFE, SeatState.JEOPARDY, SeatState.LOST
TRUSTED = 90.0 * (1 - MARGIN)


def test_after_a_loss_it_asks_as_often_as_it_would_have_beaten() -> None:
    with scene(server={"interval": 2.0, "lost_after": 6.0}) as s:
        s.world.luck = 1.0
        s.seat().acquire()
        s.server.always = refused
        s.world.advance(60)
        late = [at for at in s.server.times("beat") if at > 12]
        assert {round(b - a, 3) for a, b in pairwise(late)} == {2.0}


def test_one_thread_keeps_all_seats() -> None:
    with scene(server={"capacity": 9}) as s:
        seats = [s.seat(client_id=f"c{i}", on_change=None).acquire() for i in range(9)]
        assert s.world.started == ["sojourn-heartbeats"]
        s.world.advance(900)
        assert [seat.state for seat in seats] == [SAFE] * 9
        assert len(s.server.times("beat")) >= 9 * 29


def test_jitter_spreads_beats_by_a_tenth() -> None:
    for luck, due in ((0.0, 27.0), (0.5, 30.0), (1.0, 33.0)):
        with scene() as s:
            s.world.luck = luck
            s.seat().acquire()
            s.world.advance(34)
            assert s.server.times("beat") == [due]


def test_an_interval_longer_than_the_lease_allows_is_cut() -> None:
    with scene(server={"interval": 300.0}) as s:
        seat = s.seat().acquire()
        s.world.advance(46)
        assert s.server.times("beat") == [45.0]
        assert seat.state is SAFE


def test_backoff_grows_and_then_hurries_but_never_below_the_floor() -> None:
    with scene() as s:
        s.world.luck = 1.0
        seat = s.seat().acquire()
        s.server.always = refused
        s.world.advance(TRUSTED)
        beats = s.server.times("beat")
        pauses = [round(b - a, 3) for a, b in pairwise(beats)]
        assert pauses[:5] == [1.0, 1.0, 2.0, 4.0, 8.0]  # the floor first: a 90th of lost_after
        assert min(pauses) >= 1.0
        assert max(pauses) <= (TRUSTED - 33) / 3
        assert beats[-1] > TRUSTED - 4  # it tried to the end
        s.world.advance(600)
        late = [c for c in s.server.times("beat") if c > 120]
        assert max(b - a for a, b in pairwise(late)) <= BACKOFF_MAX
        assert seat.state is LOST


def test_backoff_has_full_jitter() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        s.world.luck = 0.0
        s.world.advance(35)
        assert s.server.times("beat") == [30, 31, 32, 33, 34, 35]  # each second: the floor
        assert seat.state is JEOPARDY


def test_a_black_hole_is_tried_several_times_before_the_lease_runs_out() -> None:
    with scene(server={"lost_after": 3.0, "interval": 1.0}) as s:
        seat = s.seat().acquire()
        s.server.always = s.blackhole
        s.world.advance(4.0)
        beats = [c for c in s.server.calls if c.verb == "beat" and c.at < START + 3.0 * 0.98]
        assert len(beats) >= 4
        assert beats[0].timeout == pytest.approx((3.0 * 0.98 - 1.0) / 3)
        assert min(c.timeout for c in beats) >= 0.25
        assert seat.state is LOST


def test_one_unanswered_beat_speaks_for_all_seats() -> None:
    """Ten seats times five seconds of silence would cost each its lease."""
    with scene(server={"capacity": 10}) as s:
        seats = [s.seat(client_id=f"c{i}").acquire() for i in range(10)]
        s.server.always = s.blackhole
        s.world.advance(40)
        assert len(s.server.times("beat")) <= 3
        assert [seat.state for seat in seats] == [JEOPARDY] * 10
        s.server.always = None
        s.world.advance(20)
        assert [seat.state for seat in seats] == [SAFE] * 10


def test_one_poisoned_seat_does_not_hold_up_the_others() -> None:
    with scene(server={"capacity": 2}) as s:
        bad = s.seat(client_id="bad").acquire()
        good = s.seat(client_id="good").acquire()
        token = f"sjl_{bad.lease_id}."
        s.server.always = lambda call: (
            problem(500, "internal") if call.bearer.startswith(token) else None
        )
        s.world.advance(300)
        assert bad.state is LOST
        assert good.state is SAFE


def test_a_busy_server_is_given_the_time_it_asks_for() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.faults = [answers(lambda: problem(503, "overloaded", header=6))]
        s.world.advance(60)
        assert s.server.times("beat")[:2] == [30.0, 36.0]
        assert seat.state is SAFE


def test_but_never_so_much_that_the_seat_is_lost() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        away = answers(lambda: problem(503, "store_unavailable", header=600))
        s.server.faults = [away, away]
        s.world.advance(80)
        assert seat.state is SAFE


def test_idleness_goes_with_the_beats() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.world.advance(30)
        seat.idle(5)
        s.world.advance(30)
        seat.idle(lambda: 77.0)
        s.world.advance(30)
        seat.idle(lambda: 1 / 0)
        s.world.advance(30)
        seat.idle(None)
        s.world.advance(30)
        bodies = [c.body for c in s.server.calls if c.verb == "beat"]
        assert bodies == [{}, {"idleFor": 35.0}, {"idleFor": 77.0}, {}, {}]
        assert seat.state is SAFE


def test_a_bug_in_a_beat_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with scene() as s:
        seat = s.seat().acquire()
        with monkeypatch.context() as patch:
            patch.setattr(s.client._http, "beat", lambda *_, **__: 1 / 0)
            s.world.advance(31)
            assert seat.state is JEOPARDY
        assert "unforeseen" in caplog.text
        s.world.advance(10)
        assert seat.state is SAFE


def test_a_bug_in_giving_back_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(server={"capacity": 2}) as s:
        seat, other = s.seat().acquire(), s.seat(client_id="c2").acquire()
        with monkeypatch.context() as patch:
            patch.setattr(s.client._http, "release", lambda *_, **__: 1 / 0)
            other.let_go()
            s.world.settle()
        assert "unforeseen" in caplog.text
        s.world.advance(200)
        assert seat.state is SAFE
        assert s.client.close() == 1  # the one that was not given back


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_the_clock_counts_sleep_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(World.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1

    def unknown(clock: int) -> float:
        raise OSError

    monkeypatch.setattr(time, "clock_gettime", unknown)
    assert sleepless_clock() is time.monotonic
