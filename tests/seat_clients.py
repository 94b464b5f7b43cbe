"""License clients on sockets: those that behave, and one whose every frame is chosen by a test."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any, Protocol

from tests.waiting import DEADLINE
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri


class HasPort(Protocol):
    @property
    def port(self) -> int: ...


PATH = "/api/licenses/sessions/live"


def attend(server: HasPort, token: str, **headers: str) -> ClientConnection:
    """Open a socket for a lease. It answers pings by itself."""
    headers.setdefault("Authorization", f"Bearer {token}")
    return connect(
        f"ws://127.0.0.1:{server.port}{PATH}",
        additional_headers=headers,
        proxy=None,
        ping_interval=None,
        close_timeout=1,
    )


def heard(client: ClientConnection) -> Any:
    """Return the next message but for signs of life."""
    while (said := json.loads(client.recv(timeout=DEADLINE)))["type"] == "alive":
        pass
    return said


def close_code(client: ClientConnection) -> int | None:
    """Read until the socket is closed; return the code."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(timeout=DEADLINE)
    return client.close_code


class RawClient:
    """A client that answers a ping only if `answers` says so, and reads only when it is asked to."""

    def __init__(self, server: HasPort, token: str, *, answers: bool = False) -> None:
        self.answers = answers
        self.closed: int | None = None
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{server.port}{PATH}"))
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._socket.sendall(b"".join(self._protocol.data_to_send()))
        self._waiting: list[Frame] = []
        while self._protocol.state is State.CONNECTING:
            self._read()

    def _read(self) -> bool:
        """Read what has come; False at the end. Pongs that the library makes are dropped unless wanted."""
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._waiting.append(event)
        answers = self._protocol.data_to_send()
        if self.answers and data:
            self._socket.sendall(b"".join(answers))
        return bool(data)

    def hear(self, wanted: str) -> Any:
        """Read until a message of this type comes."""
        return self.hear_that(lambda said: said["type"] == wanted)

    def hear_that(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            while self._waiting:
                frame = self._waiting.pop(0)
                if frame.opcode is Opcode.TEXT and wanted(said := json.loads(bytes(frame.data))):
                    return said
            assert self._read(), "the socket was closed before"

    def end(self) -> int | None:
        """Read until the server has hung up; return the code that it gave."""
        while self._read():
            pass
        self._socket.close()
        received = self._protocol.close_rcvd
        return None if received is None else received.code

    def say(self, **said: Any) -> None:
        self._protocol.send_text(json.dumps(said).encode())
        self._socket.sendall(b"".join(self._protocol.data_to_send()))

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def drop(self) -> None:
        """Be gone without a word."""
        self._socket.close()
