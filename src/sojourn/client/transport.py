"""How requests of all clients travel: what one is, what comes back, and what it means that nothing does."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from msgspec import Struct

from sojourn import __version__
from sojourn.token import Secret

ANSWER_MAX = 16_777_216  # bytes of an answer that are read
RETRY_DIGITS = 9  # of a Retry-After; more would be no number of seconds to wait for


class Request(Struct, frozen=True, kw_only=True):
    """A request to one server. Secrets become text where it is written, and nowhere before."""

    method: str
    path: str  # with its query, below the server's own path
    headers: Mapping[str, str | Secret]
    body: bytes | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]  # names in small letters
    body: bytes

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """Read Retry-After in its form of seconds; our server never sends a date."""
        text = self.headers.get("retry-after", "")
        return float(text[:RETRY_DIGITS]) if text.isascii() and text.isdigit() else None


class NoAnswer(Exception):
    """No answer came, or none that is whole. `sent`: the request may have arrived all the same.
    `slow`: there was no more time."""

    def __init__(self, why: str, *, sent: bool, slow: bool) -> None:
        super().__init__(why)
        self.sent = sent
        self.slow = slow


class Transport(Protocol):
    """Carries requests to one server. Safe from several threads."""

    def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
        """Send a request once, and read at most `limit` bytes of its answer. Raises NoAnswer, after `timeout`
        seconds at the latest."""
        ...

    def close(self) -> None:
        """Break off what is under way, and let nothing begin."""
        ...


class HttpxTransport(Protocol):
    """What a transport of httpx or httpx2 is known by."""

    def handle_request(self, request: Any, /) -> Any: ...


def headers(
    proof: Secret, *, body: bytes | None, key: str | None = None
) -> dict[str, str | Secret]:
    """Return the headers that every request of ours has. `key`: its Idempotency-Key."""
    said: dict[str, str | Secret] = {
        "User-Agent": f"sojourn/{__version__} python/{platform.python_version()} "
        f"({platform.system()})",
        "Accept": "application/json, application/problem+json",
        "Authorization": Secret(f"Bearer {proof.reveal()}"),
    }
    if body is not None:
        said["Content-Type"] = "application/json"
    if key is not None:
        said["Idempotency-Key"] = key
    return said


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """Add a query to a path, both as they are written; lists are said item by item."""
    written = quote(path, safe="/%:@!$&'()*+,;=~")
    return f"{written}?{urlencode(query, doseq=True)}" if query else written
