"""An acquire that is interrupted, or whose answer is lost, leaves no seat behind."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.client.client_fakes import Call, Scene, scene

from sojourn.client import SeatState, ServerUnreachable


def interrupted_after(s: Scene) -> Any:
    def fault(call: Call) -> None:
        s.server.acquire(call)
        raise KeyboardInterrupt

    return fault


def interrupted_before(call: Call) -> None:
    raise KeyboardInterrupt


def test_what_was_granted_to_an_interrupted_acquire_is_given_back() -> None:
    with scene() as s:
        s.server.faults = [interrupted_after(s)]
        with pytest.raises(KeyboardInterrupt):
            s.seat().acquire()
        assert len(s.server.live()) == 1
        s.world.settle()
        assert s.server.live() == []
        assert s.server.calls[0].key == s.server.calls[1].key  # the same request, come again


def test_closing_gives_it_back_too() -> None:
    """As with Ctrl+C, when the block of the client ends at once."""
    with scene() as s:
        s.server.faults = [interrupted_after(s)]
        with pytest.raises(KeyboardInterrupt):
            s.seat().acquire()
        assert s.client.close() == 0
        assert s.server.live() == []


@pytest.mark.parametrize("settled", [True, False])
def test_what_never_arrived_leaves_nothing(settled: bool) -> None:
    with scene() as s:
        s.server.faults = [interrupted_before]
        with pytest.raises(KeyboardInterrupt):
            s.seat().acquire()
        if settled:
            s.world.settle()
        s.client.close()
        assert s.server.live() == []


def test_a_lost_answer_that_nobody_waits_for_any_more() -> None:
    with scene(retries=0) as s:
        s.server.faults = [s.answer_lost]
        with pytest.raises(ServerUnreachable):
            s.seat().acquire()
        s.world.settle()
        assert s.server.live() == []


def test_whoever_acquires_again_keeps_what_was_granted() -> None:
    """By the same object, or by another of the same holder."""
    for again in (0, 1):
        with scene(retries=0) as s:
            s.server.faults = [s.answer_lost]
            seats = [s.seat(), s.seat()]
            with pytest.raises(ServerUnreachable):
                seats[0].acquire()
            seat = seats[again].acquire()
            s.world.advance(200)
            assert seat.state is SeatState.SAFE
            assert len(s.server.live()) == 1
            assert not s.server.times("release")


@pytest.mark.parametrize("decided", ["before", "after"])
@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("again", [0, 1])
def test_whoever_acquires_while_it_is_asked_for_keeps_its_seat(
    again: int, arrived: bool, decided: str
) -> None:
    """The second acquire is answered while the recall is under way: it `decided` before or after that."""
    with scene() as s:
        seats = [s.seat(), s.seat()]

        def overlap(call: Call) -> Any:
            answer = s.server.acquire(call) if decided == "before" else None
            seats[again].acquire()
            return answer

        s.server.faults = [interrupted_after(s) if arrived else interrupted_before, overlap]
        with pytest.raises(KeyboardInterrupt):
            seats[0].acquire()
        s.world.settle()
        assert len(s.server.live()) == 1
        assert seats[again].state is SeatState.SAFE
        s.world.advance(200)
        assert seats[again].state is SeatState.SAFE
        assert seats[again].fence == s.server.live()[0].fence
        assert seats[again].release()
        assert not s.server.live()


def test_a_refused_acquire_is_not_asked_for_again() -> None:
    with scene() as s:
        s.server.occupy()
        with pytest.raises(Exception, match="Maximum user limit"):
            s.seat().acquire()
        s.world.advance(10)
        s.client.close()
        assert len(s.server.calls) == 1


def test_an_interrupted_seat_can_be_taken_again() -> None:
    with scene() as s:
        s.server.faults = [interrupted_before]
        seat = s.seat()
        with pytest.raises(KeyboardInterrupt):
            seat.acquire()
        assert seat.acquire().held
        assert not seat._hold.busy
        assert seat.release()
