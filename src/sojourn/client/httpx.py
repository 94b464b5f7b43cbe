"""Requests over a transport of httpx or httpx2: in tests, over Unix sockets, through what these can do."""

from __future__ import annotations

import importlib
import time
from typing import Any

from sojourn.client.transport import Answer, HttpxTransport, NoAnswer, Request
from sojourn.exchange import Target
from sojourn.token import Secret

PACKAGES = ("httpx", "httpx2")


class OverHttpx:
    """A `Transport` over one of httpx's, of whichever of the two packages that is."""

    def __init__(self, target: Target, given: HttpxTransport) -> None:
        packages = [kind.__module__.partition(".")[0] for kind in type(given).__mro__]
        name = next((each for each in packages if each in PACKAGES), PACKAGES[0])
        self._httpx: Any = importlib.import_module(name)
        self._target = target
        self._given = given
        self.closed = False

    def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
        if self.closed:
            raise NoAnswer("these connections were closed", sent=False, slow=False)
        httpx = self._httpx
        try:
            return self._exchange(request, timeout, limit)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as fault:
            unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
            why, sent = str(fault), not isinstance(fault, unsent)
            slow = isinstance(fault, httpx.TimeoutException)
        raise NoAnswer(why, sent=sent, slow=slow)

    def close(self) -> None:
        self.closed = True
        if hasattr(self._given, "close"):
            self._given.close()

    def _exchange(self, request: Request, timeout: float, limit: int) -> Answer:
        deadline = time.monotonic() + timeout
        asked = self._httpx.Request(
            request.method,
            self._target.origin + self._target.path.rstrip("/") + request.path,
            headers={
                name: value.reveal() if isinstance(value, Secret) else value
                for name, value in request.headers.items()
            },
            content=request.body,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)},
        )
        answer = self._given.handle_request(asked)
        answer.request = asked
        try:
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > limit:
                    raise self._httpx.DecodingError("the answer is too long", request=asked)
                if time.monotonic() > deadline:  # each part may have come just in time
                    raise self._httpx.ReadTimeout("the answer took too long", request=asked)
        finally:
            answer.close()
        said = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(status=answer.status_code, headers=said, body=bytes(body))
