"""Refused WebSocket handshakes, answered as every other refusal: a problem document, with our headers, and
no line in the log that speaks of a fault of ours.
"""

from __future__ import annotations

import email.utils
import http
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol

from sojourn.text import escaped
from sojourn.wire.problems import answer_problem, problem

SAID_MAX = 300
"""Characters of the library's reason, which may repeat what was sent."""


class _Handshakes(ServerProtocol):
    """Judges handshakes as the library does, and refuses them in our words."""

    def reject(self, status: http.HTTPStatus | int, text: str) -> Response:
        """Say that no socket is opened. `text` is the library's reason."""
        code = "internal" if status == http.HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
        said = escaped(" ".join(text.split()))[:SAID_MAX]
        reply = answer_problem(problem(code, said or "The socket was not opened."))
        headers = Headers(
            [(name.decode(), value.decode("latin-1")) for name, value in reply.headers]
        )
        headers["Date"] = email.utils.formatdate(usegmt=True)
        headers["Connection"] = "close"
        return Response(reply.status, http.HTTPStatus(reply.status).phrase, headers, reply.body)


class GuardedSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which tells nobody's mistakes as its own."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.conn = _Handshakes(
            extensions=self.conn.available_extensions,
            max_size=self.config.ws_max_size,
            logger=self.conn.logger,
        )

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # it is answered: there is nothing more to complete
