"""Doctor's requests: where they never go, and that each is over in time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sojourn.doctor.browser import probe
from sojourn.doctor.browser.probe import Probe, Unreachable
from sojourn.errors import SettingsError


@contextmanager
def peer(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve one connection as `talk` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            talk(connection)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        serving.join()
        listener.close()


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fec0::1", "fe80::1"],
)
@pytest.mark.parametrize("by_name", [True, False])
def test_no_request_goes_where_a_cloud_tells_secrets(
    address: str, by_name: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(SettingsError, match="does not ask there"):
        Probe(f"http://{'app.example' if by_name else literal}/").ask("GET", "/")
    with pytest.raises(SettingsError, match="does not ask there"):
        Probe("http://app.example/", via=f"{literal}:80").ask("GET", "/")


def test_who_dribbles_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One deadline for all of it: a byte now and then does not put it off."""
    monkeypatch.setattr(probe, "TIMEOUT", 0.5)
    over = threading.Event()

    def dribble(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while not over.wait(0.05):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    with peer(dribble) as url:
        try:
            with pytest.raises(Unreachable):
                Probe(url).ask("GET", "/")
        finally:
            over.set()


def test_an_interim_answer_is_none() -> None:
    def hint(connection: socket.socket) -> Any:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with peer(hint) as url:
        answer = Probe(url).ask("GET", "/")
    assert (answer.status, answer.body, answer.get("link")) == (200, b"hi", None)


def test_a_chunk_of_less_than_nothing_is_not_read_to_its_end() -> None:
    whole: list[bool] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1_024):
                connection.sendall(b"x" * 65_536)
            whole.append(True)

    with peer(flood) as url, pytest.raises(Unreachable):
        Probe(url).ask("GET", "/")
    assert not whole
