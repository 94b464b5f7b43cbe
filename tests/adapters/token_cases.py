"""What every adapter is held to with clients of an API, which send a session's token in a header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.cases import Answer, Browser, MakeDriver, World, world

from sojourn.service.request_session import Rules


def with_token(world: World, value: str, **options: Any) -> Browser:
    """A client that keeps no cookies."""
    client = world.browser(**options)
    client.headers["Authorization"] = f"Bearer {value}"
    return client


def vary(answer: Answer) -> set[str]:
    return {each.strip() for line in answer.all("vary") for each in line.split(",")}


class TokenCases:
    """Inherit, and provide `driver_for`."""

    @pytest.fixture
    def world(self, empty_sqlite: str, driver_for: MakeDriver) -> Iterator[World]:
        with world(empty_sqlite, driver_for, rules=Rules(header_tokens=True)) as made:
            yield made

    @pytest.fixture
    def token(self, world: World) -> str:
        (cookie,) = world.signed_in("ann").cookies.values()
        return cookie.rpartition(".")[0]

    def test_a_token_in_a_header_opens_the_session(self, world: World, token: str) -> None:
        client = with_token(world, token)
        assert client.post("/set", key="k", value="v").status == 200
        answer = client.get("/get", key="k")
        assert (answer.json["user"], answer.json["value"]) == ("ann", "v")
        assert {"Cookie", "Authorization"} <= vary(answer)
        assert client.cookies == {}
        assert world.rows() == 1

    def test_it_is_nobody_elses_cookie_that_counts(self, world: World, token: str) -> None:
        client = world.signed_in("bob")
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/get", key="k").json["user"] == "ann"
        client.headers["Authorization"] = "Bearer sjs_garbled"
        with world.counting() as statements:
            assert client.get("/get", key="k").json["user"] is None
        assert statements == []

    @pytest.mark.parametrize(
        "header", ["Basic YW5uOng=", "Bearer e30.e30.e30", "Bearer", "x" * 5000]
    )
    def test_the_header_of_somebody_else_leaves_the_cookie_alone(
        self, world: World, header: str
    ) -> None:
        browser = world.signed_in("ann")
        browser.headers["Authorization"] = header
        assert browser.get("/get", key="k").json["user"] == "ann"

    def test_a_sign_out_ends_it(self, world: World, token: str) -> None:
        client = with_token(world, token)
        answer = client.post("/logout")
        assert answer.status == 200
        assert answer.all("set-cookie") == []
        assert client.get("/get", key="k").json["user"] is None

    def test_unless_the_rules_say_so_a_header_is_nothing(
        self, tmp_path: Path, driver_for: MakeDriver
    ) -> None:
        with world(f"sqlite:///{tmp_path}/other.db", driver_for) as other:
            (cookie,) = other.signed_in("ann").cookies.values()
            client = with_token(other, cookie.rpartition(".")[0])
            answer = client.get("/get", key="k")
            assert answer.json["user"] is None
            assert "Authorization" not in vary(answer)
