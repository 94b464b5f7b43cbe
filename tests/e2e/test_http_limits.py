"""A real server on a real socket, and whatever may come down one: it refuses, closes, and goes on."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_harness import ADMIN, BEAT, SEATS, Served, World, served
from tests.raw_http import Client, head
from uvicorn.protocols.http import httptools_impl

from sojourn.api import parser, protocol
from sojourn.api.protocol import GuardedProtocol
from sojourn.lease import LeaseFilter
from sojourn.service.seats import SeatCall
from sojourn.token import hash_token

TIMEOUT = 20.0  # seconds until a test gives up
RECEIVE_TIMEOUT = 0.4  # seconds the servers here wait for a request
TRAIN = 3_000  # requests, answered one after the other
PACE = 0.02  # seconds between two bytes of a slow client


@pytest.fixture(scope="module", params=["uvloop", "asyncio", "plain"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Both loops: uvloop is what serves, and asyncio where there is none; and without httptools."""
    plain = request.param == "plain"
    with pytest.MonkeyPatch.context() as patch:
        if plain:
            patch.setattr(httptools_impl, "httptools", parser)
            patch.setattr(protocol, "httptools", parser)
        loop = "asyncio" if plain else request.param
        with served(World(request_timeout=RECEIVE_TIMEOUT), loop=loop) as server:
            yield server


@pytest.fixture
def token(server: Served) -> str:
    world = server.world
    call = SeatCall(
        key_hash=hash_token(world.license_key), feature="editor", user_id="ann", client_id="c"
    )
    (seat,) = world.services.seats.acquire([call])
    return str(seat.token)  # type: ignore[union-attr]  # there is a free seat


def is_well(server: Served) -> None:
    with Client(server) as client:
        answer = client.send(head("GET", "/livez")).read()
        assert answer is not None
        assert answer.status == 200


HOST = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST " + BEAT.encode() + b" HTTP/1.1\r\nHost: x\r\n"

MALFORMED: dict[str, bytes] = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "version 9": b"GET /livez HTTP/9.9\r\n\r\n",
    "odd method": b"G@T /livez HTTP/1.1\r\n\r\n",
    "nul in path": b"GET /li\x00vez HTTP/1.1\r\n\r\n",
    "not ascii in path": "GET /liv\u00e9z HTTP/1.1\r\n\r\n".encode(),
    "nul in value": HOST + b"X: a\x00b\r\n\r\n",
    "nul in name": HOST + b"X\x00: a\r\n\r\n",
    "bare cr in value": HOST + b"X: a\rY: b\r\n\r\n",
    "space before colon": HOST + b"X : a\r\n\r\n",
    "no colon": HOST + b"X\r\n\r\n",
    "folded": HOST + b"X: a\r\n b\r\n\r\n",
    "te and cl": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "cl and te": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "hex length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunk of nothing": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "huge chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}X\r\n0\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
}


class TestMalformed:
    @pytest.mark.parametrize("name", MALFORMED)
    def test_is_refused_and_changes_nothing(self, server: Served, name: str) -> None:
        before = server.world.footprint()
        with Client(server) as client:
            answer = client.send(MALFORMED[name]).read()
            if answer is not None:
                assert 400 <= answer.status < 500
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers.get("connection") != "close" or client.closed()
        assert server.world.footprint() == before
        is_well(server)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"idleFor":' + b"[" * 30_000,
            b'{"idleFor":NaN}',
            b'{"idleFor":1e400}',
            b'{"idleFor":-5}',
            b'{"idleFor":"\\ud800"}',
            b'{"idleFor":1,"idleFor":"x"}',
            b"\xff\xfe{}",
            b'{"closing":1}',
            b"\x00",
            b"{}{}",
            b"null",
        ],
    )
    def test_json_that_does_not_fit_is_refused(
        self, server: Served, token: str, body: bytes
    ) -> None:
        before = server.world.footprint()
        with Client(server) as client:
            request = head("POST", BEAT, f"Content-Length: {len(body)}", bearer=token)
            answer = client.send(request + body).read()
            assert answer is not None
            assert (answer.status, answer.code) == (400, "invalid_request")
        assert server.world.footprint() == before


class TestTooMuch:
    def test_a_head_that_is_mostly_blanks(self, server: Served) -> None:
        """However it is sent: blanks weigh as much as letters, and are no riddle to whoever reads it."""
        blanks = HOST + b"X: a" + b" " * 60_000 + b"b\r\n\r\n"
        with Client(server) as client:
            answer = client.send(blanks).read()
            assert answer is not None
            assert (answer.status, answer.code) == (431, "headers_too_large")
        is_well(server)

    def test_ten_thousand_headers(self, server: Served) -> None:
        with Client(server) as client:
            lines = b"".join(b"X-%d: y\r\n" % i for i in range(10_000))
            answer = client.send(HOST + lines + b"\r\n").read()
            assert answer is not None
            assert (answer.status, answer.code) == (431, "headers_too_large")
            assert answer.headers["connection"] == "close"
            assert client.closed()

    @pytest.mark.parametrize("start", [HOST + b"X: ", HOST, b"GET /", b"G" * 10], ids=repr)
    def test_a_head_without_end(self, server: Served, start: bytes) -> None:
        before = _resident()
        for _ in range(10):
            with Client(server) as client:
                client.send(start)
                client.send_until_answered(b"a" * 65_536, 1_000)
                answer = client.read()
                assert answer is None or answer.status in (400, 431)
        assert _resident() - before < 32 * 1024**2
        is_well(server)

    def test_headers_without_end(self, server: Served) -> None:
        with Client(server) as client:
            client.send(HOST).send_until_answered(b"X-Name: value\r\n" * 1_000, 1_000)
            answer = client.read()
            assert answer is None or answer.status == 431

    def test_a_megabyte_of_body(self, server: Served, token: str) -> None:
        with Client(server) as client:
            body = b" " * 1_000_000
            client.send(head("POST", BEAT, f"Content-Length: {len(body)}", bearer=token) + body)
            answer = client.read()
            assert answer is not None
            assert (answer.status, answer.code) == (413, "body_too_large")

    def test_a_body_refused_before_it_is_sent(self, server: Served, token: str) -> None:
        with Client(server) as client:
            lines = ("Content-Length: 1000000000", "Expect: 100-continue")
            answer = client.send(head("POST", BEAT, *lines, bearer=token)).read()
            assert answer is not None
            assert answer.status == 413  # and not 100

    @pytest.mark.parametrize("path", [BEAT, "/api/licenses", "/nowhere", "/livez"])
    def test_chunks_without_end(self, server: Served, token: str, path: str) -> None:
        before = _resident()
        bearer = token if path == BEAT else ADMIN
        with Client(server) as client:
            client.send(head("POST", path, "Transfer-Encoding: chunked", bearer=bearer))
            client.send_until_answered(b"10000\r\n" + b" " * 65_536 + b"\r\n", 10_000)
            answer = client.read()
            assert answer is None or 400 <= answer.status < 500
            if path == BEAT and answer is not None:
                assert answer.code == "body_too_large"
        assert _resident() - before < 32 * 1024**2
        is_well(server)

    @pytest.mark.parametrize(
        "piece", [b"1\r\n \r\n", b"1;" + b"e" * 60_000 + b"\r\n \r\n"], ids=["tiny", "extended"]
    )
    def test_chunks_that_are_mostly_wrapping(
        self, server: Served, token: str, piece: bytes
    ) -> None:
        with Client(server) as client:
            client.send(head("POST", BEAT, "Transfer-Encoding: chunked", bearer=token))
            client.send_until_answered(piece * max(1, 65_536 // len(piece)), 10_000)
            answer = client.read()
            assert answer is None or answer.status == 413

    def test_trailers_without_end(self, server: Served, token: str) -> None:
        before = _resident()
        with Client(server) as client:
            client.send(head("POST", BEAT, "Transfer-Encoding: chunked", bearer=token))
            client.send(b"0\r\nX: ").send_until_answered(b"a" * 65_536, 10_000)
            answer = client.read()
            assert answer is None or answer.status in (413, 431)
        assert _resident() - before < 32 * 1024**2


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


class TestTooSlow:
    def test_nothing_at_all(self, server: Served) -> None:
        with Client(server) as client:
            assert client.closed()

    @pytest.mark.parametrize("start", [b"G", b"GET /livez HTTP/1.1\r\n", HOST + b"X: "], ids=repr)
    def test_a_head_that_stops(self, server: Served, start: bytes) -> None:
        with Client(server) as client:
            answer = client.send(start).read()
            assert answer is not None
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert client.closed()

    def test_a_head_that_drips(self, server: Served) -> None:
        with Client(server) as client:
            client.send(HOST + b"X: ").send_until_answered(b"a", 2_000, pace=PACE)
            answer = client.read()
            assert answer is not None
            assert answer.status == 408

    def test_a_body_that_stops(self, server: Served, token: str) -> None:
        before = server.world.footprint()
        with Client(server) as client:
            request = head("POST", BEAT, "Content-Length: 100", bearer=token)
            answer = client.send(request + b'{"idleFor":1').read()
            assert answer is not None
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert client.closed()
        assert server.world.footprint() == before

    def test_a_body_that_drips(self, server: Served, token: str) -> None:
        with Client(server) as client:
            client.send(head("POST", BEAT, "Content-Length: 60000", bearer=token))
            client.send_until_answered(b" ", 2_000, pace=PACE)
            answer = client.read()
            assert answer is not None
            assert answer.status == 408

    def test_the_rest_of_a_body_that_was_refused(self, server: Served, token: str) -> None:
        with Client(server) as client:
            client.send(head("POST", BEAT, "Content-Length: 5000000", bearer=token))
            answer = client.read()
            assert answer is not None
            assert answer.status == 413
            assert client.closed()

    def test_an_answer_nobody_reads(
        self, server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        lost = threading.Event()
        real = GuardedProtocol.connection_lost

        def connection_lost(protocol: GuardedProtocol, exc: Exception | None) -> None:
            real(protocol, exc)
            lost.set()

        monkeypatch.setattr(GuardedProtocol, "connection_lost", connection_lost)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(head("GET", "/openapi.json") * 500)
            assert lost.wait(TIMEOUT), "the server waits for its reader forever"
        is_well(server)
        # Of requests it may tell: a test before this one may have let it.
        assert [x for x in caplog.records if x.levelno >= logging.WARNING] == []

    def test_legitimate_callers_are_served_meanwhile(self, server: Served, token: str) -> None:
        slow = [Client(server).send(POST + b"X: ") for _ in range(200)]
        with Client(server) as client:
            for _ in range(20):
                answer = client.send(head("POST", BEAT, bearer=token)).read()
                assert answer is not None
                assert answer.status == 200
        for other in slow:
            with other:
                answer = other.read()
                assert answer is not None
                assert answer.status == 408

    def test_a_connection_kept_alive_for_nothing(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sojourn.api.protocol.KEEP_ALIVE", 0.2)
        with Client(server) as client:
            answer = client.send(head("GET", "/livez")).read()
            assert answer is not None
            assert answer.status == 200
            assert client.closed()


class TestCutOff:
    @pytest.mark.parametrize(
        "sent",
        [
            lambda _: b"",
            lambda _: HOST,
            lambda t: head("POST", BEAT, "Content-Length: 10", bearer=t),
            lambda t: head("POST", BEAT, "Content-Length: 10", bearer=t) + b'{"a',
            lambda t: head("POST", BEAT, "Transfer-Encoding: chunked", bearer=t) + b"5\r\n{",
        ],
    )
    @pytest.mark.parametrize("reset", [False, True])
    def test_in_the_middle_of_a_request(
        self, server: Served, token: str, sent: Callable[[str], bytes], reset: bool
    ) -> None:
        before = server.world.footprint()
        for _ in range(10):
            with Client(server) as client:
                client.send(sent(token))
                if reset:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" * 2)
        is_well(server)
        assert server.world.footprint() == before

    def test_before_the_answer(self, server: Served, token: str) -> None:
        for _ in range(20):
            with Client(server) as client:
                client.send(head("GET", "/openapi.json") + head("POST", BEAT, bearer=token))
        is_well(server)

    def test_a_client_that_closes_its_half_is_answered(self, server: Served) -> None:
        with Client(server) as client:
            client.send(head("GET", "/livez", "Connection: close"))
            answer = client.read()
            assert answer is not None
            assert answer.status == 200
            assert client.closed()


class TestWellFormed:
    def test_requests_sent_together_are_answered_in_order(self, server: Served, token: str) -> None:
        with Client(server) as client:
            client.send(
                head("POST", BEAT, bearer=token)
                + head("GET", "/livez")
                + head("GET", "/nowhere")
                + head("POST", BEAT, bearer=token)
            )
            answers = [client.read() for _ in range(4)]
            assert [answer.status for answer in answers if answer] == [200, 200, 404, 200]

    def test_what_comes_before_nonsense_is_answered(self, server: Served, token: str) -> None:
        for nonsense in (b"\x00" * 20, POST + b"X" * 40_000 + b"\r\n\r\n"):
            with Client(server) as client:
                answer = client.send(head("POST", BEAT, bearer=token) + nonsense).read()
                assert answer is not None
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
                assert client.closed()

    def test_a_long_train_of_requests(self, server: Served, token: str) -> None:
        """It may take longer to answer than a request may take to arrive."""
        with Client(server) as client:
            request = head("POST", BEAT, "Content-Length: 2", bearer=token) + b"{}"
            client.send(request * TRAIN)
            assert {getattr(client.read(), "status", None) for _ in range(TRAIN)} == {200}

    def test_a_body_in_chunks(self, server: Served, token: str) -> None:
        with Client(server) as client:
            request = head("POST", BEAT, "Transfer-Encoding: chunked", bearer=token)
            answer = client.send(request + b"1\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n").read()
            assert answer is not None
            assert answer.status == 200

    def test_a_proof_that_is_given_twice_is_none(self, server: Served, token: str) -> None:
        with Client(server) as client:
            second = "authorization: Bearer sjl_another"
            request = head("POST", BEAT, "Content-Length: 2", second, bearer=token)
            answer = client.send(request + b"{}").read()
            assert answer is not None
            assert (answer.status, answer.code) == (400, "invalid_request")

    def test_trailers_are_no_headers(self, server: Served, token: str) -> None:
        """What comes behind a body proves nothing: whoever is in between may not have looked at it
        (RFC 9110, 6.5.1)."""
        proof = f"Authorization: Bearer {token}\r\n".encode()
        with Client(server) as client:
            request = head("POST", BEAT, "Transfer-Encoding: chunked")
            answer = client.send(request + b"2\r\n{}\r\n0\r\n" + proof + b"\r\n").read()
            assert answer is not None
            assert (answer.status, answer.code) == (401, "unauthenticated")
        with Client(server) as client:
            request = head("POST", BEAT, "Transfer-Encoding: chunked", bearer=token)
            answer = client.send(request + b"2\r\n{}\r\n0\r\n" + proof + b"\r\n").read()
            assert answer is not None
            assert answer.status == 200

    def test_continue_when_asked(self, server: Served, token: str) -> None:
        with Client(server) as client:
            lines = ("Content-Length: 2", "Expect: 100-continue")
            client.send(head("POST", BEAT, *lines, bearer=token))
            go_on = client.read()
            assert go_on is not None
            assert go_on.status == 100
            answer = client.send(b"{}").read()
            assert answer is not None
            assert answer.status == 200

    def test_http_1_0(self, server: Served) -> None:
        with Client(server) as client:
            answer = client.send(b"GET /livez HTTP/1.0\r\n\r\n").read()
            assert answer is not None
            assert answer.status == 200
            assert client.closed()

    @pytest.mark.parametrize("protocol", ["websocket", "h2c"])
    def test_an_offer_to_upgrade_is_ignored(self, server: Served, protocol: str) -> None:
        with Client(server) as client:
            lines = ("Connection: Upgrade", f"Upgrade: {protocol}", "Sec-WebSocket-Version: 13")
            for _ in range(2):
                answer = client.send(head("GET", "/livez", *lines)).read()
                assert answer is not None
                assert answer.status == 200

    @pytest.mark.parametrize(
        ("length", "body"),
        [
            ("Content-Length: 16", b'{"closing":true}'),
            ("Transfer-Encoding: chunked", b'10\r\n{"closing":true}\r\n0\r\n\r\n'),
        ],
    )
    @pytest.mark.parametrize("cut", [0, 5])
    def test_a_body_that_comes_with_such_an_offer_counts(
        self, server: Served, token: str, length: str, body: bytes, cut: int
    ) -> None:
        lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", length)
        with Client(server) as client:
            client.send(head("POST", BEAT, *lines, bearer=token) + body[:cut])
            answer = client.send(body[cut:] + head("GET", "/livez")).read()
            assert answer is not None
            assert json.loads(answer.body)["data"]["state"] == "suspect"  # the goodbye was read
            following = client.read()
            assert following is not None
            assert following.status == 200

    def test_head_has_no_body(self, server: Served) -> None:
        with Client(server) as client:
            client.send(head("HEAD", "/livez") + head("GET", "/livez"))
            assert client._file.readline() == b"HTTP/1.1 200 OK\r\n"
            while client._file.readline() != b"\r\n":
                pass
            answer = client.read()
            assert answer is not None
            assert answer.body == b'{"status":"alive"}'

    def test_every_answer_says_when_and_not_with_what(self, server: Served) -> None:
        for request in (head("GET", "/livez"), b"\r\n\r\nnonsense\r\n\r\n"):
            with Client(server) as client:
                answer = client.send(request).read()
                assert answer is not None
                assert answer.headers["date"].endswith("GMT")
                assert "server" not in answer.headers


def test_a_forwarded_address_counts_only_from_a_proxy_that_is_trusted() -> None:
    proxied = "203.0.113.9"
    for trusted, seen in (
        ((), "127.0.0.1"),
        (("127.0.0.1",), proxied),
        (("private",), proxied),
    ):
        world = World(trusted_proxies=trusted)
        with served(world) as server, Client(server) as client:
            body = json.dumps(world.wish()).encode()
            lines = ("X-Forwarded-For: 203.0.113.9", f"Content-Length: {len(body)}")
            client.send(head("POST", SEATS, *lines, bearer=world.license_key) + body)
            answer: Any = client.read()
            assert answer.status == 201
            (lease,) = world.store.leases(LeaseFilter())[0]
            assert lease.device is not None
            assert lease.device.ip == seen
