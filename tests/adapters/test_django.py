"""Sessions for Django: requests, under our middleware and under Django's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import AsyncClient, Client, override_settings
from tests.adapters import cases
from tests.adapters.cases import Driver, Hooks, World, wsgi_driver
from tests.adapters.token_cases import TokenCases

from tests.adapters.django_project import AUTH, DJANGOS, OURS, project  # isort: skip

from sojourn.adapters.desk import Desk
from sojourn.errors import StoreUnavailable


def drivers(middleware: str) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(desk: Desk, hooks: Hooks) -> Driver:
            stack.enter_context(
                project(hooks, SOJOURN={"desk": desk}, MIDDLEWARE=[middleware, AUTH])
            )
            return wsgi_driver(WSGIHandler())

        yield make


@pytest.fixture
def driver_for() -> Iterator[Any]:
    yield from drivers(OURS)


@pytest.fixture
def world(empty_sqlite: str, driver_for: Any) -> Iterator[World]:
    with cases.world(empty_sqlite, driver_for) as made:
        yield made


class TestDjango(cases.AdapterCases, cases.CookieCases, cases.RotationCases):
    """Under our middleware."""


class TestDjangoWithTokens(TokenCases):
    pass


class TestDjangoInParallel(cases.ParallelCases):
    """Under our middleware."""


class TestDjangosOwnMiddleware(cases.AdapterCases):
    """Under Django's, which sends the cookie again whenever something was assigned."""

    sends_again = True

    @pytest.fixture
    def driver_for(self) -> Iterator[Any]:
        yield from drivers(DJANGOS)


def test_a_page_that_does_not_look_at_its_session_asks_nothing(world: World) -> None:
    browser = world.signed_in()
    with world.counting() as statements:
        answer = browser.get("/plain")
    assert statements == []
    assert answer.all("vary") == []


def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("connection refused by db.internal:5432")


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("verb", ["load", "save"])
def test_while_the_store_is_down_people_read_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, accept: str
) -> None:
    """Also where saving fails after the view has answered. Nobody is signed out by it."""
    browser = world.signed_in()
    cookies = dict(browser.cookies)
    browser.headers = {"Accept": accept}
    with monkeypatch.context() as patch:
        patch.setattr(world.store, verb, down)
        answer = browser.post("/set", key="x", value="1")
        assert browser.get("/plain").status == 200
    assert answer.status == 503
    assert answer.all("retry-after")
    assert b"db.internal" not in answer.body
    if accept == "text/html":
        assert b"try again" in answer.body
    else:
        assert json.loads(answer.body)["code"] == "store_unavailable"
    assert browser.cookies == cookies
    assert browser.get("/get", key="x").json["user"] == "ann"


def test_a_page_that_asks_nothing_is_served_though_each_request_would_renew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SESSION_SAVE_EVERY_REQUEST` makes no 503 of a static page while the store is down."""
    with (
        override_settings(SESSION_SAVE_EVERY_REQUEST=True),
        contextmanager(drivers)(OURS) as make,
        cases.world(f"sqlite:///{tmp_path}/down.db", make) as world,
    ):
        browser = world.signed_in()
        assert browser.get("/plain").set_cookie is not None

        def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        monkeypatch.setattr(world.desk, "run", down)
        answer = browser.get("/plain")
        assert (answer.status, answer.set_cookie) == (200, None)
        assert browser.get("/get", key="k").status == 503


def test_impersonation_is_visible_and_reversible(world: World) -> None:
    browser = world.signed_in("root")
    assert browser.post("/impersonate", user="ann").json == {"really": "root"}
    assert browser.get("/get", key="x").json["user"] == "ann"
    assert browser.post("/back").json == {"really": None}
    assert browser.get("/get", key="x").json["user"] == "root"


def test_djangos_test_client_signs_in_and_out(world: World) -> None:
    client = Client()
    client.login(username="ann")
    assert client.get("/get", {"key": "x"}).json()["user"] == "ann"
    session = client.session
    session["x"] = 5
    session.save()
    assert client.get("/get", {"key": "x"}).json()["value"] == 5
    client.logout()
    assert client.get("/get", {"key": "x"}).json()["user"] is None
    assert world.rows() == 0


def test_async_views_work(world: World) -> None:
    async def visit() -> list[Any]:
        client = AsyncClient()
        await client.alogin(username="ann")
        answers = [await client.get("/asynchronous") for _ in range(2)]
        return [answer.json() for answer in answers]

    assert asyncio.run(visit()) == [{"seen": n, "user": "ann"} for n in (0, 1)]


def test_under_djangos_middleware_saving_every_request_makes_no_rows(empty_sqlite: str) -> None:
    """Not for visitors without a cookie, nor for those with one that was made up."""
    with (
        contextmanager(drivers)(DJANGOS) as make,
        cases.world(empty_sqlite, make) as world,
        override_settings(SESSION_SAVE_EVERY_REQUEST=True),
    ):
        browser = world.browser()
        assert browser.get("/plain").set_cookie is None
        browser.cookies = {"sojourn": "x" * 40}
        assert browser.get("/plain").status == 200
        assert browser.get("/get", key="x").status == 200
        assert world.rows() == 0


def test_a_page_that_made_itself_of_an_outage_is_replaced(world: World) -> None:
    """A fault that surfaces outside the view, here in another middleware's hands, is a 503 too."""
    browser = world.signed_in()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.store, "load", down)
        with override_settings(
            MIDDLEWARE=[OURS, AUTH, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
        ):
            stricter = cases.Browser(wsgi_driver(WSGIHandler()))
            stricter.cookies = browser.cookies
            assert stricter.get("/plain").status == 503
