"""Sockets of Django Channels know the session that a page of the same site has begun."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.sessions import SessionMiddlewareStack
from tests.adapters import cases
from tests.adapters.django_project import DJANGOS, OURS
from tests.adapters.test_django import drivers

from sojourn.cookie import CookieOptions
from sojourn.service.request_session import Rules

BY_SETTINGS = Rules(cookie=CookieOptions(host_prefix=False))
"""As Django's settings make them: one name for the cookie, whatever the scheme."""


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("middleware", [OURS, DJANGOS], ids=["ours", "django's"])
def test_a_socket_reads_what_a_page_wrote(empty_sqlite: str, middleware: str, https: bool) -> None:
    """Channels looks for the cookie that SESSION_COOKIE_NAME names: browsers must get it by that name."""
    heard: list[Any] = []

    async def consumer(scope: Any, _receive: Any, _send: Any) -> None:
        heard.append(await sync_to_async(lambda: scope["session"].get("x"))())

    with (
        contextmanager(drivers)(middleware) as make,
        cases.world(empty_sqlite, make, rules=BY_SETTINGS) as world,
    ):
        browser = world.signed_in(https=https)
        browser.post("/set", key="x", value="hello")
        told = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        scope = {
            "type": "websocket",
            "path": "/live",
            "scheme": "wss" if https else "ws",
            "headers": [(b"cookie", told.encode())],
            "query_string": b"",
        }
        asyncio.run(SessionMiddlewareStack(consumer)(scope, None, None))
    assert heard == ["hello"]
