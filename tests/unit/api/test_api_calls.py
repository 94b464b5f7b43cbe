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

from sojourn.ledger import LicenseChange
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
        assert (seat["heartbeatInterval"], seat["lostAfter"]) == (30, 90)
        assert 0 < seat["expiresIn"] <= 90
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
        assert answer.header("retry-after") == "15"
        assert problem["retryAfter"] == 15.0
        assert "freeIn" not in problem  # all are alive, and no seat has changed hands yet

    def test_full_says_when_a_seat_is_likely_free(self, world: Api) -> None:
        """A silent holder is out when its linger is over."""
        ann = world.seat("ann", device={"kind": "desktop"})
        world.seat("bob", device={"kind": "desktop"})
        world.services.seats.suspicion.forget([ann["leaseId"]])  # it beats at another server
        world.clock.advance(seconds=58)
        problem = world.acquire("cy").json
        assert problem["freeIn"] == 12
        assert problem["details"].endswith("A seat is likely free in about 12 s.")

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
        session = world.session()
        world.call(
            "POST",
            SEATS,
            bearer=world.license_key,
            json=world.wish(device={"os": "Plan 9"}, sessionId=session),
            headers=[("user-agent", "curl/8\x00\x1b[31m" + "x" * 500)],
        )
        lease = world.admin("GET", SEATS).data["items"][0]
        assert lease["device"]["os"] == "Plan 9"
        assert lease["device"]["ip"] == CLIENT_ADDRESS
        assert lease["device"]["user_agent"].startswith("curl/8[31mx")
        assert len(lease["device"]["user_agent"]) <= 256
        assert lease["sessionId"] == session

    def test_names_a_session_that_lives(self, world: Api) -> None:
        """A seat for a session that is gone is refused, in words that say what to do."""
        session = world.session()
        assert world.acquire("ann", sessionId=session).status == 201
        world.store.end(ids=[session])
        for name in (session, "never"):
            answer = world.acquire("ann", sessionId=name)
            assert (answer.status, answer.code) == (403, "session_gone")
        assert world.acquire("ann").status == 201


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
        assert answer.data["state"] == "active"
        assert 0 < answer.data["expiresIn"] <= 90

    def test_a_goodbye_leaves_it_a_moment(self, world: Api) -> None:
        token = world.seat()["token"]
        told = world.beat(token, closing=True).data
        assert told["state"] == "suspect"
        assert told["expiresIn"] <= 10
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
        world.call("GET", "/nowhere")
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
        assert 'sojourn_http_refused_total{code="not_found"}' in text

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
