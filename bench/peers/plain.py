"""An ASGI application of the least that can have a session: what is measured is the middleware around it."""

from __future__ import annotations

from typing import Any

import msgspec

HEADERS = [(b"content-type", b"application/json")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer the three routes of the other peers."""
    del receive  # no route has a body that matters
    session = scope["session"]
    path = scope["path"]
    answer: dict[str, Any] = {}
    if path == "/login":
        session.update(user="ann", n=0)
    elif path == "/set":
        session["n"] += 1
    elif path == "/me":
        answer = {"user": session["user"], "n": session["n"]}
    body = msgspec.json.encode(answer)
    headers = [*HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
