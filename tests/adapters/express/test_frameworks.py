"""Every framework, where sessions are kept elsewhere: by a Sojourn server, or in an Express application's
table or keys."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from tests.adapters.cases import Browser, Hooks
from tests.adapters.test_asgi_cases import driver_for as on_asgi
from tests.adapters.test_django import driver_for as on_django
from tests.adapters.test_flask import driver_for as on_flask
from tests.serving import ADMIN_KEY, Served, served

from sojourn.adapters.desk import open_desk

SECRET = "a secret of this test, shared with nobody else at all"
PARALLEL = 24

__all__ = ["on_asgi", "on_django", "on_flask"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=["server", "express_pg", "express_redis"])
def place(request: pytest.FixtureRequest, server: Served) -> dict[str, Any]:
    """Say where, in the words of `open_desk`."""
    if request.param == "server":
        return {"store": server.url, "key": ADMIN_KEY}
    return {"store": f"express+{request.getfixturevalue(request.param)}", "secret": SECRET}


@pytest.mark.parametrize("framework", ["on_asgi", "on_flask", "on_django"])
def test_people_sign_in_and_out_and_lose_nothing(
    framework: str, place: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    make_driver = request.getfixturevalue(framework)
    with closing(open_desk(**place)) as desk:
        driver = make_driver(desk, Hooks())
        here, there, thief = (Browser(driver) for _ in range(3))
        user = f"ann-{framework}"
        here.post("/set", key="cart", value="7")
        before = dict(here.cookies)
        assert before
        assert here.post("/login", user=user).status == 200
        assert here.get("/get", key="cart").json["value"] == "7"
        thief.cookies = before
        assert thief.get("/get", key="cart").json["user"] is None

        def put(number: int) -> int:
            return here.send("POST", "/set", key=f"k{number}", value=str(number)).status

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(put, range(PARALLEL))) == {200}
        kept = [here.get("/get", key=f"k{number}").json["value"] for number in range(PARALLEL)]
        assert kept == [str(number) for number in range(PARALLEL)]

        there.post("/login", user=user)
        assert here.post("/others").json == {"ended": 1}
        assert there.get("/get", key="x").json["user"] is None
        thief.cookies = dict(here.cookies)
        answer = here.post("/logout")
        assert answer.set_cookie is not None
        assert thief.get("/get", key="cart").json == {"value": None, "user": None, "id": None}
        forged = {name: value[:-2] + "zz" for name, value in thief.cookies.items()}
        thief.cookies = forged
        assert thief.get("/get", key="x").json["user"] is None
