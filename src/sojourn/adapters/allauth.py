"""django-allauth's tokens of sessions, for its API for apps, on ours.

    HEADLESS_TOKEN_STRATEGY = "sojourn.adapters.allauth.SessionTokens"

Signing in and out works without: this is for apps, whose tokens must be secrets, while a `session_key` of
ours is a public id. For `allauth.usersessions` see `allauth_app`.
"""

from __future__ import annotations

from allauth.headless.tokens.strategies.sessions import SessionTokenStrategy
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from sojourn.adapters.django import SessionStore
from sojourn.adapters.django_settings import lazy_desk
from sojourn.token import TokenKind, is_whole


class SessionTokens(SessionTokenStrategy):  # type: ignore[misc]  # allauth ships no types that mypy follows
    """Gives apps their session's token, which opens it, and never its key, which others may know."""

    def get_session_token(self, request: HttpRequest) -> str | None:
        if isinstance(request.session, SessionStore):  # allauth has just put it there
            request.session.hide_token()
        token: str | None = super().get_session_token(request)
        return token

    def create_session_token(self, request: HttpRequest) -> str:
        _ = request.session.session_key  # begins the session of a sign-in: its token is another
        if request.session.sojourn.token is None:
            request.session.save()
        token = request.session.sojourn.token
        assert isinstance(token, str)  # it was just saved
        return token

    def lookup_session(self, session_token: str) -> SessionBase | None:
        if not (session_token.startswith(TokenKind.SESSION.value) and is_whole(session_token)):
            return None
        store = SessionStore(lazy_desk.get().codec.encode(session_token))
        store.hide_token()
        return store if store.session_key else None


__all__ = ["SessionTokens"]
