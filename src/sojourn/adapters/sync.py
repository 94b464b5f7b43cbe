"""One request's session for code that is not async: what Flask's `visit` and Django's `request.sojourn` are.

Nothing is opened before somebody asks: a request that never looks at its session asks the store nothing,
and is served while the store is down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sojourn.adapters.desk import Desk, LazyDesk
from sojourn.data import SessionData
from sojourn.errors import CookiesTooLarge, Overloaded, StoreError
from sojourn.service.request_session import RequestSession, Step, T
from sojourn.session import Gone, Session, Timeouts, TooMany

Headers = list[tuple[str, str]]
Unavailable: TypeAlias = StoreError | Overloaded | CookiesTooLarge
"""Why a session cannot be had, though there may be one; nobody is signed out by it."""


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

    @property
    def opened(self) -> bool:
        """Tell whether anybody has asked for the session."""
        return self._visit is not None

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
            self._visit = visit
            if self._left:
                visit.data.close()
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

    def sent(self) -> None:
        """Note that the response leaves, with its cookie."""
        self._left = True
        if self._visit is not None:
            self._visit.sent()

    def run(self, step: Step[T]) -> T:
        """Carry a step of the visit out. Raises StoreError."""
        try:
            return self._lazy.get().run(step)
        except (StoreError, Overloaded) as fault:
            self.fault = fault
            raise


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
    ) -> Session | TooMany:
        """Sign a user in, under a new token; see `RequestSession.begin`."""
        return self.run(self.visit.begin(user_id, level=level, timeouts=timeouts, ending=ending))

    def impersonate(self, user_id: object) -> Session:
        """Act as another user, visibly, for an hour at most; see `RequestSession.impersonate`."""
        return self.run(self.visit.impersonate(user_id))

    def save(self) -> None:
        """Save changes of the data now."""
        self.run(self.visit.save())
