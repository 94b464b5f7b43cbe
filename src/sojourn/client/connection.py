"""Requests of an application's backend to a Sojourn server: bounded in time and size, over connections
that are kept.

A request is sent again where that cannot do harm: when none of it left this process, when doing it twice
is as good as once, or when it has a key, under which a server carries it out once. Tokens and the key
travel in headers only, and no error of ours holds one.
"""

from __future__ import annotations

import contextlib
import platform
import ssl
import threading
import time
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from sojourn import __version__
from sojourn.client.http import (
    IDLE_CONNECTION,
    PLAIN_HOSTS,
    SENT_NOTHING,
    Secret,
    bounded,
    new_key,
)
from sojourn.decoding import prepared
from sojourn.errors import Conflict, InvalidInput, SojournError, StoreBroken, StoreUnavailable
from sojourn.log import sentences

ATTEMPTS = 2
ANSWER_MAX = 16_777_216  # bytes of an answer that are read

_log = sentences("sojourn.client")
_A = TypeVar("_A")


@prepared
class Problem(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is read of an RFC 9457 problem document."""

    code: str
    error: str = ""
    details: str = ""
    limit: int = 0
    ended_at: datetime | None = None
    ended_by: str | None = None
    end_reason: str | None = None
    sessions: msgspec.Raw = msgspec.Raw(b"[]")


class Refusal(Exception):
    """A problem document; whoever asked knows whether it is an outcome or a fault."""

    def __init__(self, problem: Problem, status: int) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.status = status


class Question(Struct, frozen=True, kw_only=True):
    """One request. `again`: being carried out twice is as good as once; all others have a key."""

    method: str
    path: str
    query: dict[str, Any] = msgspec.field(default_factory=dict)
    body: Any = None
    token: Secret | None = None
    again: bool = False


@prepared
class _Success(Struct, frozen=True, kw_only=True):
    data: msgspec.Raw


class Connection:
    """Connections to one server. Safe from several threads; connects on first use."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        connections: int,
        timeout: float,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidInput(
                "The server's URL must start with http:// or https:// and name a host.",
                hint="For a server on this machine: http://127.0.0.1:8700",
            )
        self._base = parsed.copy_with(userinfo=b"", query=None, fragment=None)
        self.name = str(self._base).rstrip("/")
        self._key = Secret(key)
        self._connections = connections
        self._timeout = timeout
        self._transport = transport
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._closed = False

    def ask(self, question: Question, kind: type[_A]) -> _A:
        """Send a request and read its answer.

        Raises Refusal for a problem document, StoreError for everything else.
        """
        content = None if question.body is None else _encoded(question.body)
        deadline = time.monotonic() + self._timeout
        key = None if question.again else new_key()
        for left in reversed(range(ATTEMPTS)):
            try:
                response, raw = self._exchange(question, content, deadline, key)
                break
            except (httpx.HTTPError, httpx.StreamError, OSError, RuntimeError) as error:
                # RuntimeError: the connections were closed meanwhile.
                slow = isinstance(error, httpx.TimeoutException)
                if left and not slow and not self._closed:
                    continue
                fault = self._away(error)
            raise fault  # outside the block: a traceback that shows locals shows no token
        return self._read(response, raw, kind)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opened(self) -> httpx.Client:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("This connection was closed.", hint="Open another.")
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> httpx.Client:
        if self._base.scheme == "http" and self._base.host not in PLAIN_HOSTS:
            _log.warning("Session tokens go to %s unencrypted: use https.", self.name)
        return httpx.Client(
            base_url=self._base,
            transport=self._transport,
            verify=ssl.create_default_context() if self._base.scheme == "https" else False,
            # Proxies of the environment are for the internet; this server was named outright.
            trust_env=False,
            limits=httpx.Limits(
                max_connections=self._connections,
                max_keepalive_connections=self._connections,
                keepalive_expiry=IDLE_CONNECTION,
            ),
            headers={
                "User-Agent": f"sojourn/{__version__} python/{platform.python_version()} "
                f"({platform.system()})",
                "Accept": "application/json, application/problem+json",
            },
        )

    def _exchange(
        self, question: Question, content: bytes | None, deadline: float, key: str | None
    ) -> tuple[httpx.Response, bytes]:
        client = self._opened()
        headers = {"Authorization": f"Bearer {self._key.reveal()}"}
        if question.token is not None:
            headers["X-Session-Token"] = question.token.reveal()
        if content is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        request = client.build_request(
            question.method,
            question.path,
            params=question.query or None,
            content=content,
            headers=headers,
            timeout=max(0.001, deadline - time.monotonic()),
        )
        response = client.send(request, stream=True)
        return response, bounded(response, ANSWER_MAX, deadline, time.monotonic)

    def _read(self, response: httpx.Response, raw: bytes, kind: type[_A]) -> _A:
        with contextlib.suppress(msgspec.MsgspecError):
            if response.is_success:
                data = msgspec.json.decode(raw, type=_Success).data
                return msgspec.json.decode(data, type=kind)
            problem = msgspec.json.decode(raw, type=Problem)
            raise Refusal(problem, response.status_code)
        if response.status_code in (502, 503, 504):  # a proxy speaks for a server that is away
            raise StoreUnavailable(f"{self.name} answered {response.status_code}.")
        raise StoreBroken(
            f"What answers at {self.name} is not a Sojourn server ({response.status_code}).",
            hint="Check the URL, and any proxy or sign-in page on the way.",
        )

    def _away(self, cause: Exception) -> StoreUnavailable:
        hint = "Check that the server is running (`sojourn serve`), the URL, and the network."
        if isinstance(cause, httpx.TimeoutException):
            what = f"{self.name} did not answer within {self._timeout:.3g} s."
        elif isinstance(cause, SENT_NOTHING):
            what = f"Cannot connect to {self.name}: {cause}."
        else:
            what = f"The connection to {self.name} broke."
        return StoreUnavailable(what, hint=hint)


def fault_of(refusal: Refusal, server: str) -> SojournError:
    problem, status = refusal.problem, refusal.status
    words = problem.error or problem.code
    hint = problem.details or None
    if status in (401, 403):
        return StoreBroken(
            f"The server at {server} does not accept this API key: {words}",
            hint="Make one with `sojourn key create --role app`, and set SOJOURN_KEY.",
        )
    if problem.code in ("store_broken", "not_found", "method_not_allowed", "internal"):
        return StoreBroken(words, hint=hint)
    if status in (408, 429) or status >= 500:
        return StoreUnavailable(words, hint=hint)
    if status == 409:
        return Conflict(words, hint=hint)
    return InvalidInput(words, code=problem.code, hint=hint)


def _encoded(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error
