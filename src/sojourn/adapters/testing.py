"""For tests of applications: sessions in memory, and test clients that are signed in. See `pytest_plugin`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from sojourn.adapters import desk as desks
from sojourn.adapters.desk import Desk, LazyDesk
from sojourn.cookie import SignedTokens
from sojourn.errors import SojournError
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun, user_text
from sojourn.stores.memory import MemoryStore
from sojourn.token import TokenKind, new_token


class SignIn(Protocol):
    def __call__(
        self, client: Any, user: Any, *, data: Mapping[str, Any] | None = None, level: int = 1
    ) -> None:
        """Sign a test client in; a client of Django's takes an instance of the user's model. `data`: what the
        session holds besides. Raises TypeError for a client of another kind."""


@contextlib.contextmanager
def sessions_in_memory() -> Iterator[SessionService]:
    """Let each desk that adapters open meanwhile keep its sessions in one store in memory. Desks that were
    handed in by the application stay as they are; those that were open are set aside until the end."""
    service = SessionService(MemoryStore())
    codec = SignedTokens([new_token(TokenKind.SESSION).encode()])

    def instead(rules: Rules | None, trusted_proxies: Sequence[str]) -> Desk:
        return Desk(service, codec, rules=rules, trusted_proxies=trusted_proxies)

    before, desks.instead = desks.instead, instead
    aside = [(each, each.put_aside()) for each in desks.lazy_desks()]
    try:
        yield service
    finally:
        desks.instead = before
        for each in desks.lazy_desks():
            each.put_aside()
        for each, opened in aside:
            each.put_back(opened)


def sign_in_with(service: SessionService) -> SignIn:
    """Return what signs test clients in, on these sessions."""

    def signed_in(
        client: Any, user: Any, *, data: Mapping[str, Any] | None = None, level: int = 1
    ) -> None:
        values = dict(data or {})
        if hasattr(client, "force_login"):
            _django(client, user, values)
        elif hasattr(client, "session_transaction"):
            _flask(client, user, values, level)
        elif hasattr(client, "cookies") and hasattr(client, "base_url"):
            _http(client, service, user, values, level)
        else:
            raise TypeError(f"There is no way to sign a {type(client).__name__} in.")

    return signed_in


def _django(client: Any, user: Any, data: dict[str, Any]) -> None:
    client.force_login(user)
    if data:
        session = client.session
        session.update(data)
        session.save()


def _flask(client: Any, user: Any, data: dict[str, Any], level: int) -> None:
    """Sign in as `visit.begin` does and, where it is installed, as Flask-Login does."""
    app = client.application
    login_manager = getattr(app, "login_manager", None)
    user_id = user.get_id() if hasattr(user, "get_id") else user
    with client.session_transaction() as session:
        session.sojourn.begin(user_id, level=level)
        if login_manager is not None:
            with app.test_request_context(environ_base=client.environ_base):
                found = login_manager._session_identifier_generator()  # noqa: SLF001  # as login_user does
            session.update(_user_id=user_text(user_id), _fresh=True, _id=found)
        session.update(data)


def _http(
    client: Any, service: SessionService, user: Any, data: dict[str, Any], level: int
) -> None:
    app = getattr(client, "app", None) or getattr(getattr(client, "_transport", None), "app", None)
    build = getattr(app, "build_middleware_stack", None)  # Starlette's, which waits for a request
    if app is not None and build is not None and getattr(app, "middleware_stack", 1) is None:
        app.middleware_stack = build()
    user_id = getattr(user, "id", user)
    (begun,) = service.begin([Begin(user_id=user_text(user_id), data=data, level=level)])
    assert isinstance(begun, Begun)  # there is no limit
    host, https = client.base_url.host, client.base_url.scheme == "https"
    domain = host if "." in host else f"{host}.local"  # as http.cookiejar has it
    found = list(_desks(service))
    if not found:
        raise TypeError(
            "No application with Sojourn's middleware, and no `desk` of its own, is there."
        )
    for desk in found:
        name = desk.rules.cookie.sent_as(https)
        client.cookies.set(name, desk.codec.encode(begun.token), domain=domain, path="/")


def _desks(service: SessionService) -> Iterator[Desk]:
    """Yield this process's desks on these sessions, opened."""
    for lazy in desks.lazy_desks():
        with contextlib.suppress(
            SojournError
        ):  # an application of another test, with wrong settings
            desk = _opened(lazy)
            if desk.sessions is service:
                yield desk


def _opened(lazy: LazyDesk) -> Desk:
    return lazy.opened or lazy.get()


__all__ = ["SignIn", "sessions_in_memory", "sign_in_with"]
