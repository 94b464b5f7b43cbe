"""What strangers send that is not quite HTTP's: addresses that are none, templates, odd handshakes."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.api_harness import SEATS, Served, World, served
from tests.raw_http import Client, head
from tests.serving import TICK

from sojourn.api.metrics import REFUSED
from sojourn.api.protocol import Bounds, GuardedProtocol
from sojourn.api.sockets import GuardedSocket
from sojourn.lease import LeaseFilter
from sojourn.ledger import Role
from sojourn.people.calls import LIVE
from sojourn.session import Begin, Begun

DEADLINE = 20.0  # seconds
UNREAD_MAX = 64 * 1_048_576
"""Bytes: more than any system keeps for a connection, on both sides together."""
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/nowhere", {}, 404),
        (LIVE, {"Origin": "https://evil.example", "Cookie": "sojourn=x"}, 403),
        (LIVE, {"Sec-WebSocket-Version": "12"}, 400),
        (LIVE, {"Sec-WebSocket-Version": ""}, 400),
        (LIVE, {"Sec-WebSocket-Key": "abc"}, 400),
        (LIVE, {"Sec-WebSocket-Protocol": ",,\x1b"}, 400),
    ],
)
def test_a_handshake_is_refused_as_everything_else_is(
    path: str, more: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With a problem document and our headers; and it is no fault of ours that the log would tell."""
    world = World()
    lines = [f"{name}: {value}" for name, value in {**SOCKET, **more}.items()]
    with caplog.at_level("WARNING"), served(world) as server, Client(server) as client:
        answer = client.send(head("GET", path, *lines)).read()
        assert answer is not None
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert json.loads(answer.body)["status"] == status
        assert client.read() is None  # it is closed
    assert caplog.text == ""


@pytest.mark.parametrize(
    "said",
    ["unknown", "\u00ab\u00ab", "<script>", "203.0.113.9, nobody", "10.0.0.300", "fe80::z", ""],
)
def test_what_is_no_address_is_none(said: str) -> None:
    """The address of who came is the last that can be believed."""
    world = World(trusted_proxies=("127.0.0.1",))
    with served(world) as server, Client(server) as client:
        body = json.dumps(world.wish()).encode()
        lines = (f"X-Forwarded-For: {said}", f"Content-Length: {len(body)}")
        client.send(head("POST", SEATS, *lines, bearer=world.license_key) + body)
        answer: Any = client.read()
        assert answer.status == 201
        (lease,) = world.store.leases(LeaseFilter())[0]
        assert lease.device is not None
        assert lease.device.ip == "127.0.0.1"


@pytest.mark.parametrize("piece", ["{sessionId}", "%7BsessionId%7D"])
def test_the_template_of_a_path_is_no_path(piece: str) -> None:
    """A session that nobody has: not found, in whichever lane."""
    world = World()
    with served(world) as server, Client(server) as client:
        client.send(
            head(
                "PATCH", f"/api/sessions/{piece}", "Content-Length: 2", bearer=world.keys[Role.APP]
            )
            + b"{}"
        )
        answer: Any = client.read()
        assert answer.status == 404


def test_a_socket_that_says_too_much_is_cut_off() -> None:
    """Pings cost more than they weigh."""
    before = REFUSED["socket_too_loud"]
    with served(World()) as server, handshake(server) as loud:
        assert shaken(loud) == 101
        with contextlib.suppress(ConnectionError):
            loud.send((b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125) * 400)
        until(loud.closed)
    assert REFUSED["socket_too_loud"] == before + 1


def test_a_socket_whose_peer_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ping is owed a pong, and pongs that nobody reads are memory: past a bound it is over."""
    monkeypatch.setattr("sojourn.api.sockets.HEARD_MAX", UNREAD_MAX)
    world = World()
    payload = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125  # a ping, masked with nothing
    pings = payload * 500
    lines = [f"{name}: {value}" for name, value in {**SOCKET, "Origin": "http://x"}.items()]
    before = REFUSED["socket_not_read"]
    with served(world) as server, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.settimeout(DEADLINE)
        peer.connect(("127.0.0.1", server.port))
        peer.sendall(head("GET", LIVE, *lines))
        assert b" 101 " in peer.recv(1_024)
        with pytest.raises(ConnectionError):
            peer.sendall(pings * (UNREAD_MAX // len(pings)))
    assert REFUSED["socket_not_read"] == before + 1


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    late = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < late
        TICK.wait(0.02)


def handshake(server: Served, *more: str) -> Client:
    lines = [f"{name}: {value}" for name, value in {**SOCKET, "Origin": "http://x"}.items()]
    return Client(server).send(head("GET", LIVE, *lines, *more))


def shaken(client: Client) -> int:
    answer = client.read()
    assert answer is not None
    return answer.status


def test_sockets_of_nobody_have_few_places_and_leave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told that nobody is signed in; if they say nothing to that, they are closed."""
    monkeypatch.setattr("sojourn.api.sockets.UNKNOWN_MAX", 3)
    monkeypatch.setattr("sojourn.api.sockets.CLOSE_MAX", 0.5)
    with served(World()) as server, contextlib.ExitStack() as held:
        clients = [held.enter_context(handshake(server)) for _ in range(3)]
        assert [shaken(each) for each in clients] == [101] * 3
        with handshake(server) as refused:
            answer = refused.read()
            assert answer is not None
            assert (answer.status, answer.code) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
        for each in clients:
            while not each.closed():  # what was said before the end
                pass
        until(lambda: GuardedSocket.has_room("127.0.0.1"))
        with handshake(server) as again:
            assert shaken(again) == 101


@pytest.mark.parametrize("proxied", [True, False])
def test_one_address_has_a_share_of_them(monkeypatch: pytest.MonkeyPatch, proxied: bool) -> None:
    """So that whoever holds on to theirs leaves places to others; of an address without a proxy that is
    trusted, what it says of others is not believed."""
    monkeypatch.setattr("sojourn.api.sockets.UNKNOWN_SHARE", 2)
    monkeypatch.setattr("sojourn.api.sockets.CLOSE_MAX", DEADLINE)
    world = World(trusted_proxies=("127.0.0.1",) if proxied else ())
    with served(world) as server, contextlib.ExitStack() as held:

        def opened(address: str) -> int:
            return shaken(held.enter_context(handshake(server, f"X-Forwarded-For: {address}")))

        assert [opened("203.0.113.9") for _ in range(3)] == [101, 101, 503]
        assert opened("203.0.113.10") == (101 if proxied else 503)
        assert opened("2001:db8::1") == (101 if proxied else 503)
        if proxied:
            assert [opened("2001:db8::2") for _ in range(2)] == [101, 503]
    until(lambda: GuardedSocket.has_room("203.0.113.9") and GuardedSocket.has_room("127.0.0.1"))


def test_who_is_known_takes_none_of_those_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.api.sockets.UNKNOWN_MAX", 1)
    world = World()
    (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    lines = [f"{name}: {value}" for name, value in SOCKET.items()]
    with served(world) as server, contextlib.ExitStack() as held:
        for _ in range(4):
            client = held.enter_context(Client(server))
            client.send(head("GET", LIVE, *lines, bearer=begun.token))
            assert shaken(client) == 101
            assert not client.closed()  # it is told to list: it is attended


@pytest.mark.parametrize(("most", "share"), [(3, 100), (100, 3)])
def test_connections_are_counted(most: int, share: int) -> None:
    bounds = Bounds(
        header_max=4_096,
        body_max=4_096,
        receive_timeout=DEADLINE,
        connections_max=most,
        connections_share=share,
    )

    def alive(server: Served) -> bool:
        with Client(server) as another:
            answer = another.send(head("GET", "/livez")).read()
            return answer is not None and answer.status == 200

    with served(World(), http=partial(GuardedProtocol, bounds=bounds)) as server:
        with contextlib.ExitStack() as held:
            for _ in range(3):
                client = held.enter_context(Client(server))
                assert shaken(client.send(head("GET", "/livez"))) == 200
            with Client(server) as one_more:
                answer = one_more.read()
                assert answer is not None
                assert (answer.status, answer.code) == (503, "overloaded")
        until(lambda: alive(server))


@pytest.mark.skipif(
    sys.platform != "linux", reason="127.0.0.2 is ours without asking on Linux alone"
)
def test_who_is_refused_or_has_a_socket_takes_no_connection_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept for others stays theirs, whatever one address opens beyond its share."""
    monkeypatch.setattr("sojourn.api.protocol.LINGER", DEADLINE)
    bounds = Bounds(
        header_max=4_096,
        body_max=4_096,
        receive_timeout=DEADLINE,
        connections_max=3,
        connections_share=2,
    )
    world = World()
    (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    lines = [f"{name}: {value}" for name, value in SOCKET.items()]
    serving = served(world, http=partial(GuardedProtocol, bounds=bounds))
    with serving as server, contextlib.ExitStack() as held:
        for _ in range(3):
            client = held.enter_context(Client(server))
            assert shaken(client.send(head("GET", LIVE, *lines, bearer=begun.token))) == 101
        for status in (200, 200, 503, 503, 503):  # and none of them hangs up
            client = held.enter_context(Client(server))
            with contextlib.suppress(ConnectionError):
                client.send(head("GET", "/livez"))
            assert shaken(client) == status
        with another(server) as connection:
            connection.sendall(head("GET", "/livez"))
            assert connection.recv(1_024).startswith(b"HTTP/1.1 200 ")


def another(server: Served) -> socket.socket:
    """Connect from an address that nobody else here has."""
    return socket.create_connection(
        ("127.0.0.1", server.port), DEADLINE, source_address=("127.0.0.2", 0)
    )
