"""Sessions as FastAPI dependencies, over `sojourn.adapters.asgi.SessionMiddleware`.

    install(app)

    @app.get("/me")
    async def me(session: SignedIn) -> dict[str, str]: ...

    @app.post("/password", dependencies=[require_recent_sign_in(minutes=5)])
    async def change_password(session: SignedIn) -> None: ...

Refusals are 401 with a reason code: problem documents (pages, for browsers) where `install` was used, and
with `app.add_middleware(SessionMiddleware)` alone what FastAPI makes of an HTTPException. One that only a
fresh sign-in mends says so as RFC 9470 does:
`WWW-Authenticate: Bearer error="insufficient_user_authentication", max_age=300`.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.openapi import utils as openapi
from fastapi.openapi.models import APIKey
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase

from sojourn.adapters.asgi import AsyncVisit, SessionMiddleware
from sojourn.clock import MINUTE
from sojourn.cookie import HOST_PREFIX, CookieOptions
from sojourn.errors import Unauthenticated
from sojourn.people.sign_in import STATUS, sign_in_problem
from sojourn.session import Gone


class Refused(HTTPException):
    """Nobody is signed in, or not recently enough."""

    def __init__(self, fault: Unauthenticated, challenge: str = "Bearer", **more: str) -> None:
        said = {"code": fault.code, "error": fault.message, "details": fault.hint, **more}
        super().__init__(STATUS, said, {"WWW-Authenticate": challenge})
        self.fault, self.challenge, self.more = fault, challenge, more


def install(app: FastAPI, **options: Any) -> None:
    """Add the middleware, with its options, and let refusals be problem documents."""
    desk, rules = options.get("desk"), options.get("rules")
    rules = rules if desk is None else desk.rules
    if rules is not None:
        session_cookie.model.name = rules.cookie.sent_as(https=True)
    app.add_middleware(SessionMiddleware, **options)
    app.add_exception_handler(Refused, answer)


async def answer(request: Request, refused: Exception) -> Response:
    """Answer a refusal: a page for a browser, a problem document for anything else."""
    assert isinstance(refused, Refused)
    accept = request.headers.get("accept", "")
    status, headers, body = sign_in_problem(
        refused.fault, accept, challenge=refused.challenge, more=refused.more
    )
    return Response(body, status, dict(headers))


def current_session(connection: HTTPConnection) -> AsyncVisit:
    """Return this request's session, whether anybody is signed in or not."""
    visit = connection.scope.get("state", {}).get("sojourn")
    if not isinstance(visit, AsyncVisit):
        raise RuntimeError(  # noqa: TRY004 - an installation that lacks a line, not a wrong argument
            "There is no session: add `app.add_middleware(sojourn.adapters.asgi.SessionMiddleware)`."
        )
    return visit


CurrentSession = Annotated[AsyncVisit, Depends(current_session)]
"""This request's session, whether anybody is signed in or not."""


class SessionCookie(SecurityBase):
    """The session's cookie, as a security scheme: what OpenAPI is told of endpoints for the signed-in."""

    def __init__(self, name: str) -> None:
        self.scheme_name = SCHEME
        self.model: APIKey = APIKey.model_validate(
            {"in": "cookie", "name": name, "description": "The session's cookie, HttpOnly."}
        )

    async def __call__(self) -> None:
        """Nothing: `signed_in` decides."""


SCHEME = "SojournSession"
session_cookie = SessionCookie(HOST_PREFIX + CookieOptions().name)


def signed_in(
    session: CurrentSession, _scheme: Annotated[None, Security(session_cookie)] = None
) -> AsyncVisit:
    """Return the session of a signed-in user; refuse with 401 and the reason otherwise."""
    if session.user_id is None:
        raise refusal(session.gone)
    return session


SignedIn = Annotated[AsyncVisit, Depends(signed_in)]
"""The session of a signed-in user; 401 if nobody is."""


def require_recent_sign_in(*, minutes: float, level: int = 1) -> Any:
    """Return a dependency that refuses unless the user proved who they are so recently, at this level
    of authentication or above (ASVS 5.0 7.5.1, 7.5.3)."""

    def check(session: SignedIn) -> AsyncVisit:
        if not session.recent(round(minutes * MINUTE), level):
            raise Refused(
                Unauthenticated(
                    "This needs a fresh sign-in.",
                    code="sign_in_not_recent",
                    hint="Ask the user to prove who they are, then call `elevate`.",
                ),
                f'Bearer error="insufficient_user_authentication", max_age={round(minutes * 60)}',
            )
        return session

    return Depends(check)


def refusal(gone: Gone | None) -> Refused:
    """Say why nobody is signed in: `session_absent`, `session_idle`, `session_expired`,
    `session_ended` (and by whom, if not by its user), `session_forged`."""
    reason = "absent" if gone is None else gone.reason.value
    more: dict[str, str] = {}
    if gone is not None and gone.end_reason:
        more["reason"] = gone.end_reason
    if gone is not None and gone.ended_by:
        more["endedBy"] = gone.ended_by
    hint = "Sign in, then try again."
    fault = Unauthenticated(_WORDS[reason], code=f"session_{reason}", hint=hint)
    return Refused(fault, **more)


def _tell_of_401() -> None:
    """Let the OpenAPI of applications say that endpoints for the signed-in may answer 401. FastAPI has no
    word for what a dependency answers, so each operation is seen to as it is written."""
    write = getattr(openapi, "get_openapi_path", None)
    if (
        write is None
    ):  # pragma: no cover - a FastAPI that writes it otherwise; then the 401 is not told
        return

    @functools.wraps(write)
    def with_401(*args: Any, **kwargs: Any) -> Any:
        written = write(*args, **kwargs)
        for operation in (written[0] if written else {}).values():
            if any(SCHEME in each for each in operation.get("security", ())):
                operation.setdefault("responses", {}).setdefault(str(STATUS), _REFUSAL)
        return written

    openapi.get_openapi_path = with_401


_REFUSAL = {
    "description": "Nobody is signed in, or not recently enough.",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("code", "error", "details")},
            }
        }
    },
}
_tell_of_401()

_WORDS = {
    "absent": "Nobody is signed in.",
    "idle": "You were signed out because you were away for long.",
    "expired": "Your sign-in has run out.",
    "ended": "You have been signed out.",
    "forged": "The cookie was not made here.",
}
