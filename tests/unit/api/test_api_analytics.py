"""How seats were used, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import FEATURE, SEATS, Api, api

CALLS = "/api/analytics"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as made:
        yield made


def ask(world: Api, user: str) -> int:
    wish = world.wish(user)
    return world.call("POST", SEATS, json=wish, bearer=world.license_key).status


def morning(world: Api) -> None:
    """Two people hold both seats for a minute, while a third is refused twice; then they fall silent."""
    assert [ask(world, user) for user in ("ann", "ben", "cem", "cem")] == [201, 201, 409, 409]
    world.clock.advance(seconds=200)
    world.services.sweeper.run()
    world.services.usage.tick()


def get(world: Api, what: str, **query: Any) -> Any:
    query = {"licenseId": world.license_id, "feature": FEATURE} | query
    told = "&".join(f"{name}={value}" for name, value in query.items() if value is not None)
    answer = world.admin("GET", f"{CALLS}/{what}?{told}")
    assert answer.status == 200, answer.body
    return answer.data


def test_use_is_told_exactly(world: Api) -> None:
    morning(world)
    found = get(world, "usage")
    assert (found["peak"], found["capacity"], found["unit"]) == (2, 2, "hour")
    assert found["full"] == 90.0  # until both leases ran out
    assert sum(point["denied"] for point in found["points"]) == 2
    counts = found["counts"]
    assert (counts["granted"], counts["denied"]) == (2, {"seat_limit": 2})
    assert counts["ended"] == {"expired": 2}
    assert (counts["ghosts"]["count"], counts["ghosts"]["mean"]) == (2, 90.0)
    by_day = get(world, "usage", unit="day")
    assert (by_day["peak"], by_day["full"], by_day["counts"]) == (2, 90.0, counts)


def test_who_used_it_and_who_was_refused(world: Api) -> None:
    morning(world)
    shares = {each["name"]: each for each in get(world, "shares")["items"]}
    assert {name: each["held"] for name, each in shares.items()} == {
        "ann": 90.0,
        "ben": 90.0,
        "cem": 0.0,
    }
    assert shares["cem"]["denied"] == 2
    (incident,) = get(world, "incidents")["items"]
    assert (incident["refusals"], incident["users"]) == (2, {"cem": 2})
    assert (incident["inUse"], incident["limit"]) == (2, 2)
    assert get(world, "incidents", licenseId=None, feature=None)["items"] == [incident]


def test_the_week_is_told_by_a_zones_clock(world: Api) -> None:
    morning(world)
    world.clock.advance(seconds=3_600)
    utc, tokyo = (get(world, "week", zone=zone)["cells"] for zone in ("UTC", "Asia/Tokyo"))
    busiest = next(i for i, cell in enumerate(utc) if cell["peak"] == 2)
    assert tokyo[(busiest + 9) % 168]["peak"] == 2
    assert (
        world.admin(
            "GET",
            f"{CALLS}/week?licenseId={world.license_id}&feature={FEATURE}&zone=Atlantis",
        ).code
        == "invalid_schedule"
    )


def test_what_would_have_been(world: Api) -> None:
    """As it was, the replay gives the recorded refusals; with a seat more, nobody would have been refused."""
    morning(world)
    body = {"licenseId": world.license_id, "feature": FEATURE, "seats": 1}
    told = world.admin("POST", f"{CALLS}/what-if", json=body).data
    assert told["recorded"] == told["asItWas"]["denied"] == 2
    assert (told["whatIf"]["denied"], told["whatIf"]["spared"], told["whatIf"]["peak"]) == (0, 2, 3)
    wrong = body | {"lostAfter": 1, "suspectAfter": 5}
    assert world.admin("POST", f"{CALLS}/what-if", json=wrong).code == "invalid_policy"


def test_a_forecast_says_that_too_little_is_known(world: Api) -> None:
    morning(world)
    assert get(world, "forecast") == {
        "weeksKnown": 0,
        "days": [],
        "tried": 0,
        "error": 0.0,
        "covered": 0.0,
    }


def test_measured_anew(world: Api) -> None:
    """After a rebuild the answers are the same, and the audit trail says who asked for it."""
    morning(world)
    before = get(world, "usage")
    assert world.admin("POST", f"{CALLS}/rebuild").data == {"begun": True}
    world.services.usage.tick()
    assert get(world, "usage") == before
    assert world.services.ledger.audits()[-1].action == "analytics.rebuild"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("licenseId=nobody&feature=none", "feature_unknown"),
        ("feature=editor", "invalid_request"),
        ("licenseId=LICENSE&feature=FEATURE&since=2999-01-01T00:00:00Z", "invalid_request"),
        ("licenseId=LICENSE&feature=FEATURE&since=1999-01-01T00:00:00Z", "invalid_request"),
    ],
)
def test_what_cannot_be_asked(world: Api, query: str, code: str) -> None:
    query = query.replace("LICENSE", world.license_id).replace("FEATURE", FEATURE)
    assert world.admin("GET", f"{CALLS}/usage?{query}").code == code
