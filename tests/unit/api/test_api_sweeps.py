"""Selective sweeps and their plans over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import FEATURE, SEATS, Api, api

from sojourn.event import EventKind

PLANS = "/api/sweeps/plans"
RUNS = "/api/sweeps/runs"
PLAN: dict[str, Any] = {
    "name": "nightly",
    "scope": {"feature": FEATURE, "silentFor": 60},
    "schedule": {"window": "02:00-05:00 Europe/Oslo"},
}


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=100) as made:
        yield made


def seated(world: Api, *users: str, **device: Any) -> None:
    """Seat some, who fall silent for as long as it takes to be suspect."""
    for user in users:
        wish = world.wish(user, device=device or None)
        assert world.call("POST", SEATS, json=wish, bearer=world.license_key).status == 201
    world.clock.advance(seconds=75)


def live(world: Api) -> list[str]:
    return sorted(x["userId"] for x in world.admin("GET", SEATS).data["items"])


class TestSweeping:
    def test_a_dry_run_lists_what_it_would_end_and_changes_nothing(self, world: Api) -> None:
        seated(world, "ann", "bob")
        before = world.footprint()
        answer = world.admin("POST", "/api/sweeps", json={"userId": "ann", "dryRun": True})
        assert answer.data["leasesEnded"] == 1
        assert answer.data["looked"] == 1
        (meant,) = answer.data["leases"]
        assert meant["lease"]["userId"] == "ann"
        assert meant["why"] == ["suspect for 15 s", "user ann"]
        assert "Nothing was changed" in answer.json["message"]
        assert world.footprint() == before
        assert world.admin("GET", RUNS).data["items"] == []

    def test_a_dry_run_of_no_scope_lists_every_suspect(self, world: Api) -> None:
        seated(world, "ann", "bob")
        answer = world.admin("POST", "/api/sweeps", json={"dryRun": True})
        assert sorted(x["lease"]["userId"] for x in answer.data["leases"]) == ["ann", "bob"]

    @pytest.mark.parametrize(
        ("body", "ended"),
        [
            ({"userId": "ann"}, ["ann"]),
            ({"feature": FEATURE}, ["ann", "bob"]),
            ({"kind": "extension"}, ["bob"]),
            ({"silentFor": 75}, ["ann", "bob"]),
            ({"silentFor": 75.001}, []),
            ({"olderThan": 76}, []),
            ({"suspicion": 0.83}, ["ann", "bob"]),
            ({"network": "203.0.113.0/24"}, []),
            ({"clientVersion": "firefox 1"}, ["bob"]),
            ({"userId": "cyd"}, []),
            ({"userId": "cyd", "living": True}, ["cyd"]),
            ({"feature": FEATURE, "living": True, "olderThan": 60}, ["ann", "bob"]),
        ],
    )
    def test_touches_nothing_else_than_its_scope(
        self, world: Api, body: dict[str, Any], ended: list[str]
    ) -> None:
        seated(world, "ann")
        world.clock.advance(seconds=-75)
        seated(world, "bob", kind="extension", browser="Firefox 140")
        world.call("POST", SEATS, json=world.wish("cyd"), bearer=world.license_key)
        dry = world.admin("POST", "/api/sweeps", json=body | {"dryRun": True}).data
        assert sorted(x["lease"]["userId"] for x in dry["leases"]) == ended
        answer = world.admin("POST", "/api/sweeps", json=body)
        assert answer.data["leasesEnded"] == len(ended)
        assert live(world) == sorted({"ann", "bob", "cyd"} - set(ended))
        (run,) = world.admin("GET", RUNS).data["items"]
        assert (run["state"], run["ended"], run["scope"]) == ("done", len(ended), body)
        assert run["actor"].startswith("key:")
        acted = world.store.events(kinds=(EventKind.OPERATOR_ACTED,))
        assert [x.data["name"] for x in acted] == ["sweep"] * bool(ended)

    def test_a_plan_s_scope_may_be_tried(self, world: Api) -> None:
        world.admin("POST", PLANS, json=PLAN)
        seated(world, "ann")
        body = {"plan": "nightly", "dryRun": True}
        assert world.admin("POST", "/api/sweeps", json=body).data["leasesEnded"] == 1
        refused = world.admin("POST", "/api/sweeps", json=body | {"userId": "ann"})
        assert (refused.status, refused.code) == (400, "invalid_request")

    @pytest.mark.parametrize("body", [None, {}])
    def test_without_a_scope_it_is_housekeeping(
        self, world: Api, body: dict[str, Any] | None
    ) -> None:
        seated(world, "ann")
        answer = world.admin("POST", "/api/sweeps", json=body)
        assert answer.status == 200
        assert "leasesEnded" not in answer.data
        assert live(world) == ["ann"]

    @pytest.mark.parametrize(
        ("body", "status", "code", "says"),
        [
            ({"licenceId": "lic_1"}, 400, "invalid_request", "licenceId"),
            ({"feature": FEATURE, "olderthan": 5}, 400, "invalid_request", "olderthan"),
            ({"living": True}, 400, "invalid_request", "restricts nothing"),
            ({"feature": FEATURE, "olderThan": -1}, 400, "invalid_request", "olderThan"),
            ({"feature": FEATURE, "suspicion": 2}, 400, "invalid_request", "suspicion"),
            ({"feature": FEATURE, "network": "10.0.0.0/40"}, 400, "invalid_request", "10.0.0.0/40"),
            ({"userId": "a\u202eb"}, 400, "invalid_request", "user"),
            ({"feature": "no such"}, 400, "invalid_request", "feature"),
            ({"feature": "unknown"}, 404, "feature_unknown", "unknown"),
            ({"licenseId": "lic_0"}, 404, "license_unknown", "lic_0"),
            ({"plan": "none"}, 404, "plan_unknown", "none"),
            ([], 400, "invalid_request", "array"),
        ],
    )
    def test_bad_input(self, world: Api, body: Any, status: int, code: str, says: str) -> None:
        seated(world, "ann")
        before = world.footprint()
        for dry in (True, False):
            asked = body | {"dryRun": dry} if isinstance(body, dict) and dry else body
            refused = world.admin("POST", "/api/sweeps", json=asked)
            if asked == {"living": True, "dryRun": True}:
                continue  # a look at everything is allowed
            assert (refused.status, refused.code) == (status, code)
            assert says in refused.json["error"] + refused.json["details"]
        assert world.footprint() == before


class TestPlans:
    def test_are_made_listed_changed_and_removed(self, world: Api) -> None:
        made = world.admin("POST", PLANS, json=PLAN)
        assert made.status == 201
        assert made.data["schedule"] == {"window": "02:00-05:00", "zone": "Europe/Oslo"}
        assert made.data["scope"] == PLAN["scope"]
        assert made.data["nextAt"] < made.data["closesAt"]
        assert world.admin("GET", PLANS).data["items"] == [made.data]
        assert world.admin("GET", f"{PLANS}/nightly").data == made.data
        path = f"{PLANS}/{made.data['planId']}"
        paused = world.admin("PATCH", path, json={"paused": True}).data
        assert paused["paused"] is True
        assert "nextAt" not in paused
        hourly = world.admin(
            "PATCH", path, json={"paused": False, "name": "hourly", "schedule": {"every": 3600}}
        ).data
        assert hourly["schedule"] == {"every": 3600.0}
        assert world.admin("DELETE", f"{PLANS}/hourly").data["planId"] == made.data["planId"]
        assert world.admin("GET", PLANS).data["items"] == []
        actions = [x.action for x in world.ledger.audits() if "sweep" in x.action]
        assert actions == [
            "sweep_plan.create",
            "sweep_plan.change",
            "sweep_plan.change",
            "sweep_plan.delete",
        ]

    def test_history_has_scope_result_and_next_run(self, world: Api) -> None:
        world.admin("POST", PLANS, json=PLAN | {"schedule": {"every": 60}})
        seated(world, "ann")
        world.app.behind._context.sweeps.planner.tick()
        (run,) = world.admin("GET", f"{RUNS}?plan=nightly").data["items"]
        assert (run["state"], run["ended"], run["planName"]) == ("done", 1, "nightly")
        assert run["scope"] == PLAN["scope"]
        assert run["nextAt"] == world.admin("GET", f"{PLANS}/nightly").data["nextAt"]
        assert run["dueAt"] < run["startedAt"]
        assert live(world) == []

    @pytest.mark.parametrize(
        ("schedule", "says"),
        [
            ({}, "needs one of"),
            ({"cron": "0 0 31 2 *"}, "bad day-of-month"),
            ({"cron": "whenever it rains"}, "five fields"),
            ({"window": "02:00-02:00 Europe/Oslo"}, "empty"),
            ({"window": "02:00-05:00 Europe/Atlantis"}, "Europe/Atlantis"),
            ({"window": "at night"}, "no window"),
            ({"every": 0}, "between 1 second"),
            ({"every": 60, "quietest": True}, "every and quietest"),
            ({"quietest": True, "zone": "Mars/Olympus"}, "Mars/Olympus"),
        ],
    )
    def test_impossible_schedules_say_why_and_show_how(
        self, world: Api, schedule: dict[str, Any], says: str
    ) -> None:
        made = world.admin("POST", PLANS, json=PLAN | {"name": "there"})
        for method, path, body in (
            ("POST", PLANS, PLAN | {"schedule": schedule}),
            ("PATCH", f"{PLANS}/there", {"schedule": schedule}),
        ):
            refused = world.admin(method, path, json=body)
            assert (refused.status, refused.code) == (400, "invalid_schedule")
            assert says in refused.json["error"]
            assert '{"window": "02:00-05:00 Europe/Oslo"}' in refused.json["details"]
        assert world.admin("GET", PLANS).data["items"] == [made.data]

    @pytest.mark.parametrize(
        ("over", "status", "code"),
        [
            ({"scope": {}}, 400, "invalid_request"),
            ({"scope": {"living": True}}, 400, "invalid_request"),
            ({"scope": {"feature": "unknown"}}, 404, "feature_unknown"),
            ({"scope": {"feature": FEATURE, "dryRun": True}}, 400, "invalid_request"),
            ({"schedule": {"evry": 60}}, 400, "invalid_request"),
            ({"schedule": {"every": "60"}}, 400, "invalid_request"),
            ({"name": " "}, 400, "invalid_request"),
            ({"name": "x" * 101}, 400, "invalid_request"),
            ({"when": "now"}, 400, "invalid_request"),
        ],
    )
    def test_bad_input(self, world: Api, over: dict[str, Any], status: int, code: str) -> None:
        refused = world.admin("POST", PLANS, json=PLAN | over)
        assert (refused.status, refused.code) == (status, code)
        assert world.admin("GET", PLANS).data["items"] == []

    def test_names_are_unique_and_unknown_plans_are_told(self, world: Api) -> None:
        world.admin("POST", PLANS, json=PLAN)
        assert world.admin("POST", PLANS, json=PLAN).code == "conflict"
        for method, path in (
            ("GET", f"{PLANS}/none"),
            ("PATCH", f"{PLANS}/none"),
            ("DELETE", f"{PLANS}/none"),
            ("GET", f"{RUNS}?plan=none"),
        ):
            refused = world.admin(
                method, path, json={"paused": True} if method == "PATCH" else None
            )
            assert (refused.status, refused.code) == (404, "plan_unknown")


class TestMetrics:
    def test_tell_of_runs_and_of_what_is_late(self, world: Api) -> None:
        world.admin("POST", PLANS, json=PLAN | {"schedule": {"every": 60}})
        seated(world, "ann")
        planner = world.app.behind._context.sweeps.planner
        planner.tick()
        world.admin("POST", "/api/sweeps")
        text = world.call("GET", "/metrics").body.decode()
        assert 'sojourn_sweep_runs_total{state="done"} 1.0' in text
        assert "sojourn_sweep_leases_ended_total 1.0" in text
        (last,) = re.findall(r"^sojourn_sweep_last_run_timestamp_seconds (\S+)", text, re.MULTILINE)
        assert float(last) == world.clock.now() / 1_000
        assert "sojourn_sweep_overdue_plans 0.0" in text
        assert "sojourn_sweep_lag_seconds 0.0" in text
