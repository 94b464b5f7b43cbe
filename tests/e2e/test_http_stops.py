"""A server that starts or stops cuts nobody off: it is refused to them, or they are answered."""

from __future__ import annotations

import errno
import http.client
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.api_harness import BEAT, Served, World, served
from tests.raw_http import Client, head
from tests.serving import Served as Process
from tests.serving import served as process

from sojourn.cli import listen
from sojourn.cli.failure import Failure
from sojourn.settings import Settings
from sojourn.testing.processes import wait_until

PATIENCE = 20.0  # seconds until a test gives up
STOPS = 3  # `make campaign-promises` does fifty on every store
CONNECTIONS = 16
HOST = "127.0.0.1"


def refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


class TestListening:
    def test_a_port_that_was_taken_refuses_until_there_is_an_answer(self) -> None:
        """A connection that is accepted and not answered holds its client up, and what it was sent is
        carried out when nobody waits for it any more."""
        with listen.bind(Settings(port=0)) as listener:
            port = listener.getsockname()[1]
            assert refused(port)
            listener.listen()
            assert not refused(port)

    def test_a_port_at_which_somebody_listens_is_taken(self) -> None:
        with socket.create_server((HOST, 0)) as other, pytest.raises(Failure, match="is taken"):
            listen.bind(Settings(port=other.getsockname()[1]))

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_start_is_refused_or_answered(
        self, workers: int, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        """From the first moment to the last, with one process or several."""
        store = "" if workers == 1 else str(request.getfixturevalue("empty_postgres"))
        server = Process(tmp_path / "data", store=store, environ={"SOJOURN_WORKERS": str(workers)})
        over, said = threading.Event(), Counter[str]()

        def knock() -> None:
            while not over.wait(0.002):
                try:
                    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as client:
                        client.sendall(head("GET", "/livez", "Connection: close"))
                        said[client.makefile("rb").readline().decode().strip()] += 1
                except OSError as fault:
                    said[errno.errorcode.get(fault.errno or 0, repr(fault))] += 1

        thread = threading.Thread(target=knock)
        thread.start()
        try:
            server.start()
            assert wait_until(lambda: said["HTTP/1.1 200 OK"] > 0, PATIENCE)
        finally:
            over.set()
            thread.join(PATIENCE)
            server.stop()
        assert set(said) == {"ECONNREFUSED", "HTTP/1.1 200 OK"}


class TestStopping:
    def stopping(self, server: Served) -> None:
        server.server.should_exit = True
        assert wait_until(lambda: refused(server.port), PATIENCE)

    def test_what_is_on_its_way_on_a_kept_connection_is_answered(self) -> None:
        with served(World()) as server, Client(server) as client:
            first = client.send(head("GET", "/livez")).read()
            assert first is not None
            assert "connection" not in first.headers
            self.stopping(server)
            last = client.send(head("GET", "/livez")).read()
            assert last is not None
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert client.closed()

    def test_so_it_is_in_the_direct_lane(self) -> None:
        with served(World()) as server, Client(server) as client:
            assert client.send(head("GET", "/livez")).read() is not None
            self.stopping(server)
            last = client.send(head("POST", BEAT, bearer="sjl_x")).read()
            assert last is not None
            assert (last.status, last.headers["connection"]) == (401, "close")
            assert client.closed()

    def test_what_was_sent_together_is_answered_to_the_last(self) -> None:
        with served(World()) as server, Client(server) as client:
            assert client.send(head("GET", "/livez")).read() is not None
            self.stopping(server)
            client.send(head("GET", "/livez") + head("POST", BEAT, bearer="sjl_x"))
            answers = [client.read() for _ in range(2)]
            assert [each.status for each in answers if each is not None] == [200, 401]
            assert client.closed()

    def test_half_a_request_is_waited_for(self) -> None:
        with served(World()) as server, Client(server) as client:
            request = head("GET", "/livez")
            client.send(request[:10])
            self.stopping(server)
            answer = client.send(request[10:]).read()
            assert answer is not None
            assert (answer.status, answer.headers["connection"]) == (200, "close")

    def test_an_idle_connection_ends_by_itself(self) -> None:
        with served(World(shutdown_timeout=0.4)) as server, Client(server) as client:
            assert client.send(head("GET", "/livez")).read() is not None
            self.stopping(server)
            assert client.closed()

    def test_a_stop_under_load_fails_no_request(self, tmp_path: Path) -> None:
        """Clients with kept connections ask without a pause; a server stops and starts again."""
        with process(tmp_path / "data") as server:
            load = [Asking(server.port) for _ in range(CONNECTIONS)]
            try:
                for _ in range(STOPS):
                    before = sum(each.answered for each in load)
                    assert wait_until(
                        lambda before=before: sum(x.answered for x in load) > before + 200,  # type: ignore[misc]  # a default
                        PATIENCE,
                    )
                    assert server.stop() == 0
                    server.start()
            finally:
                for each in load:
                    each.over.set()
                for each in load:
                    each.join(PATIENCE)
            assert [fault for each in load for fault in each.failed] == []


class Asking(threading.Thread):
    """A client that keeps its connection for as long as the server does, and asks again and again.

    Being refused is no failure: nothing was sent. Everything else is.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.answered = 0
        self.failed: list[str] = []
        self._port = port
        self.start()

    def run(self) -> None:
        while not self.over.is_set():
            connection = http.client.HTTPConnection(HOST, self._port, timeout=PATIENCE)
            try:
                connection.connect()
            except ConnectionRefusedError:
                self.over.wait(0.01)
                continue
            except OSError as fault:
                self.failed.append(f"connecting: {fault!r}")
                continue
            try:
                self._use(connection)
            except (OSError, http.client.HTTPException) as fault:
                self.failed.append(repr(fault))
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPConnection) -> None:
        while not self.over.is_set():
            connection.request("POST", BEAT, headers={"Authorization": "Bearer sjl_x"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 401:
                self.failed.append(f"status {answer.status}")
            self.answered += 1
            if answer.will_close:
                return
