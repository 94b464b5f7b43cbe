"""A tab that is left open: the page that reads itself anew is no use of the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import Answer, Api, api
from tests.unit.console.test_console import HERE, NAME, SECRET, get, sign_in

from sojourn.clock import MINUTE
from sojourn.service.operators import TIMEOUTS

SIGNED_OUT = b"the console had not been used for half an hour"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


def poll(world: Api, path: str, cookie: str) -> Answer:
    sent = [*HERE, ("cookie", f"{NAME}={cookie}"), ("hx-request", "true")]
    return world.call("GET", f"/console/{path}", headers=sent)


def wait(world: Api, minutes: int) -> None:
    world.clock.advance(milliseconds=minutes * MINUTE)


@pytest.mark.parametrize("path", ["overview", "seats", "denials", "banner?seen=1"])
@pytest.mark.parametrize("restarts", [False, True])
def test_an_open_tab_ends_a_session_by_itself(world: Api, path: str, restarts: bool) -> None:
    """Whether or not the server has seen the cookie before."""
    cookie = sign_in(world)
    assert get(world, "overview", cookie).status == 200
    assert TIMEOUTS.idle_timeout == 30 * MINUTE
    for _ in range(2):
        wait(world, 14)
        if restarts:
            world.app.context.proofs["console_cookie"].forget(cookie)
        assert poll(world, path, cookie).status == 200
    wait(world, 3)
    assert SIGNED_OUT in poll(world, path, cookie).body
    assert get(world, "overview", cookie).status == 401


def test_whoever_looks_stays_signed_in(world: Api) -> None:
    cookie = sign_in(world)
    for _ in range(3):
        wait(world, 14)
        assert poll(world, "overview", cookie).status == 200
        assert get(world, "seats", cookie).status == 200
    wait(world, 14)
    assert poll(world, "overview", cookie).status == 200
