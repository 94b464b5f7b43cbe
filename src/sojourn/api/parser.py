"""Stands in for `httptools` where that is not installed: what uvicorn and `protocol` use of it, in Python.

It reads requests as strictly (RFC 9112), at a tenth of the speed. All bounds of size and time are those of
`protocol`, whichever parser it has: a head, a chunk's size line and trailers are kept until they are whole.
A protocol that has `on_head` is told how many bytes a head has before anything of it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

END = b"\r\n\r\n"
NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FIRST = re.compile(rb"(" + NAME + rb") ([\x21-\x7e]+) HTTP/(1\.[01])")
HEADER_NAME = re.compile(NAME)
LENGTH = re.compile(rb"[0-9]{1,18}")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")
ODD = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head has: control characters, and lines that end otherwise or go on in the next, which others might
read as two (2.2 and 5.2)."""


class HttpParserError(Exception):
    """What arrives is no request."""


class HttpParserCallbackError(HttpParserError):
    """A callback failed; its fault is the context."""


class HttpParserInvalidURLError(HttpParserError):
    """A target that cannot be read."""


class HttpParserUpgrade(Exception):
    """The request offers another protocol: its argument is where the rest of the data begins."""


class URL(Struct, frozen=True):
    schema: bytes | None
    host: bytes | None
    path: bytes
    query: bytes | None


def parse_url(url: bytes) -> URL:
    """Take a request's target apart: a path, or a whole URL as proxies are sent it."""
    try:
        parts = None if url.startswith(b"/") else urlsplit(url)
    except ValueError:
        raise HttpParserInvalidURLError from None
    if parts is None or not parts.netloc:
        path, mark, query = url.partition(b"#")[0].partition(b"?")
        return URL(None, None, path, query if mark else None)
    return URL(parts.scheme, parts.netloc, parts.path, parts.query or None)


class HttpRequestParser:
    """Reads requests, one after the other, and tells its protocol by callbacks."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffer = bytearray()
        self._scanned = 0  # bytes of a head, or of trailers, in which nothing is odd
        self._begun = False
        self._in_body = False
        self._chunked = False
        self._left = 0  # bytes to come of a body, or of a chunk
        self._closing = False  # a chunk's content is over, its line end is not
        self._trailing = False  # the last chunk is over
        self._over = False
        self._method, self._version = b"", "1.1"
        self._headers: dict[bytes, bytes] = {}  # of those that say how to read the message

    def feed_data(self, data: bytes) -> None:
        """Take what has arrived. Raises HttpParserError, or HttpParserUpgrade after such a request's head."""
        if self._over:
            raise HttpParserError("the parser has given up")
        self._buffer += data
        try:
            while self._buffer and (self._in_body or self._read_head()):
                if self.should_upgrade():
                    self._over = True
                    self._call(self._protocol.on_message_complete)
                    raise HttpParserUpgrade(len(data) - len(self._buffer))
                if not (self._read_chunks() if self._chunked else self._read_body()):
                    return
                self._begun = self._in_body = False
                self._call(self._protocol.on_message_complete)
        except HttpParserError:
            self._over = True
            raise

    def get_method(self) -> bytes:
        return self._method

    def get_http_version(self) -> str:
        return self._version

    def should_keep_alive(self) -> bool:
        asked = self._words(b"connection")
        return b"keep-alive" in asked if self._version == "1.0" else b"close" not in asked

    def should_upgrade(self) -> bool:
        offered = bool(self._words(b"upgrade")) and b"upgrade" in self._words(b"connection")
        return offered or self._method == b"CONNECT"

    def _words(self, name: bytes) -> list[bytes]:
        """Return the words of a header that is a list, in small letters."""
        return [word.strip() for word in self._headers.get(name, b"").lower().split(b",") if word]

    def _read_head(self) -> bool:
        """Read a head, once it is whole."""
        if not self._begun:
            while self._buffer.startswith(b"\r\n"):  # left over from the last request (2.2)
                del self._buffer[:2]
            if not self._buffer or self._buffer == b"\r":  # two of these are odd: see below
                return False
            self._begun = True
            self._call(self._protocol.on_message_begin)
        if (end := self._end_of_lines()) < 0:
            return False
        if (weigh := getattr(self._protocol, "on_head", None)) is not None:
            self._call(weigh, end)
        head = bytes(self._buffer[: end - len(END)])
        del self._buffer[:end]
        self._take(*head.split(b"\r\n"))
        return True

    def _end_of_lines(self) -> int:
        """Return where the empty line after a head or trailers ends, or -1 while it has not come."""
        end = self._buffer.find(END, max(0, self._scanned - len(END)))
        upto = len(self._buffer) if end < 0 else end
        if ODD.search(self._buffer, max(0, self._scanned - 2), upto):
            raise HttpParserError("there is no such line")
        self._scanned = upto if end < 0 else 0
        return end if end < 0 else end + len(END)

    def _take(self, first: bytes, *lines: bytes) -> None:
        """Tell a head, and learn from it how the body is to be read."""
        request = FIRST.fullmatch(first)
        headers = [_header(line) for line in lines]
        if request is None:
            raise HttpParserError("no request line")
        self._method, self._version = request[1], request[3].decode()
        self._headers = {}
        self._call(self._protocol.on_url, request[2])
        for header in headers:
            if header is None:
                raise HttpParserError("no header")
            name = header[0].lower()
            if name in (b"connection", b"upgrade", b"transfer-encoding", b"content-length"):
                before = self._headers.get(name)
                self._headers[name] = header[1] if before is None else before + b"," + header[1]
            self._call(self._protocol.on_header, *header)
        self._chunked, self._left = self._framing()
        self._closing = self._trailing = False
        self._in_body = True
        self._call(self._protocol.on_headers_complete)

    def _framing(self) -> tuple[bool, int]:
        """Tell whether the body comes in chunks, and how long it is otherwise: in one way only (6.3)."""
        coding, length = (
            self._headers.get(name) for name in (b"transfer-encoding", b"content-length")
        )
        if coding is None:
            if length is not None and LENGTH.fullmatch(length) is None:
                raise HttpParserError("no length")
            return False, int(length or b"0")
        if length is not None or coding.lower() != b"chunked" or self._version == "1.0":
            raise HttpParserError("no coding that is known, or a length beside it")
        return True, 0

    def _read_body(self) -> bool:
        """Read what is there of a body of known length; tell whether it is over."""
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        if piece:
            self._call(self._protocol.on_body, piece)
        return not self._left

    def _read_chunks(self) -> bool:
        """Read what is there of a body in chunks (7.1), trailers included; tell whether it is over."""
        if not self._trailing:
            content = bytearray()
            try:
                self._trailing = self._read_content(bytes(self._buffer), content)
            finally:
                if content:
                    self._call(self._protocol.on_body, bytes(content))
        if not self._trailing:
            return False
        # What trailers say is of no use to anybody here.
        end = 2 if self._buffer.startswith(b"\r\n") else self._end_of_lines()
        del self._buffer[: max(0, end)]
        return end >= 0

    def _read_content(self, data: bytes, content: bytearray) -> bool:
        """Move what is there of chunks from the buffer to `content`; tell whether the last one is over."""
        at = 0
        try:
            while True:
                if self._left:
                    piece = data[at : at + self._left]
                    content += piece
                    at += len(piece)
                    self._left -= len(piece)
                    self._closing = True
                if self._left or (self._closing and len(data) < at + 2):
                    return False
                if self._closing:
                    if not data.startswith(b"\r\n", at):
                        raise HttpParserError("a chunk is longer than it says")
                    at, self._closing = at + 2, False
                if (size := SIZE.match(data, at)) is None:
                    if data.find(b"\n", at) >= 0:
                        raise HttpParserError("no size of a chunk")
                    return False
                at, self._left = size.end(), int(size[1], 16)
                if not self._left:
                    return True
        finally:
            del self._buffer[:at]

    def _call(self, callback: Callable[..., None], *given: Any) -> None:
        try:
            callback(*given)
        except Exception as fault:
            raise HttpParserCallbackError from fault


def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """Take a header apart; None where it is none. No pattern: one that leaves out the blanks at the end
    tries each blank before them anew."""
    name, colon, value = line.partition(b":")
    if not colon or b"\r" in value or HEADER_NAME.fullmatch(name) is None:
        return None
    return name, value.strip(b" \t")
