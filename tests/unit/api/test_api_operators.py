"""The operators' calls: what each answers when all is well, and each way it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import CURRENT, FEATURE, SEATS, Api, api, encode

from sojourn.api.app import CALLS
from sojourn.api.call import Call, Who
from sojourn.api.events import in_seconds
from sojourn.event import EventKind
from sojourn.ledger import Role
from sojourn.store import Action


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as world:
        yield world


OPERATORS = [call for call in CALLS if call.who is Who.OPERATOR]


def filled(path: str, world: Api) -> str:
    """Put what there is into a path, and a name of nothing for the rest."""
    path = path.replace("{licenseId}", world.license_id).replace("{feature}", FEATURE)
    return re.sub(r"\{\w+\}", "nothing", path)


@pytest.mark.parametrize("call", OPERATORS, ids=lambda call: call.name)
class TestWhatACallDoesNotRead:
    """A parameter that is passed over may be the one that kept another customer's seats out of it."""

    def test_an_unknown_parameter_is_refused(self, call: Call, world: Api) -> None:
        path = f"{filled(call.path, world)}?licenceId={world.license_id}"
        before = world.footprint()
        given: dict[str, Any] = {} if call.body is None else {"json": {}}
        assert world.admin(call.method, path, **given).status == 400
        assert world.footprint() == before

    def test_an_unknown_field_is_refused(self, call: Call, world: Api) -> None:
        if call.method == "GET":
            return
        before = world.footprint()
        answer = world.admin(
            call.method, filled(call.path, world), json={"licenceId": world.license_id}
        )
        assert answer.status == 400, answer.body
        assert world.footprint() == before


class TestAStoreThatLostItsPools:
    """As a Redis does that was emptied: the record has the features, so the first look puts them back."""

    @pytest.mark.parametrize(
        "look",
        [
            "/api/licenses/{license}/session-stats",
            f"{SEATS}/debug?userId=ann&feature={FEATURE}&licenseId={{license}}",
        ],
    )
    def test_they_are_back_with_the_first_look(self, world: Api, look: str) -> None:
        world.seat("ann")
        names = [pool.id for pool in world.ledger.pools(world.license_id)]
        world.store.drop(names, Action(actor="test", name="flush"))
        assert world.store.pools(names) == [None]
        said = json.dumps(world.admin("GET", look.format(license=world.license_id)).data)
        assert f'"{FEATURE}"' in said
        assert None not in world.store.pools(names)
        assert world.acquire("ann").status == 201


class TestOperations:
    def test_force_cleanup_ends_what_a_user_holds(self, world: Api) -> None:
        seat = world.seat("ann")
        world.seat("bob")
        answer = world.admin("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}")
        assert answer.data["ended"] == 1
        assert answer.data["leases"][0]["userId"] == "ann"
        assert answer.json["message"] == (
            f"Ended 1 lease of user ann on editor ({world.license_name}); none remain in this scope."
        )
        assert world.beat(seat["token"]).status == 410
        assert world.admin("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}").data["ended"] == 0

    def test_force_cleanup_of_one_license_leaves_the_others(self, world: Api) -> None:
        """User ids are each customer's own: `ann` of another license is somebody else."""
        made = world.admin(
            "POST",
            "/api/licenses",
            json={"name": "Beta Works", "features": {FEATURE: {"capacity": 2}}},
        )
        other_id, other_key = made.data["licenseId"], made.data["key"]
        seat = world.seat("ann")
        body = encode({"feature": FEATURE, "userId": "ann", "clientId": "c"})
        other = world.call("POST", SEATS, bearer=other_key, body=body).data
        path = f"{SEATS}/force-cleanup/ann/{FEATURE}"
        answer = world.admin("DELETE", f"{path}?licenseId={other_id}")
        assert answer.data["ended"] == 1
        assert answer.data["leases"][0]["licenseName"] == "Beta Works"
        assert "on editor (Beta Works);" in answer.json["message"]
        assert world.beat(other["token"]).status == 410
        assert world.beat(seat["token"]).status == 200
        names = {x["licenseName"] for x in world.admin("GET", SEATS).data["items"]}
        assert names == {world.license_name}

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("DELETE", f"{SEATS}/force-cleanup/ann/editr", None),
            ("DELETE", f"{SEATS}/force-cleanup/ann/editr?licenseId={{license}}", None),
            ("GET", f"{SEATS}/debug?userId=ann&feature=editr", None),
            ("GET", f"{SEATS}/debug?userId=ann&feature=editr&licenseId={{license}}", None),
            ("POST", "/api/licenses/cleanup-sessions", {"feature": "editr"}),
        ],
    )
    def test_a_feature_that_is_not_there_is_named(
        self, world: Api, method: str, path: str, body: dict[str, str] | None
    ) -> None:
        """An answer of nothing would pass for good news."""
        given = None if body is None else {**body, "licenseId": world.license_id}
        answer = world.admin(method, path.format(license=world.license_id), json=given)
        assert (answer.status, answer.code) == (404, "feature_unknown")
        assert "'editr'" in answer.json["error"]
        assert answer.json["details"] == f"There are: {FEATURE}."

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}?licenseId=lic_no"),
            ("GET", f"{SEATS}/debug?userId=ann&feature={FEATURE}&licenseId=lic_no"),
        ],
    )
    def test_a_license_that_is_not_there_is_refused(
        self, world: Api, method: str, path: str
    ) -> None:
        assert world.admin(method, path).code == "license_unknown"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}?license=x"),
            ("DELETE", f"{SEATS}/lse_x?dryRun=true"),
            ("GET", f"{SEATS}?user=ann"),
            ("GET", "/api/licenses/lic_x/session-stats?feature=editor"),
            ("POST", "/api/licenses?dryRun=1"),
        ],
    )
    def test_parameters_that_nobody_reads_are_refused(
        self, world: Api, method: str, path: str
    ) -> None:
        """A misspelled one would widen what a call does."""
        body = {"name": "x", "features": {}} if method == "POST" else None
        answer = world.admin(method, path, json=body)
        assert (answer.status, answer.code) == (400, "invalid_request")

    @pytest.mark.parametrize(
        ("user", "encoded"),
        [
            ("dept/ann", "dept%2Fann"),
            ("a b+c", "a%20b+c"),
            ("ümläut@例え.jp", "%C3%BCml%C3%A4ut%40%E4%BE%8B%E3%81%88.jp"),
            ("100%", "100%25"),
            ("a/../b", "a%2F..%2Fb"),
        ],
    )
    def test_force_cleanup_takes_any_user_id_encoded(
        self, world: Api, user: str, encoded: str
    ) -> None:
        world.seat(user)
        answer = world.admin("DELETE", f"{SEATS}/force-cleanup/{encoded}/{FEATURE}")
        assert [lease["userId"] for lease in answer.data["leases"]] == [user]

    @pytest.mark.parametrize("encoded", ["%00", "%0A", "%FF", "x" * 257, "%1B"])
    def test_force_cleanup_refuses_what_is_no_user_id(self, world: Api, encoded: str) -> None:
        answer = world.admin("DELETE", f"{SEATS}/force-cleanup/{encoded}/{FEATURE}")
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.json["error"].startswith("userId")

    def test_cleanup_ends_only_the_silent(self, world: Api) -> None:
        world.seat("ann")
        world.clock.advance(seconds=75)
        alive = world.seat("bob")
        answer = world.admin(
            "POST", "/api/licenses/cleanup-sessions", json={"licenseId": world.license_id}
        )
        assert [lease["userId"] for lease in answer.data["leases"]] == ["ann"]
        assert answer.data["remaining"] == 1
        assert "1 remains" in answer.json["message"]
        assert world.beat(alive["token"]).status == 200

    def test_cleanup_of_an_unknown_license(self, world: Api) -> None:
        answer = world.admin(
            "POST", "/api/licenses/cleanup-sessions", json={"licenseId": "lic_unknown"}
        )
        assert (answer.status, answer.code) == (404, "license_unknown")

    def test_debug_explains_a_refusal(self, world: Api) -> None:
        world.seat("ann")
        world.seat("bob")
        world.acquire("cy")
        answer = world.admin("GET", f"{SEATS}/debug?userId=cy&feature={FEATURE}")
        assert answer.json["message"] == (
            "User cy holds no live lease on editor. "
            "Acme would refuse an acquire now: Maximum user limit reached. Refused 1 time of late."
        )
        (pool,) = answer.data["pools"]
        assert pool["wouldGrant"] is False
        assert pool["refusal"]["code"] == "seat_limit"
        assert pool["usage"]["inUse"] == 2
        assert answer.data["denials"][0]["kind"] == "lease.denied"

    def test_debug_shows_what_a_user_holds(self, world: Api) -> None:
        world.seat("ann")
        world.clock.advance(seconds=75)
        answer = world.admin("GET", f"{SEATS}/debug?userId=ann&feature={FEATURE}")
        assert answer.json["message"] == (
            "User ann holds 1 live lease on editor, 1 of them silent. "
            "Acme would grant an acquire now."
        )
        assert answer.data["leases"][0]["state"] == "suspect"

    def test_debug_says_who_is_doubted_and_why(self, world: Api) -> None:
        ann = world.seat("ann", device={"kind": "desktop"})
        world.services.seats.suspicion.forget([ann["leaseId"]])  # it beats at another server
        world.clock.advance(seconds=45)
        world.seat("bob", device={"kind": "desktop"})
        which = f"userId=cy&feature={FEATURE}&licenseId={world.license_id}"
        answer = world.admin("GET", f"{SEATS}/debug?{which}")
        (pool,) = answer.data["pools"]
        [doubted] = pool["doubted"]
        assert (doubted["userId"], doubted["silentFor"], doubted["excused"]) == ("ann", 45.0, False)
        assert doubted["expectedIn"] == 30.0
        assert 3 < doubted["phi"] < 4
        assert doubted["reasons"][0].startswith("Silent for 45 s; its next beat was to be expected")

    def test_debug_needs_to_know_of_whom(self, world: Api) -> None:
        answer = world.admin("GET", f"{SEATS}/debug?feature={FEATURE}")
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "userId" in answer.json["error"]

    def test_stats_count_the_seats(self, world: Api) -> None:
        world.seat("ann")
        world.seat("bob")
        world.acquire("cy")
        answer = world.admin("GET", f"/api/licenses/{world.license_id}/session-stats")
        (feature,) = answer.data["features"]
        assert feature["usage"] == {
            "capacity": 2,
            "inUse": 2,
            "free": 0,
            "suspect": 0,
            "leases": 2,
            "overdraft": 0,
            "overdrawn": 0,
            "allotted": 0,
            "reservations": [],
        }
        assert answer.json["message"] == "Acme: editor: 2 of 2 seats in use."
        assert len(answer.data["denials"]) == 1
        assert world.admin("GET", "/api/licenses/lic_x/session-stats").code == "license_unknown"


class TestLicenses:
    def test_are_made_with_features_and_a_key_shown_once(self, world: Api) -> None:
        answer = world.admin(
            "POST",
            "/api/licenses",
            json={
                "name": "Globex",
                "features": {"cad": {"capacity": 5, "lostAfter": 30}},
                "validUntil": "2030-01-01T00:00:00Z",
            },
        )
        assert answer.status == 201
        made = answer.data
        assert made["key"].startswith("sjk_")
        assert made["validUntil"] == "2030-01-01T00:00:00.000Z"
        assert made["features"][0]["heartbeatInterval"] == 10.0
        shown = world.admin("GET", f"/api/licenses/{made['licenseId']}").data
        assert "key" not in shown
        assert shown == {k: v for k, v in made.items() if k != "key"}
        wish = {"feature": "cad", "userId": "ann", "clientId": "c"}
        assert world.call("POST", SEATS, bearer=made["key"], json=wish).status == 201

    def test_say_how_long_relays_go_on_alone(self, world: Api) -> None:
        """In seconds; null is as the server has it. A change of something else leaves it."""
        made = world.admin(
            "POST", "/api/licenses", json={"name": "Site", "allotmentTtl": 30 * 86_400}
        ).data
        assert made["allotmentTtl"] == 2_592_000.0
        path = f"/api/licenses/{made['licenseId']}"
        assert world.admin("PATCH", path, json={"name": "S"}).data["allotmentTtl"] == 2_592_000.0
        assert world.admin("PATCH", path, json={"allotmentTtl": 90.5}).data["allotmentTtl"] == 90.5
        for wrong in (59, 2_592_001, "1d"):
            refused = world.admin("PATCH", path, json={"allotmentTtl": wrong})
            assert (refused.status, refused.code) == (400, "invalid_request")
            assert "allotmentTtl" in refused.json["error"]
        assert "allotmentTtl" not in world.admin("PATCH", path, json={"allotmentTtl": None}).data

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            ({}, "invalid_request", "name"),
            ({"name": ""}, "invalid_request", "name"),
            ({"name": " "}, "invalid_request", "name"),
            ({"name": "a\nb"}, "invalid_request", "name"),
            ({"name": "x", "feature": {}}, "invalid_request", "feature"),
            ({"name": "x", "features": {"a b": {"capacity": 1}}}, "invalid_request", "features"),
            ({"name": "x", "features": {"a": {}}}, "invalid_request", "capacity"),
            ({"name": "x", "features": {"a": {"capacity": -1}}}, "invalid_request", "capacity"),
            (
                {
                    "name": "x",
                    "features": {"a": {"capacity": 1, "lostAfter": 5, "heartbeatInterval": 9}},
                },
                "invalid_policy",
                "lostAfter must be longer than heartbeatInterval.",
            ),
            (
                {"name": "x", "features": {"a": {"capacity": 1, "lostAfter": 0.01}}},
                "invalid_request",
                "lostAfter",
            ),
            ({"name": "x", "validFrom": "0001-01-01T00:00:00+23:00"}, "invalid_request", "1970"),
            ({"name": "x", "validFrom": "never"}, "invalid_request", "validFrom"),
            (
                {
                    "name": "x",
                    "validFrom": "2030-01-01T00:00:00Z",
                    "validUntil": "2029-01-01T00:00:00",
                },
                "invalid_request",
                "validUntil",
            ),
        ],
    )
    def test_refusals_name_the_field(self, world: Api, body: Any, code: str, words: str) -> None:
        before = world.footprint()
        answer = world.admin("POST", "/api/licenses", json=body)
        assert (answer.status, answer.code) == (400, code)
        assert words.lower() in answer.json["error"].lower()
        assert world.footprint() == before

    def test_are_listed_in_pages(self, world: Api) -> None:
        world.services.licenses.create("Globex", {}, actor="test")
        first = world.admin("GET", "/api/licenses?limit=1").data
        second = world.admin("GET", f"/api/licenses?limit=1&after={first['next']}").data
        names = {page["items"][0]["name"] for page in (first, second)}
        assert names == {"Acme", "Globex"}
        assert world.admin("GET", "/api/licenses?status=suspended").data["items"] == []

    def test_change_what_is_given_and_nothing_else(self, world: Api) -> None:
        path = f"/api/licenses/{world.license_id}"
        world.admin("PATCH", path, json={"validUntil": "2030-01-01T00:00:00Z"})
        answer = world.admin("PATCH", path, json={"name": "Acme Inc"})
        assert answer.data["name"] == "Acme Inc"
        assert answer.data["validUntil"] == "2030-01-01T00:00:00.000Z"
        assert "validUntil" not in world.admin("PATCH", path, json={"validUntil": None}).data
        assert world.admin("PATCH", path, json={"status": "suspended"}).data["status"] == (
            "suspended"
        )
        assert world.acquire().code == "license_suspended"

    def test_rotating_the_key_ends_the_old_one(self, world: Api) -> None:
        answer = world.admin("POST", f"/api/licenses/{world.license_id}/key")
        assert answer.status == 201
        assert world.acquire().code == "unauthenticated"
        world.license_key = answer.data["key"]
        assert world.acquire().status == 201

    def test_features_come_change_and_go(self, world: Api) -> None:
        path = f"/api/licenses/{world.license_id}/features/viewer"
        assert world.admin("PUT", path, json={"capacity": 1}).data["capacity"] == 1
        assert world.admin("PUT", path, json={"capacity": 7}).data["capacity"] == 7
        refused = world.admin("PUT", path, json={"capacity": 7, "linger": 1_000})
        assert (refused.status, refused.code) == (400, "invalid_policy")
        assert world.admin("DELETE", path).json["success"] is True
        assert world.admin("DELETE", path).code == "feature_unknown"

    def test_deleting_one_revokes_its_leases(self, world: Api) -> None:
        seat = world.seat()
        path = f"/api/licenses/{world.license_id}"
        assert world.admin("DELETE", path).data is None
        assert world.beat(seat["token"]).status == 410
        assert world.acquire().status == 401

    @pytest.mark.parametrize(
        ("method", "tail", "body"),
        [
            ("GET", "", None),
            ("PATCH", "", {"name": "x"}),
            ("DELETE", "", None),
            ("POST", "/key", None),
            ("PUT", "/features/a", {"capacity": 1}),
            ("GET", "/session-stats", None),
        ],
    )
    def test_unknown_ones(self, world: Api, method: str, tail: str, body: Any) -> None:
        answer = world.admin(method, f"/api/licenses/lic_unknown{tail}", json=body)
        assert (answer.status, answer.code) == (404, "license_unknown")


class TestKeys:
    def test_are_made_listed_and_revoked(self, world: Api) -> None:
        made = world.admin("POST", "/api/keys", json={"name": "ci", "role": "viewer"})
        assert made.status == 201
        key = made.data["key"]
        assert world.call("GET", "/api/licenses", bearer=key).status == 200
        listed = world.admin("GET", "/api/keys").data["items"]
        assert key not in str(listed)
        assert made.data["keyId"] in {item["keyId"] for item in listed}
        revoked = world.admin("DELETE", f"/api/keys/{made.data['keyId']}")
        assert revoked.data["revokedAt"]
        assert world.call("GET", "/api/licenses", bearer=key).code == "unauthenticated"
        assert world.admin("DELETE", "/api/keys/key_unknown").code == "key_unknown"

    def test_expire(self, world: Api) -> None:
        body = {"name": "ci", "role": Role.VIEWER.value, "expiresAt": "2027-01-15T09:00:00Z"}
        key = world.admin("POST", "/api/keys", json=body).data["key"]
        assert world.call("GET", "/api/licenses", bearer=key).status == 200
        world.clock.advance(seconds=3_600)
        assert world.call("GET", "/api/licenses", bearer=key).status == 401
        assert world.admin("POST", "/api/keys", json=body).json["error"].startswith("expiresAt")


class TestEvents:
    def test_are_read_on_from_an_id(self, world: Api) -> None:
        world.seat("ann")
        world.seat("bob")
        world.acquire("cy")
        first = world.admin("GET", "/api/events?limit=2").data
        rest = world.admin("GET", f"/api/events?limit=2&after={first['next']}").data
        kinds = [event["kind"] for event in first["items"] + rest["items"]]
        assert kinds == ["lease.acquired", "lease.acquired", "lease.denied"]
        assert rest["next"] is None

    def test_filters(self, world: Api) -> None:
        world.seat("ann")
        world.call("DELETE", CURRENT, bearer=world.seat("bob")["token"])

        def kinds(query: str) -> list[str]:
            items = world.admin("GET", f"/api/events?{query}").data["items"]
            return [item["kind"] for item in items]

        assert kinds("kind=lease.released") == [EventKind.LEASE_RELEASED]
        assert len(kinds("kind=lease.released&kind=lease.acquired")) == 3
        assert kinds("userId=bob&newestFirst=true") == ["lease.released", "lease.acquired"]
        assert world.admin("GET", "/api/events?kind=nonsense").status == 400


class TestSweeps:
    def test_run_by_hand_are_listed(self, world: Api) -> None:
        world.seat()
        world.clock.advance(seconds=91)
        assert world.admin("POST", "/api/sweeps").data["leasesExpired"] == 1
        (run,) = world.admin("GET", "/api/sweeps").data["items"]
        assert run["actor"].startswith("key:")


def test_durations_inside_events_are_seconds() -> None:
    """The store records milliseconds; the wire speaks seconds, however deep they lie."""
    recorded = {"retryAfter": 1500, "limit": 5, "holders": [{"lastBeatAgo": 250, "userId": "ada"}]}
    assert in_seconds(recorded) == {
        "retryAfter": 1.5,
        "limit": 5,
        "holders": [{"lastBeatAgo": 0.25, "userId": "ada"}],
    }
