"""Requests of an application's backend to a Sojourn server: bounded in time and size, over connections
that are kept.

A request is sent again where that cannot do harm: when none of it left this process, when doing it twice
is as good as once, or when it has a key, under which a server carries it out once. Tokens and the key
travel in headers only, and no error of ours holds one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from sojourn.client.forks import renew_after_fork
from sojourn.client.http import new_key
from sojourn.client.opening import open_transport, target_at, warn_where_exposed
from sojourn.client.transport import (
    ANSWER_MAX,
    Answer,
    HttpxTransport,
    NoAnswer,
    Request,
    Transport,
    headers,
    with_query,
)
from sojourn.decoding import prepared
from sojourn.errors import Conflict, InvalidInput, SojournError, StoreBroken, StoreUnavailable
from sojourn.text import bare
from sojourn.token import Secret

ATTEMPTS = 2

_A = TypeVar("_A")


@prepared
class SessionProblem(Struct, frozen=True, kw_only=True, rename="camel"):
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

    def __init__(self, problem: SessionProblem, status: int) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.status = status


class Question(Struct, frozen=True, kw_only=True):
    """One request. `again`: being carried out twice is as good as once; all others have a key, which is a
    new one where no `key` is given."""

    method: str
    path: str
    query: dict[str, Any] = msgspec.field(default_factory=dict)
    body: Any = None
    token: Secret | None = None
    again: bool = False
    key: str | None = None


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
        transport: Transport | HttpxTransport | None = None,
    ) -> None:
        self._target = target_at(url)
        self.name = self._target.url
        self._key = Secret(key)
        self._connections = connections
        self._timeout = timeout
        self._given = transport
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._closed = False
        renew_after_fork(self)

    def ask(self, question: Question, kind: type[_A]) -> _A:
        """Send a request and read its answer.

        Raises Refusal for a problem document, StoreError for everything else.
        """
        content = None if question.body is None else _encoded(question.body)
        said = headers(
            self._key, body=content, key=None if question.again else question.key or new_key()
        )
        if question.token is not None:
            said["X-Session-Token"] = question.token
        request = Request(
            method=question.method,
            path=with_query(question.path, question.query),
            headers=said,
            body=content,
        )
        deadline = time.monotonic() + self._timeout
        for left in reversed(range(ATTEMPTS)):
            try:
                timeout = max(0.001, deadline - time.monotonic())
                answer = self._opened().send(request, timeout=timeout, limit=ANSWER_MAX)
                break
            except NoAnswer as cause:
                if left and not cause.slow and not self._closed:
                    continue
                fault = self._away(cause)
            raise fault  # outside the block: a traceback that shows locals shows no token
        return self._read(answer, kind)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def forked(self) -> None:
        self._lock = threading.Lock()

    def _opened(self) -> Transport:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("This connection was closed.", hint="Open another.")
            if self._transport is None:
                warn_where_exposed(self._target, "Session tokens")
                self._transport = open_transport(
                    self._target, given=self._given, connections=self._connections
                )
            return self._transport

    def _read(self, answer: Answer, kind: type[_A]) -> _A:
        with contextlib.suppress(msgspec.MsgspecError):
            if answer.success:
                data = msgspec.json.decode(answer.body, type=_Success).data
                return msgspec.json.decode(data, type=kind)
            problem = msgspec.json.decode(answer.body, type=SessionProblem)
            raise Refusal(problem, answer.status)
        if answer.status in (502, 503, 504):  # a proxy speaks for a server that is away
            raise StoreUnavailable(f"{self.name} answered {answer.status}.")
        raise StoreBroken(
            f"What answers at {self.name} is not a Sojourn server ({answer.status}).",
            hint="Check the URL, and any proxy or sign-in page on the way.",
        )

    def _away(self, cause: NoAnswer) -> StoreUnavailable:
        hint = "Check that the server is running (`sojourn serve`), the URL, and the network."
        if cause.slow:
            what = f"{self.name} did not answer within {self._timeout:.3g} s."
        elif cause.sent:
            what = f"The connection to {self.name} broke."
        else:
            what = f"Cannot connect to {self.name}: {cause}."
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
        return msgspec.json.encode(body, enc_hook=bare)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error
