"""What `http.client` lacks for one exchange with a stranger: a deadline for all of it, and patience with
interim answers.

A socket's timeout is for one wait. Who sends a byte now and then would hold us for as long as they like.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any

INTERIM_MAX = 16
"""Interim answers (100 Continue, 103 Early Hints: RFC 9110, 15.2) taken before the final one."""


def left(deadline: float) -> float:
    """Return the seconds until then, by the monotonic clock. Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class TimedSocket:
    """A socket as `http.client` uses one, of which every wait ends at a deadline."""

    def __init__(self, raw: socket.socket, deadline: Callable[[], float]) -> None:
        self._raw = raw
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._raw.settimeout(left(self._deadline()))
            view = view[self._raw.send(view) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._raw, self._deadline))

    def close(self) -> None:
        self._raw.close()


class _Reader(io.RawIOBase):
    """What an answer is read from; closing it leaves the socket open for the next one."""

    def __init__(self, raw: socket.socket, deadline: Callable[[], float]) -> None:
        super().__init__()
        self._raw = raw
        self._read = raw.makefile("rb", 0)  # a socket that is closed stays open until this is, too
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(left(self._deadline()))
        return self._read.readinto(buffer) or 0

    def close(self) -> None:
        self._read.close()
        super().close()


class FinalAnswer(http.client.HTTPResponse):
    """An answer whose status is never an interim one: `http.client` knows 100 Continue alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(INTERIM_MAX):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in its stub
            if not 100 <= status < 200 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.BadStatusLine("there is no end to its interim answers")
