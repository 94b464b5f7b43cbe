"""Sessions kept by a server, over connections that break: what is asked again, and how."""

from __future__ import annotations

import re
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import msgspec
import pytest
from tests.api_harness import World, served
from tests.raw_http import Client, head
from tests.unit.client.test_client_http import (
    Misbehaving,
    drop_by_drop,
    endless,
    gibberish,
    half_a_body,
    half_a_head,
    nothing,
    reset,
    serving,
    silent,
)
from tests.waiting import ended

from sojourn.client.sessions import IDS_MAX, RemoteSessions
from sojourn.device import Device
from sojourn.devices import Devices
from sojourn.errors import InvalidInput, SojournError, StoreBroken, StoreUnavailable
from sojourn.ledger import Role
from sojourn.session import (
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rename,
    Rotate,
    Save,
    Session,
    TooMany,
)
from sojourn.testing.builders import key
from sojourn.token import TokenKind, new_token

KEY = new_token(TokenKind.API)
TOKEN = new_token(TokenKind.SESSION)
TIMEOUT = 0.3

OperatorCall = Callable[[RemoteSessions], Any]

READS: dict[str, OperatorCall] = {
    "check": lambda s: s.check([Check(TOKEN)]),
    "of": lambda s: s.of("ann"),
    "rename": lambda s: s.rename(Rename(id="ses_x", user_id="ann", label="Office")),
}
"""Asked again: done twice is as good as once."""
KEYED: dict[str, OperatorCall] = {
    "end": lambda s: s.end([End(user_id="ann")]),
    "begin": lambda s: s.begin([Begin(user_id="ann")]),
    "save": lambda s: s.save([Save(id="ses_x", set={"a": 1})]),
    "rotate": lambda s: s.rotate([Rotate(id="ses_x")]),
}
"""Asked again under the key of the first time: a late copy must not undo what was done since."""
EVERY = READS | KEYED


@contextmanager
def remote(url: str, timeout: float = TIMEOUT) -> Iterator[RemoteSessions]:
    with closing(RemoteSessions(url, KEY, timeout=timeout)) as sessions:
        yield sessions


def answering(status: int, body: Any = None, **headers: str) -> RemoteSessions:
    """Sessions whose server always answers this."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    transport = httpx.MockTransport(
        lambda _: httpx.Response(status, content=content, headers=headers)
    )
    return RemoteSessions("http://127.0.0.1:1", KEY, transport=transport)


@pytest.mark.parametrize("behavior", [reset, nothing, half_a_head, half_a_body, gibberish])
@pytest.mark.parametrize("name", EVERY)
def test_a_broken_connection_is_an_outage(name: str, behavior: Any) -> None:
    server = Misbehaving(behavior)
    with serving(server) as url, remote(url) as sessions:
        with pytest.raises(StoreUnavailable, match="broke"):
            EVERY[name](sessions)
        assert server.connections == 2


@pytest.mark.parametrize("name", EVERY)
def test_what_is_asked_again_has_one_key(name: str) -> None:
    """Both times the same, the next time another; reads have none."""
    keys: list[str | None] = []

    def broken(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        raise httpx.ReadError("broke", request=request)

    transport = httpx.MockTransport(broken)
    with closing(RemoteSessions("http://127.0.0.1:1", KEY, transport=transport)) as sessions:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                EVERY[name](sessions)
    first, again, second, _ = keys
    if name in READS:
        assert keys == [None] * 4
    else:
        assert first is not None
        assert re.fullmatch(r'"[0-9a-f-]{36}"', first)
        assert first == again != second


def test_a_key_of_who_asked_is_passed_on() -> None:
    """A copy of a person's request is a copy for the server, too. A list that is sent in parts is not named
    so: its parts are requests of their own."""
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, json={"success": True, "data": {"ids": []}})

    transport = httpx.MockTransport(answer)
    once = key("asked")
    with closing(RemoteSessions("http://127.0.0.1:1", KEY, transport=transport)) as sessions:
        for _ in range(2):
            sessions.end([End(user_id="ann", keep=("ses_x",), idempotency=once)])
        many = tuple(f"ses_{i}" for i in range(IDS_MAX + 1))
        sessions.end([End(ids=many, idempotency=once)])
    assert keys[:2] == [once.digest.hex()] * 2
    assert len(set(keys)) == 3


@pytest.mark.parametrize("behavior", [silent, drop_by_drop])
@pytest.mark.parametrize("name", EVERY)
def test_a_silent_server_is_waited_for_once(name: str, behavior: Any) -> None:
    server = Misbehaving(behavior)
    with serving(server) as url, remote(url) as sessions:
        with pytest.raises(StoreUnavailable, match="did not answer within"):
            ended(lambda: EVERY[name](sessions))
        assert server.connections == 1
        server.over.set()


@pytest.mark.parametrize("name", EVERY)
def test_where_nobody_listens_nothing_was_sent(name: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with (
            remote(f"http://127.0.0.1:{probe.getsockname()[1]}") as sessions,
            pytest.raises(StoreUnavailable, match="Cannot connect"),
        ):
            EVERY[name](sessions)


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.client.connection.ANSWER_MAX", 100_000)
    with (
        serving(Misbehaving(endless)) as url,
        remote(url, 10) as sessions,
        pytest.raises(StoreUnavailable, match="broke"),
    ):
        sessions.begin([Begin()])


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {"code": "store_unavailable", "error": "Away."}, StoreUnavailable),
        (503, {"code": "overloaded", "error": "Busy."}, StoreUnavailable),
        (503, {"code": "shutting_down"}, StoreUnavailable),
        (408, {"code": "request_timeout"}, StoreUnavailable),
        (429, {"code": "too_many_requests"}, StoreUnavailable),
        (502, b"<h1>Bad Gateway</h1>", StoreUnavailable),
        (504, b"", StoreUnavailable),
        (503, {"code": "store_broken", "error": "No table."}, StoreBroken),
        (500, {"code": "internal"}, StoreBroken),
        (401, {"code": "unauthenticated", "error": "Not known."}, StoreBroken),
        (401, {"code": "token_wrong_kind"}, StoreBroken),
        (403, {"code": "forbidden", "error": "Of role viewer."}, StoreBroken),
        (404, {"code": "not_found"}, StoreBroken),
        (200, b"<html>Sign in to the Wi-Fi</html>", StoreBroken),
        (302, b"", StoreBroken),
        (200, {"success": True, "data": {"other": 1}}, StoreBroken),
        (400, {"code": "invalid_request", "error": "No."}, InvalidInput),
        (413, {"code": "body_too_large"}, InvalidInput),
    ],
)
@pytest.mark.parametrize("name", EVERY)
def test_each_refusal_is_the_fault_it_stands_for(
    name: str, status: int, body: Any, kind: type[SojournError]
) -> None:
    with closing(answering(status, body)) as sessions, pytest.raises(kind) as caught:
        EVERY[name](sessions)
    assert type(caught.value) is kind


def test_a_wrong_key_says_what_to_do() -> None:
    sessions = answering(401, {"code": "unauthenticated", "error": "This key is not known."})
    with closing(sessions), pytest.raises(StoreBroken, match="does not accept this API key") as e:
        sessions.check([Check(TOKEN)])
    assert "SOJOURN_KEY" in e.value.hint


def test_one_of_a_batch_may_fail_alone() -> None:
    """An answer that is an exception concerns that request alone."""

    def answer(request: httpx.Request) -> httpx.Response:
        if b'"userId":"bad"' in request.content:
            return httpx.Response(400, json={"code": "invalid_request", "error": "No."})
        return httpx.Response(409, json={"code": "session_limit", "limit": 1, "sessions": []})

    sessions = RemoteSessions("http://127.0.0.1:1", KEY, transport=httpx.MockTransport(answer))
    with closing(sessions):
        found = sessions.begin([Begin(user_id=user) for user in ("ann", "bad", "bob")])
    many = TooMany(limit=1, sessions=())
    assert (found[0], found[2]) == (many, many)
    assert isinstance(found[1], InvalidInput)


def test_a_token_that_cannot_be_one_is_never_sent() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("asked")

    sessions = RemoteSessions("http://127.0.0.1:1", KEY, transport=httpx.MockTransport(answer))
    with closing(sessions):
        found = sessions.check([Check("sjs_forged"), Check("x" * 1_000_000), Check("a\r\nb: c")])
    assert list(found) == [Gone(reason=GoneReason.FORGED)] * 3


def test_a_device_is_described_in_what_a_server_takes() -> None:
    world = World()
    odd = Device(user_agent="Moz\x00illa\x1b[31m " + "x" * 2_000, browser="", ip="192.0.2.7")
    with (
        served(world) as server,
        closing(RemoteSessions(server.url, world.keys[Role.APP])) as sessions,
    ):
        (begun,) = sessions.begin([Begin(user_id="ann", device=odd)])
        assert isinstance(begun, Begun)
        device = begun.session.device
        assert device is not None
        assert (device.ip, device.browser) == ("192.0.2.7", None)
        assert str(device.user_agent).startswith("Mozilla[31m xxx")


def test_many_threads_share_one_pool() -> None:
    world = World()
    with (
        served(world) as server,
        closing(RemoteSessions(server.url, world.keys[Role.APP])) as sessions,
    ):
        begun = sessions.begin([Begin(user_id=f"user-{n}") for n in range(200)])
        tokens = [each.token for each in begun if isinstance(each, Begun)]
        found = sessions.check([Check(token) for token in tokens])
        assert [x.user_id for x in found if isinstance(x, Session)] == [
            f"user-{n}" for n in range(200)
        ]


def test_closing_ends_it_for_good() -> None:
    sessions = answering(503, {"code": "overloaded"})
    sessions.close()
    sessions.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        sessions.check([Check(TOKEN)])
    with pytest.raises(StoreUnavailable, match="closed"):
        sessions.check([Check(TOKEN)] * 2)


@pytest.mark.parametrize("url", ["", "sojourn.example", "ftp://x", "http://", "file:///etc"])
def test_a_url_that_names_no_server_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput, match="http"):
        RemoteSessions(url, KEY)


def test_what_connects_shows_no_secret_in_a_traceback() -> None:
    """Not even in one that shows the values of variables."""
    with serving(Misbehaving(reset)) as url, remote(url) as sessions:
        with pytest.raises(StoreUnavailable) as caught:
            sessions.check([Check(TOKEN)])
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert shown.__context__ is None
    frames = [str(f.locals) for f in shown.stack if f.filename.endswith("client/connection.py")]
    assert frames
    assert KEY[8:] not in "".join(shown.format())
    assert TOKEN[8:] not in "".join(frames) + str(caught.value)


@pytest.mark.parametrize("name", ["X-Session-Token", "Cookie"])
def test_an_endless_header_is_not_read_to_its_end(name: str) -> None:
    with served(World()) as server, Client(server) as client:
        client.send(head("GET", "/api/sessions/current", bearer=KEY)[:-2] + f"{name}: ".encode())
        sent = client.send_until_answered(b"x" * 65_536, 1_024)
        assert sent < 1_024
        answer = client.read()
        assert answer is not None
        assert (answer.status, answer.code) == (431, "headers_too_large")


TOLD: dict[str, Any] = {
    "id": "ses_1",
    "userId": "ann",
    "revision": 1,
    "createdAt": "2026-01-01T00:00:00Z",
    "authenticatedAt": "2026-01-01T00:00:00Z",
    "lastUsedAt": "2026-01-01T00:00:00Z",
    "at": "2026-01-01T01:00:00Z",
    "expiresIn": 3600.0,
    "idleIn": 3600.0,
    "idleTimeout": 3600.0,
    "level": 1,
}
"""What a server of before tells of a session."""


def test_a_server_of_before_signs_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    """It knows no last devices: it is asked once, and people stay signed in. Names are refused in words."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if request.method == "PUT":
            return httpx.Response(404, json={"code": "not_found", "error": "Nothing is here."})
        used = dict(TOLD, lastUsedAt=TOLD["at"])
        return httpx.Response(200, json={"success": True, "data": {"session": used}})

    phone = Device(ip="192.0.2.9", user_agent="Safari/1")
    sessions = RemoteSessions("http://127.0.0.1:1", KEY, transport=httpx.MockTransport(answer))
    with closing(sessions):
        for _ in range(3):
            (found,) = sessions.check([Check(TOKEN, describe=lambda: phone)])
            assert isinstance(found, Session)
            assert found.last_device is None
        assert sum(each.startswith("PUT") for each in asked) == 1
        with pytest.raises(StoreBroken, match="older"):
            sessions.rename(Rename(id="ses_1", user_id="ann", label="Office"))


def test_an_address_that_the_server_shortens_is_told_once() -> None:
    """Not with each use again."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        device = {"ip": "192.0.2.0", "userAgent": "Safari/1"}
        used = dict(TOLD, lastUsedAt=TOLD["at"], device=device)
        return httpx.Response(200, json={"success": True, "data": {"session": used}})

    phone = Device(ip="192.0.2.9", user_agent="Safari/1")
    sessions = RemoteSessions("http://127.0.0.1:1", KEY, transport=httpx.MockTransport(answer))
    with closing(sessions):
        sessions.check([Check(TOKEN, describe=lambda: phone)])
    assert asked == ["GET"]


def test_addresses_are_sent_as_the_application_says() -> None:
    """Where the application shortens them, a server never sees more: at the sign-in, and with each use."""
    world = World()
    with (
        served(world) as server,
        closing(
            RemoteSessions(
                server.url, world.keys[Role.APP], complete=Devices(ip_shorten=True).complete
            )
        ) as sessions,
    ):
        home = Device(ip="192.0.2.9", user_agent="Safari/1")
        (begun,) = sessions.begin([Begin(user_id="ann", device=home)])
        assert isinstance(begun, Begun)
        assert begun.session.device is not None
        assert begun.session.device.ip == "192.0.2.0"
        world.clock.advance(seconds=61)
        train = Device(ip="198.51.100.9", user_agent="Safari/1")
        (found,) = sessions.check([Check(begun.token, describe=lambda: train)])
        assert isinstance(found, Session)
        assert found.last_device is not None
        assert found.last_device.ip == "198.51.100.0"
