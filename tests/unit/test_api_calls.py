"""Every call of the API: what it answers when all is well, and each way it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import (
    BEAT,
    CLIENT_ADDRESS,
    CURRENT,
    FEATURE,
    SEATS,
    Api,
    api,
)

from sojourn.event import EventKind
from sojourn.ledger import LicenseChange, Role
from sojourn.license import LicenseStatus
from sojourn.token import TokenKind, new_token


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as world:
        yield world


class TestAcquire:
    def test_answers_a_seat_and_the_token_that_keeps_it(self, world: Api) -> None:
        answer = world.acquire()
        assert answer.status == 201
        seat = answer.data
        assert seat["token"].startswith("sjl_")
        assert seat["leaseId"].startswith("lse_")
        assert (seat["heartbeatInterval"], seat["lostAfter"], seat["expiresIn"]) == (30, 90, 90)
        assert seat["resumed"] is False

    def test_the_same_client_keeps_its_seat_under_a_new_token(self, world: Api) -> None:
        first, second = world.seat(), world.seat()
        assert second["leaseId"] == first["leaseId"]
        assert second["fence"] > first["fence"]
        assert world.beat(first["token"]).json["reason"] == "taken_over"
        assert world.beat(second["token"]).status == 200

    def test_full_says_so_with_who_holds_the_seats_and_when_to_come_back(self, world: Api) -> None:
        world.seat("ann", "tab-1")
        world.seat("bob", device={"name": "Bob's laptop"})
        answer = world.acquire("ann", "tab-2")
        problem = answer.json
        assert (answer.status, problem["code"]) == (409, "seat_limit")
        assert problem["error"] == problem["title"] == "Maximum user limit reached"
        assert (problem["limit"], problem["inUse"], problem["suspect"]) == (2, 2, 0)
        assert [lease["clientId"] for lease in problem["mine"]] == ["tab-1"]
        assert {holder["userId"] for holder in problem["holders"]} == {"ann", "bob"}
        assert answer.header("retry-after") == "70"
        assert problem["retryAfter"] == 70.0

    def test_holders_are_shown_without_their_address(self, world: Api) -> None:
        world.seat("ann")
        world.seat("bob", device={"browser": "Firefox"})
        holders = world.acquire("cy").json["holders"]
        assert CLIENT_ADDRESS not in str(holders)
        assert {str(holder.get("device")) for holder in holders} == {
            "None",
            "{'browser': 'Firefox'}",
        }

    def test_holders_are_not_shown_when_the_settings_say_so(self) -> None:
        with api(capacity=1, show_holders=False) as world:
            world.seat("ann")
            assert "holders" not in world.acquire("bob").json

    def test_takeover_moves_the_users_own_seat(self, world: Api) -> None:
        old = world.seat("ann", "tab-1")
        world.seat("bob")
        assert world.acquire("ann", "tab-2", takeover=True).status == 201
        assert world.beat(old["token"]).json["reason"] == "moved"

    @pytest.mark.parametrize("missing", ["feature", "userId", "clientId"])
    def test_with_a_license_key_the_body_says_for_whom(self, world: Api, missing: str) -> None:
        wish = {k: v for k, v in world.wish().items() if k != missing}
        answer = world.call("POST", SEATS, bearer=world.license_key, json=wish)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.json["error"].startswith(missing)

    def test_an_unknown_key_is_refused(self, world: Api) -> None:
        answer = world.call("POST", SEATS, bearer=new_token(TokenKind.LICENSE), json=world.wish())
        assert (answer.status, answer.code) == (401, "unauthenticated")

    def test_a_key_of_another_license_is_refused(self, world: Api) -> None:
        answer = world.acquire(licenseId="lic_another")
        assert (answer.status, answer.code) == (403, "forbidden")

    def test_an_unknown_feature_is_named(self, world: Api) -> None:
        wish = world.wish() | {"feature": "unknown"}
        answer = world.call("POST", SEATS, bearer=world.license_key, json=wish)
        assert (answer.status, answer.code) == (404, "feature_unknown")
        assert "'unknown'" in answer.json["error"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (LicenseChange(status=LicenseStatus.SUSPENDED), "license_suspended"),
            (LicenseChange(valid_until=1_700_000_000_000), "license_expired"),
            (LicenseChange(valid_from=1_900_000_000_000), "license_not_yet_valid"),
        ],
    )
    def test_a_license_out_of_force_grants_and_renews_nothing(
        self, world: Api, change: LicenseChange, code: str
    ) -> None:
        seat = world.seat()
        world.services.licenses.change(world.license_id, change, actor="test")
        for answer in (world.acquire("bob"), world.beat(seat["token"])):
            assert (answer.status, answer.code) == (403, code)

    def test_describes_the_client(self, world: Api) -> None:
        world.call(
            "POST",
            SEATS,
            bearer=world.license_key,
            json=world.wish(device={"os": "Plan 9"}, sessionId="s-1"),
            headers=[("user-agent", "curl/8\x00\x1b[31m" + "x" * 500)],
        )
        lease = world.admin("GET", SEATS).data["items"][0]
        assert lease["device"]["os"] == "Plan 9"
        assert lease["device"]["ip"] == CLIENT_ADDRESS
        assert lease["device"]["user_agent"].startswith("curl/8[31mx")
        assert len(lease["device"]["user_agent"]) <= 256
        assert lease["sessionId"] == "s-1"


class TestResume:
    def test_an_expired_lease_is_resumed_by_its_token_alone(self, world: Api) -> None:
        seat = world.seat()
        world.clock.advance(seconds=91)
        lost = world.beat(seat["token"])
        assert (lost.status, lost.code) == (410, "lease_lost")
        assert (lost.json["reason"], lost.json["resumable"]) == ("expired", True)
        back = world.call("POST", SEATS, bearer=seat["token"])
        assert back.status == 201
        assert back.data["resumed"] is True
        assert back.data["leaseId"] == seat["leaseId"]

    def test_a_released_lease_is_not_resumed(self, world: Api) -> None:
        seat = world.seat()
        world.call("DELETE", CURRENT, bearer=seat["token"])
        answer = world.call("POST", SEATS, bearer=seat["token"], json={})
        assert (answer.status, answer.code) == (410, "lease_ended")
        assert answer.json["resumable"] is False

    @pytest.mark.parametrize("name", ["feature", "userId", "clientId", "licenseId"])
    def test_the_body_may_not_contradict_the_token(self, world: Api, name: str) -> None:
        token = world.seat()["token"]
        answer = world.call("POST", SEATS, bearer=token, json={name: "another"})
        assert (answer.status, answer.code) == (403, "forbidden")
        assert answer.json["error"].startswith(name)

    def test_a_token_too_old_to_be_remembered_has_expired(self, world: Api) -> None:
        seat = world.seat()
        world.clock.advance(seconds=91)
        world.services.sweeper.run()  # notes the expiry
        world.clock.advance(seconds=2 * 86_400)
        world.services.sweeper.run()  # forgets the lease
        answer = world.call("POST", SEATS, bearer=seat["token"])
        assert (answer.status, answer.code) == (401, "token_expired")


class TestHeartbeat:
    @pytest.mark.parametrize("said", [b"", b"{}", b'{"idleFor":12.5,"nextIn":60}'])
    def test_keeps_the_seat(self, world: Api, said: bytes) -> None:
        token = world.seat()["token"]
        world.clock.advance(seconds=80)
        answer = world.call("POST", BEAT, bearer=token, body=said)
        assert answer.status == 200
        assert answer.data == {"expiresIn": 90.0, "state": "active"}

    def test_a_goodbye_leaves_it_a_moment(self, world: Api) -> None:
        token = world.seat()["token"]
        assert world.beat(token, closing=True).data == {"expiresIn": 10.0, "state": "suspect"}
        assert world.beat(token).data["state"] == "active"

    def test_idleness_is_shown_to_operators(self, world: Api) -> None:
        world.beat(world.seat()["token"], idleFor=12.5)
        assert world.admin("GET", SEATS).data["items"][0]["idleFor"] == 12.5

    @pytest.mark.parametrize(
        ("end", "reason", "resumable"),
        [
            (lambda w, s: w.call("DELETE", CURRENT, bearer=s["token"]), "released", False),
            (lambda w, s: w.admin("DELETE", f"{SEATS}/{s['leaseId']}"), "revoked", False),
            (lambda w, _: w.clock.advance(seconds=91), "expired", True),
            (lambda w, _: w.acquire(), "taken_over", False),
            (lambda w, _: w.clock.advance(seconds=91 + 901), "expired", False),
        ],
    )
    def test_a_lost_lease_says_why(
        self, world: Api, end: Any, reason: str, resumable: bool
    ) -> None:
        seat = world.seat()
        end(world, seat)
        answer = world.beat(seat["token"])
        assert (answer.status, answer.code) == (410, "lease_lost")
        assert (answer.json["reason"], answer.json["resumable"]) == (reason, resumable)
        assert answer.json["error"]
        assert answer.json["details"]

    def test_a_removed_feature_ends_its_leases(self, world: Api) -> None:
        seat = world.seat()
        world.admin("DELETE", f"/api/licenses/{world.license_id}/features/{FEATURE}")
        answer = world.beat(seat["token"])
        assert (answer.status, answer.code) == (410, "lease_lost")
        assert answer.json["reason"] == "feature_unknown"


class TestRelease:
    def test_gives_the_seat_back_and_may_be_repeated(self, world: Api) -> None:
        token = world.seat()["token"]
        assert world.call("DELETE", CURRENT, bearer=token).data == {"released": True}
        assert world.call("DELETE", CURRENT, bearer=token).data == {"released": False}
        assert world.store.usage([f"{world.license_id}:{FEATURE}"])[0].in_use == 0  # type: ignore[union-attr]  # it exists


class TestLeases:
    def test_lists_in_pages(self, world: Api) -> None:
        ids = {world.seat("ann")["leaseId"], world.seat("bob")["leaseId"]}
        first = world.admin("GET", f"{SEATS}?limit=1").data
        second = world.admin("GET", f"{SEATS}?limit=1&after={first['next']}").data
        third = world.admin("GET", f"{SEATS}?limit=1&after={second['next']}").data
        assert {first["items"][0]["leaseId"], second["items"][0]["leaseId"]} == ids
        assert third == {"items": [], "next": None}

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 1),
            ("includeEnded=true", 2),
            ("userId=ann&includeEnded=1", 1),
            ("clientId=tab-1", 1),
            ("feature=editor", 1),
            ("feature=other", 0),
            ("licenseId=lic_other", 0),
            ("userId=null", 0),
        ],
    )
    def test_filters(self, world: Api, query: str, count: int) -> None:
        world.call("DELETE", CURRENT, bearer=world.seat("ann")["token"])
        world.seat("bob")
        assert len(world.admin("GET", f"{SEATS}?{query}").data["items"]) == count

    def test_one_may_be_ended(self, world: Api) -> None:
        seat = world.seat("ann")
        path = f"{SEATS}/{seat['leaseId']}"
        answer = world.admin("DELETE", path)
        assert answer.json["message"] == "Ended the lease of user ann."
        assert answer.data["ended"] == 1
        assert world.admin("DELETE", path).json["message"] == "The lease had ended already."
        unknown = world.admin("DELETE", f"{SEATS}/lse_unknown")
        assert (unknown.status, unknown.code) == (404, "lease_unknown")


class TestOperations:
    def test_force_cleanup_ends_what_a_user_holds(self, world: Api) -> None:
        seat = world.seat("ann")
        world.seat("bob")
        answer = world.admin("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}")
        assert answer.data["ended"] == 1
        assert answer.data["leases"][0]["userId"] == "ann"
        assert answer.json["message"] == (
            "Ended 1 lease of user ann on editor; none remain in this scope."
        )
        assert world.beat(seat["token"]).status == 410
        assert world.admin("DELETE", f"{SEATS}/force-cleanup/ann/{FEATURE}").data["ended"] == 0

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


class TestMachines:
    def test_livez_asks_nothing_of_a_store(self, world: Api, monkeypatch: Any) -> None:
        for name in ("store", "ledger"):
            monkeypatch.setattr(world.services, name, None)
        assert world.call("GET", "/livez").json == {"status": "alive"}

    def test_head_is_get_without_a_body(self, world: Api) -> None:
        answer = world.call("HEAD", "/livez")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.header("content-length") == "18"

    def test_ready(self, world: Api) -> None:
        assert world.call("GET", "/readyz").json == {"status": "ready", "degraded": []}

    def test_metrics_count_answers_by_code(self, world: Api) -> None:
        world.beat(world.seat("ann")["token"])
        world.seat("bob")
        world.acquire("cy")
        text = world.call("GET", "/metrics").body.decode()
        for line in (
            'sojourn_http_answers_total{call="acquire",code="ok"} 2.0',
            'sojourn_http_answers_total{call="acquire",code="seat_limit"} 1.0',
            'sojourn_http_answers_total{call="heartbeat",code="ok"} 1.0',
            'sojourn_http_seconds_count{call="acquire"} 3.0',
            'sojourn_batched_requests_total{verb="acquire"} 3.0',
            "sojourn_queue_depth 0.0",
            "sojourn_draining 0.0",
        ):
            assert line in text.splitlines()

    def test_an_unknown_path_and_an_unknown_method(self, world: Api) -> None:
        assert world.call("GET", "/nowhere").code == "not_found"
        for method in ("PUT", "TRACE", "BREW"):
            answer = world.call(method, "/livez")
            assert (answer.status, answer.code) == (405, "method_not_allowed")
            assert answer.header("allow") == "GET, HEAD, OPTIONS"
        which = world.call("OPTIONS", SEATS)
        assert (which.status, which.body) == (204, b"")
        assert which.header("allow") == "GET, HEAD, OPTIONS, POST"
        assert which.header("cache-control") == "no-store"
