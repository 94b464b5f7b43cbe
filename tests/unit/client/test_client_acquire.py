"""Taking a seat: retries, denials, waiting, proofs; nothing secret in what is shown."""

from __future__ import annotations

import math
import threading
import traceback
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import pytest
from tests.unit.client.client_fakes import KEY, answers, problem, refused, reset, scene

from sojourn import errors
from sojourn.client import (
    Client,
    ClientClosed,
    SeatDenied,
    SeatLost,
    SeatState,
    ServerUnreachable,
    Waiting,
    default_client_id,
    identity,
)
from sojourn.client.errors import WHY_LOST, SeatProblem, fault_of
from sojourn.client.http import Secret
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.token import TokenKind, new_token


def test_the_body_says_who_and_what() -> None:
    with scene() as s:
        device = Device(name="desk", os="Linux", kind="program", ip="10.0.0.1")
        s.seat(license_id="lic_1", session_id="ses_1", device=device, takeover=True).acquire()
        assert s.server.calls[0].bearer == KEY
        assert s.server.calls[0].body == {
            "feature": "render",
            "userId": "ada",
            "clientId": "c1",
            "licenseId": "lic_1",
            "sessionId": "ses_1",
            "device": {"name": "desk", "os": "Linux", "kind": "program"},
            "takeover": True,
        }


def test_acquire_twice_asks_once() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        assert seat.acquire() is seat
        assert len(s.server.calls) == 1


def test_a_lost_answer_leads_to_the_same_seat() -> None:
    with scene() as s:
        s.server.faults = [s.answer_lost]
        seat = s.seat().acquire()
        assert len(s.server.calls) == 2
        assert len(s.server.live()) == 1
        assert seat.fence == 1, "the second is the first, come again"
        assert seat.expires_in < 90 - s.server.calls[0].timeout, "and is no younger"
        seat.check()


def test_the_key_lasts_until_there_is_an_answer() -> None:
    """The same for a request that is sent again; another for the next one."""
    with scene() as s:
        s.server.faults = [refused, s.blackhole, answers(lambda: problem(503, "overloaded"))]
        s.server.occupy(seconds=40)
        seat = s.seat(wait=math.inf).acquire()
        keys = [call.key for call in s.server.calls]
        assert len(set(keys[:4])) == 1, "refused, lost, busy, denied"
        assert len(set(keys[3:])) == len(keys[3:]) > 1, "each time that it asks for a seat anew"
        assert None not in keys
        s.world.advance(40)
        assert {call.key for call in s.server.calls if call.verb == "beat"} == {None}
        seat.release()
        s.world.settle()
        seat.acquire()
        assert s.server.calls[-1].key not in keys


def test_a_grant_that_was_never_heard_of_may_be_over() -> None:
    """A seat granted to a request whose answer was lost, longer ago than a lease lives, is asked for anew."""
    with scene(retries=1) as s:
        s.server.faults = [s.answer_lost, s.blackhole]
        seat = s.seat()
        with pytest.raises(ServerUnreachable):
            seat.acquire()
        s.world.sleep(200)
        seat.acquire()
        assert (seat.fence, len({call.key for call in s.server.calls})) == (2, 2)
        seat.check()
        seat.release()
        seat.acquire()
        assert seat.fence == 3, "an answered request is over and done with"


def test_the_second_try_is_the_one_that_trust_counts_from() -> None:
    with scene() as s:
        s.server.faults = [s.blackhole]
        seat = s.seat().acquire()
        assert seat.expires_in == pytest.approx(90 * 0.98)


@pytest.mark.parametrize("fault", [refused, reset, answers(lambda: httpx.Response(502))])
def test_retries_are_bounded(fault: Any) -> None:
    with scene(retries=2) as s:
        s.world.luck = 1.0
        s.server.always = fault
        seat = s.seat()
        with pytest.raises(ServerUnreachable) as caught:
            seat.acquire()
        assert s.server.times("acquire") == [0, 0.5, 1.5]
        assert caught.value.sent is (fault is not refused)
        assert caught.value.hint
        assert seat.state is SeatState.NEW
        s.server.always = None
        seat.acquire()


def test_retry_after_of_a_busy_server_is_honored() -> None:
    with scene() as s:
        s.server.faults = [answers(lambda: problem(503, "overloaded", header=4))]
        s.seat().acquire()
        assert s.server.times("acquire") == [0, 4.0]


def test_full() -> None:
    with scene(server={"retry_after": 12.5}) as s:
        s.server.occupy("bob")
        with pytest.raises(SeatDenied, match="Maximum user limit reached") as caught:
            s.seat().acquire()
        denied = caught.value
        assert (denied.limit, denied.in_use, denied.suspect) == (1, 1, 0)
        assert denied.retry_after == 12.5
        assert denied.mine[0].user_id == "bob"
        assert denied.code == "seat_limit"
        assert len(s.server.calls) == 1


def test_wait_until_a_seat_is_free() -> None:
    with scene(server={"retry_after": 7.0}) as s:
        s.server.occupy(seconds=30)
        told: list[Waiting] = []
        seat = s.seat(wait=60, on_wait=told.append).acquire()
        assert seat.held
        tries = s.server.times("acquire")
        assert all(7.0 <= b - a <= 7.7 for a, b in pairwise(tries))
        assert tries[-1] >= 30
        assert [w.tries for w in told] == [1, 2, 3, 4, 5]
        assert told[0].waited == 0.0
        assert told[0].next_in == pytest.approx(7.35)
        assert isinstance(told[0].error, SeatDenied)
        assert told[0].seat is seat


def test_waiting_ends_with_the_reason_and_one_last_try() -> None:
    with scene(server={"retry_after": 50.0}) as s:
        s.server.occupy()
        with pytest.raises(SeatDenied):
            s.seat(wait=20).acquire()
        assert s.server.times("acquire") == [0, 20]


def test_an_outage_while_waiting_is_waited_out() -> None:
    with scene(retries=0) as s:
        s.server.occupy(seconds=30)
        s.server.faults = [lambda _: None, *[refused] * 5]
        assert s.seat(wait=math.inf).acquire().held


def test_waiting_does_not_begin_at_a_server_that_never_answered() -> None:
    with scene(retries=1) as s:
        s.server.always = refused
        with pytest.raises(ServerUnreachable):
            s.seat(wait=math.inf).acquire()
        assert len(s.server.calls) == 2


def test_waiting_can_be_called_off() -> None:
    with scene() as s:
        s.server.occupy()
        seat = s.seat(wait=math.inf, on_wait=lambda waiting: waiting.seat.release())
        with pytest.raises(SeatLost) as caught:
            seat.acquire()
        assert caught.value.reason == "released"


def test_closing_the_client_ends_the_waiting() -> None:
    with scene() as s:
        s.server.occupy()
        seat = s.seat(wait=math.inf, on_wait=lambda _: s.client.close())
        with pytest.raises(ClientClosed):
            seat.acquire()
        with pytest.raises(ClientClosed):
            s.seat().acquire()


def test_a_seat_granted_after_release_is_given_back() -> None:
    with scene() as s:
        seat = s.seat()

        def meanwhile(_: object) -> None:
            seat.release()

        s.server.faults = [meanwhile]
        with pytest.raises(SeatLost):
            seat.acquire()
        assert not s.server.live()
        assert len(s.server.leases) == 1


def test_takeover_can_be_asked_for_later() -> None:
    with scene() as s:
        s.seat().acquire(takeover=True)
        assert s.server.calls[0].body["takeover"] is True


def test_after_a_loss_acquire_comes_back_by_token_first() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        s.server.leases[0].ended = "evicted"
        bob = s.server.occupy()
        s.world.advance(30)
        assert not seat.held
        bob.ended = "released"
        seat.acquire()
        assert s.server.calls[-1].bearer.startswith("sjl_")
        assert seat.lease_id == "lse_0"
        s.world.advance(300)
        assert seat.state is SeatState.SAFE


def test_a_jwt_is_made_fresh_for_each_acquire() -> None:
    made = iter(["a.b.c", "d.e.f"])
    with scene(jwt=lambda: next(made)) as s:
        s.server.faults = [reset]
        s.seat(user=None).acquire()
        assert [c.bearer for c in s.server.calls] == ["a.b.c", "d.e.f"]
        assert "userId" not in s.server.calls[0].body


def test_a_fixed_jwt() -> None:
    with scene(jwt="a.b.c") as s:
        s.seat().acquire()
        assert s.server.calls[0].bearer == "a.b.c"


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("ftp://x", {"license_key": KEY}, "http://"),
        ("127.0.0.1:8700", {"license_key": KEY}, "http://"),
        ("http://x", {}, "one of them"),
        ("http://x", {"license_key": KEY, "jwt": "a"}, "one of them"),
        ("http://x", {"license_key": KEY[:-1]}, "not whole"),
        ("http://x", {"license_key": new_token(TokenKind.API)}, "no license key"),
        ("http://x", {"license_key": KEY, "timeout": 0}, "timeout"),
    ],
)
def test_nonsense_is_refused_at_once(url: str, options: Any, match: str) -> None:
    with pytest.raises(errors.InvalidInput, match=match):
        Client(url, **options)


def test_a_seat_needs_a_user() -> None:
    with scene() as s, pytest.raises(errors.InvalidInput, match="needs a user"):
        s.client.seat("render")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", errors.InvalidInput),
        (401, "unauthenticated", errors.Unauthenticated),
        (401, "token_expired", errors.InvalidToken),
        (403, "forbidden", errors.Forbidden),
        (403, "license_expired", errors.Forbidden),
        (404, "feature_unknown", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (413, "body_too_large", errors.InvalidInput),
        (503, "store_broken", errors.StoreBroken),
        (418, "never_heard_of", errors.InvalidInput),
    ],
)
def test_a_refusal_is_an_error_by_its_code(status: int, code: str, kind: type[Exception]) -> None:
    with scene() as s:
        s.server.always = answers(lambda: problem(status, code, error="No.", details="Do this."))
        with pytest.raises(kind, match=r"No\.") as caught:
            s.seat().acquire()
        assert isinstance(caught.value, errors.SojournError)
        assert type(caught.value) is kind
        assert caught.value.code == code
        assert caught.value.hint == "Do this."
        assert len(s.server.calls) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "store_unavailable", errors.StoreUnavailable),
        (503, "overloaded", errors.Overloaded),
        (429, "too_many_requests", errors.Overloaded),
        (503, "shutting_down", errors.Overloaded),
        (500, "internal", errors.SojournError),
        (408, "request_timeout", errors.InvalidInput),
    ],
)
def test_a_passing_fault_is_tried_again(status: int, code: str, kind: type[Exception]) -> None:
    with scene(retries=3) as s:
        s.server.always = answers(lambda: problem(status, code))
        with pytest.raises(kind):
            s.seat().acquire()
        assert len(s.server.calls) == 4


def test_every_loss_says_what_to_do() -> None:
    for reason, (message, hint) in WHY_LOST.items():
        assert message.endswith("."), reason
        assert hint.endswith("."), reason
    assert "something new" in SeatLost("something_new").message


def test_a_denial_without_figures_still_says_when() -> None:
    denied = fault_of(SeatProblem(code="seat_limit"), 409, 3.0)
    assert isinstance(denied, SeatDenied)
    assert denied.retry_after == 3.0
    assert denied.message == "Maximum user limit reached"


def test_tokens_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in what is printed, not in logs, not in a traceback that shows locals."""
    with scene(retries=0) as s, caplog.at_level(0):
        seat = s.seat().acquire()
        token = s.server.leases[0].id + ".1."
        s.server.always = refused
        shown = [repr(s.client), repr(seat), repr(seat._hold.grant), str(Secret(KEY))]
        shown += [str(msgspec.to_builtins(change, enc_hook=repr)) for change in s.changes]
        s.world.advance(60)
        for fault in (refused, s.blackhole, answers(lambda: problem(401, "unauthenticated"))):
            s.server.always = fault
            with pytest.raises(errors.SojournError) as caught:
                s.seat(client_id="other").acquire()
            assert caught.value.__context__ is None
            trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            ours = [frame for frame in trace.stack if "/sojourn/client/" in frame.filename]
            assert len(ours) >= 3
            shown.append(f"{caught.value!r} {[frame.locals for frame in ours]}")
        seat.release()
        shown.append(caplog.text)
        for text in shown:
            assert KEY not in text
            assert token not in text
            assert text


def test_a_foreign_url_shows_no_password() -> None:
    client = Client("http://me:hunter2@127.0.0.1:1/", license_key=KEY)
    assert "hunter2" not in repr(client)


def test_secrets_over_plain_http_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with scene() as s:
        client = Client(
            "http://licenses.example",
            license_key=KEY,
            transport=httpx.MockTransport(s.server),
            world=s.world,
        )
        s.world.beats.append(client._beats)
        client.seat("render", user="ada").acquire()
        client.close()
    assert "unencrypted" in caplog.text


def test_the_same_program_is_the_same_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_client_id() == default_client_id()
    assert default_client_id("2") == default_client_id() + ".2"
    names = {default_client_id()}
    with monkeypatch.context() as m:
        m.setattr(identity, "_program", lambda: "/opt/other.py")
        names.add(default_client_id())
    with monkeypatch.context() as m:
        m.setattr(identity, "_os_user", lambda: "somebody")
        names.add(default_client_id())
    with monkeypatch.context() as m:
        m.setattr("platform.node", lambda: "elsewhere")
        names.add(default_client_id())
    with monkeypatch.context() as m:
        m.setattr(identity, "MACHINE_IDS", ())
        m.setattr(identity, "CONTAINER_MARKS", ())
        m.delenv(identity.KUBERNETES, raising=False)
        names.add(default_client_id())
        m.setattr("uuid.getnode", lambda: 1 << 40)  # no network card: nothing to go by
        names.add(default_client_id())
    assert len(names) == 6


def test_instance_goes_with_a_name_of_ones_own() -> None:
    with scene() as s:
        assert s.client.seat("f", user="ada", client_id="x", instance="2").client_id == "x.2"
        assert s.client.seat("f", user="ada", client_id="x").client_id == "x"
        assert s.client.seat("f", user="ada").client_id == default_client_id()


def test_threads_that_acquire_one_seat_get_one_seat() -> None:
    with scene() as s:
        seat = s.seat()
        got = threading.Event()

        def others() -> None:
            seat.acquire()
            got.set()

        threads = [threading.Thread(target=others) for _ in range(8)]

        def meanwhile(_: object) -> None:
            for thread in threads:
                thread.start()
            assert not got.wait(0.05)  # nobody overtakes the one who asks

        s.server.faults = [meanwhile]
        seat.acquire()
        for thread in threads:
            thread.join()
        assert got.is_set()
        assert s.server.times("acquire") == [0]


def test_a_container_keeps_the_name_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host's name, its machine's id and its user may all be others after a restart."""
    monkeypatch.setenv("SOJOURN_CLIENT_ID", " worker-1 ")
    assert default_client_id() == "worker-1"
    assert default_client_id("2") == "worker-1.2"
    monkeypatch.setenv("SOJOURN_CLIENT_ID", "")
    assert default_client_id().startswith("py-")


@pytest.mark.parametrize("wait", [-1, math.nan, "60", True])
def test_a_wait_that_is_no_time_is_refused_at_once(wait: Any) -> None:
    with scene() as s, pytest.raises(InvalidInput, match="wait") as caught:
        s.seat(wait=wait)
    assert "math.inf" in caught.value.hint
    assert s.server.calls == []


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_timeout_that_is_no_time_is_refused_at_once(timeout: float) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        Client("http://127.0.0.1:1", license_key=KEY, timeout=timeout)


def test_what_a_client_lacks_is_said() -> None:
    with pytest.raises(InvalidInput) as caught:
        Client("http://127.0.0.1:1")
    assert "license_key=" in caught.value.hint
