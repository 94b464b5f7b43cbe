"""The three calls a license client makes, each bounded in time and size, each one attempt.

Secrets travel inside `Secret` and become text only in the header that is sent, and an error is raised
outside the block that caught its cause: a traceback that shows locals shows no token.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from sojourn.client.errors import SeatLost, SeatProblem, ServerUnreachable, fault_of
from sojourn.client.opening import CONNECTIONS, open_transport, target_at, warn_where_exposed
from sojourn.client.transport import (
    Answer,
    HttpxTransport,
    NoAnswer,
    Request,
    Transport,
    headers,
)
from sojourn.decoding import prepared
from sojourn.errors import Forbidden, SojournError
from sojourn.token import Secret as Secret

if TYPE_CHECKING:
    import ssl

    from sojourn.exchange import Target

SEATS = "/api/licenses/sessions"
BEATING = 8
"""Connections for heartbeats alone: those who wait for a seat may have taken all others."""
BODY_MAX = 1_048_576  # bytes of an answer that are read

_T = TypeVar("_T")


class Grant(Struct, frozen=True, kw_only=True):
    """A seat as granted. `sent_at` is when the request left: nothing is trusted from later on.
    `expires_in` is at most `lost_after`, whatever the server said: its clock may be wrong."""

    lease_id: str
    token: Secret
    fence: int
    heartbeat_interval: float
    lost_after: float
    expires_in: float
    resumed: bool
    sent_at: float


class Pulse(Struct, frozen=True, kw_only=True):
    """A beat that counted."""

    expires_in: float
    sent_at: float


@prepared
class _Granted(Struct, frozen=True, kw_only=True, rename="camel"):
    lease_id: str
    token: str
    fence: int
    heartbeat_interval: float
    lost_after: float
    expires_in: float
    resumed: bool = False


@prepared
class _Beaten(Struct, frozen=True, kw_only=True, rename="camel"):
    expires_in: float


@prepared
class _Success(Struct, frozen=True, kw_only=True):
    data: msgspec.Raw


def new_key() -> str:
    """Make an Idempotency-Key: a string of RFC 8941, as draft-ietf-httpapi-idempotency-key-header has it."""
    return f'"{uuid.uuid4()}"'


class Http:
    """The way to one server. Safe from several threads; connects on first use."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], float],
        verify: ssl.SSLContext | bool = True,
        transport: Transport | HttpxTransport | None = None,
    ) -> None:
        self._target = target_at(url)
        self.name = self._target.url
        self._now = now
        self._verify = verify
        self._given = transport
        self._transport: Transport | None = None
        self._beating: Transport | None = None

    def open(self) -> None:
        """Get ready to connect. The caller sees to it that this runs once."""
        if self._transport is None:
            warn_where_exposed(self._target, "License keys and tokens")
            self._transport = self._new(CONNECTIONS)
            self._beating = self._transport if self._given is not None else self._new(BEATING)

    def _new(self, connections: int) -> Transport:
        return open_transport(
            self._target,
            given=self._given,
            connections=connections,
            verify=self._verify,
            proxies=True,  # the server may be anywhere: it need not be this network's own
        )

    def ways(self) -> tuple[Target, ssl.SSLContext | None] | None:
        """Return where sockets go, and how certificates are checked; None where a transport was given."""
        if self._given is not None:
            return None
        from sojourn.client.sockets import context_for  # noqa: PLC0415  # it speaks TLS

        return self._target, context_for(self._verify) if self._target.tls else None

    def close(self) -> None:
        for each in (self._transport, self._beating):
            if each is not None:
                each.close()

    def acquire(
        self, proof: Secret, body: dict[str, Any], *, timeout: float, key: str | None = None
    ) -> Grant:
        """Acquire. Under the key of an earlier request, it is that one, come again: what was granted to it is
        told, and nothing is taken over."""
        sent_at, raw = self._ask("POST", SEATS, proof, body, timeout, key=key)
        told = self._read(raw, _Granted)
        return Grant(
            lease_id=told.lease_id,
            token=Secret(told.token),
            fence=told.fence,
            heartbeat_interval=told.heartbeat_interval,
            lost_after=told.lost_after,
            expires_in=min(told.expires_in, told.lost_after),
            resumed=told.resumed,
            sent_at=sent_at,
        )

    def beat(self, token: Secret, body: dict[str, Any], *, timeout: float) -> Pulse:
        """Beat. Raises SeatLost where the lease is gone, or of no worth without its license."""
        try:
            path, over = SEATS + "/heartbeat", self._beating
            sent_at, raw = self._ask("POST", path, token, body, timeout, over=over)
        except Forbidden as fault:
            if fault.code.startswith("license_"):
                raise SeatLost(fault.code) from None
            raise
        return Pulse(expires_in=self._read(raw, _Beaten).expires_in, sent_at=sent_at)

    def release(self, token: Secret, *, timeout: float) -> None:
        self._ask("DELETE", SEATS + "/current", token, None, timeout)

    def _ask(
        self,
        method: str,
        path: str,
        proof: Secret,
        body: dict[str, Any] | None,
        timeout: float,
        *,
        key: str | None = None,
        over: Transport | None = None,
    ) -> tuple[float, bytes]:
        """Send one request; return when it left, and the answer's data. Raises SojournError."""
        over = over or self._transport
        assert over is not None
        content = None if body is None else msgspec.json.encode(body)
        said = headers(proof, body=content, key=key)
        request = Request(method=method, path=path, headers=said, body=content)
        sent_at = self._now()
        try:
            answer = over.send(request, timeout=timeout, limit=BODY_MAX)
        except NoAnswer as cause:
            fault: SojournError = self._unreachable(cause, timeout)
        else:
            if answer.success:
                with contextlib.suppress(msgspec.MsgspecError):
                    return sent_at, bytes(msgspec.json.decode(answer.body, type=_Success).data)
            fault = self._refusal(answer)
        raise fault

    def _read(self, raw: bytes, kind: type[_T]) -> _T:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(raw, type=kind)
        raise self._foreign("an answer of another shape")

    def _unreachable(self, cause: NoAnswer, timeout: float) -> ServerUnreachable:
        if cause.slow:
            return ServerUnreachable(
                f"{self.name} did not answer within {timeout:.3g} s.", sent=cause.sent
            )
        if cause.sent:
            return ServerUnreachable(f"The connection to {self.name} broke.", sent=True)
        return ServerUnreachable(f"Cannot connect to {self.name}: {cause}.", sent=False)

    def _refusal(self, answer: Answer) -> SojournError:
        try:
            problem = msgspec.json.decode(answer.body, type=SeatProblem)
        except msgspec.MsgspecError:
            kind = answer.headers.get("content-type", "no content type")
            return self._foreign(f"{answer.status}, {kind[:80]}")
        return fault_of(problem, answer.status, answer.retry_after)

    def _foreign(self, what: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"What answers at {self.name} is not a Sojourn server ({what}).",
            sent=True,
            hint="Check the URL, and any proxy or sign-in page on the way.",
        )
