"""Doctor over HTTP: what was found, looking again, repairs; what /readyz and /metrics make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, Answer, Api, api, send
from tests.patient import DEADLINE, GONE, MISSING, SLOW, Patient

from sojourn.doctor.runs import QUEUE_MAX, Rounds
from sojourn.errors import RepairBusy, TableMissing
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.testing import processes


@pytest.fixture
def patient() -> Patient:
    return Patient(schema_tables=MISSING, store_speed=SLOW)


@pytest.fixture
def world(patient: Patient) -> Iterator[Api]:
    with api(doctor=patient.doctor()) as world:
        yield world


def by_check(answer: Answer) -> dict[str, str]:
    return {each["id"]: each["verdict"] for each in answer.data["checks"]}


def test_before_anybody_looked(world: Api) -> None:
    """Nothing is said to be well that was not looked at."""
    found = world.admin("GET", "/api/doctor").data
    assert found["checks"] == []
    assert len(found["waiting"]) == 6
    assert world.admin("GET", "/readyz").json["degraded"] == []


def test_a_run_finds_everything(world: Api, patient: Patient) -> None:
    answer = world.call("POST", "/api/doctor/run", bearer=world.keys[Role.VIEWER])
    assert by_check(answer) == {
        "schema.tables": "failure",
        "schema.keys": "skipped",
        "store.speed": "warning",
        "store.clock": "ok",
        "secrets.shared": "ok",
        "seats.capacity": "skipped",
    }
    assert answer.data["worst"] == "failure"
    assert answer.data["counts"] == {"failure": 1, "warning": 1, "ok": 2, "skipped": 2}
    missing = answer.data["checks"][0]
    assert missing["title"] == "Are all tables there?"
    assert answer.data["checks"][1]["finding"] == (
        "“Has every table its primary key?” waits for “Are all tables there?”."
    )
    assert missing["finding"] == "The table sojourn_sessions is missing."
    assert missing["evidence"] == list(MISSING.evidence)
    assert missing["fix"]["command"] == "sojourn migrate --store postgresql://app@db/app"
    assert [step["rows"] for step in missing["plan"]] == [12_345, 12_345]
    kept = world.admin("GET", "/api/doctor").data
    assert kept == answer.data
    assert "schema.tables" in patient.wrong


def test_a_run_is_shown_while_it_goes_on(world: Api, patient: Patient) -> None:
    """Whoever asks for another one meanwhile gets the same."""
    gate = patient.hold("store.clock")
    rounds = world.app.context.rounds

    async def meanwhile() -> list[Answer]:
        first = world.loop.create_task(send(world.app, "POST", "/api/doctor/run", bearer=ADMIN))
        await world.loop.run_in_executor(None, patient.asked.wait, DEADLINE)
        shown = await send(world.app, "GET", "/api/doctor", bearer=ADMIN)
        assert rounds.look() is rounds.looking
        gate.set()
        return [shown, await first]

    shown, first = world.run(meanwhile())
    assert shown.data["running"] is True
    assert len(shown.data["checks"]) == 3
    assert shown.data["waiting"] == ["store.clock", "secrets.shared", "seats.capacity"]
    assert first.data["running"] is False
    assert patient.looked.count("store.clock") == 1


def test_a_repair_mends_says_what_it_did_and_is_audited(world: Api, patient: Patient) -> None:
    path, operator = "/api/doctor/repair", world.keys[Role.OPERATOR]
    answer = world.call("POST", path, bearer=operator, json={"checks": ["schema.tables"]})
    assert answer.json["message"] == "2 steps were carried out."
    assert [each["check"] for each in answer.data["mended"]] == ["schema.tables"] * 2
    assert answer.data["mended"][0]["undo"] == "DROP TABLE sessions_2025_11_22;"
    assert answer.data["doctor"]["checks"][0]["verdict"] == "ok"
    audited = [each for each in world.ledger.audits(limit=100) if each.action == "doctor.repair"]
    assert [each.subject for each in audited] == ["schema.tables"] * 2
    assert audited[0].actor.startswith("key:key_")
    again = world.call("POST", path, bearer=operator, json={})
    assert again.data["mended"] == []
    assert again.json["message"] == "There was nothing to repair."


def test_a_repair_makes_only_the_checks_that_it_is_for(patient: Patient) -> None:
    """And those that are to be well before: others sign a canary in, and take a seat."""
    doctor = patient.doctor()
    assert [each.check.id for each in doctor.repair(["schema.tables"])] == ["schema.tables"] * 2
    assert patient.looked == ["schema.tables"]
    patient.looked.clear()
    assert list(doctor.repair(["schema.keys"])) == []
    assert patient.looked == ["schema.tables", "schema.keys"]


def test_repairs_take_their_turn(world: Api, patient: Patient) -> None:
    """What is asked for while a run is under way comes after it, once however often the same is asked
    for; what is too much is refused, and says so."""
    rounds = world.app.context.rounds
    gate = patient.hold("store.clock")
    look = rounds.look()
    assert patient.asked.wait(DEADLINE)
    first = rounds.mend(("schema.tables",), actor="ann")
    assert first.current is look
    assert rounds.mend(("schema.tables",), actor="ann") is first
    others = [rounds.mend((), actor=f"bob-{n}") for n in range(QUEUE_MAX - 1)]
    refused = rounds.mend((), actor="too many")
    assert isinstance(refused.fault, RepairBusy)
    assert "schema.tables" in patient.wrong
    gate.set()
    for run in (look, first, *others):
        run.wait_for_end()
        assert run.fault is None
        assert run.current is run
    assert [len(run.mended) for run in (first, *others)] == [2] + [0] * len(others)


def test_refusals_of_a_repair(world: Api, patient: Patient) -> None:
    """Nothing is repaired for who may not, for a check that is not there, beside another doctor."""
    path = "/api/doctor/repair"
    viewer = world.call("POST", path, bearer=world.keys[Role.VIEWER], json={})
    assert (viewer.status, viewer.code) == (403, "forbidden")
    unknown = world.admin("POST", path, json={"checks": ["schema.nothing"]})
    assert (unknown.status, unknown.code) == (404, "check_unknown")
    patient.busy = True
    busy = world.admin("POST", path, json={})
    assert (busy.status, busy.code) == (409, "repair_busy")
    assert "host db-2" in busy.json["error"]
    patient.busy, patient.gives_way = False, GONE
    assert world.admin("POST", path, json={}).code == "store_unavailable"
    assert "schema.tables" in patient.wrong


def test_quick_checks_feed_readiness_and_metrics(world: Api, patient: Patient) -> None:
    """A server that doctor finds something wrong with stays in service, and says where."""
    world.app.context.rounds.quick()
    assert patient.looked == ["schema.tables", "store.speed"]
    ready = world.call("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["degraded"] == ["Doctor finds failures: schema. See /console/doctor."]
    metrics = world.call("GET", "/metrics").body.decode()
    assert 'sojourn_doctor_findings{area="schema",verdict="failure"} 1.0' in metrics
    assert 'sojourn_doctor_findings{area="store",verdict="warning"} 1.0' in metrics
    patient.wrong.clear()
    world.app.context.rounds.quick()
    assert world.call("GET", "/readyz").json["degraded"] == []


def test_quick_checks_begin_with_the_server() -> None:
    patient = Patient(schema_tables=MISSING)
    gate = patient.hold("schema.tables")
    with api(doctor=patient.doctor(), doctor_interval=3_600):
        assert patient.asked.wait(DEADLINE)
        gate.set()


@pytest.mark.parametrize("who", ["a person", "a backend", "a holder", "an operator"])
def test_a_broken_store_that_somebody_meets_is_looked_at_soon(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the next round is due: whoever watches /readyz is to know within seconds."""

    def fail(*_: Any, **__: Any) -> Any:
        raise TableMissing("A table is missing.")

    patient = Patient()
    with api(doctor=patient.doctor(), doctor_interval=3_600) as world:
        assert processes.wait_until(lambda: "store.speed" in patient.looked, DEADLINE)
        begun = world.services.sessions.begin([Begin(user_id="ann")])[0]
        assert isinstance(begun, Begun)
        seat = world.seat()
        gate = patient.hold("schema.tables")
        for verb in ("load", "of", "renew", "leases"):
            monkeypatch.setattr(world.store, verb, fail)
        ask: dict[str, Callable[[], Answer]] = {
            "a person": lambda: world.call("GET", "/api/user/active-sessions", bearer=begun.token),
            "a backend": lambda: world.admin(
                "GET", "/api/sessions/current", headers=[("x-session-token", begun.token)]
            ),
            "a holder": lambda: world.beat(seat["token"]),
            "an operator": lambda: world.admin("GET", "/api/licenses/sessions"),
        }
        ask[who]()
        assert patient.asked.wait(DEADLINE)
        gate.set()


def test_whoever_waits_for_a_failure_to_end_has_it_looked_at_again() -> None:
    patient = Patient(schema_tables=MISSING)
    with api(doctor=patient.doctor(), doctor_interval=3_600) as world:
        assert processes.wait_until(lambda: "store.speed" in patient.looked, DEADLINE)
        gate = patient.hold("schema.tables")
        assert world.call("GET", "/readyz").json["degraded"]
        assert patient.asked.wait(DEADLINE)
        gate.set()


def test_a_stop_ends_a_run_at_its_next_check(patient: Patient) -> None:
    rounds = Rounds(patient.doctor())
    gate = patient.hold("store.speed")
    run = rounds.look()
    assert patient.asked.wait(DEADLINE)
    rounds._stopping.set()
    gate.set()
    rounds.stop()
    assert run.over
    assert run.fault is not None
    assert "store.clock" not in patient.looked
    assert patient.closed
