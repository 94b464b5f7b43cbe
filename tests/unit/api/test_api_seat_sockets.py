"""Sockets of license clients within bounds, and while the store is away."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.api_harness import SEATS, Served, World, served
from tests.seat_clients import PATH, attend, close_code, heard
from tests.waiting import DEADLINE
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from sojourn.api import asking, seat_sockets
from sojourn.errors import StoreUnavailable
from sojourn.lease import Asked, Doubt, LeaseFilter, Renew, Renewal
from sojourn.ledger import LicenseChange
from sojourn.license import Policy
from sojourn.line import WAITING_FOR
from sojourn.service.presence import QUIET, Attendant

TICK = threading.Event()
HEARD_AGO = WAITING_FOR - 1
"""ms; whoever waits in line meanwhile keeps its place."""
PROGRAM = {"kind": "desktop"}
"""Of a kind that answers at once, if it lives."""


@pytest.fixture
def server() -> Iterator[Served]:
    with served(World(capacity=1)) as server:
        yield server


def ask(server: Served, user: str, **more: Any) -> httpx.Response:
    body = server.world.wish(user, **more)
    headers = {"Authorization": f"Bearer {server.world.license_key}"}
    return httpx.post(server.url + SEATS, headers=headers, json=body, timeout=DEADLINE)


def take(server: Served, user: str = "ann", **more: Any) -> dict[str, Any]:
    answer = ask(server, user, **more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def sockets(server: Served) -> seat_sockets.SeatSockets:
    found: seat_sockets.SeatSockets = server.world.app.context.seat_sockets
    return found


def eventually(look: Callable[[], Any]) -> None:
    for _ in range(round(DEADLINE / 0.02)):
        if look():
            return
        TICK.wait(0.02)
    raise AssertionError("it never came true")


def doubt(server: Served, *, silent: bool) -> Attendant:
    """Have the only holder doubted; its socket, too, if it is to have been silent."""
    (lease,), _ = server.world.store.leases(LeaseFilter())
    server.world.store.doubt([Doubt(lease_id=lease.id, fence=lease.fence)])
    found = sockets(server).presence.of(lease.pool_id, lease.id)
    assert found is not None
    eventually(lambda: found.line.answered)  # the ping that it was opened with
    if silent:
        found.quiet, found.line.answered = QUIET, False
    return found


def deafen(found: Attendant) -> None:
    """Have a client hear nothing any more."""
    eventually(lambda: found.line.answered)  # the ping that it was opened with
    found.line.tell = lambda *_, **__: None  # type: ignore[method-assign]  # asked in vain
    # No round renews it; and as the store's clock stands still, nobody else has heard of it for as long as a
    # doubt may stand in the queue.
    found.line.answered = found.lived = found.owed = False
    found.renewed_at = math.inf


def cut_off(server: Served) -> Attendant:
    """Have the only holder's client hear nothing any more, without a sign of that."""
    (lease,), _ = server.world.store.leases(LeaseFilter())
    found = sockets(server).presence.of(lease.pool_id, lease.id)
    assert found is not None
    deafen(found)
    server.world.clock.advance(milliseconds=HEARD_AGO)
    return found


class TestPages:
    """Handshakes of pages elsewhere, whose license must say that it allows them."""

    APP = "https://app.example"

    @pytest.fixture
    def token(self, server: Served) -> str:
        world = server.world
        change = LicenseChange(allowed_origins=(self.APP,))
        world.services.licenses.change(world.license_id, change, actor="test")
        found: str = take(server)["token"]
        return found

    def test_page_that_waits_for_the_ledger_holds_up_no_other(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = server.world.ledger
        read, asked, go_on = ledger.license_origins, threading.Event(), threading.Event()

        def hangs(ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
            asked.set()
            assert go_on.wait(DEADLINE)
            return read(ids)

        monkeypatch.setattr(ledger, "license_origins", hangs)
        with ThreadPoolExecutor(1) as others:
            page = others.submit(attend, server, token, Origin=self.APP)
            try:
                assert asked.wait(DEADLINE)
                with attend(server, token) as client:
                    heard(client)
            finally:
                go_on.set()
            with page.result() as client:
                heard(client)

    def test_page_that_is_remembered_asks_nobody(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.world.services.origins.of([server.world.license_id])

        def down(_: Any) -> Any:
            raise AssertionError("nobody need ask")

        monkeypatch.setattr(server.world.services.origins, "of", down)
        with attend(server, token, Origin=self.APP) as client:
            heard(client)
        with pytest.raises(InvalidStatus):
            attend(server, token, Origin="https://other.example")


class TestBounds:
    def test_sockets_of_a_process_are_bounded(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One too many is told to come later, and a socket that closes makes room."""
        monkeypatch.setattr(seat_sockets, "sockets_max", lambda: 1)
        token = take(server)["token"]
        with attend(server, token) as client:
            heard(client)
            with pytest.raises(InvalidStatus) as refused:
                attend(server, token)
            response = refused.value.response
            assert response.status_code == 503
            assert "retry-after" in {name.lower() for name in response.headers}
        eventually(lambda: sockets(server).open == 0)
        with attend(server, token) as client:
            assert heard(client)["type"] == "open"

    def test_requests_that_wait_for_an_asking_are_bounded(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More are refused without, and that is counted: a ghost may have been the reason."""
        monkeypatch.setattr(asking, "WAITING_MAX", 0)
        with attend(server, take(server)["token"]) as client:
            heard(client)
            doubt(server, silent=True)
            assert ask(server, "bob").status_code == 409
        assert sockets(server).askings.denials_with_ghost == 1

    def test_whoever_hangs_up_leaves_the_asking_to_others(self, server: Served) -> None:
        """A request whose client has gone takes the answer from nobody."""
        with attend(server, take(server)["token"]) as client:
            heard(client)
            attendant = doubt(server, silent=True)
            attendant.line.tell = lambda *_, **__: None  # type: ignore[method-assign]  # asked in vain
            with server.connect() as gone:
                body = json.dumps(server.world.wish("cid")).encode()
                head = (
                    f"POST {SEATS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    f"Authorization: Bearer {server.world.license_key}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                gone.sendall(head.encode() + body)
                eventually(lambda: sockets(server).askings.under_way)
            assert ask(server, "bob").status_code in (201, 409)
            assert sockets(server).askings._waiting == 0


class TestStoreThatIsAway:
    def test_no_socket_is_opened(self, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        token = take(server)["token"]

        def away(_: Sequence[Renew]) -> list[Renewal | None]:
            raise StoreUnavailable("It is away.")

        monkeypatch.setattr(server.world.store, "renew", away)
        with pytest.raises(InvalidStatus) as refused:
            attend(server, token)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body or b"")["code"] == "store_unavailable"

    def test_sockets_stay_and_are_renewed_once_it_is_back(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is owed is renewed when the store answers again, without waiting for the next round."""
        policy = Policy(capacity=1, heartbeat_interval=400, lost_after=60_000)
        licenses = server.world.services.licenses
        licenses.set_feature(server.world.license_id, "editor", policy, actor="test")
        renew, tried, back = server.world.store.renew, threading.Event(), threading.Event()
        renewed = threading.Event()

        def sometimes(renews: Sequence[Renew]) -> list[Renewal | None]:
            if not back.is_set():
                tried.set()
                raise StoreUnavailable("It is away.")
            answers = renew(renews)
            renewed.set()
            return answers

        with attend(server, take(server)["token"]) as client:
            heard(client)
            monkeypatch.setattr(server.world.store, "renew", sometimes)
            assert tried.wait(DEADLINE)
            back.set()
            assert renewed.wait(DEADLINE)
            assert sockets(server).open == 1

    def test_doubt_that_fails_is_a_denial_with_a_ghost(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is silent and could not be doubted may hold the seat still, and that is told."""
        with attend(server, take(server)["token"]) as client:
            heard(client)
            attendant = doubt(server, silent=True)
            attendant.line.tell = lambda *_, **__: None  # type: ignore[method-assign]  # asked in vain

            def away(*_: Any, **__: Any) -> list[bool]:
                raise StoreUnavailable("It is away.")

            monkeypatch.setattr(server.world.store, "doubt", away)
            answer = ask(server, "bob")
            assert answer.status_code == 409
            assert answer.json()["asked"] == {"asked": 1, "answered": 0, "silent": 1}
        assert sockets(server).askings.denials_with_ghost == 1


class TestAnswers:
    def test_pong_is_an_answer(self, server: Served) -> None:
        """The client's library answers for it; its seat stays, and the refusal says so."""
        with attend(server, take(server)["token"]) as client:
            heard(client)
            doubt(server, silent=True)
            answer = ask(server, "bob")
            assert answer.status_code == 409
            assert answer.json()["asked"] == {"asked": 1, "answered": 1, "silent": 0}
            assert heard(client) == {"type": "ask"}
        assert sockets(server).askings.denials_with_ghost == 0

    def test_who_comes_late_has_those_asked_who_fell_silent_since(self, server: Served) -> None:
        """An asking that has long begun knows nothing of them: it is waited for, and then they are asked."""
        askings = sockets(server).askings
        begun, over = threading.Event(), threading.Event()
        rounds: list[str] = []

        async def slowly(pool_id: str, reply: Any) -> Asked:
            rounds.append(pool_id)
            begun.set()
            if len(rounds) == 1:
                await asyncio.to_thread(over.wait, DEADLINE)
            return Asked(asked=len(rounds))

        with attend(server, take(server)["token"]) as client:
            heard(client)
            doubt(server, silent=True)
            askings._ask = slowly  # type: ignore[method-assign]  # takes as long as the test wants
            with ThreadPoolExecutor(2) as threads:
                first = threads.submit(ask, server, "bob")
                assert begun.wait(DEADLINE)
                pool_id = rounds[0]
                began, task, reply = askings._under_way[pool_id]
                askings._under_way[pool_id] = (began - 1, task, reply)
                second = threads.submit(ask, server, "cid")
                eventually(lambda: askings._waiting == 2)
                over.set()
                assert first.result().json()["asked"]["asked"] == 1
                assert second.result().json()["asked"]["asked"] == 2

    @pytest.mark.parametrize("chunked", [False, True], ids=["direct", "asgi"])
    def test_both_lanes_wait_for_an_answer(self, server: Served, *, chunked: bool) -> None:
        with attend(server, take(server)["token"]) as client:
            heard(client)
            doubt(server, silent=True)
            body = json.dumps(server.world.wish("bob")).encode()
            headers = {
                "Authorization": f"Bearer {server.world.license_key}",
                "Content-Type": "application/json",
            }
            content: Any = iter([body]) if chunked else body
            answer = httpx.post(
                server.url + SEATS, headers=headers, content=content, timeout=DEADLINE
            )
            assert answer.status_code == 409
            assert answer.json()["asked"] == {"asked": 1, "answered": 1, "silent": 0}

    @pytest.mark.parametrize("allowed", [(), ("https://app.example",)], ids=["none", "allowed"])
    def test_page_waits_for_an_answer_too(self, server: Served, allowed: tuple[str, ...]) -> None:
        """A request of a page is decided once more, whether or not the page may read the answer."""
        world = server.world
        if allowed:
            change = LicenseChange(allowed_origins=allowed)
            world.services.licenses.change(world.license_id, change, actor="test")
        with attend(server, take(server)["token"]) as client:
            heard(client)
            doubt(server, silent=True)
            headers = {
                "Authorization": f"Bearer {world.license_key}",
                "Origin": "https://app.example",
            }
            answer = httpx.post(
                server.url + SEATS, headers=headers, json=world.wish("bob"), timeout=DEADLINE
            )
            assert answer.status_code == 409
            assert answer.json()["asked"] == {"asked": 1, "answered": 1, "silent": 0}
            assert answer.headers.get("access-control-allow-origin") == (allowed or (None,))[0]

    def test_server_that_stops_closes_in_good_order(self, server: Served) -> None:
        with attend(server, take(server)["token"]) as client:
            heard(client)
            server.server.should_exit = True
            assert close_code(client) == 1012


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",)], ids=["direct", "proxied"])
@pytest.mark.parametrize("by_protocol", [False, True], ids=["header", "protocol"])
def test_nothing_of_a_handshake_is_kept(
    proxies: tuple[str, ...], *, by_protocol: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither headers nor the token, for as long as a socket is open: also where a proxy says who comes."""
    scopes: list[Any] = []
    serve = seat_sockets.SeatSockets.serve

    async def noted(self: seat_sockets.SeatSockets, scope: Any, *given: Any) -> None:
        scopes.append(scope)
        await serve(self, scope, *given)

    monkeypatch.setattr(seat_sockets.SeatSockets, "serve", noted)
    with served(World(capacity=1, trusted_proxies=proxies)) as server:
        token = take(server)["token"]
        headers = {"X-Forwarded-For": "192.0.2.1"}
        if by_protocol:
            client = connect(
                f"ws://127.0.0.1:{server.port}{PATH}",
                additional_headers=headers,
                subprotocols=[Subprotocol("sojourn.v1"), Subprotocol(token)],
                proxy=None,
            )
        else:
            client = attend(server, token, **headers)
        with client:
            assert heard(client)["type"] == "open"
            (scope,) = scopes
            assert scope["client"][0] == ("192.0.2.1" if proxies else "127.0.0.1")
            assert token not in str(scope)
            assert (scope["headers"], scope["subprotocols"]) == ([], [])
