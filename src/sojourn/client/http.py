"""The three calls a license client makes, each bounded in time and size, each one attempt.

Secrets travel inside `Secret` and become text only in the header that is sent, and an error is raised
outside the block that caught its cause: a traceback that shows locals shows no token.
"""

from __future__ import annotations

import contextlib
import platform
import ssl
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from sojourn import __version__
from sojourn.client.errors import Problem, SeatLost, ServerUnreachable, fault_of
from sojourn.decoding import prepared
from sojourn.errors import Forbidden, InvalidInput, SojournError
from sojourn.log import sentences
from sojourn.token import mask

SEATS = "/api/licenses/sessions"
BODY_MAX = 1_048_576  # bytes of an answer that are read
IDLE_CONNECTION = 4.0  # seconds; servers drop idle connections after 5, and a race costs a request
SENT_NOTHING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PLAIN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_log = sentences("sojourn.client")
_T = TypeVar("_T")


class Secret:
    """A token that shows itself to nobody who does not ask."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({mask(self._text)!r})"

    __str__ = __repr__


class Bearer(httpx.Auth):
    """Puts a secret on the request at the last moment."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # a generator is an iterator
        request.headers["Authorization"] = f"Bearer {self._secret.reveal()}"
        yield request


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


def bounded(
    response: httpx.Response, limit: int, deadline: float, now: Callable[[], float]
) -> bytes:
    """Read an answer to its end, and close it. Raises DecodingError past the limit, ReadTimeout past the
    deadline."""
    try:
        read = bytearray()
        for chunk in response.iter_bytes():
            read += chunk
            if len(read) > limit:
                raise httpx.DecodingError("The answer is too long.", request=response.request)
            if now() > deadline:  # each chunk may have come just in time
                raise httpx.ReadTimeout("The answer took too long.", request=response.request)
        return bytes(read)
    finally:
        response.close()


class Http:
    """One connection pool to one server. Safe from several threads; connects on first use."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], float],
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidInput(
                "The server's URL must start with http:// or https:// and name a host.",
                hint="For a server on this machine: http://127.0.0.1:8700",
            )
        self.base = parsed.copy_with(userinfo=b"", query=None, fragment=None)
        self._name = str(self.base).rstrip("/")
        self._now = now
        self._verify = verify
        self._transport = transport
        self._client: httpx.Client | None = None
        self._abandoned: list[httpx.Client] = []

    def open(self) -> None:
        """Get ready to connect. The caller sees to it that this runs once."""
        if self._client is not None:
            return
        if self.base.scheme == "http" and self.base.host not in PLAIN_HOSTS:
            _log.warning("License keys and tokens go to %s unencrypted: use https.", self._name)
        self._client = httpx.Client(
            base_url=self.base,
            transport=self._transport,
            verify=self._verify,
            limits=httpx.Limits(keepalive_expiry=IDLE_CONNECTION),
            headers={
                "User-Agent": f"sojourn/{__version__} python/{platform.python_version()} "
                f"({platform.system()})",
                "Accept": "application/json, application/problem+json",
            },
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def abandon(self) -> None:
        """Leave the connections to the process they belong to: this one is its fork.

        Kept, since a collected connection would say goodbye on the parent's behalf.
        """
        if self._client is not None:
            self._abandoned.append(self._client)
            self._client = None

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
            sent_at, raw = self._ask("POST", SEATS + "/heartbeat", token, body, timeout)
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
    ) -> tuple[float, bytes]:
        """Send one request; return when it left, and the answer's data. Raises SojournError."""
        sent_at = self._now()
        try:
            response, content = self._exchange(
                method, path, proof, body, sent_at + timeout, key=key
            )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, RuntimeError) as e:
            # RuntimeError: the pool was closed meanwhile.
            fault: SojournError = self._unreachable(e, timeout)
        else:
            if response.is_success:
                with contextlib.suppress(msgspec.MsgspecError):
                    return sent_at, bytes(msgspec.json.decode(content, type=_Success).data)
            fault = self._refusal(response, content)
        raise fault

    def _exchange(
        self,
        method: str,
        path: str,
        proof: Secret,
        body: dict[str, Any] | None,
        deadline: float,
        *,
        key: str | None,
    ) -> tuple[httpx.Response, bytes]:
        assert self._client is not None
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        request = self._client.build_request(
            method,
            path,
            content=content,
            headers=headers,
            timeout=max(0.001, deadline - self._now()),
        )
        response = self._client.send(request, auth=Bearer(proof), stream=True)
        return response, bounded(response, BODY_MAX, deadline, self._now)

    def _read(self, raw: bytes, kind: type[_T]) -> _T:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(raw, type=kind)
        raise self._foreign("an answer of another shape")

    def _unreachable(self, cause: Exception, timeout: float) -> ServerUnreachable:
        sent = not isinstance(cause, SENT_NOTHING)
        if isinstance(cause, httpx.TimeoutException):
            return ServerUnreachable(
                f"{self._name} did not answer within {timeout:.3g} s.", sent=sent
            )
        if sent:
            return ServerUnreachable(f"The connection to {self._name} broke.", sent=True)
        return ServerUnreachable(f"Cannot connect to {self._name}: {cause}.", sent=False)

    def _refusal(self, response: httpx.Response, content: bytes) -> SojournError:
        try:
            problem = msgspec.json.decode(content, type=Problem)
        except msgspec.MsgspecError:
            kind = response.headers.get("Content-Type", "no content type")
            return self._foreign(f"{response.status_code}, {kind[:80]}")
        return fault_of(problem, response.status_code, _retry_after(response))

    def _foreign(self, what: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"What answers at {self._name} is not a Sojourn server ({what}).",
            sent=True,
            hint="Check the URL, and any proxy or sign-in page on the way.",
        )


def _retry_after(response: httpx.Response) -> float | None:
    """Read Retry-After in its form of seconds; ours never sends a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
