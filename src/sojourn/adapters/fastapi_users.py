"""fastapi-users on our sessions, in the place of its own tokens.

    backend = session_backend()
    users = FastAPIUsers[User, UUID](get_user_manager, [backend])
    app.include_router(users.get_auth_router(backend))

A sign-in begins a session under a new token, which lists and can be ended elsewhere; a sign-out ends it.
The middleware gives the cookie, and with `Rules(header_tokens=True)` takes tokens in headers, too.
"""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi_users import exceptions
from fastapi_users.authentication import AuthenticationBackend

from sojourn.adapters.fastapi import CurrentSession, SessionCookie, current_session, session_cookie
from sojourn.session import TooMany

TOO_MANY = 409


class _Scheme(SessionCookie):
    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]  # FastAPI injects
        """Return the session's token, or None if nobody is signed in."""
        visit = current_session(request)
        return None if visit.user_id is None else visit.token


class SessionTransport:
    """Leaves the cookie to the middleware."""

    def __init__(self) -> None:
        self.scheme = _Scheme(session_cookie.model.name)

    async def get_login_response(self, token: str) -> Response:  # noqa: ARG002  # fastapi-users'
        return Response(status_code=204)

    async def get_logout_response(self) -> Response:
        return Response(status_code=204)

    @staticmethod
    def get_openapi_login_responses_success() -> dict[int | str, dict[str, Any]]:
        return {204: {"model": None}}

    @staticmethod
    def get_openapi_logout_responses_success() -> dict[int | str, dict[str, Any]]:
        return {204: {"model": None}}


class SessionStrategy:
    """Signs users in and out of this request's session."""

    def __init__(self, visit: CurrentSession) -> None:
        self._visit = visit

    async def read_token(self, token: str | None, user_manager: Any) -> Any:  # noqa: ARG002  # the session's
        """Return who is signed in, if the user still exists."""
        user_id = self._visit.user_id
        if user_id is None:
            return None
        try:
            return await user_manager.get(user_manager.parse_id(user_id))
        except (exceptions.UserNotExists, exceptions.InvalidID):
            return None

    async def write_token(self, user: Any) -> str:
        """Begin a session. Raises HTTPException (409) if the user has as many as allowed."""
        begun = await self._visit.begin(str(user.id))
        if isinstance(begun, TooMany):
            said = f"You are signed in {begun.limit} times, which is the most allowed."
            raise HTTPException(TOO_MANY, {"code": "too_many_sessions", "error": said})
        return self._visit.token or ""

    async def destroy_token(self, token: str, user: Any) -> None:  # noqa: ARG002  # the session's
        await self._visit.end()


def session_strategy(session: CurrentSession) -> SessionStrategy:
    """Return this request's; a dependency."""
    return SessionStrategy(session)


def session_backend(name: str = "sojourn") -> AuthenticationBackend[Any, Any]:
    """Return fastapi-users' backend over our sessions."""
    transport: Any = SessionTransport()
    strategy: Any = session_strategy
    return AuthenticationBackend(name=name, transport=transport, get_strategy=strategy)


__all__ = ["SessionStrategy", "SessionTransport", "session_backend", "session_strategy"]
