"""A page that is being closed says goodbye without headers: `navigator.sendBeacon`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import BEAT, CURRENT, SEATS, Api, api

from sojourn.ledger import LicenseChange

TEXT = [("content-type", "text/plain;charset=UTF-8")]
PAGE = [
    ("host", "sojourn.test"),
    ("origin", "https://evil.example"),
    ("sec-fetch-site", "cross-site"),
]


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.mark.parametrize("headers", [TEXT, []], ids=["text", "json"])
def test_a_token_in_the_body_says_goodbye(world: Api, headers: Any) -> None:
    token = world.seat()["token"]
    said = {"token": token, "closing": True}
    answer = world.call("POST", BEAT, json=said, headers=headers)
    assert answer.data["state"] == "suspect"
    assert answer.data["expiresIn"] <= 10
    assert world.beat(token).data["state"] == "active"  # whoever comes back has it again


@pytest.mark.parametrize("said", [{}, {"closing": False}, {"idleFor": 1}])
def test_it_proves_nothing_else(world: Api, said: dict[str, Any]) -> None:
    token = world.seat()["token"]
    before = world.footprint()
    answer = world.call("POST", BEAT, json={"token": token, **said}, headers=TEXT)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert token not in answer.body.decode()
    for method, path in (("POST", SEATS), ("DELETE", CURRENT)):
        given = {"token": token, "closing": True}
        assert world.call(method, path, json=given).status in (400, 401)
    assert world.footprint() == before


def test_it_stands_in_one_place(world: Api) -> None:
    token = world.seat()["token"]
    answer = world.call("POST", BEAT, bearer=token, json={"token": token, "closing": True})
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize("token", ["", "sjl_forged", "sjk_" + "0" * 49, "x" * 5_000])
def test_no_other_token_is_one(world: Api, token: str) -> None:
    world.seat()
    before = world.footprint()
    answer = world.call("POST", BEAT, json={"token": token, "closing": True}, headers=TEXT)
    assert answer.status in (400, 401)
    assert world.footprint() == before


def test_with_a_proof_in_its_headers_a_body_is_json(world: Api) -> None:
    """A browser asks before it sends that."""
    token = world.seat()["token"]
    answer = world.call("POST", BEAT, bearer=token, json={"closing": True}, headers=TEXT)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_text_is_taken_by_no_other_call(world: Api) -> None:
    answer = world.call("POST", SEATS, json=world.wish(), headers=TEXT)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_a_page_that_the_license_names_not_says_none(world: Api) -> None:
    world.services.licenses.change(
        world.license_id, LicenseChange(allowed_origins=("https://app.example",)), actor="test"
    )
    token = world.seat()["token"]
    before = world.footprint()
    said = {"token": token, "closing": True}
    answer = world.call("POST", BEAT, json=said, headers=[*TEXT, *PAGE])
    assert (answer.status, answer.code) == (403, "cross_origin")
    assert world.footprint() == before
