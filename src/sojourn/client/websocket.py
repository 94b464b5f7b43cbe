"""As much of WebSocket (RFC 6455) as a client needs that is told small texts: opening one, and its frames."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sojourn.exchange import Proxy, Target, TimedConnection, left, words_of
from sojourn.token import Secret

HEAD_MAX = 16_384  # bytes of the answer to a handshake
MESSAGE_MAX = 65_536  # bytes of one message
CONTROL_MAX = 125  # bytes of a control frame (5.5)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class NotOpened(Exception):
    """No socket was opened. `status`: what the server answered instead; 0 if nothing that can be read."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Garbled(Exception):
    """The other side does not keep to the protocol, or to our bounds."""


class Frame(Struct, frozen=True):
    """A whole message of the other side, or a control frame."""

    kind: int
    payload: bytes


def open_socket(
    target: Target,
    path: str,
    token: Secret,
    *,
    context: Any,
    proxy: Proxy | None,
    deadline: float,
) -> tuple[socket.socket, bytes]:
    """Open a WebSocket; return it, not blocking any more, and what has already come of its first frames.

    `deadline` is an instant of `time.monotonic`. Raises NotOpened.
    """
    connection = TimedConnection(target, context=context, proxy=proxy)
    connection.deadline = deadline
    nonce = base64.b64encode(os.urandom(16))
    try:
        connection.connect()
        raw = connection.hand_over()
    except (OSError, ValueError) as fault:
        connection.close()
        raise NotOpened(words_of(fault) if isinstance(fault, OSError) else "no such host") from None
    try:
        raw.sendall(_request(target, path, token, nonce))
        head, rest = _read_head(raw, deadline)
        _check(head, nonce)
        raw.setblocking(False)
    except BaseException as fault:
        raw.close()
        if isinstance(fault, OSError):
            raise NotOpened(words_of(fault)) from None
        raise
    return raw, rest


def _request(target: Target, path: str, token: Secret, nonce: bytes) -> bytes:
    lines = [
        f"GET {target.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {target.authority}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {nonce.decode()}",
        f"Authorization: Bearer {token.reveal()}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _read_head(raw: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > HEAD_MAX:
            raise NotOpened("the answer has no end")
        raw.settimeout(left(deadline))
        part = raw.recv(4_096)
        if not part:
            raise NotOpened("the connection broke")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _check(head: bytes, nonce: bytes) -> None:
    first, *lines = head.split(b"\r\n")
    status = 0
    with contextlib.suppress(ValueError, IndexError):
        status = int(first.split(b" ", 2)[1])
    if status != 101:
        raise NotOpened(f"the server answered {status}", status)
    said = {
        name.strip().lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)
    }
    wanted = base64.b64encode(hashlib.sha1(nonce + GUID, usedforsecurity=False).digest())
    if said.get(b"sec-websocket-accept") != wanted:
        raise NotOpened("what answers speaks no WebSocket")


class Reader:
    """Puts frames together from what arrives."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._message: bytearray | None = None  # of which more is to come

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take what has arrived; yield what is whole. Raises Garbled."""
        self._data += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        while True:
            taken = _frame(self._data)
            if taken is None:
                return None
            final, kind, payload = taken
            if kind >= CLOSE:
                if not final or len(payload) > CONTROL_MAX:
                    raise Garbled("a control frame is no control frame")
                return Frame(kind, payload)
            if (kind == 0) != (self._message is not None):
                raise Garbled("a message begins within another")
            message = self._message = self._message or bytearray()
            message += payload
            if len(message) > MESSAGE_MAX:
                raise Garbled("a message is too long")
            if final:
                self._message = None
                return Frame(TEXT, bytes(message))


def _frame(data: bytearray) -> tuple[bool, int, bytes] | None:
    """Take the first frame out of what has arrived, if it is whole. Raises Garbled."""
    if len(data) < 2:
        return None
    if data[0] & 0x70 or data[1] & 0x80:
        raise Garbled("a frame is masked, or of an extension")
    size, at = data[1] & 0x7F, 2
    if size > CONTROL_MAX:
        width = 2 if size == 126 else 8
        at += width
        if len(data) < at:
            return None
        size = int.from_bytes(data[2:at], "big")
    if size > MESSAGE_MAX:
        raise Garbled("a frame is too long")
    if len(data) < at + size:
        return None
    payload = bytes(data[at : at + size])
    final, kind = bool(data[0] & 0x80), data[0] & 0x0F
    del data[: at + size]
    return final, kind, payload


def written(kind: int, payload: bytes) -> bytes:
    """Write a frame of ours, masked as a client's must be (5.3). Small payloads only."""
    assert len(payload) <= CONTROL_MAX
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes((0x80 | kind, 0x80 | len(payload))) + mask + hidden
