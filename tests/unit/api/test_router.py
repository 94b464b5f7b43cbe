"""Which endpoint a method and a path lead to, and what is answered where none is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.api_harness import Answer, api, send

from sojourn.api.app import _described as openapi_of
from sojourn.api.limits import Blocking
from sojourn.api.router import Route, Router
from sojourn.errors import Overloaded
from sojourn.service.caller import Abandoned
from sojourn.wire.reply import Reply


def route(method: str, path: str, name: str) -> Route:
    """A route whose answer is its name, and what its path names."""

    async def endpoint(scope: Any, _receive: Any) -> Reply:
        return Reply(200, [], json.dumps([name, scope["method"], scope["path_params"]]).encode())

    return Route(method, path, endpoint)


async def full(_scope: Any, _receive: Any) -> Reply:
    raise Overloaded("There is no room.")


async def hung_up(_scope: Any, _receive: Any) -> Reply:
    raise Abandoned


async def broken(_scope: Any, _receive: Any) -> Reply:
    raise ValueError("a bug")


ROUTER = Router(
    [
        route("GET", "/", "front"),
        route("GET", "/things", "list"),
        route("POST", "/things", "make"),
        route("GET", "/things/all", "all"),
        route("GET", "/things/{thingId}", "one"),
        route("DELETE", "/things/{gone}", "end"),
        route("GET", "/things/{thingId}/parts/{partId}", "part"),
        route("PUT", "/things/special/parts", "special"),
        route("PUT", "/things/special/{what}", "what"),
        Route("GET", "/broken", broken),
        Route("GET", "/full", full),
        Route("GET", "/hung-up", hung_up),
    ]
)


def ask(method: str, path: str, **request: Any) -> Answer:
    return asyncio.run(send(ROUTER, method, path, **request))


@pytest.mark.parametrize(
    ("method", "path", "name", "named"),
    [
        ("GET", "/", "front", {}),
        ("GET", "/things", "list", {}),
        ("GET", "/things?a=b", "list", {}),
        ("POST", "/things", "make", {}),
        ("GET", "/things/all", "all", {}),
        ("GET", "/things/7", "one", {"thingId": "7"}),
        ("DELETE", "/things/7", "end", {"gone": "7"}),
        ("GET", "/things/a%2Fb", "one", {"thingId": "a%2Fb"}),
        ("GET", "/things/%FF/parts/x", "part", {"thingId": "%FF", "partId": "x"}),
        ("PUT", "/things/special/parts", "special", {}),
        ("PUT", "/things/special/else", "what", {"what": "else"}),
    ],
)
def test_leads_there(method: str, path: str, name: str, named: dict[str, str]) -> None:
    assert ask(method, path).json == [name, method, named]


@pytest.mark.parametrize(
    "path",
    [
        *("/Things", "/thing", "/things/7/parts", "/things/7/parts/x/y", "/things%2F7", "*"),
        *("//", "//things", "/things//7", "/nothing/", "/things//", "/things/7//", "things"),
    ],
)
def test_leads_nowhere(path: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = ask(method, path)
        assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "to"),
    [("/things/", "../things"), ("/things/7/", "../7"), ("/things/?a=b", "../things?a=b")],
)
def test_a_slash_too_many_leads_to_the_path_that_is_there(path: str, to: str) -> None:
    for method in ("GET", "DELETE"):
        answer = ask(method, path)
        assert (answer.status, answer.header("location")) == (308, to)


def test_a_word_is_preferred_and_there_is_no_second_try() -> None:
    """`special` is a word among these paths, so what a name would allow there is not looked for."""
    assert ask("GET", "/things/special/parts/x").status == 404
    assert ask("DELETE", "/things/special").status == 404


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/things", "GET, HEAD, OPTIONS, POST"),
        ("/things/7", "DELETE, GET, HEAD, OPTIONS"),
        ("/things/special/parts", "OPTIONS, PUT"),
    ],
)
def test_says_which_methods_a_path_takes(path: str, allow: str) -> None:
    refused = ask("PATCH", path)
    assert (refused.status, refused.code) == (405, "method_not_allowed")
    told = ask("OPTIONS", path)
    assert (told.status, told.body) == (204, b"")
    assert refused.header("allow") == told.header("allow") == allow


def test_head_is_get_without_its_body() -> None:
    seen, left_out = ask("GET", "/things/7"), ask("HEAD", "/things/7")
    assert left_out.body == b""
    assert (left_out.status, left_out.headers) == (seen.status, seen.headers)
    assert ask("HEAD", "/things/special/parts").status == 405


@pytest.mark.parametrize("host", ["a b", "a/b", 'a"b', "a?b", "a\tb"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    answer = ask("GET", "/things", headers=[("host", host)])
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize("host", ["", "a.example:80", "[::1]:8700", "a_b~"])
def test_a_host_is_taken(host: str) -> None:
    assert ask("GET", "/things", headers=[("host", host)]).status == 200


def test_a_fault_nobody_foresaw_is_told_without_a_trace() -> None:
    answer = ask("GET", "/broken")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"a bug" not in answer.body


def test_the_same_place_twice_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="/things"):
        Router([route("GET", "/things", "a"), route("GET", "/things", "b")])


@pytest.mark.parametrize("path", ["/full", "/hung-up"])
def test_a_refusal_is_no_fault_of_ours(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever cannot be served now is told so, and the log keeps its traces for what nobody foresaw."""
    answer = ask("GET", path)
    assert answer.status == 503
    assert caplog.text == ""
    if path == "/full":
        assert (answer.code, answer.header("retry-after")) == ("overloaded", "1")


@pytest.mark.parametrize("path", ["/openapi.json", "/account/security"])
def test_no_page_takes_a_lack_of_room_for_a_fault(path: str) -> None:
    with api() as world:
        context = world.app.context
        context.strangers = context.people_calls = Blocking(waiting_max=0)
        openapi_of.cache_clear()
        assert world.call("GET", path).status == 503
