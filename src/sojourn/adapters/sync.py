"""One request's session for code that is not async: what Flask's `visit` and Django's `request.sojourn` are.

Nothing is opened before somebody asks: a request that never looks at its session asks the store nothing,
and is served while the store is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from sojourn.adapters.desk import Desk, LazyDesk
from sojourn.data import SessionData
from sojourn.errors import CookiesTooLarge, Overloaded, StoreError
from sojourn.log import get_logger
from sojourn.service.request_session import RequestSession, T, VisitStep
from sojourn.session import Gone, GoneReason, Session, Timeouts, TooMany

log = get_logger(__name__)

Headers = list[tuple[str, str]]
Unavailable: TypeAlias = StoreError | Overloaded | CookiesTooLarge
"""Why a session cannot be had, though there may be one; nobody is signed out by it."""


def tell_read_late(path: object) -> None:
    """Say that the body of a response depends on who asks, and its headers do not say so."""
    log.warning(
        "session_read_too_late",
        path=path,
        hint="The body of this response asked who is there, after its headers had left: they lack "
        "`Vary: Cookie`, and a cache may show the page to others. Look at the session before you return "
        "the response.",
    )


class SyncVisit:
    """The session of one request, looked up when it is first asked for.

    Attributes:
        fault: why the store could not answer, if it could not. A look-up that failed is not tried again
            within the request: a person waits for a dead database once.
    """

    def __init__(self, desk: LazyDesk, make: Callable[[Desk], RequestSession]) -> None:
        self.fault: Unavailable | None = None
        self._lazy = desk
        self._make = make
        self._visit: RequestSession | None = None
        self._left = False
        self._abandoned = False

    @property
    def opened(self) -> bool:
        """Tell whether anybody has asked for the session."""
        return self._visit is not None

    @property
    def left(self) -> bool:
        """Tell whether the response has left."""
        return self._left

    @property
    def visit(self) -> RequestSession:
        """The visit, opened. Raises StoreError."""
        if self._visit is None:
            if self.fault is not None:
                raise self.fault
            try:
                desk = self._lazy.get()
                visit = self._make(desk)
                if visit.fault is not None:
                    raise visit.fault
                desk.run(visit.open())
                self._settle(desk, visit)
            except (StoreError, Overloaded, CookiesTooLarge) as fault:
                self.fault = fault
                raise
            if self._left:
                visit.finish()  # a verb that would need a cookie says so
            visit.asked = True
            self._visit = visit
        return self._visit

    def _settle(self, desk: Desk, visit: RequestSession) -> None:
        """Look a visit over that was just opened; for frameworks with rules of their own."""

    @property
    def data(self) -> SessionData:
        return self.visit.data

    @property
    def session(self) -> Session | None:
        """The live session, or None."""
        return self.visit.session

    @property
    def gone(self) -> Gone | None:
        """Why there is none, though the request brought a cookie."""
        return self.visit.gone

    @property
    def user_id(self) -> str | None:
        """Who is signed in, if anybody."""
        return self.visit.user_id

    @property
    def impersonator(self) -> str | None:
        """Who really acts here, if somebody acts as the user. Show it on every page."""
        return self.visit.impersonator

    @property
    def token(self) -> str | None:
        """What a client of an API sends as `Authorization: Bearer …`; see `Rules.header_tokens`. A secret."""
        return self.visit.bearer

    @property
    def over(self) -> Coroutine[Any, Any, Gone]:
        """Wait until the session is over, and return why: for sockets and streams, which outlive the look-up.
        Returns at once if there is none. Signing in begins another one."""
        return self._over()

    def wait_over(self, timeout: float | None = None) -> Gone | None:
        """Block until the session is over, and return why: for sockets and streams that a thread serves.
        None: it is not over after `timeout` seconds. Raises Overloaded if too many wait, and StoreError."""
        visit = self.visit
        if visit.session is None:
            return visit.gone or Gone(reason=GoneReason.ABSENT)
        return self._lazy.get().endings.wait(visit.session.id, timeout)

    async def _over(self) -> Gone:
        visit = await asyncio.to_thread(lambda: self.visit)
        if visit.session is None:
            return visit.gone or Gone(reason=GoneReason.ABSENT)
        desk = await asyncio.to_thread(self._lazy.get)
        return await desk.endings.of(visit.session.id)

    def recent(self, max_age: int, level: int = 1) -> bool:
        """Tell whether the user proved who they are at most `max_age` ms ago, at this level or above."""
        return self.visit.recent(max_age, level)

    def rotate(self) -> Session | None:
        """Give the session a new token; the old one works for a short grace."""
        return self.run(self.visit.rotate())

    def elevate(self, level: int) -> Session | None:
        """Note that the user has just proved who they are again, at this level (step-up)."""
        return self.run(self.visit.elevate(level))

    def stop_impersonating(self) -> Session | None:
        """Return to one's own session; None if it has ended meanwhile."""
        return self.run(self.visit.stop_impersonating())

    def end(self, reason: str = "signed_out") -> None:
        """Sign out."""
        self.run(self.visit.end(reason))

    def end_others(self, reason: str = "signed_out_elsewhere") -> list[str]:
        """End the user's other sessions; return their ids."""
        return self.run(self.visit.end_others(reason))

    def end_all(self, reason: str = "signed_out_everywhere") -> list[str]:
        """End all of the user's sessions, this one included; return their ids."""
        return self.run(self.visit.end_all(reason))

    def others(self) -> list[Session]:
        """List the user's other live sessions, newest first."""
        return self.run(self.visit.others())

    def commit(self, status: int) -> Headers:
        """Save what has changed; return the headers that the response must carry."""
        return self.run(self.visit.commit(status)) if self.opened else []

    def abandon(self) -> None:
        """Take back what no response will tell the browser of, also of what a thread is still at."""
        self._abandoned = True
        if self._visit is None or not self._visit.in_doubt:
            return
        try:
            self._lazy.get().run(self._visit.undo())
        except (StoreError, Overloaded) as fault:
            log.warning("sign_in_not_undone", code=fault.code, error=fault.message)

    def sent(self) -> None:
        """Note that the response leaves, with its cookie."""
        if self._abandoned:
            self.abandon()
            return
        self._left = True
        if self._visit is not None:
            self._visit.sent()

    def tell_late(self, path: str) -> None:
        """Say so if something was changed, or first looked at, after the response had started."""
        if self._visit is not None and self._visit.read_late:
            tell_read_late(path)
        if self._visit is not None and self._visit.unsaved:
            log.warning(
                "session_changed_too_late",
                path=path,
                place=self._visit.data.late,
                hint="The response had started. Change the session before you return the response, not "
                "in its body.",
            )

    def run(self, step: VisitStep[T]) -> T:
        """Carry a step of the visit out. Raises StoreError."""
        try:
            return self._lazy.get().run(step)
        except (StoreError, Overloaded) as fault:
            self.fault = fault
            raise
        finally:
            if self._abandoned:
                self.abandon()


class UserVisit(SyncVisit):
    """A visit that signs people in, where the framework has no way of its own."""

    @classmethod
    def of(cls, desk: LazyDesk, visit: RequestSession) -> UserVisit:
        """Return one over a visit that is open."""
        made = cls(desk, lambda _desk: visit)
        made._visit = visit  # ours
        return made

    def begin(
        self,
        user_id: object,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
        remember: bool | None = None,
        cookie: bool = True,
    ) -> Session | TooMany:
        """Sign a user in, under a new token; see `RequestSession.begin`."""
        step = self.visit.begin(
            user_id,
            level=level,
            timeouts=timeouts,
            ending=ending,
            remember=remember,
            cookie=cookie,
        )
        return self.run(step)

    def impersonate(self, user_id: object) -> Session:
        """Act as another user, visibly, for an hour at most; see `RequestSession.impersonate`."""
        return self.run(self.visit.impersonate(user_id))

    def save(self) -> None:
        """Save changes of the data now."""
        self.run(self.visit.save())
