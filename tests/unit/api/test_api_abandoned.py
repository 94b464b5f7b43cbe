"""What its sender has given up is not carried out: hung up on, or answered that it took too long."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, BEAT, CURRENT, SEATS, Served, World, served
from tests.raw_http import Client, Response, head

from sojourn.api.limits import THREADS
from sojourn.lease import LeaseFilter
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.testing.processes import wait_until

PATIENCE = 20.0  # seconds until a test gives up
SESSION = "/api/sessions/current"
CHUNKED = "Transfer-Encoding: chunked"


class Held:
    """A server whose store is held up by one acquire, and what people ask of it meanwhile."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.world = server.world
        self.entered = threading.Event()
        self.gate = threading.Event()
        self._acquire = self.world.store.acquire
        begun = self.world.services.sessions.begin([Begin(user_id="ann", data={"a": "old"})])[0]
        assert isinstance(begun, Begun)
        self.session = begun
        self.key = self.world.keys[Role.APP]
        self._clients = contextlib.ExitStack()

    def close(self) -> None:
        self.gate.set()
        self._clients.close()

    def client(self) -> Client:
        """Connect until the test is over."""
        return self._clients.enter_context(Client(self.server))

    def hold(self, user: str = "holder") -> Client:
        """Let one client wait for a lock, so that everything after it waits in the queue."""

        def held(requests: Any) -> Any:
            self.entered.set()
            assert self.gate.wait(PATIENCE)
            return self._acquire(requests)

        self.world.store.acquire = held  # type: ignore[method-assign]  # as a lock would
        body = json.dumps(self.world.wish(user)).encode()
        length = f"Content-Length: {len(body)}"
        client = self.client()
        client.send(head("POST", SEATS, length, bearer=self.world.license_key) + body)
        assert self.entered.wait(PATIENCE)
        return client

    def person(self, method: str, body: Any, *, chunked: bool = False) -> bytes:
        """Write a request about the session, for the direct lane or for ASGI's."""
        content = json.dumps(body).encode()
        lines = [f"X-Session-Token: {self.session.token}", "Content-Type: application/json"]
        if chunked:
            lines.append(CHUNKED)
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        else:
            lines.append(f"Content-Length: {len(content)}")
        return head(method, SESSION, *lines, bearer=self.key) + content

    @property
    def depth(self) -> int:
        return self.world.services.batcher.depth

    def waits(self, count: int) -> None:
        assert wait_until(lambda: self.depth == count, PATIENCE), self.depth

    def data(self) -> dict[str, Any]:
        (live,) = self.world.store.of("ann")
        return dict(live.data)


@pytest.fixture
def held() -> Iterator[Held]:
    with served(World(capacity=5)) as server:
        held = Held(server)
        # A backend's key that is not known yet is looked up first, on a thread: not here.
        with Client(server) as client:
            answer = client.send(held.person("PATCH", {"set": {"a": "first"}})).read()
            assert answer is not None
            assert answer.status == 200
        try:
            yield held
        finally:
            held.close()


def read(client: Client) -> Response:
    answer = client.read()
    assert answer is not None
    return answer


@pytest.mark.parametrize("chunked", [False, True], ids=["direct", "asgi"])
class TestHungUp:
    def test_an_abandoned_save_overwrites_nothing(self, held: Held, chunked: bool) -> None:
        holder = held.hold()
        with Client(held.server) as client:
            client.send(held.person("PATCH", {"set": {"a": "abandoned"}}, chunked=chunked))
            held.waits(2)
        later = held.client()
        later.send(held.person("PATCH", {"set": {"b": "later"}}))
        assert wait_until(lambda: held.depth == (3 if chunked else 2), PATIENCE)
        held.gate.set()
        assert read(later).status == 200
        assert read(holder).status == 201
        assert held.data() == {"a": "first", "b": "later"}
        assert held.depth == 0

    def test_an_abandoned_sign_out_ends_nothing(self, held: Held, chunked: bool) -> None:
        holder = held.hold()
        with Client(held.server) as client:
            client.send(held.person("DELETE", {"reason": "abandoned"}, chunked=chunked))
            held.waits(2)
        assert wait_until(lambda: not _connected(held.server, 1), PATIENCE)
        held.gate.set()
        assert read(holder).status == 201
        held.waits(0)
        assert held.data() == {"a": "first"}

    def test_half_a_goodbye_is_one(self, held: Held, chunked: bool) -> None:
        """Who will say nothing more is taken for gone."""
        held.hold()
        with Client(held.server) as client:
            client.send(held.person("DELETE", {"reason": "abandoned"}, chunked=chunked))
            held.waits(2)
            client.socket.shutdown(socket.SHUT_WR)
            assert wait_until(lambda: not _connected(held.server, 1), PATIENCE)
            held.gate.set()
            assert client.read() is None
        held.waits(0)
        assert held.data() == {"a": "first"}


def _connected(server: Served, more_than: int) -> bool:
    return len(server.server.server_state.connections) > more_than


@pytest.mark.parametrize("chunked", [False, True], ids=["direct", "asgi"])
def test_what_comes_behind_a_request_and_cannot_be_read_does_not_end_it(
    held: Held, chunked: bool
) -> None:
    """A target without a path is noticed late, when its head has been taken for good."""
    holder = held.hold()
    client = held.client()
    client.send(held.person("PATCH", {"set": {"a": "new"}}, chunked=chunked))
    held.waits(2)
    closing = held.client()  # the server has read what was sent before this was answered
    client.send(head("GET", "http://h"))
    assert read(closing.send(head("GET", "/livez"))).status == 200
    held.gate.set()
    assert read(holder).status == 201
    answer = read(client)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert client.closed()
    assert held.data() == {"a": "new"}


def test_room_that_was_given_up_is_room(held: Held) -> None:
    """Clients that ask, wait and go again and again fill no queue."""
    held.hold()
    for _ in range(20):
        with Client(held.server) as client:
            client.send(held.person("PATCH", {"set": {"a": "abandoned"}}))
            held.waits(2)
        held.waits(1)
    assert held.world.services.batcher.withdrawn == 20
    tally = held.world.app.context.metrics.tally("save_current")
    assert tally.codes == {"client_gone": 20}


def test_a_release_that_was_given_up_frees_nothing(held: Held) -> None:
    holder = held.hold()
    held.gate.set()
    token = json.loads(read(holder).body)["data"]["token"]
    held.entered.clear()
    held.gate.clear()
    held.hold("another")
    with Client(held.server) as client:
        client.send(head("DELETE", CURRENT, bearer=token))
        held.waits(2)
    held.waits(1)
    held.gate.set()
    with Client(held.server) as client:
        assert read(client.send(head("POST", BEAT, bearer=token))).status == 200


class TestOtherCalls:
    """Those that run on threads of their own, a few at a time."""

    @pytest.fixture
    def busy(self, held: Held, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Client]]:
        """All of those threads wait for the store."""
        entered = threading.Semaphore(0)
        leases = held.world.store.leases

        def waits(*args: Any, **options: Any) -> Any:
            entered.release()
            assert held.gate.wait(PATIENCE)
            return leases(*args, **options)

        monkeypatch.setattr(held.world.store, "leases", waits)
        clients = [held.client() for _ in range(THREADS)]
        for client in clients:
            client.send(head("GET", SEATS, bearer=ADMIN))
            assert entered.acquire(timeout=PATIENCE)
        yield clients
        held.gate.set()

    def test_what_has_not_begun_is_dropped_with_its_client(
        self, held: Held, busy: list[Client]
    ) -> None:
        path = f"/api/sessions/{held.session.session.id}"
        with Client(held.server) as client:
            client.send(head("DELETE", path, bearer=ADMIN))
            self._waits(held, THREADS + 1)
        held.gate.set()
        assert {read(client).status for client in busy} == {200}
        self._waits(held, 0)
        assert held.data() == {"a": "first"}

    def _waits(self, held: Held, count: int) -> None:
        blocking = held.world.app.context.blocking
        assert wait_until(lambda: blocking.busy == count, PATIENCE)


class TestTooSlow:
    @pytest.fixture
    def held(self) -> Iterator[Held]:
        with served(World(capacity=5, request_timeout=0.3)) as server:
            held = Held(server)
            try:
                yield held
            finally:
                held.close()

    @pytest.mark.parametrize("chunked", [False, True], ids=["direct", "asgi"])
    def test_what_was_answered_that_it_took_too_long_is_not_carried_out_later(
        self, held: Held, chunked: bool
    ) -> None:
        self._first(held)
        holder = held.hold()
        with Client(held.server) as client:
            client.send(held.person("DELETE", {"reason": "too slow"}, chunked=chunked))
            answer = read(client)
            assert (answer.status, answer.code) == (503, "store_unavailable")
        assert read(holder).status == 503
        held.gate.set()
        held.waits(0)
        assert held.data() == {"a": "first"}
        leases = held.world.store.leases(LeaseFilter())[0]
        assert [lease.user_id for lease in leases] == ["holder"]  # that had begun

    def _first(self, held: Held) -> None:
        with Client(held.server) as client:
            assert read(client.send(held.person("PATCH", {"set": {"a": "first"}}))).status == 200

    def test_other_calls_likewise(self, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
        self._first(held)
        entered = threading.Semaphore(0)

        def waits(*_: Any, **__: Any) -> Any:
            entered.release()
            assert held.gate.wait(PATIENCE)
            return [], 0

        monkeypatch.setattr(held.world.store, "leases", waits)
        clients = [held.client() for _ in range(THREADS)]
        for client in clients:
            client.send(head("GET", SEATS, bearer=ADMIN))
            assert entered.acquire(timeout=PATIENCE)
        path = f"/api/sessions/{held.session.session.id}"
        with Client(held.server) as client:
            answer = read(client.send(head("DELETE", path, bearer=ADMIN)))
            assert (answer.status, answer.code) == (503, "store_unavailable")
        held.gate.set()
        blocking = held.world.app.context.blocking
        assert wait_until(lambda: blocking.busy == 0, PATIENCE)
        assert held.data() == {"a": "first"}
