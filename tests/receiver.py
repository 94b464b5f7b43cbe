"""A receiver of webhooks: a real HTTP server on loopback that answers as a test tells it to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct, field

DEADLINE = 20.0


class Received(Struct, frozen=True):
    headers: dict[str, str]  # names in lower case
    body: bytes
    path: str = "/"

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> int:
        return int(self.json["data"]["id"])


class Answer(Struct, frozen=True):
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hang: threading.Event | None = None  # wait for it before answering anything


class Receiver:
    """Counts what came; `answer` says what to answer, given how many came before."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[int], Answer] = lambda _before: Answer()
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver.note(Received(headers, body, self.path))
                if answer.hang is not None:
                    answer.hang.wait(DEADLINE)
                with contextlib.suppress(OSError):
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def note(self, received: Received) -> Answer:
        with self._changed:
            answer = self.answer(len(self.received))
            self.received.append(received)
            self._changed.notify_all()
        return answer

    def wait_for(self, count: int) -> list[Received]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, DEADLINE), (
                f"only {len(self.received)} of {count} came"
            )
            return list(self.received)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(tls)
    try:
        yield receiver
    finally:
        receiver.close()


def signed_by(secret: str, received: Received) -> bool:
    """Check a signature as the specification of Standard Webhooks says, without our own code."""
    key = base64.b64decode(secret.split("_", 1)[1])
    stamp = received.headers["webhook-timestamp"]
    content = f"{received.id}.{stamp}.".encode() + received.body
    due = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{due}" in received.headers["webhook-signature"].split(" ")
