"""Fixtures for the tests of applications; pytest finds them where Sojourn is installed.

    def test_the_orders_are_mine(client, signed_in):
        signed_in(client, "ann")
        assert client.get("/orders").status_code == 200

`sojourn_store`: sessions of this test alone, in memory, whatever the application's settings name.
`signed_in(client, user)`: signs a test client in, of Starlette, FastAPI, httpx, Flask or Django.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sojourn.adapters.testing import SignIn
    from sojourn.service.sessions import SessionService

FIRST = "sojourn_store"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let sessions be kept in memory before a client's lifespan opens the store that the settings name,
    whichever of the two a test names first."""
    for item in items:
        names: list[str] = getattr(item, "fixturenames", [])
        if FIRST in names:
            names.remove(FIRST)
            names.insert(0, FIRST)


@pytest.fixture
def sojourn_store() -> Iterator[SessionService]:
    """Sessions of this test alone: every desk that an adapter opens meanwhile keeps them here."""
    from sojourn.adapters.testing import sessions_in_memory  # noqa: PLC0415  # costs who does not use it nothing

    with sessions_in_memory() as service:
        yield service


@pytest.fixture
def signed_in(sojourn_store: SessionService) -> SignIn:
    """Return a function that signs a test client in: `signed_in(client, user, data={…})`."""
    from sojourn.adapters.testing import sign_in_with  # noqa: PLC0415  # likewise

    sign_in: Callable[..., Any] = sign_in_with(sojourn_store)
    return sign_in
