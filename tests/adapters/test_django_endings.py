"""Requests to Django that end badly, or change the session too late."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import alogin, login
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from tests.adapters.asgi_site import DEADLINE, World
from tests.adapters.cases import Browser, wsgi_driver
from tests.adapters.django_project import AUTH, OURS
from tests.adapters.people.models import Everybody
from werkzeug.test import Client

from sojourn.errors import Conflict

SITE = "http://app.example"

reached = asyncio.Event()


async def stuck(request: HttpRequest) -> HttpResponse:
    await alogin(request, Everybody().get_user("ann"))
    await asyncio.to_thread(lambda: request.session.session_key)  # begins the session
    reached.set()
    await asyncio.Event().wait()
    raise AssertionError


def enter(request: HttpRequest) -> HttpResponse:
    login(request, Everybody().get_user("ann"))
    return JsonResponse({})


def broken(request: HttpRequest) -> HttpResponse:
    request.session.cycle_key()
    if "login" in request.GET:
        login(request, Everybody().get_user("ann"))
        assert request.session.session_key
    raise RuntimeError("a bug")


def basket(request: HttpRequest) -> HttpResponse:
    request.session["basket"] = 1
    return JsonResponse({})


def who(request: HttpRequest) -> HttpResponse:
    names = {"user": "_auth_user_id", "basket": "basket"}
    return JsonResponse({name: request.session.get(key) for name, key in names.items()})


def stream(request: HttpRequest) -> HttpResponse:
    def body() -> Iterator[bytes]:
        request.session["late"] = 1
        yield b"x"

    return StreamingHttpResponse(body())


def stream_verb(request: HttpRequest) -> HttpResponse:
    def body() -> Iterator[bytes]:
        request.sojourn.rotate()
        yield b"x"

    return StreamingHttpResponse(body())


def after(get_response: Any) -> Any:
    """A middleware above ours, which writes once the response is made."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        request.session["above"] = 1
        return response

    return middleware


def stream_who(request: HttpRequest) -> HttpResponse:
    if "looked" in request.GET:
        request.session.get("x")

    def body() -> Iterator[bytes]:
        yield str(request.sojourn.user_id).encode()

    return StreamingHttpResponse(body())


VIEWS = (stuck, enter, broken, basket, who, stream, stream_verb, stream_who)
urlpatterns = [path(each.__name__, each) for each in VIEWS]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with override_settings(
        ROOT_URLCONF=__name__, SOJOURN={"desk": made.desk}, MIDDLEWARE=[OURS, AUTH]
    ):
        yield made


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # Django leaves the body of a canceled request
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_canceled_sign_in_leaves_no_session(world: World) -> None:
    async def scenario() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stuck",
            "query_string": b"",
            "headers": [(b"host", b"app.example")],
        }
        asked = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if asked:
                return asked.pop()
            await asyncio.Event().wait()
            return None

        async def send(_: Any) -> None:
            raise AssertionError("answered")

        request = asyncio.ensure_future(ASGIHandler()(scope, receive, send))
        async with asyncio.timeout(DEADLINE):
            await reached.wait()
            assert world.users() == 1
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request

    asyncio.run(scenario())
    gc.collect()
    assert world.users() == 0


@pytest.mark.parametrize("propagate", [False, True])
def test_a_bug_after_a_new_key_signs_nobody_out(world: World, propagate: bool) -> None:
    """Whether Django makes a 500 of it, or lets a debugger have it and no response leaves."""
    browser = Browser(wsgi_driver(WSGIHandler()))
    browser.get("/enter")
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=propagate):
        if propagate:
            with pytest.raises(RuntimeError, match="a bug"):
                browser.get("/broken")
        else:
            assert browser.get("/broken").status == 500
    assert browser.get("/who").json["user"] == "ann"
    assert world.users() == 1


def test_a_sign_in_that_was_never_answered_is_undone(world: World) -> None:
    browser = Browser(wsgi_driver(WSGIHandler()))
    browser.get("/basket")
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(RuntimeError):
        browser.get("/broken", login="1")
    assert browser.get("/who").json == {"user": None, "basket": 1}
    assert world.users() == 0


@pytest.mark.parametrize("where", ["in its body", "in a middleware above"])
def test_what_is_changed_too_late_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    above = [f"{__name__}.after"] if where == "in a middleware above" else []
    with override_settings(MIDDLEWARE=[*above, OURS, AUTH]), caplog.at_level(logging.WARNING):
        answer = Client(WSGIHandler()).get("/who" if above else "/stream", base_url=SITE)
        answer.get_data()
        answer.close()
    (said,) = [each for each in caplog.records if "too_late" in each.getMessage()]
    assert "test_django_endings.py:" in said.getMessage()


def test_a_new_token_in_a_streamed_body_is_refused_in_words(world: World) -> None:
    """It could not be told to the browser; the view has not looked at its session before."""
    browser = Client(WSGIHandler())
    browser.post("/enter", base_url=SITE)
    with pytest.raises(Conflict, match="cannot be given a new token"):
        browser.get("/stream_verb", base_url=SITE).get_data()
    assert browser.get("/who", base_url=SITE).json == {"user": "ann", "basket": None}
    assert world.users() == 1


@pytest.mark.parametrize("looked", [0, 1])
def test_a_body_that_is_the_first_to_ask_who_is_there_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, looked: int
) -> None:
    browser = Client(WSGIHandler())
    browser.post("/enter", base_url=SITE)
    answer = browser.get(f"/stream_who?{'looked' * looked}", base_url=SITE)
    assert answer.get_data() == b"ann"
    answer.close()
    assert (answer.headers.get("Vary") == "Cookie") is bool(looked)
    assert caplog.text.count("session_read_too_late path=/stream_who") == 1 - looked
    assert world.users() == 1
