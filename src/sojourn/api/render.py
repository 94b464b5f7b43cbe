"""Answers as the bytes of HTTP/1.1, for the lane that writes to the connection by itself."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from sojourn.wire.reply import JSON, Headers, Reply


class Renderer:
    """Writes whole answers as they go over the wire, in HTTP/1.1."""

    def __init__(self) -> None:
        self._defaults: Headers = []  # the server's own headers, of which the lines below were written
        self._begins: dict[int, bytes] = {}  # all lines of a success but its length, by its status
        self._constants: dict[tuple[int, bool], bytes] = {}

    def render(self, reply: Reply, default_headers: Headers, *, close: bool) -> bytes:
        if default_headers is not self._defaults:  # a new list comes with every second's date
            self._defaults = default_headers
            self._begins.clear()
            self._constants.clear()
        if reply.own is not JSON:
            begin = _begin(reply.status, [*default_headers, *reply.own])
        elif (known := self._begins.get(reply.status)) is not None:
            begin = known
        else:
            begin = self._begins[reply.status] = _begin(reply.status, [*default_headers, *JSON])
        ending = b"\r\nconnection: close\r\n\r\n" if close else b"\r\n\r\n"
        return b"%bcontent-length: %d%b%b" % (begin, len(reply.body), ending, reply.body)

    def render_constant(self, reply: Reply, default_headers: Headers, *, close: bool) -> bytes:
        """Write an answer that is always the same object, once a second."""
        if default_headers is not self._defaults:
            return self.render(reply, default_headers, close=close)
        known = self._constants.get((id(reply), close))
        if known is None:
            known = self.render(reply, default_headers, close=close)
            self._constants[id(reply), close] = known
        return known


def _begin(status: int, headers: Headers) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
