"""What is said on a license client's socket, in both directions: see docs/guide/presence.md."""

from __future__ import annotations

from enum import Enum
from math import floor
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sojourn.lease import Beat
from sojourn.license import Pool
from sojourn.wire.bodies import seconds

NORMAL = 1000
UNREADABLE = 1003
TOO_MUCH_SAID = 1008
RESTART = 1012
SILENT = 4408
TAKEN = 4409
LOST = 4410
"""Codes that a socket is closed with: the last three are like HTTP's 408, 409 and 410."""

SAID_BURST = 20.0
"""Messages that a client may send at once, and after that so many"""
SAID_RATE = 1.0
"""in a second."""

_encode = msgspec.json.Encoder().encode


def _message(kind: str, **said: Any) -> bytes:
    return _encode({"type": kind, **said})


SUPERSEDED = _message("superseded")
SESSION_EXPIRED = _message("session_expired")
ASK = _message("ask")
NEEDED = _message("needed")


def opened(pool: Pool, left: float) -> bytes:
    """Say that the socket keeps the lease from now on."""
    return _message("open", expiresIn=_left(pool, left), **_times(pool))


def alive(pool: Pool, left: float) -> bytes:
    """Say that the server is there, and for how long the lease is certain as of now."""
    return b'{"type":"alive","expiresIn":%.1f}' % _left(pool, left)


def policy(pool: Pool) -> bytes:
    """Tell of a policy that has changed."""
    return _message("policy", **_times(pool))


def lost(reason: str, *, resumable: bool) -> bytes:
    """Say that the lease is over, and whether acquiring with its token may bring it back."""
    return _message("lost", reason=reason, resumable=resumable)


def _times(pool: Pool) -> dict[str, float]:
    return {
        "heartbeatInterval": seconds(pool.policy.heartbeat_interval),
        "lostAfter": seconds(pool.policy.lost_after),
    }


def _left(pool: Pool, left: float) -> float:
    """Return for how long a lease is certain, rounded down; never for longer than `lost_after`."""
    return floor(max(0.0, min(left, seconds(pool.policy.lost_after))) * 10) / 10


Span = Annotated[float, Meta(ge=0, le=31_536_000)]


class _Words(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    type: Literal["beat", "here", "goodbye"]
    idle_for: Span | None = None
    next_in: Span | None = None


_decode = msgspec.json.Decoder(_Words).decode


class Said(Enum):
    HERE = "here"
    GOODBYE = "goodbye"


class Unwanted(Exception):  # not an error: a reason to close a socket
    """A client says what it may not."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Talk:
    """Reads what one client says, within bounds."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = SAID_BURST
        self._since = now

    def read(self, message: Any, now: float) -> Said | Beat:
        """Read a message of ASGI's. Raises Unwanted."""
        self._left = min(SAID_BURST, self._left + (now - self._since) * SAID_RATE) - 1
        self._since = now
        if self._left < 0:
            raise Unwanted(TOO_MUCH_SAID, "too many messages")
        text = message.get("text")
        if text is None:
            raise Unwanted(UNREADABLE, "not text")
        try:
            said = _decode(text)
        except msgspec.DecodeError:
            raise Unwanted(TOO_MUCH_SAID, "not understood") from None
        if said.type == "goodbye":
            return Said.GOODBYE
        if said.type == "here":
            return Said.HERE
        return Beat(
            idle_for=None if said.idle_for is None else round(said.idle_for * 1000),
            next_in=None if said.next_in is None else round(said.next_in * 1000),
        )
