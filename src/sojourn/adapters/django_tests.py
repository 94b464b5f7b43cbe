"""While Django's test runner is at work (`manage.py test`, pytest-django): a store of the tests' own.

It is in memory and is emptied after each test, as TestCase rolls the database back. Django's test client
puts `session.session_key` into its cookie, which elsewhere is no secret and opens nothing; here, and only
for sessions of this process, it does.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from typing import Any

from sojourn.adapters.desk import Desk
from sojourn.cookie import Codec, SignedTokens, cookie_values
from sojourn.errors import CookiesTooLarge
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.session import Session
from sojourn.stores.memory import MemoryStore
from sojourn.token import TokenKind, new_token

KNOWN_MAX = 1_000
"""Sessions of tests whose tokens are kept, the latest."""

_stores: dict[str, MemoryStore] = {}
_tokens: OrderedDict[str, str] = OrderedDict()


def in_tests() -> bool:
    """Tell whether Django's test environment is set up."""
    utils = sys.modules.get("django.test.utils")  # not imported where nobody tests
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001  # the only sign


def open_test_desk(rules: Rules, secrets: list[str] | None, reset: Any) -> Desk:
    """Open a desk on a store in memory; `reset` is called after each test."""
    _after_each_test(reset)
    keys = secrets or [new_token(TokenKind.SESSION)]
    # A test that overrides a setting, such as SECRET_KEY, gets another desk, and keeps its sessions.
    service = SessionService(_stores.setdefault("of this test", MemoryStore()))
    return Desk(service, SignedTokens([each.encode() for each in keys]), rules=rules)


def remember(session: Session, token: str) -> str:
    """Return a session's key, noting what it opens."""
    _tokens[session.id] = token
    _tokens.move_to_end(session.id)
    while len(_tokens) > KNOWN_MAX:
        _tokens.popitem(last=False)
    return session.id


def token_of_key(key: str | None) -> str | None:
    """Return what a key opens, if this is a test and the session was begun in it."""
    return _tokens.get(key) if key and in_tests() else None


def with_tokens(header: str, name: str, codec: Codec) -> str:
    """Put what they open in the place of keys in a Cookie header."""
    if not _tokens or not in_tests():
        return header
    try:
        keys = [value for value in cookie_values(header, name) if value in _tokens]
    except CookiesTooLarge:
        return header
    for key in keys:
        header = header.replace(f"{name}={key}", f"{name}={codec.encode(_tokens[key])}")
    return header


@functools.cache
def _after_each_test(reset: Any) -> None:
    from django.test import SimpleTestCase  # noqa: PLC0415  # only while tests run

    tear_down = SimpleTestCase._post_teardown  # noqa: SLF001  # where TestCase rolls back; there is no hook

    @functools.wraps(tear_down)
    def with_sessions(self: Any) -> None:
        try:
            tear_down(self)
        finally:
            _tokens.clear()
            _stores.clear()
            reset()

    SimpleTestCase._post_teardown = with_sessions  # noqa: SLF001  # see above
