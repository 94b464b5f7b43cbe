"""HTTP/1.1 by hand, for saying what no client library would."""

from __future__ import annotations

import json
import select
from typing import NamedTuple, Self

from tests.api_harness import Served

TIMEOUT = 20.0  # seconds until a test gives up


def head(method: str, path: str, *lines: str, bearer: str | None = None) -> bytes:
    proof = [f"Authorization: Bearer {bearer}"] if bearer else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *proof, *lines, "", ""]).encode()


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


class Client:
    """One connection, by hand."""

    def __init__(self, server: Served) -> None:
        self.socket = server.connect(TIMEOUT)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def send_until_answered(self, piece: bytes, times: int, *, pace: float = 0.0) -> int:
        """Send a piece again and again until the server says something. Returns how often."""
        for sent in range(times):
            readable, _, _ = select.select([self.socket], [], [], pace)
            if readable:
                return sent
            try:
                self.socket.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return sent
        raise AssertionError("the server swallowed everything")

    def read(self) -> Response | None:
        """Read one response; None if the connection closes instead."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Response(status, headers, self._file.read(int(headers.get("content-length", "0"))))

    def closed(self) -> bool:
        """Wait until the server has closed; False if it sends anything before."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True
