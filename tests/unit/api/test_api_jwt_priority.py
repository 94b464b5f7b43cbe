"""Whose turn it is in a line may hang on what an issuer's claim says: if the settings name that claim."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api_harness import FEATURE, SEATS, Answer, Api
from tests.unit.api.test_api_jwt import (
    ISSUER,
    KeyServer,
    Time,
    acquire,
    moment,
    server,
    token,
    trust,
    world,
)

from sojourn.api import jwt as ours
from sojourn.settings import JwtIssuer

__all__ = ["moment", "server", "world"]  # fixtures


@pytest.fixture
def full(world: Api, server: KeyServer, moment: Time) -> Api:
    issuer = JwtIssuer(issuer=ISSUER, jwks_url=server.url, priority_claim="rank")
    trust(world, moment, issuer)
    path = f"/api/licenses/{world.license_id}/features/{FEATURE}"
    assert world.admin("PUT", path, json={"capacity": 1}).status == 200
    assert world.acquire("holder").status == 201
    return world


def waits(world: Api, user: str, **more: Any) -> Answer:
    claims = {"rank": more.pop("rank")} if "rank" in more else {}
    return acquire(world, token(world, aud=None, sub=user, **claims), wait=0.01, **more)


def test_who_has_more_of_it_is_served_first(full: Api) -> None:
    assert waits(full, "first").json["position"] == 1
    assert waits(full, "third", rank=9, priority=1).json["position"] == 1
    assert waits(full, "second", rank=3).json["position"] == 1
    full.services.operations.force_cleanup("holder", FEATURE, actor="test")
    for user in ("first", "third"):
        assert waits(full, user).status == 409
    assert waits(full, "second", rank=3).status == 201


@pytest.mark.parametrize("rank", [-1, 10, 1.5, "3", True, [3]])
def test_claim_that_is_no_priority_is_refused(full: Api, rank: object) -> None:
    assert waits(full, "ann", rank=rank).status == 401


def test_nobody_raises_itself(full: Api) -> None:
    """More than is proved is refused, whatever the proof; what nothing proves is none."""
    for answer in (
        waits(full, "ann", rank=3, priority=4),
        waits(full, "ann", priority=1),
        full.acquire("ann", wait=0.01, priority=1),
    ):
        assert (answer.status, answer.code) == (403, "forbidden")
        assert "priority" in answer.json["error"]
    assert full.acquire("ann", wait=0.01, priority=0).status == 409
    assert full.acquire("bob", wait=0.01, priority=10).status == 400


def test_lease_token_proves_none(full: Api) -> None:
    full.services.operations.force_cleanup("holder", FEATURE, actor="test")
    held = waits(full, "ann", rank=3).data
    answer = full.call("POST", SEATS, bearer=held["token"], json={"priority": 1})
    assert (answer.status, answer.code) == (403, "forbidden")


def test_a_claim_that_is_not_named_gives_none() -> None:
    said = {"sub": "ann", "license_id": "lic", "rank": 9}
    assert ours._proof(JwtIssuer(issuer=ISSUER), said).priority == 0
