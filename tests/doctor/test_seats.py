"""Seats gone wrong, each made for real: found, mended, and whoever sits well stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest
from tests.patient import MISSING, Patient

from sojourn.clock import DAY, HOUR, SECOND, ManualClock
from sojourn.doctor.doctor import Doctor, mendable
from sojourn.doctor.seats import SeatExaminer, contradictions
from sojourn.finding import Verdict
from sojourn.lease import EndReason, LeaseFilter
from sojourn.ledger import Ledger, SweepRun
from sojourn.license import License, Policy, Reservation
from sojourn.seating import _Decision
from sojourn.service.licenses import Licenses
from sojourn.store import Action, Store
from sojourn.stores.open import open_ledger, open_store
from sojourn.testing.builders import pool, refused, sign_in, take
from sojourn.testing.regions import Region

POLICY = Policy(capacity=3)


class World:
    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store, self.ledger = store, ledger
        self.licenses = Licenses(store, ledger)
        license_, _ = self.licenses.create("Acme", {"editor": POLICY}, actor="test")
        self.license = license_.id
        self.pool = f"{license_.id}:editor"
        examiner = SeatExaminer(lambda: store, lambda: ledger, sweep_interval=900, place="here")
        self.doctor = Doctor([examiner], nullcontext)

    def wrong(self) -> dict[str, Any]:
        return {x.check.id: x.finding for x in self.doctor.examine() if x.finding.verdict.rank}

    def live(self) -> set[str]:
        return {lease.id for lease in self.store.leases(LeaseFilter())[0]}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000 * DAY)


@pytest.fixture
def world(empty_sqlite: str, clock: ManualClock) -> Iterator[World]:
    with (
        closing(open_store(empty_sqlite, clock=clock)) as store,
        closing(open_ledger(empty_sqlite, clock=clock)) as ledger,
    ):
        yield World(store, ledger)


def test_healthy(world: World) -> None:
    assert world.wrong() == {}
    for n in range(4):
        sign_in(world.store, f"s{n}", f"user {n}")
    for n in range(3):
        take(world.store, f"user {n}", pool_id=world.pool, session_id=f"s{n}")
    assert world.wrong() == {}


def test_allotments_are_no_leases_that_nobody_holds(world: World) -> None:
    """Seats that a relay may grant are out, and belong to it: nothing is to be mended."""
    Region(world.store, pool_id=world.pool).ask(2)
    take(world.store, "ann", pool_id=world.pool)
    assert world.wrong() == {}
    assert list(world.doctor.repair()) == []
    assert world.store.authority()[0].pools[world.pool].allotted == 2


def test_more_allotted_and_held_than_there_is(world: World) -> None:
    """A capacity that was lowered, while relays have more: it is said, and nothing is taken from anybody."""
    east = Region(world.store, pool_id=world.pool)
    east.ask(2)
    lease = take(world.store, "ann", pool_id=world.pool)
    world.licenses.set_feature(world.license, "editor", Policy(capacity=1), actor="test")
    found = world.wrong()["seats.capacity"]
    assert found.evidence == (f"{world.pool}: 1 of 1, 2 allotted to relays",)
    assert list(world.doctor.repair()) == []
    assert world.live() == {lease.id}
    assert east.keep(0) is not None
    assert world.wrong() == {}


def test_a_store_that_lost_pools(world: World) -> None:
    world.store.drop([world.pool], Action(actor="test"))
    found = world.wrong()
    assert set(found) == {"seats.pools"}
    assert world.pool in found["seats.pools"].evidence
    assert [x.step.rows for x in world.doctor.repair()] == [1]
    assert list(world.doctor.repair()) == []
    take(world.store, "ann", pool_id=world.pool)


def test_a_policy_that_differs(world: World) -> None:
    world.store.define([pool(9, license_id=world.license)])
    assert set(world.wrong()) == {"seats.pools"}
    assert list(world.doctor.repair())
    assert world.wrong() == {}


def deleted_in_the_ledger(world: World) -> None:
    world.ledger.create_license(
        License(id="lic_lost", name="Lost"), {"editor": POLICY}, b"l" * 32, actor="test"
    )
    world.ledger.delete_license("lic_lost", actor="test")
    world.store.define([pool(license_id="lic_lost")])


def test_a_feature_that_was_removed(world: World) -> None:
    """In the ledger alone; the license's other features stay."""
    keep = take(world.store, "ann", pool_id=world.pool)
    name = f"{world.license}:viewer"
    world.ledger.set_feature(world.license, "viewer", POLICY, actor="test")
    world.store.define(world.ledger.pools(world.license))
    take(world.store, "bob", pool_id=name)
    world.ledger.remove_feature(world.license, "viewer", actor="test")
    assert name in world.wrong()["seats.orphans"].evidence[0]
    assert [x.step.rows for x in world.doctor.repair()] == [1]
    assert world.live() == {keep.id}


def test_a_ledger_from_an_older_backup_costs_nobody_a_seat(world: World) -> None:
    """It knows some licenses, and not those that were made since: nothing says that these are gone."""
    held = {take(world.store, "ann", pool_id=world.pool).id}
    world.store.define([pool(license_id="lic_since")])
    held.add(take(world.store, "bob", pool_id="lic_since:editor").id)
    found = world.wrong()["seats.orphans"]
    assert found.title == "The ledger lacks the licenses of leases that are held: 1."
    assert "lic_since:editor" in found.evidence[0]
    assert list(world.doctor.repair()) == []
    assert world.live() == held


def test_orphans(world: World) -> None:
    """A license was deleted in the ledger, and the server died before the store heard of it; whoever sits
    well stays."""
    keep = take(world.store, "ann", pool_id=world.pool)
    deleted_in_the_ledger(world)
    take(world.store, "bob", pool_id="lic_lost:editor")
    found = world.wrong()
    assert set(found) == {"seats.orphans"}
    assert "lic_lost:editor" in found["seats.orphans"].evidence[0]
    assert [x.step.rows for x in world.doctor.repair()] == [1]
    assert world.wrong() == {}
    assert world.live() == {keep.id}


def test_orphans_of_sessions_that_are_gone(world: World, empty_sqlite: str) -> None:
    """Somebody deleted rows by hand, which takes nobody off a seat; whoever sits well stays."""
    for n in (1, 2):
        sign_in(world.store, f"s{n}", f"user {n}")
    keep = take(world.store, "user 1", pool_id=world.pool, session_id="s1")
    lost = take(world.store, "user 2", pool_id=world.pool, session_id="s2")
    free = take(world.store, "user 3", pool_id=world.pool)  # of no session
    with closing(sqlite3.connect(empty_sqlite.removeprefix("sqlite:///"))) as database, database:
        assert database.execute("DELETE FROM sojourn_sessions WHERE id = 's2'").rowcount == 1
    found = world.wrong()
    assert set(found) == {"seats.orphans"}
    assert found["seats.orphans"].evidence == (f"{lost.id} in {world.pool}: its session is gone",)
    assert [x.step.rows for x in world.doctor.repair()] == [1]
    assert list(world.doctor.repair()) == []
    assert world.wrong() == {}
    assert world.live() == {keep.id, free.id}


def emptied(url: str) -> None:
    """Lose what the ledger knows of licenses, as where its tables were lost and made anew."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        for table in ("sojourn_features", "sojourn_licenses"):
            database.execute(f"DELETE FROM {table}")


def test_a_ledger_that_knows_nothing_costs_nobody_a_seat(world: World, empty_sqlite: str) -> None:
    held = {take(world.store, f"user {n}", pool_id=world.pool).id for n in range(3)}
    emptied(empty_sqlite)
    found = world.wrong()["seats.orphans"]
    assert found.title == "The ledger knows no license of the 3 leases that are held."
    assert list(world.doctor.repair()) == []
    assert world.live() == held


def test_another_ledger_costs_nobody_a_seat(world: World, empty_sqlite: str) -> None:
    """It has licenses, but none of those that seats are held of; doctor defines its pools first."""
    held = take(world.store, "ann", pool_id=world.pool).id
    emptied(empty_sqlite)
    world.ledger.create_license(
        License(id="lic_other", name="Other"), {"editor": POLICY}, b"k" * 32, actor="test"
    )
    assert [x.check.id for x in world.doctor.repair()] == ["seats.pools"]
    assert world.live() == {held}


def test_seats_are_not_ended_in_a_run_that_mended_tables(world: World) -> None:
    take(world.store, "ann", pool_id=world.pool)
    deleted_in_the_ledger(world)
    lost = take(world.store, "bob", pool_id="lic_lost:editor")
    examiner = SeatExaminer(
        lambda: world.store, lambda: world.ledger, sweep_interval=900, place="here"
    )
    doctor = Doctor([Patient(schema_tables=MISSING), examiner], nullcontext)
    seen = list(doctor.examine())
    assert {x.check.id for x in seen if x.steps} == {"schema.tables", "seats.orphans"}
    assert [x.check.id for x in mendable(seen, {})] == ["schema.tables"]
    assert {x.check.id for x in doctor.repair()} == {"schema.tables"}
    assert lost.id in world.live()
    later = list(doctor.examine())
    assert mendable(later, {"schema.tables": 1}) == []  # a later round of the same run
    assert [x.check.id for x in mendable(later, {})] == ["seats.orphans"]
    assert [x.check.id for x in doctor.repair()] == ["seats.orphans"]
    assert lost.id not in world.live()


def test_what_ending_a_seat_does_is_said(world: World) -> None:
    take(world.store, "ann", pool_id=world.pool)
    deleted_in_the_ledger(world)
    lost = take(world.store, "bob", pool_id="lic_lost:editor")
    (step,) = [x.step for x in world.doctor.repair()]
    assert "`revoked`" in step.undo
    (ended,) = world.store.leases(LeaseFilter(ids=(lost.id,), include_ended=True))[0]
    assert ended.end_reason is EndReason.REVOKED


def test_more_pools_than_are_read_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {take(world.store, "ann", pool_id=world.pool).id}
    for n in range(5):
        license_, _ = world.licenses.create(f"More {n}", {"editor": POLICY}, actor="test")
        held.add(take(world.store, f"user {n}", pool_id=f"{license_.id}:editor").id)
    for name in ("POOLS_MAX", "LIST_MAX"):
        monkeypatch.setattr(f"sojourn.doctor.seats.{name}", 2)
    assert world.wrong() == {}
    assert list(world.doctor.repair()) == []
    assert world.live() == held


def test_a_license_that_is_made_while_we_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(world.store, "ann", pool_id=world.pool)
    read, made = world.store.leases, list[str]()

    def leases(*given: Any, **more: Any) -> Any:
        if not made:
            license_, _ = world.licenses.create("New", {"editor": POLICY}, actor="test")
            made.append(take(world.store, "bob", pool_id=f"{license_.id}:editor").id)
        return read(*given, **more)

    monkeypatch.setattr(world.store, "leases", leases)
    assert "seats.orphans" not in world.wrong()
    assert made


def test_somebody_was_refused_for_ghosts(
    world: World, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that forgets to take the seats of those who fell silent; and one that does not."""
    for n in range(3):
        take(world.store, f"user {n}", pool_id=world.pool)
    refused(world.store, "early", pool_id=world.pool)
    assert world.wrong() == {}  # everybody lived
    clock.advance(milliseconds=POLICY.suspect_after_ms + POLICY.linger + SECOND)
    with monkeypatch.context() as broken:
        broken.setattr(_Decision, "_victims", lambda _: [])
        refused(world.store, "late", pool_id=world.pool)
    found = world.wrong()
    assert set(found) == {"seats.denials"}
    assert found["seats.denials"].verdict is Verdict.FAILURE
    assert found["seats.denials"].evidence == (f"{world.pool}: late was refused, 3 were silent",)
    take(world.store, "late", pool_id=world.pool)  # as it must be


def test_more_holders_than_seats(world: World) -> None:
    for n in range(3):
        take(world.store, f"user {n}", pool_id=world.pool)
    world.licenses.set_feature(world.license, "editor", Policy(capacity=2), actor="test")
    found = world.wrong()
    assert set(found) == {"seats.capacity"}
    assert found["seats.capacity"].evidence == (f"{world.pool}: 3 of 2",)


def test_an_overdraft_is_no_fault(world: World) -> None:
    """Seats above the capacity that the policy grants are none too many; one more is."""
    policy = Policy(capacity=2, overdraft=1)
    world.licenses.set_feature(world.license, "editor", policy, actor="test")
    for n in range(3):
        take(world.store, f"user {n}", pool_id=world.pool)
    assert world.wrong() == {}
    world.licenses.set_feature(world.license, "editor", Policy(capacity=1, overdraft=1), actor="t")
    assert world.wrong()["seats.capacity"].evidence == (f"{world.pool}: 3 of 1, and 1 above",)


def test_who_may_not_have_a_reserved_seat_is_refused_rightly(
    world: World, clock: ManualClock
) -> None:
    """Though a ghost sits in that seat."""
    kept = (Reservation(name="kept", seats=1, users=("ghost",)),)
    policy = Policy(capacity=2, reservations=kept)
    world.licenses.set_feature(world.license, "editor", policy, actor="test")
    take(world.store, "ghost", pool_id=world.pool)
    clock.advance(milliseconds=policy.suspect_after_ms + policy.linger + SECOND)
    take(world.store, "ann", pool_id=world.pool)
    assert refused(world.store, "bob", pool_id=world.pool).suspect == 1
    assert "seats.denials" not in world.wrong()


def test_sweeps_that_stopped_or_fail(world: World, clock: ManualClock) -> None:
    assert list(world.doctor.repair()) == []  # nothing swept yet is no fault
    world.ledger.record_sweep(SweepRun(started_at=clock.now(), took=5, actor="test"))
    assert world.wrong() == {}
    clock.advance(milliseconds=2 * HOUR)
    assert set(world.wrong()) == {"seats.sweep"}
    assert list(world.doctor.repair())
    assert world.wrong() == {}
    world.ledger.record_sweep(
        SweepRun(started_at=clock.now(), took=5, actor="test", error="disk full")
    )
    assert world.wrong()["seats.sweep"].evidence == ("disk full",)


def test_policies_that_contradict_themselves(world: World) -> None:
    odd = Policy(capacity=3, heartbeat_interval=60_000)
    world.licenses.set_feature(world.license, "editor", odd, actor="test")
    found = world.wrong()
    assert set(found) == {"seats.policy"}
    assert found["seats.policy"].verdict is Verdict.WARNING
    assert "under twice the heartbeat" in found["seats.policy"].evidence[0]
    fix = found["seats.policy"].fix
    assert fix is not None
    command = f"sojourn feature set {world.license} editor --lost-after 180 --suspect-after 120"
    assert fix.command in {command, command.removesuffix(" --suspect-after 120")}
    mended = Policy(capacity=3, heartbeat_interval=60_000, lost_after=180_000)
    assert contradictions(mended) == []
    assert contradictions(POLICY) == []
    assert contradictions(Policy(capacity=0, max_lease=60_000)) == [
        "max_lease is not longer than lost_after: no beat ever prolongs a lease",
        "capacity is 0: nobody gets a seat",
    ]
