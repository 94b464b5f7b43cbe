"""The way from a relay to its authority: a beat, and the terms of licenses that clients ask for.

Each question is one request that is over at its deadline. What comes back is a value or a `Refused`; whatever
keeps an answer from coming is `CutOff`, and then the relay goes on by what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from sojourn.client.opening import open_transport, target_at, warn_where_exposed
from sojourn.client.transport import Answer, NoAnswer, Request, Transport, headers
from sojourn.decoding import prepared
from sojourn.token import Secret
from sojourn.wire.relays import (
    AllotmentsBody,
    AllotmentsDone,
    SignedCopyBody,
    TermsBody,
    TermsDone,
)

ALLOTMENTS = "/api/relays/allotments"
TERMS = "/api/relays/licenses"
CONNECTIONS = 2
"""To the authority at once: a beat, and a question about licenses."""
ANSWER_MAX = 16_777_216
"""Bytes of an answer that are read."""

T = TypeVar("T")


class CutOff(Exception):
    """No answer came, or none of a Sojourn server."""


class Refused(Exception):
    """The authority has answered, and gives nothing. `code` is one of the API."""

    def __init__(self, code: str, words: str, number: int | None = None) -> None:
        super().__init__(words)
        self.code = code
        self.words = words
        self.number = number  # of the latest beat that it knows, where it says that


@prepared
class _Success(Struct, frozen=True, kw_only=True):
    data: msgspec.Raw


@prepared
class _Problem(Struct, frozen=True, kw_only=True, rename="camel"):
    code: str
    error: str = ""
    number: int | None = None


class Uplink(Protocol):
    """Asks the authority. Safe from several threads. Raises CutOff or Refused."""

    def beat(self, body: AllotmentsBody, *, timeout: float) -> AllotmentsDone: ...

    def terms(self, body: TermsBody, *, timeout: float) -> Sequence[SignedCopyBody]: ...

    def close(self) -> None: ...


class HttpUplink:
    """Over HTTP. Connects at the first question. Raises InvalidInput for an address that is none."""

    def __init__(self, url: str, key: str) -> None:
        target = target_at(url)
        warn_where_exposed(target, "The relay's key and hashes of license keys")
        self.name = target.url
        self._key = Secret(key)
        self._transport: Transport = open_transport(target, connections=CONNECTIONS, proxies=True)

    def beat(self, body: AllotmentsBody, *, timeout: float) -> AllotmentsDone:
        return self._ask(ALLOTMENTS, body, AllotmentsDone, timeout)

    def terms(self, body: TermsBody, *, timeout: float) -> Sequence[SignedCopyBody]:
        return self._ask(TERMS, body, TermsDone, timeout).licenses

    def close(self) -> None:
        self._transport.close()

    def _ask(self, path: str, body: Any, kind: type[T], timeout: float) -> T:
        content = msgspec.json.encode(body)
        said = headers(self._key, body=content)
        request = Request(method="POST", path=path, headers=said, body=content)
        try:
            answer = self._transport.send(request, timeout=timeout, limit=ANSWER_MAX)
        except NoAnswer as cause:
            why = f"no answer within {timeout:g} s" if cause.slow else str(cause)
        else:
            return self._read(answer, kind)
        raise CutOff(f"{self.name}: {why}.")

    def _read(self, answer: Answer, kind: type[T]) -> T:
        try:
            if answer.success:
                data = msgspec.json.decode(answer.body, type=_Success).data
                return msgspec.json.decode(data, type=kind)
            problem = msgspec.json.decode(answer.body, type=_Problem)
        except msgspec.MsgspecError:
            raise CutOff(
                f"{self.name}: what answers is not Sojourn, or another version ({answer.status})."
            ) from None
        if answer.status >= 500 or answer.status in (408, 429):
            raise CutOff(f"{self.name}: {problem.error or problem.code}")
        raise Refused(problem.code, problem.error or problem.code, problem.number)
