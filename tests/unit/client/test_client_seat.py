"""A seat's states: what is trusted, when it is in jeopardy, when it is lost, how it comes back."""

from __future__ import annotations

import logging
from itertools import pairwise

import httpx
import pytest
from tests.unit.client.client_fakes import (
    KEY,
    START,
    Call,
    FakeWorld,
    Fault,
    answers,
    lost,
    problem,
    refused,
    reset,
    scene,
    success,
)

from sojourn.client import Client, SeatLost, SeatState
from sojourn.client.hold import BACKOFF_MAX, MARGIN

SAFE, JEOPARDY, LOST = SeatState.SAFE, SeatState.JEOPARDY, SeatState.LOST
TRUSTED = 90.0 * (1 - MARGIN)


def test_the_example() -> None:
    with scene() as s:
        with s.seat() as seat:
            assert seat.state is SAFE
            assert seat.held
            assert (seat.feature, seat.user, seat.client_id) == ("render", "ada", "c1")
            assert seat.lease_id == "lse_0"
            assert seat.fence == 1
            assert (seat.heartbeat_interval, seat.lost_after) == (30.0, 90.0)
            seat.check()
            s.world.advance(1_000)
            seat.check()
        assert seat.state is SeatState.RELEASED
        assert not s.server.live()
        s.world.advance(0)
        assert s.states() == [(SAFE, "granted"), (SeatState.RELEASED, "released")]


def test_nothing_starts_before_the_first_seat() -> None:
    world = FakeWorld()
    client = Client("http://127.0.0.1:1", license_key=KEY, world=world)
    seat = client.seat("render", user="ada")
    assert seat.state is SeatState.NEW
    assert world.started == []
    with pytest.raises(SeatLost, match="not been acquired"):
        seat.check()
    seat.release()
    assert seat.state is SeatState.NEW
    client.close()


def test_a_lease_is_trusted_from_before_the_request_left() -> None:
    """A slow answer shortens the trust: the server may have counted from the very beginning."""
    with scene(server={"latency": 4.0}) as s:
        seat = s.seat().acquire()
        assert seat.expires_in == pytest.approx(TRUSTED - 4.0)
        s.world.advance(30)  # the beat, too
        assert s.server.times("beat") == [30.0]
        assert seat.expires_in == pytest.approx(TRUSTED - 4.0)


def test_no_answer_is_trusted_for_longer_than_a_lease_can_last() -> None:
    """A server whose clock was set back by an hour answers 3,601 s: 90 s are the most there can be."""
    with scene() as s:

        def an_hour_more(call: Call) -> httpx.Response:
            data = getattr(s.server, call.verb)(call).json()["data"]
            return success(200, **(data | {"expiresIn": 3_601.0}))

        s.server.faults = [an_hour_more, an_hour_more]
        with s.seat() as seat:
            assert seat.expires_in == pytest.approx(TRUSTED)
            s.server.always = refused
            s.world.advance(31)
            assert s.server.times("beat") == [30.0]
            assert seat.expires_in == pytest.approx(TRUSTED - 1)
            s.world.advance(TRUSTED)
            assert seat.state is LOST
            assert s.states()[-1] == (LOST, "unreachable")


def test_trust_ends_before_the_server_lets_go() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        while seat.held:
            assert s.server.live()
            s.world.advance(0.5)


@pytest.mark.parametrize("fault", [refused, reset, answers(lambda: problem(500, "internal"))])
def test_a_failed_beat_is_jeopardy_until_one_counts(fault: Fault) -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.faults = [fault, fault]
        s.world.advance(30)
        assert seat.state is JEOPARDY
        seat.check()
        s.world.advance(10)
        assert seat.state is SAFE
        assert [state for state, _ in s.states()] == [SAFE, JEOPARDY, SAFE]


def test_silence_until_the_lease_runs_out_is_loss() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        s.world.advance(TRUSTED - 0.01)
        assert seat.state is JEOPARDY
        s.world.advance(0.02)
        assert seat.state is LOST
        assert seat.expires_in == 0.0
        assert s.states()[-1] == (LOST, "unreachable")
        with pytest.raises(SeatLost, match="could not be reached") as caught:
            seat.check()
        assert caught.value.reason == "unreachable"
        assert caught.value.resumable


def test_the_state_is_true_even_when_no_thread_runs() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.world.sleep(44)
        assert seat.state is SAFE
        s.world.sleep(2)  # half an interval overdue
        assert seat.state is JEOPARDY
        s.world.sleep(50)
        assert seat.state is LOST
        assert not seat.held


def test_a_laptop_that_wakes_beats_at_once() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.world.advance(1)
        s.world.sleep(3_600)
        assert seat.state is LOST  # before anything else had a chance to run
        s.world.advance(0)
        assert s.server.times("beat") == [3_601.0]
        assert seat.state is SAFE
        assert [c.resumed for c in s.changes] == [False, False, True]
        assert s.states() == [(SAFE, "granted"), (LOST, "unreachable"), (SAFE, "resumed")]


def test_a_short_nap_costs_nothing() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.world.sleep(60)
        s.world.advance(0)
        assert seat.state is SAFE
        assert [state for state, _ in s.states()] == [SAFE, JEOPARDY, SAFE]


def test_back_after_an_outage_to_the_same_lease() -> None:
    """The lease ran out here, but the server, away itself, had extended it: the next beat counts."""
    with scene(server={"lost_after": 90.0}) as s:
        seat = s.seat().acquire()
        s.server.always = refused
        s.server.leases[0].expires_at += 90
        s.world.advance(100)
        assert seat.state is LOST
        s.server.always = None
        s.world.advance(BACKOFF_MAX)
        assert seat.state is SAFE
        assert s.states()[-1] == (SAFE, "renewed")
        assert seat.fence == 1


def test_expired_comes_back_by_its_token_alone() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.leases[0].expires_at = 0
        s.world.advance(30)
        assert seat.state is SAFE
        assert seat.fence == 2
        assert s.server.calls[-1].bearer.startswith("sjl_")
        assert "feature" not in s.server.calls[-1].body
        assert s.changes[-1].resumed
        assert s.changes[-1].before is SAFE
        assert s.states() == [(SAFE, "granted"), (SAFE, "resumed")]


def test_expired_comes_back_by_the_key_where_the_token_does_not_do() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.leases[0].expires_at = 0
        s.server.faults = [
            lambda _: None,
            answers(lambda: problem(410, "lease_ended", resumable=False)),
        ]
        s.world.advance(30)
        assert seat.state is SAFE
        assert s.server.calls[-1].bearer == KEY
        assert s.server.calls[-1].body["feature"] == "render"
        assert s.server.calls[-1].body.get("takeover") is None


def test_a_token_that_was_refused_is_not_tried_again() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.leases[0].ended = "evicted"
        bob = s.server.occupy()
        over = answers(lambda: problem(410, "lease_ended", resumable=False))
        s.server.faults = [lambda _: None, over]
        s.world.advance(60)
        assert seat.state is LOST
        proofs = [c.bearer[:4] for c in s.server.calls if c.verb == "acquire"]
        assert proofs[:2] == ["sjk_", "sjl_"]
        assert len(proofs) > 4
        assert set(proofs[2:]) == {"sjk_"}
        bob.ended = "released"
        s.world.advance(8)
        assert seat.state is SAFE


def test_not_held_while_it_tries_to_come_back() -> None:
    """Between the server's no and its yes nobody may rely on the seat."""
    with scene() as s:
        seat = s.seat().acquire()
        seen: list[tuple[SeatState, bool]] = []

        def look(_: object) -> None:
            seen.append((seat.state, seat.held))

        s.server.leases[0].ended = "evicted"
        s.server.faults = [lambda _: None, look]
        s.world.advance(30)
        assert seen == [(LOST, False)]
        assert seat.held


def test_evicted_and_full_keeps_trying_at_the_servers_pace() -> None:
    with scene(server={"retry_after": 7.0}) as s:
        seat = s.seat().acquire()
        s.server.leases[0].ended = "evicted"
        bob = s.server.occupy()
        s.world.advance(30)
        assert seat.state is LOST
        with pytest.raises(SeatLost, match="every seat is in use") as caught:
            seat.check()
        assert caught.value.reason == "seat_limit"
        s.world.advance(30)
        pace = [b - a for a, b in pairwise(s.server.times("acquire")[1:])]
        assert pace
        assert all(7.0 <= x <= 7.7 for x in pace)
        bob.ended = "released"
        s.world.advance(8)
        assert seat.state is SAFE
        assert s.changes[-1].resumed


@pytest.mark.parametrize("reason", ["taken_over", "moved", "revoked", "session_ended"])
def test_a_loss_somebody_meant_is_final(reason: str) -> None:
    """Two copies under one name must not take the seat from each other for ever."""
    with scene() as s:
        seat = s.seat().acquire()
        s.server.faults = [answers(lambda: lost(reason))]
        s.world.advance(30)
        assert seat.state is LOST
        assert s.states()[-1] == (LOST, reason)
        calls = len(s.server.calls)
        s.world.advance(3_600)
        assert len(s.server.calls) == calls
        with pytest.raises(SeatLost) as caught:
            seat.check()
        assert caught.value.reason == reason
        assert caught.value.hint
        assert not caught.value.resumable
        seat.acquire()  # asking for it is another matter
        assert seat.state is SAFE


def test_a_loss_that_turns_final_is_told_once() -> None:
    """Who was told that the seat is lost, and that it is tried to get it back, is told when it is not."""
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        s.world.advance(95)
        assert s.states()[-1] == (LOST, "unreachable")
        told = len(s.changes)
        s.server.always = answers(lambda: lost("revoked"))
        s.world.advance(3_600)
        assert [(x.before, x.state, x.reason) for x in s.changes[told:]] == [
            (LOST, LOST, "revoked")
        ]
        with pytest.raises(SeatLost) as caught:
            seat.check()
        assert (caught.value.reason, caught.value.resumable) == ("revoked", False)


def test_its_own_late_acquire_is_not_somebody_elses() -> None:
    """An acquire whose answer was lost may reach the server after its retry: it takes nothing over,
    unless the server's store has lost the memory of its key."""
    with scene(server={"interval": 10.0}) as s:
        s.server.faults = [s.blackhole]
        seat = s.seat().acquire()
        late = s.server.calls[0]
        assert s.server.acquire(late).status_code == 201  # the answer to its retry, once more
        s.world.advance(10)
        assert (seat.state, seat.fence) == (SAFE, 1)
        s.server.firsts.clear()
        assert s.server.acquire(late).status_code == 201  # only now
        s.world.advance(10)
        assert seat.state is SAFE
        assert seat.fence == 3
        assert len(s.server.live()) == 1
        s.server.firsts.clear()
        s.server.acquire(late)  # but only once
        s.world.advance(10)
        assert seat.state is LOST


def test_without_resume_lost_is_lost() -> None:
    with scene() as s:
        seat = s.seat(resume=False).acquire()
        s.server.leases[0].expires_at = 0
        s.world.advance(30)
        assert seat.state is LOST
        s.world.advance(300)
        assert len(s.server.calls) == 2


def test_without_resume_an_outage_is_not_resumed_either() -> None:
    with scene() as s:
        seat = s.seat(resume=False).acquire()
        s.server.always = refused
        s.world.advance(95)
        s.server.always = None
        s.world.advance(300)
        assert seat.state is LOST


def test_a_new_secret_on_the_server_is_no_loss() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.secret = "s2"
        s.world.advance(30)
        assert seat.state is SAFE
        assert s.server.calls[-1].bearer == KEY
        assert LOST not in [state for state, _ in s.states()]


def test_a_suspended_license_comes_back_with_the_license() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        no = answers(lambda: problem(403, "license_suspended", error="The license is suspended."))
        s.server.faults = [no, no, no]
        s.world.advance(30)
        assert seat.state is LOST
        with pytest.raises(SeatLost, match="license is suspended"):
            seat.check()
        s.world.advance(121)
        assert seat.state is SAFE
        assert s.server.times("acquire") == [0, 30, 90, 150]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(200, text="<h1>Welcome to the hotel</h1>"),
        lambda: httpx.Response(200, json={"success": True, "data": {"other": 1}}),
        lambda: httpx.Response(302, headers={"Location": "https://hotel.example"}),
        lambda: httpx.Response(404, text="not here"),
        lambda: httpx.Response(410, text="gone"),
    ],
)
def test_a_stranger_that_answers_is_no_server(answer: object) -> None:
    """A captive portal or a proxy's error page must not end a seat."""
    with scene() as s:
        seat = s.seat().acquire()
        s.server.faults = [answers(answer)]  # type: ignore[arg-type]  # a maker of responses
        s.world.advance(30)
        assert seat.state is JEOPARDY
        s.world.advance(10)
        assert seat.state is SAFE


def test_callbacks_may_fail_and_may_use_the_seat(caplog: pytest.LogCaptureFixture) -> None:
    with scene() as s:

        def careless(change: object) -> None:
            s.changes.append(change)  # type: ignore[arg-type]  # a Change
            assert seat.held  # takes the lock: it is free
            raise SystemExit

        seat = s.seat(on_change=careless)
        with caplog.at_level(logging.ERROR, "sojourn.client"):
            seat.acquire()
            s.server.faults = [refused]
            s.world.advance(40)
        assert [state for state, _ in s.states()] == [SAFE, JEOPARDY, SAFE]
        assert "A callback of a seat failed" in caplog.text
        assert s.world.started == ["sojourn-heartbeats", "sojourn-callbacks"]


def test_wait_for_a_state() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        assert seat.wait(SAFE)
        assert not seat.wait(LOST, timeout=5)
        assert s.world.time == START + 5
        s.server.always = refused
        assert seat.wait(JEOPARDY, timeout=100)
        assert seat.wait_lost(timeout=100)
        assert s.world.time == pytest.approx(START + TRUSTED)
        s.server.always = None
        assert seat.wait(SAFE, timeout=100)
        assert not seat.wait_lost(timeout=5)
        seat.release()
        assert not seat.wait_lost()


def test_goodbye_lingers_for_whoever_comes_next() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        assert seat.closing()
        assert s.server.calls[-1].body == {"closing": True}
        assert seat.state is SeatState.RELEASED
        assert s.server.live()
        s.world.advance(5)
        assert len(s.server.calls) == 2  # no beat undoes the goodbye
        again = s.seat().acquire()
        assert again.lease_id == "lse_0"
        assert not seat.closing()


def test_goodbye_to_nobody() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.always = refused
        assert not seat.closing()
        assert seat.state is SeatState.RELEASED
