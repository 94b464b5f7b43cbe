"""The session of one request, for async code and for code in a thread: `request.state.sojourn`.

    await request.state.sojourn.begin(user.id)        in `async def`
    request.state.sojourn.begin(user.id)              in `def`, which frameworks run in a thread

On the event loop a verb does nothing until it is awaited, and one that never was fails the request. In
a thread, where nothing can be awaited, it is carried out at once and returns what it would have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic

from sojourn.adapters.desk import LazyDesk
from sojourn.adapters.sync import UserVisit
from sojourn.data import SessionData
from sojourn.errors import SojournError
from sojourn.service.batcher import Batcher
from sojourn.service.request_session import RequestSession, T, VisitStep, run_async
from sojourn.session import Gone, GoneReason, Session, Timeouts, TooMany


class NotAwaited(SojournError):
    """A verb was called on the event loop, and nobody awaited it: it has done nothing."""

    code = "not_awaited"


class Verb(Coroutine[Any, Any, T], Generic[T]):
    """A call of a verb; a coroutine that knows whether anybody has started it."""

    __slots__ = ("_coroutine", "_make", "name", "started")

    def __init__(self, name: str, make: Any) -> None:
        self.name = name
        self.started = False
        self._make = make
        self._coroutine: Coroutine[Any, Any, T] | None = None

    def _running(self) -> Coroutine[Any, Any, T]:
        self.started = True
        if self._coroutine is None:
            self._coroutine = self._make()
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._running().__await__()

    def send(self, value: Any) -> Any:
        return self._running().send(value)

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None) -> Any:
        fault = value if isinstance(value, BaseException) else kind
        fault = fault() if isinstance(fault, type) else fault
        return self._running().throw(fault if trace is None else fault.with_traceback(trace))

    def close(self) -> None:
        self.started = True  # dropped on purpose
        if self._coroutine is not None:
            self._coroutine.close()


class AsyncVisit:
    """The session of one request: `request.state.sojourn`."""

    __slots__ = ("_batcher", "_desk", "_running", "_visit", "called")

    def __init__(self, visit: RequestSession, batcher: Batcher, desk: LazyDesk) -> None:
        self._visit = visit
        self._batcher = batcher
        self._desk = desk
        self.called: tuple[Verb[Any], ...] = ()  # on the event loop
        self._running: tuple[asyncio.Task[Any], ...] = ()

    def _seen(self) -> RequestSession:
        """Return the visit to whoever asks who is there. Raises what kept it from being looked up."""
        visit = self._visit
        visit.asked = True
        if visit.fault is not None:
            raise visit.fault
        return visit

    @property
    def blocking(self) -> UserVisit:
        """The same session for code in a thread, with the types of calls that do not wait: what `def`
        endpoints and dependencies are run in."""
        self._seen()
        return UserVisit.of(self._desk, self._visit)

    @property
    def data(self) -> SessionData:
        return self._visit.data

    @property
    def session(self) -> Session | None:
        """The live session, or None."""
        return self._seen().session

    @property
    def gone(self) -> Gone | None:
        """Why there is none, though the request brought a cookie."""
        return self._seen().gone

    @property
    def user_id(self) -> str | None:
        """Who is signed in, if anybody."""
        return self._seen().user_id

    @property
    def impersonator(self) -> str | None:
        """Who really acts here, if somebody acts as the user. Show it on every page."""
        return self._seen().impersonator

    @property
    def token(self) -> str | None:
        """What a client of an API sends as `Authorization: Bearer …`; see `Rules.header_tokens`. A secret."""
        return self._seen().bearer

    @property
    def over(self) -> Coroutine[Any, Any, Gone]:
        """Wait until the session is over, and return why: for sockets and streams, which outlive the look-up.
        Returns at once if there is none. Signing in begins another one."""
        return _over(self._desk, self._seen())

    def recent(self, max_age: int, level: int = 1) -> bool:
        """Tell whether the user proved who they are at most `max_age` ms ago, at this level or above."""
        return self._seen().recent(max_age, level)

    def begin(
        self,
        user_id: object,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
        remember: bool | None = None,
        cookie: bool = True,
    ) -> Coroutine[Any, Any, Session | TooMany]:
        """Sign a user in, under a new token; see `RequestSession.begin`."""
        step = self._visit.begin(
            user_id,
            level=level,
            timeouts=timeouts,
            ending=ending,
            remember=remember,
            cookie=cookie,
        )
        return self._verb("begin", step)

    def impersonate(self, user_id: object) -> Coroutine[Any, Any, Session]:
        """Act as another user, visibly, for an hour at most; see `RequestSession.impersonate`."""
        return self._verb("impersonate", self._visit.impersonate(user_id))

    def stop_impersonating(self) -> Coroutine[Any, Any, Session | None]:
        """Return to one's own session; None if it has ended meanwhile."""
        return self._verb("stop_impersonating", self._visit.stop_impersonating())

    def rotate(self) -> Coroutine[Any, Any, Session | None]:
        """Give the session a new token when the response leaves; the old one works for a short grace."""
        return self._verb("rotate", self._visit.rotate())

    def elevate(self, level: int) -> Coroutine[Any, Any, Session | None]:
        """Note that the user has just proved who they are again, at this level (step-up). The new token
        is given, and the old one dies, when the response leaves."""
        return self._verb("elevate", self._visit.elevate(level))

    def end(self, reason: str = "signed_out") -> Coroutine[Any, Any, None]:
        """Sign out."""
        return self._verb("end", self._visit.end(reason))

    def end_others(self, reason: str = "signed_out_elsewhere") -> Coroutine[Any, Any, list[str]]:
        """End the user's other sessions; return their ids."""
        return self._verb("end_others", self._visit.end_others(reason))

    def end_all(self, reason: str = "signed_out_everywhere") -> Coroutine[Any, Any, list[str]]:
        """End all of the user's sessions, this one included; return their ids."""
        return self._verb("end_all", self._visit.end_all(reason))

    def others(self) -> Coroutine[Any, Any, list[Session]]:
        """List the user's other live sessions, newest first."""
        return self._verb("others", self._visit.others())

    def save(self) -> Coroutine[Any, Any, None]:
        """Save changes of the data now: for WebSockets and streams, whose response has long started.
        A visitor's first data cannot be saved any more by then: there is no cookie to give."""
        return self._verb("save", self._visit.save())

    def _verb(self, name: str, step: VisitStep[T]) -> Coroutine[Any, Any, T]:
        self._seen()
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a thread: there is nothing that could await it
            done: Any = self._desk.get().run(step)
            return done  # type: ignore[no-any-return]  # see the module's docstring
        call: Verb[T] = Verb(name, partial(self.carry_out, step))
        self.called += (call,)
        return call

    async def carry_out(self, step: VisitStep[T]) -> T:
        """Carry a step out to its end, though who waits for it is cancelled: what it begins must be known,
        to be undone."""
        if asyncio.get_running_loop() is not self._batcher.loop:  # `async_to_sync` in a thread
            return await asyncio.to_thread(self._desk.get().run, step)
        task = asyncio.ensure_future(self._in_turn(step, self._running))
        self._running += (task,)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def _in_turn(self, step: VisitStep[T], before: tuple[asyncio.Task[Any], ...]) -> T:
        """Carry a step out when those before it are done: each goes on from what the last one left, though
        an application gathers them."""
        if before:
            await asyncio.wait(before)
        return await run_async(step, self._batcher.submit)

    async def commit(self, status: int) -> list[tuple[str, str]]:
        """Save what has changed; return the headers that the response must carry."""
        visit = self._visit
        if visit.session is None or visit.in_doubt:
            return await self.carry_out(visit.commit(status))
        return await run_async(visit.commit(status), self._batcher.submit)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running = tuple(each for each in self._running if each is not task)
        if not task.cancelled():
            task.exception()  # who waited may be gone, and asyncio would complain of nobody asking

    @property
    def busy(self) -> bool:
        """Tell whether a verb is being carried out."""
        return bool(self._running)

    async def quiet(self) -> None:
        """Wait until what was begun is done, whatever came of it."""
        if self._running:
            await asyncio.wait(list(self._running))

    @property
    def forgotten(self) -> list[str]:
        """The verbs that were called and never awaited."""
        return [call.name for call in self.called if not call.started]


async def _over(desk: LazyDesk, visit: RequestSession) -> Gone:
    if visit.session is None:
        return visit.gone or Gone(reason=GoneReason.ABSENT)
    opened = desk.opened
    assert opened is not None  # it has given the session
    return await opened.endings.of(visit.session.id)


__all__ = ["AsyncVisit", "NotAwaited"]
