"""Sessions of users at a Sojourn server, for an application's backend: list them, end them.

with SessionsClient("https://sojourn.example.com", "sja_…") as sessions:
    for session in sessions.list("ada"):
        ...
    sessions.end_others("ada", keep=current.id)

The same, awaited, is `AsyncSessionsClient`. For all that an adapter does, there is `RemoteSessions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from sojourn.client.forks import renew_after_fork
from sojourn.client.sessions import RemoteSessions
from sojourn.client.threads import Threads
from sojourn.client.transport import HttpxTransport, Transport
from sojourn.errors import SojournError
from sojourn.session import Check, End, Gone, Session

THREADS = 8
"""Requests of an AsyncSessionsClient that may be under way at once; more wait for their turn."""
TIMEOUT = 10.0  # seconds for one call

UserSessions: TypeAlias = list[Session]
Ids: TypeAlias = list[str]
_T = TypeVar("_T")


class SessionsClient:
    """Lists and ends sessions with an API key of role `app`. Safe from several threads, and after a fork.

    Nothing is connected before the first call. Every call is bounded by `timeout` seconds, and raises
    StoreUnavailable if the server or its store cannot be reached, StoreBroken if the key is not accepted,
    InvalidInput for what the server does not take. Instants of a Session are ms of the server's clock.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = TIMEOUT,
        transport: Transport | HttpxTransport | None = None,
    ) -> None:
        self._sessions = RemoteSessions(url, api_key, timeout=timeout, transport=transport)

    def list(self, user: str, *, limit: int = 100) -> UserSessions:
        """Return the user's live sessions, newest first; at most `limit`, and 1,000."""
        return self._sessions.of(user, limit=limit)

    def check(self, token: str, *, touch: bool = True) -> Session | Gone:
        """Return the session that a token opens, or why there is none. `touch`: count it as used."""
        return _one(self._sessions.check([Check(token, touch=touch)]))

    def end(self, session_id: str, *, user: str | None = None, reason: str = "ended") -> bool:
        """End a session; with `user`, only if it is among the 1,000 newest of theirs. False: there was none
        to end."""
        if user is not None and all(each.id != session_id for each in self.list(user, limit=1_000)):
            return False
        return bool(_one(self._sessions.end([End(ids=(session_id,), reason=reason)])))

    def end_others(self, user: str, *, keep: str, reason: str = "ended") -> Ids:
        """End all sessions of a user but the one with the id `keep`. Return the ids of those ended."""
        return _one(self._sessions.end([End(user_id=user, keep=(keep,), reason=reason)]))

    def end_all(self, user: str, *, reason: str = "ended") -> Ids:
        """End all sessions of a user. Return their ids."""
        return _one(self._sessions.end([End(user_id=user, reason=reason)]))

    def close(self) -> None:
        """Disconnect. No session ends by it."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncSessionsClient:
    """A `SessionsClient`, awaited. Calls run on up to THREADS threads of its own."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = TIMEOUT,
        transport: Transport | HttpxTransport | None = None,
    ) -> None:
        self._client = SessionsClient(url, api_key, timeout=timeout, transport=transport)
        self._pool: Threads | None = None
        renew_after_fork(self)

    async def list(self, user: str, *, limit: int = 100) -> UserSessions:
        """See `SessionsClient.list`."""
        return await self._run(lambda: self._client.list(user, limit=limit))

    async def check(self, token: str, *, touch: bool = True) -> Session | Gone:
        """See `SessionsClient.check`."""
        return await self._run(lambda: self._client.check(token, touch=touch))

    async def end(self, session_id: str, *, user: str | None = None, reason: str = "ended") -> bool:
        """See `SessionsClient.end`."""
        return await self._run(lambda: self._client.end(session_id, user=user, reason=reason))

    async def end_others(self, user: str, *, keep: str, reason: str = "ended") -> Ids:
        """See `SessionsClient.end_others`."""
        return await self._run(lambda: self._client.end_others(user, keep=keep, reason=reason))

    async def end_all(self, user: str, *, reason: str = "ended") -> Ids:
        """See `SessionsClient.end_all`."""
        return await self._run(lambda: self._client.end_all(user, reason=reason))

    async def aclose(self) -> None:
        """Disconnect. No session ends by it."""
        pool, self._pool = self._pool, None
        await asyncio.to_thread(self._client.close)
        if pool is not None:
            pool.shutdown()

    def forked(self) -> None:
        self._pool = None  # its threads are the parent's

    async def _run(self, call: Callable[[], _T]) -> _T:
        if self._pool is None:
            self._pool = Threads(THREADS, "sojourn-sessions")
        return await asyncio.wrap_future(self._pool.submit(call))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _one(answers: list[_T]) -> _T:
    """Return the answer to a batch of one; raise it if it is a fault."""
    (answer,) = answers
    if isinstance(answer, SojournError):
        raise answer
    return answer
