"""What a selective sweep means: whom a scope takes in, and why."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.clock import DAY
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.lease import Lease
from sojourn.plans.plan import SweepPlan, SweepScope, suspicion_of, why
from sojourn.plans.schedule import Schedule

NOW = 1_000_000
SILENT = Lease(
    id="lse_1",
    pool_id="lic_1:editor",
    user_id="ann",
    client_id="tab",
    fence=1,
    acquired_at=NOW - 300_000,
    last_beat_at=NOW - 75_000,
    suspect_at=NOW - 15_000,
    expires_at=NOW + 15_000,
    device=Device(kind="extension", ip="10.1.2.3", browser="Chrome 126", user_agent="Acme/2.3.1 x"),
)
LIVING = replace(SILENT, last_beat_at=NOW - 5_000, suspect_at=NOW + 55_000, expires_at=NOW + 85_000)


def test_a_suspect_is_meant_with_its_reason() -> None:
    assert why(SweepScope(), SILENT, NOW) == ("suspect for 15 s",)


def test_a_holder_that_beats_is_never_meant_unless_asked_for() -> None:
    scope = SweepScope(license_id="lic_1", user_id="ann", older_than=0)
    assert why(scope, LIVING, NOW) is None
    found = why(replace(scope, living=True), LIVING, NOW)
    assert found == ("still beats", "license lic_1", "user ann", "held for 300 s")


@pytest.mark.parametrize(
    "over",
    [
        {"ended_at": NOW - 1},
        {"expires_at": NOW},
    ],
)
def test_what_holds_no_seat_is_not_meant(over: dict[str, Any]) -> None:
    assert why(SweepScope(living=True), replace(SILENT, **over), NOW) is None


@pytest.mark.parametrize(
    ("fits", "said", "misses"),
    [
        ({"license_id": "lic_1"}, "license lic_1", {"license_id": "lic_10"}),
        ({"feature": "editor"}, "feature editor", {"feature": "edit"}),
        ({"user_id": "ann"}, "user ann", {"user_id": "Ann"}),
        ({"kind": "extension"}, "device extension", {"kind": "phone"}),
        ({"network": "10.1.0.0/16"}, "address in 10.1.0.0/16", {"network": "10.2.0.0/16"}),
        ({"network": "10.1.2.3"}, "address in 10.1.2.3", {"network": "fd00::/8"}),
        ({"client_version": "acme/2.3"}, "client acme/2.3", {"client_version": "Acme/2.4"}),
        ({"client_version": "Chrome 126"}, "client Chrome 126", {"client_version": "Firefox"}),
        ({"older_than": 300_000}, "held for 300 s", {"older_than": 300_001}),
        ({"silent_for": 75_000}, "silent for 75 s", {"silent_for": 75_001}),
        ({"suspicion": 0.8}, "suspicion 0.83", {"suspicion": 0.84}),
    ],
)
def test_each_field_restricts(fits: dict[str, Any], said: str, misses: dict[str, Any]) -> None:
    assert why(SweepScope(**fits), SILENT, NOW) == ("suspect for 15 s", said)
    assert why(SweepScope(**misses), SILENT, NOW) is None


def test_a_device_that_says_nothing_fits_no_rule_about_devices() -> None:
    silent = replace(SILENT, device=None)
    for scope in (
        SweepScope(kind="extension"),
        SweepScope(network="0.0.0.0/0"),
        SweepScope(client_version="a"),
    ):
        assert why(scope, silent, NOW) is None


def test_a_shortened_address_is_in_no_range() -> None:
    silent = replace(SILENT, device=Device(ip="10.1.2.0/24"))
    assert why(SweepScope(network="10.0.0.0/8"), silent, NOW) is None


def test_suspicion_grows_from_beat_to_expiry() -> None:
    assert suspicion_of(SILENT, SILENT.last_beat_at) == 0
    assert suspicion_of(SILENT, SILENT.expires_at) == 1
    assert suspicion_of(replace(SILENT, expires_at=SILENT.last_beat_at), NOW) == 1


@pytest.mark.parametrize(
    "scope",
    [
        SweepScope(license_id=""),
        SweepScope(user_id="a\u202eb"),
        SweepScope(feature="two words"),
        SweepScope(kind="x" * 600),
        SweepScope(network="10.1.0.0/99"),
        SweepScope(network="everywhere"),
        SweepScope(older_than=-1),
        SweepScope(silent_for=366 * DAY),
        SweepScope(suspicion=1.1),
        SweepScope(suspicion=float("nan")),
    ],
)
def test_a_scope_that_cannot_be_is_refused(scope: SweepScope) -> None:
    with pytest.raises(InvalidInput):
        scope.check()


@pytest.mark.parametrize("scope", [SweepScope(), SweepScope(living=True)])
def test_a_plan_of_everything_is_refused(scope: SweepScope) -> None:
    """Nobody makes one by leaving something out."""
    plan = SweepPlan(id="spl_1", name="all", scope=scope, schedule=Schedule(every=60_000))
    with pytest.raises(InvalidInput, match="restricts nothing"):
        plan.check()


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb"])
def test_a_plan_has_a_name(name: str) -> None:
    plan = SweepPlan(
        id="spl_1", name=name, scope=SweepScope(feature="x"), schedule=Schedule(every=60_000)
    )
    with pytest.raises(InvalidInput):
        plan.check()
