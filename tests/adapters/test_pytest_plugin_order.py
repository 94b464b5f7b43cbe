"""The pytest plugin in suites of applications, each run in a process of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

APPLICATION = """
import asyncio

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sojourn.adapters.asgi import SessionMiddleware

SECRET = "ein langes Geheimnis, das sonst niemand kennt 8471"

def make(tmp_path):
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request):
        return request.state.sojourn.user_id

    app.add_middleware(SessionMiddleware, f"sqlite:///{tmp_path}/real.db", secret=SECRET)
    return app
"""
LIFESPAN = """
@pytest.fixture
def client(tmp_path):
    with TestClient(make(tmp_path)) as client:
        client.get("/who")  # opens the store, as a lifespan that reads a session does
        yield client
    assert not (tmp_path / "real.db").exists()

def test_signed_in(client, signed_in):
    signed_in(client, "ann")
    assert client.get("/who").json() == "ann"

class TestOfAClass:
    @pytest.mark.parametrize("user", ["ann", "bob"])
    def test_method(self, client, user, signed_in):
        signed_in(client, user)
        assert client.get("/who").json() == user

def test_without_us(tmp_path):
    pass
"""

WIDER = """
pytestmark = pytest.mark.usefixtures("sojourn_store")

@pytest.fixture(scope="module")
def client(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("site")
    with TestClient(make(tmp_path)) as client:
        client.get("/who")
        yield client
    assert not (tmp_path / "real.db").exists()

def test_nobody(client):
    assert client.get("/who").json() is None

def test_signed_in(client, signed_in):
    signed_in(client, "ann")
    assert client.get("/who").json() == "ann"
"""
ASYNC = """
def test_async(tmp_path, signed_in):
    async def scenario():
        transport = httpx2.ASGITransport(make(tmp_path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            signed_in(client, "ann")
            return (await client.get("/who")).json()

    assert asyncio.run(scenario()) == "ann"
"""


def test_the_store_is_there_before_the_client_is(pytester: pytest.Pytester) -> None:
    """Though a test names its client first."""
    pytester.makepyfile(APPLICATION + LIFESPAN)
    run(pytester).assert_outcomes(passed=4)


def test_a_client_of_a_wider_scope(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(APPLICATION + WIDER)
    run(pytester).assert_outcomes(passed=2)


def test_an_async_client_before_its_first_request(pytester: pytest.Pytester) -> None:
    """In a process in which no other application is."""
    pytester.makepyfile(APPLICATION + ASYNC)
    run(pytester).assert_outcomes(passed=1)


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
