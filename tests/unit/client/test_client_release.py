"""Giving back: a bounded number of tries, a bounded time at exit, and never on a parent's behalf."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from tests.unit.client.client_fakes import KEY, START, Call, answers, problem, refused, scene

from sojourn.client import Client, ClientClosed, SeatLost, SeatState, returns
from sojourn.client.returns import AT_ONCE, CLOSE_TIMEOUT, FOR_EACH
from sojourn.client.world import LAST_CALL, Join


def test_release_is_tried_three_times_five_seconds_apart() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        assert not seat.release()
        assert seat.state is SeatState.RELEASED
        s.world.advance(600)
        assert s.server.times("release") == [0, 5, 10]
        assert s.server.times("beat") == []


def test_release_succeeds_later() -> None:
    with scene() as s:
        with s.seat():
            s.server.faults = [refused]
        assert s.server.live()
        s.world.advance(5)
        assert not s.server.live()
        s.world.advance(60)
        assert len(s.server.times("release")) == 2


def test_a_refused_release_is_left_at_that() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = answers(lambda: problem(401, "token_forged"))
        assert not seat.release()
        s.world.advance(60)
        assert s.server.times("release") == [0]
        assert s.client.close() == 1


def test_release_twice_is_release_once() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        assert seat.release()
        assert seat.release()
        assert s.server.times("release") == [0]


def test_closing_tells_what_was_not_given_back() -> None:
    """Whoever stops can say so: the seat is taken until its time is over."""
    with scene(server={"capacity": 2}) as s:
        s.seat(user="ann", client_id="a").acquire()
        s.seat(user="bob", client_id="b").acquire()
        assert s.client.close() == 0
    with scene() as s:
        s.seat(user="ann").acquire()
        s.server.always = refused
        assert s.client.close() == 1
        assert s.client.close() == 1


def test_the_block_that_fails_gives_its_seat_back() -> None:
    with scene() as s:
        with pytest.raises(ZeroDivisionError), s.seat():
            raise ZeroDivisionError
        assert not s.server.live()


def test_what_was_taken_is_not_given_back() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.leases[0].ended = "revoked"
        s.world.advance(30)
        seat.release()
        assert s.server.times("release") == []


def test_acquire_after_release() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        seat.release()
        seat.acquire()
        assert seat.held
        s.world.advance(300)
        assert seat.state is SeatState.SAFE


def test_a_beat_under_way_does_not_revive_a_released_seat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with scene() as s:
        seat = s.seat().acquire()

        def meanwhile(call: Call) -> httpx.Response:
            answer = s.server.beat(call)
            seat.release()
            return answer

        s.server.faults = [meanwhile]
        s.world.advance(300)
        assert seat.state is SeatState.RELEASED
        assert len(s.server.times("beat")) == 1
        assert not caplog.records


def test_close_gives_everything_back() -> None:
    with scene(server={"capacity": 5}) as s:
        with s.client:
            seats = [s.seat(client_id=f"c{i}").acquire() for i in range(5)]
        assert not s.server.live()
        assert [seat.state for seat in seats] == [SeatState.RELEASED] * 5
        assert len(s.server.times("release")) == 5
        s.client.close()
        with pytest.raises(ClientClosed):
            seats[0].acquire()


@pytest.mark.parametrize("silent", [False, True])
def test_close_never_takes_longer_than_it_may(silent: bool) -> None:
    with scene(server={"capacity": 50}) as s:
        for i in range(50):
            s.seat(client_id=f"c{i}").acquire()
        s.server.always = s.blackhole if silent else refused
        s.client.close()
        assert s.world.time <= START + 5.0
        assert len(s.server.times("release")) == 3


def test_closing_has_one_deadline_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them stands in a request that is not answered, and is waited for in vain."""
    with scene(server={"capacity": 200}) as s:

        def start(target: Callable[[], None], name: str) -> Join:
            return s.world.sleep

        monkeypatch.setattr(s.world, "start", start)
        for n in range(FOR_EACH * AT_ONCE):
            s.seat(client_id=f"c{n}").acquire()
        s.server.always = s.blackhole
        s.client.close()
        assert s.world.time <= START + CLOSE_TIMEOUT + 2 * LAST_CALL


def test_close_takes_over_what_the_background_had_not_done() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.faults = [refused]
        seat.release()
        s.client.close()
        assert not s.server.live()


def test_close_tries_again() -> None:
    with scene() as s:
        s.seat().acquire()
        s.server.faults = [refused, refused]
        s.client.close()
        assert not s.server.live()


def test_close_of_an_unused_client() -> None:
    Client("http://127.0.0.1:1", license_key=KEY).close()


def test_exit_closes_every_client() -> None:
    with scene() as s:
        s.seat().acquire()
        returns.close_all()
        assert not s.server.live()


def test_no_client_is_kept_open_for_nothing() -> None:
    with scene():
        gc.collect()
        assert not returns.open_clients


def test_a_forked_child_holds_nothing_and_may_take_its_own() -> None:
    with scene(server={"capacity": 2}) as s:
        seat = s.seat().acquire()
        s.client._beats.forked()  # what the child runs first
        with pytest.raises(SeatLost, match="forked"):
            seat.check()
        assert seat.state is SeatState.LOST
        s.world.advance(300)
        seat.release()
        assert len(s.server.calls) == 1
        with pytest.raises(SeatLost, match="forked"):
            seat.acquire()
        s.seat(client_id="child").acquire()
        assert len(s.server.live()) == 1
        s.client.close()
        assert [c.bearer[:9] for c in s.server.calls if c.verb == "release"] == ["sjl_lse_1"]


FORKING = """
import httpx, os, sys
from sojourn.client import Client, SeatLost
from tests.unit.client.client_fakes import KEY, scene

with scene() as s:
    with s.seat() as seat:
        pid = os.fork()
        if pid == 0:
            try:
                seat.check()
            except SeatLost as lost:
                seat.release()
                s.client.close()
                sys.exit(7 if lost.reason == "forked" and len(s.server.calls) == 1 else 1)
            sys.exit(2)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seat.check()
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_leaves_the_parents_seat_alone() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], check=False, capture_output=True)
    assert done.returncode == 7, done.stderr
