"""What opens a session of Django's besides a cookie: keys."""

from __future__ import annotations

from collections.abc import Callable

from sojourn.adapters.desk import Desk
from sojourn.adapters.django_settings import lazy_desk
from sojourn.adapters.django_tests import token_of_key
from sojourn.errors import InvalidToken
from sojourn.service.request_session import RequestSession
from sojourn.session import Check, Save, Session

ID = "ses_"
KEY_MAX = 40
"""Characters of the columns in which applications keep `session_key`; ours has fewer."""
VALUE_MAX = 4_096
"""Characters of a cookie's value that any browser keeps."""


def keyed(
    key: str | None, seen: tuple[str | None, str | None] = (None, None)
) -> Callable[[Desk], RequestSession]:
    """Return what makes a visit from a key alone, and from the agent and address of who sent it, if known."""
    agent, ip = seen

    def make(desk: Desk) -> RequestSession:
        token = token_of_key(key)
        value = key if token is None else desk.codec.encode(token)
        if value and len(value) > VALUE_MAX:
            value = None
        # As over HTTPS: what is sent where is for whoever holds the key to see to.
        cookie = f"{desk.rules.cookie.sent_as(https=True)}={value}" if value else ""
        return desk.visit(
            cookies=cookie,
            path="/",
            peer=ip or None,
            scheme="https",
            header=lambda name: agent if name == "user-agent" else None,
        )

    return make


def live(key: str | None) -> Session | None:
    """Look up the session of a key; the store is asked only if the key was signed here."""
    try:
        token = token_of_key(key) or lazy_desk.get().codec.decode(key or "")
    except InvalidToken:
        return None
    return look_up(token)


def is_live(key: str | None) -> bool:
    """Tell whether a live session has this public id."""
    if not key or not key.startswith(ID) or len(key) > KEY_MAX:
        return False
    desk = lazy_desk.get()
    gone = getattr(desk.sessions, "gone", None)
    if gone is None:  # a server's, or Express's: a change of nothing tells as well
        return desk.verbs["save"]([Save(id=key)])[0] is not None
    return gone([key])[0] is None


def look_up(token: str) -> Session | None:
    found = lazy_desk.get().verbs["check"]([Check(token, touch=False)])[0]
    return found if isinstance(found, Session) else None


__all__ = ["is_live", "keyed", "live", "look_up"]
