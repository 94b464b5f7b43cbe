"""Waiting for a seat in the feature's line, over HTTP: places are told, kept, and not asked for too often."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.unit.client.client_fakes import START, scene

from sojourn.client import SeatDenied, Waiting
from sojourn.client.seat import PARK, PARK_FIRST, PARK_LAST

IN_LINE = {"line": True}


def test_who_waits_is_told_its_place_and_served_when_a_seat_is_free() -> None:
    with scene(server=IN_LINE) as s:
        s.server.occupy(seconds=12)
        told: list[Waiting] = []
        seat = s.seat(wait=60, on_wait=told.append).acquire()
        assert seat.held
        assert s.world.time - START == pytest.approx(12)
        assert [call.body["wait"] for call in s.server.calls] == [PARK_FIRST, *[PARK] * 3]
        assert [each.position for each in told] == [1, 1, 1]
        assert [each.estimate for each in told] == [30.0] * 3
        error = told[-1].error
        assert isinstance(error, SeatDenied)
        assert (error.position, error.waiting, error.keep_place) == (1, 2, 15.0)


def test_a_place_is_kept_to_the_end_of_the_time() -> None:
    with scene(server=IN_LINE) as s:
        s.server.occupy()
        with pytest.raises(SeatDenied) as caught:
            s.seat(wait=7).acquire()
        assert caught.value.position == 1
        assert all(call.body["wait"] >= PARK_LAST for call in s.server.calls)
        gaps = [b - a for a, b in pairwise(s.server.times("acquire"))]
        assert max(gaps) < 15  # or the place would be another's
        assert s.world.time - START == pytest.approx(7, abs=0.2)


def test_a_server_without_room_for_the_request_is_not_asked_without_a_pause() -> None:
    """It tells the place at once, and when to ask again."""
    with scene(server={"line": True, "parks": False}) as s:
        s.server.occupy(seconds=20)
        s.seat(wait=60).acquire()
        gaps = [b - a for a, b in pairwise(s.server.times("acquire"))]
        assert all(1.0 <= gap <= 1.1 + 1e-6 for gap in gaps)


def test_who_does_not_wait_stands_in_no_line() -> None:
    with scene(server=IN_LINE) as s:
        s.server.occupy()
        with pytest.raises(SeatDenied) as caught:
            s.seat().acquire()
        assert "wait" not in s.server.calls[0].body
        assert caught.value.position is None


def test_a_request_that_waits_is_given_the_time_for_it() -> None:
    with scene(server=IN_LINE, timeout=2.0) as s:
        s.server.occupy(seconds=3)
        s.seat(wait=60).acquire()
        assert [call.timeout for call in s.server.calls] == [2.0 + PARK_FIRST, 2.0 + PARK]


def test_a_resume_that_waits_stands_in_the_line_too() -> None:
    with scene(server=IN_LINE) as s:
        seat = s.seat(resume=False, wait=60).acquire()
        s.server.leases[0].ended = "evicted"
        s.world.advance(40)
        assert not seat.held
        s.server.occupy(seconds=3)
        seat.acquire()
        waits = [call for call in s.server.calls if call.verb == "acquire"][1:]
        assert [call.body["wait"] for call in waits] == [PARK_FIRST, PARK]
        assert waits[0].bearer.startswith("sjl_")
