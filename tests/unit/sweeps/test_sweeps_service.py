"""What operators do with sweeps: look, sweep by hand, plan; and what plans learn of usage."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.sweeping import EDITOR, World

from sojourn.clock import HOUR, MINUTE, SECOND
from sojourn.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from sojourn.lease import Lease, LeaseFilter
from sojourn.plans.plan import RunState, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.store import Action
from sojourn.sweeps.busy import hourly_counts
from sojourn.sweeps.selective import Selective
from sojourn.testing.builders import beat, pool, take

OSLO = ZoneInfo("Europe/Oslo")


class TestOperators:
    def test_a_look_changes_nothing_and_says_why(self, world: World) -> None:
        world.suspects(5)
        before = world.store.events(limit=1_000)
        look = world.sweeps.look(SweepScope(user_id="user-003"))
        (meant,) = look.meant
        assert (meant.lease.user_id, meant.why) == (
            "user-003",
            ("suspect for 15 s", "user user-003"),
        )
        assert (look.total, look.looked) == (1, 1)
        assert world.store.events(limit=1_000) == before
        assert len(Selective(world.store).look(SweepScope(), limit=2).meant) == 2
        assert Selective(world.store, page=2).look(SweepScope(), limit=2).total == 5

    def test_a_sweep_by_hand_touches_nothing_else(self, world: World) -> None:
        seated = world.suspects(5)
        run = world.sweeps.sweep(SweepScope(user_id="user-003"), actor="key:ops")
        assert (run.state, run.ended, run.plan_id) == (RunState.DONE, 1, None)
        left = {x.id for x in world.store.leases(LeaseFilter())[0]}
        assert left == {x.id for x in seated if x.user_id != "user-003"}
        assert world.sweeps.runs() == [run]

    @pytest.mark.parametrize("scope", [SweepScope(), SweepScope(living=True)])
    def test_a_sweep_of_everything_by_leaving_out_is_refused(
        self, world: World, scope: SweepScope
    ) -> None:
        with pytest.raises(InvalidInput, match="restricts nothing"):
            world.sweeps.sweep(scope, actor="key:ops")

    def test_the_living_are_ended_where_it_says_so(self, world: World) -> None:
        world.store.define([pool(5)])
        take(world.store, "ann")
        world.clock.advance(seconds=10)
        assert world.sweeps.sweep(SweepScope(user_id="ann"), actor="x").ended == 0
        assert world.sweeps.sweep(SweepScope(user_id="ann", living=True), actor="x").ended == 1

    def test_a_beat_that_comes_in_between_keeps_its_seat(self, world: World) -> None:
        """Even of those whom an operator means to end though they live."""
        world.store.define([pool(5)])
        lease = take(world.store, "ann")
        world.clock.advance(seconds=10)
        revoke = world.store.revoke

        def beaten(which: LeaseFilter, action: Action, **more: Any) -> list[Lease]:
            beat(world.store, lease)
            return revoke(which, action, **more)

        world.store.revoke = beaten  # type: ignore[method-assign]  # what comes in between
        assert world.sweeps.sweep(SweepScope(user_id="ann", living=True), actor="x").ended == 0
        assert beat(world.store, lease) is not None

    def test_a_failed_sweep_by_hand_is_in_the_history(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.suspects(1)

        def away(*_: Any, **__: Any) -> list[Lease]:
            raise StoreUnavailable("The store is away.")

        monkeypatch.setattr(world.store, "revoke", away)
        sweeps = world.sweeps
        with pytest.raises(StoreUnavailable):
            sweeps.sweep(EDITOR, actor="key:ops")
        (run,) = sweeps.runs()
        assert (run.state, run.error) == (RunState.FAILED, "The store is away.")

    def test_plans_change_without_a_restart(self, world: World) -> None:
        made = world.plan()
        paused = world.sweeps.change("nightly", paused=True, actor="key:ops")
        assert (paused.next_at, paused.paused) == (None, True)
        world.clock.advance(milliseconds=HOUR)
        planner = world.planner()
        planner.tick()
        assert world.states() == []
        resumed = world.sweeps.change(made.id, paused=False, actor="key:ops")
        assert resumed.next_at == world.clock.now() + MINUTE
        hourly = world.sweeps.change(
            "nightly", name="hourly", schedule=Schedule(every=HOUR), actor="key:ops"
        )
        assert hourly.next_at == world.clock.now() + HOUR
        same = world.sweeps.change("hourly", name="hourly", actor="key:ops")
        assert same == hourly
        world.sweeps.remove("hourly", actor="key:ops")
        with pytest.raises(NotFound):
            world.sweeps.get("hourly")

    def test_of_two_who_change_a_plan_one_is_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = world.plan()
        sweeps = world.sweeps
        monkeypatch.setattr(sweeps, "get", lambda _name: made)
        sweeps.change(made.id, paused=True, actor="key:a")
        with pytest.raises(Conflict, match="meanwhile"):
            sweeps.change(made.id, name="late", actor="key:b")

    def test_history_of_a_plan_outlives_it(self, world: World) -> None:
        made = world.plan()
        world.clock.advance(seconds=60)
        world.planner().tick()
        assert len(world.sweeps.runs(plan="nightly")) == 1
        world.sweeps.remove("nightly", actor="key:ops")
        assert len(world.sweeps.runs(plan=made.id)) == 1
        with pytest.raises(NotFound):
            world.sweeps.runs(plan="nightly")


class TestQuietestHour:
    def test_is_learned_from_what_happened(self, world: World) -> None:
        """Two days in which all but one hour of the day were busy: five in the morning in Oslo."""
        begin = datetime(2027, 6, 1, tzinfo=OSLO)
        world.clock.advance(
            milliseconds=round(begin.timestamp() * SECOND) - world.clock.now() - HOUR
        )
        world.store.define([pool(1_000)])
        busy: dict[int, int] = {}
        for hour in range(49):
            number = 1 if hour % 24 == 6 else 4
            for i in range(number):
                take(world.store, f"user-{hour}-{i}")
            busy[world.clock.now()] = number
            world.clock.advance(milliseconds=HOUR)
        assert hourly_counts(world.store) == busy
        made = world.plan(Schedule(quietest=True, zone="Europe/Oslo"))
        assert made.next_at is not None
        assert made.closes_at == made.next_at + HOUR
        assert datetime.fromtimestamp(made.next_at / SECOND, OSLO).hour == 5

    def test_before_anything_is_known_is_three_in_the_morning(self, world: World) -> None:
        assert hourly_counts(world.store) == {}
        made = world.plan(Schedule(quietest=True, zone="Europe/Oslo"))
        assert made.next_at is not None
        assert datetime.fromtimestamp(made.next_at / SECOND, OSLO).hour == 3
