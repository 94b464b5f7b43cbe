"""Reservations and the overdraft over HTTP: policies, grants, refusals, and what operators see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import BEAT, FEATURE, SEATS, Api, api

from sojourn.license import MEMBERS_MAX, RESERVATIONS_MAX

SUPPORT = {"name": "support", "seats": 1, "users": ["sue"], "kinds": ["desktop"]}


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as world:
        yield world


def policy(world: Api, **fields: Any) -> Any:
    path = f"/api/licenses/{world.license_id}/features/{FEATURE}"
    return world.admin("PUT", path, json={"capacity": 2, **fields})


class TestPolicies:
    def test_are_told_as_they_were_set(self, world: Api) -> None:
        """By the change, by the license, and by a license that is made with them."""
        set_ = policy(world, overdraft=1, reservations=[SUPPORT])
        assert (set_.status, set_.data["overdraft"]) == (200, 1)
        assert set_.data["reservations"] == [SUPPORT]
        shown = world.admin("GET", f"/api/licenses/{world.license_id}").data["features"]
        assert shown == [set_.data]
        body = {"capacity": 3, "overdraft": 2, "reservations": [{**SUPPORT, "groups": ["staff"]}]}
        made = world.admin("POST", "/api/licenses", json={"name": "B", "features": {"x": body}})
        (feature,) = made.data["features"]
        assert (feature["overdraft"], feature["reservations"]) == (2, body["reservations"])
        assert policy(world).data["reservations"] == []

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"overdraft": -1}, "overdraft"),
            ({"overdraft": 1.5}, "overdraft"),
            ({"reservations": [{**SUPPORT, "seats": 3}]}, "more than the capacity of 2"),
            ({"reservations": [{**SUPPORT, "seats": 0}]}, "reservations[0].seats"),
            ({"reservations": [SUPPORT, SUPPORT]}, "same name"),
            ({"reservations": [{"name": "x", "seats": 1}]}, "name users, groups or kinds"),
            ({"reservations": [{**SUPPORT, "name": "a b"}]}, "reservations[0].name"),
            ({"reservations": [{**SUPPORT, "users": [""]}]}, "reservations[0].users[0]"),
            ({"reservations": [{**SUPPORT, "user": "sue"}]}, "unknown field `user`"),
            ({"reservations": SUPPORT}, "reservations"),
            ({"reservations": [SUPPORT] * (RESERVATIONS_MAX + 1)}, "reservations"),
            (
                {"reservations": [{**SUPPORT, "users": [str(n) for n in range(MEMBERS_MAX)]}]},
                f"at most {MEMBERS_MAX} users, groups and kinds together",
            ),
        ],
    )
    def test_that_cannot_be_are_refused_with_the_reason(
        self, world: Api, fields: dict[str, Any], words: str
    ) -> None:
        before = world.footprint()
        answer = policy(world, **fields)
        assert answer.status == 400, answer.body
        assert words in answer.json["error"]
        assert world.footprint() == before


class TestSeats:
    def test_a_seat_above_the_capacity_says_so(self, world: Api) -> None:
        """In its own answer, in lists, and in the count; one within it says nothing of it."""
        policy(world, overdraft=1)
        seats = [world.seat(user) for user in ("ann", "bob", "cid")]
        assert [seat.get("overdraft") for seat in seats] == [None, None, True]
        listed = world.admin("GET", SEATS).data["items"]
        assert {x["userId"] for x in listed if x.get("overdraft")} == {"cid"}
        stats = world.admin("GET", f"/api/licenses/{world.license_id}/session-stats")
        usage = stats.data["features"][0]["usage"]
        assert (usage["inUse"], usage["overdraft"], usage["overdrawn"]) == (3, 1, 1)
        assert "1 above the capacity" in stats.json["message"]
        refused = world.acquire("dan")
        assert (refused.status, refused.json["limit"], refused.json["overdraft"]) == (409, 2, 1)
        assert "All 2 seats, and 1 above the limit, are in use." in refused.json["details"]
        told = world.call("GET", "/metrics").body.decode()
        assert f'sojourn_seats_overdraft{{feature="{FEATURE}"}} 1.0' in told
        assert f'sojourn_seats_licenses_full{{feature="{FEATURE}"}} 1.0' in told

    def test_a_refusal_says_what_is_reserved(self, world: Api) -> None:
        policy(world, reservations=[SUPPORT])
        world.seat("ann")
        refused = world.acquire("bob").json
        figures = {name: refused[name] for name in ("limit", "inUse", "reserved", "reservedFree")}
        assert figures == {"limit": 2, "inUse": 1, "reserved": 1, "reservedFree": 1}
        assert refused["error"] == "Maximum user limit reached"
        assert "1 of 2 seats is reserved for others, and the rest are in use." in refused["details"]
        world.seat("sue")
        refused = world.acquire("bob").json
        assert (refused["reserved"], refused["reservedFree"]) == (1, 0)
        assert "All 2 seats are in use." in refused["details"]

    def test_without_either_a_refusal_is_as_it_was(self, world: Api) -> None:
        for user in ("ann", "bob"):
            world.seat(user)
        assert not {"overdraft", "reserved", "reservedFree"} & set(world.acquire("cid").json)

    def test_debug_sees_whose_seats_are_kept(self, world: Api) -> None:
        """And asks as who the user was when it last had a seat: of that kind of device."""
        policy(world, reservations=[{**SUPPORT, "users": []}])
        sue = world.seat("sue", device={"kind": "desktop"})
        world.seat("ann")
        world.call("DELETE", f"{SEATS}/current", bearer=sue["token"])
        path = f"{SEATS}/debug?feature={FEATURE}&licenseId={world.license_id}&userId="
        for user, granted in (("sue", True), ("ann", False)):
            (pool,) = world.admin("GET", path + user).data["pools"]
            assert pool["wouldGrant"] is granted
            assert pool["usage"]["reservations"] == [{"name": "support", "seats": 1, "inUse": 0}]

    def test_a_client_names_no_group(self, world: Api) -> None:
        """A group counts where a token proves it; nothing in a body makes anybody a member."""
        policy(world, reservations=[{"name": "staff", "seats": 1, "groups": ["staff"]}])
        world.seat("ann")
        before = world.footprint()
        for name in ("groups", "group", "memberOf", "member_of"):
            said: dict[str, Any] = {name: ["staff"]}
            assert world.acquire("bob", **said).status == 400
        assert world.footprint() == before
        assert world.acquire("bob").json["reservedFree"] == 1

    def test_who_comes_back_by_token_is_of_the_same_kind(self, world: Api) -> None:
        """Its token says nothing of its device, and the body may be empty."""
        policy(world, reservations=[{**SUPPORT, "users": []}])
        token = world.seat("sue", device={"kind": "desktop"})["token"]
        world.seat("ann")
        world.clock.advance(seconds=91)
        for user in ("bob", "cid"):  # one of them is refused: a seat is kept
            world.acquire(user)
        back = world.call("POST", SEATS, bearer=token)
        assert (back.status, back.data["resumed"]) == (201, True)
        assert world.call("POST", BEAT, bearer=back.data["token"]).status == 200
        assert world.acquire("dan").json["reservedFree"] == 0
