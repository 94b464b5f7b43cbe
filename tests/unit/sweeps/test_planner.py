"""Planned sweeps: once each time they are due, by one of however many servers, taken up when cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from tests.sweeping import World

from sojourn.clock import HOUR, MINUTE, SECOND
from sojourn.errors import StoreUnavailable
from sojourn.event import EventKind
from sojourn.lease import EndReason, Lease, LeaseFilter
from sojourn.plans.plan import RunState, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.store import Swept
from sojourn.stores.memory import MemoryStore
from sojourn.sweeps.leader import LOST_AFTER, POOL, Leader
from sojourn.sweeps.planner import Planner
from sojourn.sweeps.selective import Selective
from sojourn.testing.builders import beat, latest, news, pool, take

OSLO = ZoneInfo("Europe/Oslo")


class Killed(BaseException):
    """A process that ends here and now."""


class TestTicks:
    def test_sweep_what_is_due_and_say_what_came_of_it(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        seated = world.suspects(3)
        world.clock.advance(seconds=-75)  # so that it is due while they are suspects
        made = world.plan()
        mark = latest(world.store)
        world.clock.advance(seconds=75)
        planner = world.planner()
        with caplog.at_level(logging.INFO):
            planner.tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended, run.looked) == (RunState.DONE, 3, 3)
        assert (run.plan_name, run.due_at, run.taken_up) == ("nightly", made.next_at, 0)
        assert run.next_at == made.next_at + MINUTE if made.next_at else False
        assert run.started_at == run.finished_at == world.clock.now()
        told = news(world.store, mark)
        assert [x.subject for x in told if x.kind is EventKind.LEASE_REVOKED] == [
            x.id for x in seated
        ]
        (acted,) = [x for x in told if x.kind is EventKind.OPERATOR_ACTED]
        assert (acted.actor, acted.data["name"], acted.data["ended"]) == (
            f"plan:{made.id}",
            "sweep",
            3,
        )
        assert (acted.data["plan"], acted.data["run"]) == ("nightly", run.id)
        (line,) = [x for x in caplog.records if "sweep" in x.getMessage()]
        assert planner.counts.ended == 3
        assert planner.counts.runs == {"done": 1}
        assert "nightly" in str(vars(line))

    def test_that_did_nothing_say_nothing(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They are in the history; the log has one line for each that did something."""
        world.plan()
        world.clock.advance(seconds=60)
        with caplog.at_level(logging.INFO):
            world.planner().tick()
        assert world.states() == [RunState.DONE]
        assert caplog.records == []

    def test_leave_the_living_alone(self, world: World) -> None:
        (silent, living) = world.suspects(2)
        beat(world.store, living)
        world.plan()
        world.clock.advance(milliseconds=-MINUTE)
        world.plan(name="soon")
        world.clock.advance(milliseconds=MINUTE)
        world.planner().tick()
        assert [x.id for x in world.store.leases(LeaseFilter())[0]] == [living.id]
        assert silent.id != living.id

    def test_cost_the_store_nothing_while_nothing_is_due(self, world: World) -> None:
        world.plan()
        world.planner().tick()
        assert world.store.pools([POOL.id]) == [None]

    def test_note_what_expired_in_the_scope(self, world: World) -> None:
        world.store.define([pool(5), pool(5, feature="viewer")])
        take(world.store, "ann")
        take(world.store, "bob", pool_id="lic_1:viewer")
        world.plan()
        world.clock.advance(seconds=100)
        world.planner().tick()
        (run,) = world.ledger.plans.runs()
        assert (run.noted, run.ended) == (1, 0)
        everybody, _ = world.store.leases(LeaseFilter(include_ended=True))
        assert {x.pool_id: x.end_reason for x in everybody} == {
            "lic_1:editor": EndReason.EXPIRED,
            "lic_1:viewer": None,
        }

    def test_make_up_once_for_what_was_missed(self, world: World) -> None:
        """An hour without a server is one run of a plan for each minute, and the next at its own time."""
        made = world.plan()
        world.clock.advance(milliseconds=HOUR + 12_345)
        planner = world.planner()
        planner.tick()
        planner.tick()
        assert world.states() == [RunState.DONE]
        now = world.sweeps.get("nightly")
        assert made.next_at is not None
        assert now.next_at is not None
        assert (now.next_at - made.next_at) % MINUTE == 0
        assert 0 < now.next_at - world.clock.now() <= MINUTE

    def test_tell_of_a_window_without_a_server(self, world: World) -> None:
        """It is too late for that one: nothing is swept by day that was meant for the night."""
        world.clock.advance(
            milliseconds=round(datetime(2027, 3, 27, 12, tzinfo=OSLO).timestamp() * SECOND)
            - world.clock.now()
        )
        made = world.plan(Schedule(window="02:00-05:00 Europe/Oslo"))
        assert made.closes_at is not None
        assert made.next_at is not None
        assert made.closes_at - made.next_at == 2 * HOUR  # the clock is put forward that night
        world.clock.advance(milliseconds=made.closes_at - world.clock.now())
        planner = world.planner()
        planner.tick()
        (run,) = world.ledger.plans.runs()
        assert run.state is RunState.MISSED
        assert "window" in (run.error or "")
        assert run.next_at == made.next_at + 23 * HOUR  # 03:00 by the new time, to 02:00
        assert planner.counts.runs == {"missed": 1}

    def test_are_late_as_long_as_the_window_is_open(self, world: World) -> None:
        made = world.plan(Schedule(window="02:00-05:00 Europe/Oslo"))
        assert made.closes_at is not None
        world.clock.advance(milliseconds=made.closes_at - 1 - world.clock.now())
        planner = world.planner()
        planner.tick()
        assert world.states() == [RunState.DONE]

    def test_count_how_late_they_are(self, world: World) -> None:
        world.plan()
        world.clock.advance(seconds=63)
        held = Leader(world.store)
        assert held.take()
        planner = world.planner()
        planner.tick()
        assert (planner.counts.overdue, planner.counts.lag) == (1, 3 * SECOND)
        held.give_back()
        planner.tick()
        assert (planner.counts.overdue, planner.counts.lag) == (0, 0)

    def test_a_plan_that_cannot_be_timed_holds_nobody_up(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As one in a zone that another server knew: it is paused, told, and the others run."""
        made = world.plan(name="first")
        elsewhere = Schedule(window="02:00-05:00", zone="Mars/Olympus")
        world.ledger.plans.change(replace(made, schedule=elsewhere), actor="key:ops")
        world.plan(name="second")
        world.clock.advance(seconds=60)
        world.planner().tick()
        assert [run.plan_name for run in world.ledger.plans.runs()] == ["second"]
        stopped = world.sweeps.get("first")
        assert (stopped.paused, stopped.next_at) == (True, None)
        assert "sweep_plan_paused" in caplog.text

    def test_a_window_that_closed_meanwhile_is_missed(self, world: World) -> None:
        """The plan before it took until then: nothing is swept out of its window."""
        world.plan(name="first")
        begin = world.clock.now()
        made = world.plan(Schedule(window="02:00-05:00"), name="second")
        assert made.closes_at is not None
        world.clock.advance(milliseconds=made.closes_at - 1 - begin)
        store, sweep = world.store, world.store.sweep

        def take_long(**given: Any) -> Swept:
            world.clock.advance(milliseconds=1)
            return sweep(**given)

        store.sweep = take_long  # type: ignore[method-assign]  # what takes long
        world.planner().tick()
        states = {x.plan_name: x.state for x in world.ledger.plans.runs()}
        assert states == {"first": RunState.DONE, "second": RunState.MISSED}


class TestOnce:
    def test_however_many_tick_at_once(self, world: World) -> None:
        world.suspects(40)
        world.clock.advance(seconds=-75)
        world.plan()
        planners = [world.planner() for _ in range(8)]
        for _ in range(3):
            world.clock.advance(seconds=60)
            together = Barrier(8)

            def tick(planner: Planner, together: Barrier = together) -> None:
                together.wait()
                planner.tick()

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(tick, planners))
        runs = world.ledger.plans.runs()
        assert len(runs) == 3
        assert len({run.due_at for run in runs}) == 3

    def test_by_one_that_keeps_its_seat_while_it_only_looks(self, world: World) -> None:
        """Page after page of living holders takes longer than its lease: it beats meanwhile."""
        world.store.define([pool(100, lost_after=HOUR, suspect_after=HOUR)])
        for number in range(50):
            take(world.store, f"user-{number:03}")
        world.plan(Schedule(every=MINUTE), scope=SweepScope(feature="editor", older_than=1))
        world.clock.advance(seconds=60)
        rival, taken = Leader(world.store), []
        store, leases = world.store, world.store.leases

        def look_slowly(*given: Any, **more: Any) -> Any:
            world.clock.advance(milliseconds=LOST_AFTER // 2)
            taken.append(rival.take())
            return leases(*given, **more)

        store.leases = look_slowly  # type: ignore[method-assign]  # what takes long
        ticks = iter(range(0, 10_000, 3))
        leader = Leader(world.store, now=lambda: float(next(ticks)))
        world.planner(selective=Selective(world.store, page=10), leader=leader).tick()
        assert len(taken) > 4
        assert not any(taken)
        assert world.states() == [RunState.DONE]

    def test_though_two_believe_that_they_lead(self, world: World) -> None:
        """One stood still for longer than its lease, and its store does not say so."""
        world.plan()
        world.clock.advance(seconds=60)

        class Sure(Leader):
            def take(self) -> bool:
                return True

            def beat(self) -> bool:
                return True

        planners = [world.planner(leader=Sure(world.store)) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda x: x.tick(), planners))
        assert len(world.ledger.plans.runs()) == 1


def withdraw(world: World, name: str, what: str) -> None:
    if what == "paused":
        world.sweeps.change(name, actor="key:ops", paused=True)
    else:
        world.sweeps.remove(name, actor="key:ops")


class TestWithdrawn:
    @pytest.mark.parametrize("what", ["paused", "removed"])
    def test_it_stops_before_its_next_step(self, what: str, world: World) -> None:
        """In the middle of a page, too: a page has up to a thousand leases."""
        world.suspects(30)
        world.clock.advance(seconds=-75)
        made = world.plan()
        world.clock.advance(seconds=75)
        revoke = world.store.revoke

        def withdraw_after(*given: Any, **more: Any) -> Sequence[Lease]:
            ended = revoke(*given, **more)
            withdraw(world, made.name, what)
            return ended

        world.store.revoke = withdraw_after  # type: ignore[assignment,method-assign]  # an operator meanwhile
        world.planner(selective=Selective(world.store, page=30, step=5)).tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended) == (RunState.STOPPED, 5)
        assert "paused or removed" in (run.error or "")


class Dying(Selective):
    """Ends its process after so many steps."""

    def __init__(self, store: MemoryStore, steps: int) -> None:
        super().__init__(store, page=10, step=5)
        self.steps = steps

    def carry_out(self, run: Any, *, go_on: Any, beat: Callable[[], bool]) -> Any:
        def die() -> bool:
            self.steps -= 1
            if self.steps < 0:
                raise Killed
            return beat()

        return super().carry_out(run, go_on=go_on, beat=die)


class TestCutOff:
    def killed(self, world: World, steps: int) -> None:
        leader = Leader(world.store)
        leader.give_back = lambda: None  # type: ignore[method-assign]  # the dead give nothing back
        planner = world.planner(selective=Dying(world.store, steps), leader=leader)
        with pytest.raises(Killed):
            planner.tick()

    def test_a_run_is_taken_up_when_the_leader_s_lease_is_over(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """From where it was: nothing is ended twice, and the history says so."""
        seated = world.suspects(30)
        world.clock.advance(seconds=-75)
        world.plan()
        world.clock.advance(seconds=61)
        mark = latest(world.store)
        self.killed(world, 3)
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended, run.looked) == (RunState.RUNNING, 10, 10)
        other = world.planner(selective=Selective(world.store, page=10, step=5))
        other.tick()
        assert world.states() == [RunState.RUNNING], "its seat is held as long as its lease lives"
        world.clock.advance(milliseconds=LOST_AFTER)
        with caplog.at_level(logging.INFO):
            other.tick()
        (run,) = [x for x in world.ledger.plans.runs() if x.taken_up]
        assert (run.state, run.taken_up, run.looked) == (RunState.DONE, 1, 25)
        ended = [x.subject for x in news(world.store, mark) if x.kind is EventKind.LEASE_REVOKED]
        assert sorted(map(str, ended)) == sorted(x.id for x in seated)
        assert "sweep_taken_up" in caplog.text

    @pytest.mark.parametrize("what", ["paused", "removed"])
    def test_of_a_plan_that_is_paused_or_removed_it_ends_nothing_more(
        self, what: str, world: World
    ) -> None:
        """Whoever takes it up asks first, and asks before each step."""
        world.suspects(30)
        world.clock.advance(seconds=-75)
        made = world.plan()
        world.clock.advance(seconds=61)
        self.killed(world, 1)
        withdraw(world, made.name, what)
        world.clock.advance(milliseconds=LOST_AFTER)
        mark = latest(world.store)
        world.planner().tick()
        (run,) = world.ledger.plans.runs()
        assert run.state is RunState.STOPPED
        assert "paused or removed" in (run.error or "")
        assert not [x for x in news(world.store, mark) if x.kind is EventKind.LEASE_REVOKED]

    def test_past_its_window_it_is_told(self, world: World) -> None:
        made = world.plan(Schedule(window="02:00-05:00"))
        assert made.next_at is not None
        assert made.closes_at is not None
        world.clock.advance(milliseconds=made.next_at - world.clock.now() - 75 * SECOND)
        world.suspects(30)
        self.killed(world, 1)
        world.clock.advance(milliseconds=made.closes_at - world.clock.now())
        world.planner().tick()
        (run,) = world.ledger.plans.runs()
        assert run.state is RunState.STOPPED
        assert "window" in (run.error or "")

    def test_too_often_it_has_failed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sojourn.sweeps.planner.TAKEN_UP_MAX", 2)
        world.suspects(5)
        world.clock.advance(seconds=-75)
        world.plan()
        world.clock.advance(seconds=61)
        for _ in range(3):
            self.killed(world, 0)
            world.clock.advance(milliseconds=LOST_AFTER)
        world.planner().tick()
        run = world.ledger.plans.runs()[-1]
        assert run.state is RunState.FAILED
        assert "3 times" in (run.error or "")

    def test_a_store_that_is_away_is_waited_for(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.suspects(5)
        world.clock.advance(seconds=-75)
        world.plan()
        world.clock.advance(seconds=61)
        revoke, faults = world.store.revoke, [StoreUnavailable("away")]

        def fail_once(*given: Any, **more: Any) -> Sequence[Lease]:
            if faults:
                raise faults.pop()
            return revoke(*given, **more)

        monkeypatch.setattr(world.store, "revoke", fail_once)
        planner = world.planner()
        with pytest.raises(StoreUnavailable):
            planner.tick()
        assert world.states() == [RunState.RUNNING]
        planner.tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended, run.taken_up) == (RunState.DONE, 5, 1)

    def test_a_fault_that_stays_is_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.plan()
        world.clock.advance(seconds=60)

        def broken(**_: Any) -> Swept:
            raise ValueError("no such thing")

        monkeypatch.setattr(world.store, "sweep", broken)
        planner = world.planner()
        with pytest.raises(ValueError, match="no such thing"):
            planner.tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.error) == (RunState.FAILED, "ValueError")
        assert planner.counts.runs == {"failed": 1}

    def test_a_server_that_stops_leaves_it_to_another(self, world: World) -> None:
        world.suspects(30)
        world.clock.advance(seconds=-75)
        world.plan()
        world.clock.advance(seconds=61)

        class Stopping(Selective):
            def carry_out(self, run: Any, *, go_on: Any, beat: Any) -> Any:
                def stop(further: Any) -> bool:
                    planner.stop()
                    return bool(go_on(further))

                return super().carry_out(run, go_on=stop, beat=beat)

        planner = world.planner(selective=Stopping(world.store, page=10))
        planner.tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.looked) == (RunState.RUNNING, 10)
        world.planner().tick()  # at once: the seat was given back
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended) == (RunState.DONE, 30)

    def test_a_plan_that_is_paused_stops_its_run(self, world: World) -> None:
        world.suspects(30)
        world.clock.advance(seconds=-75)
        made = world.plan()
        world.clock.advance(seconds=61)

        class Pausing(Selective):
            def carry_out(self, run: Any, *, go_on: Any, beat: Any) -> Any:
                world.sweeps.change(made.id, paused=True, actor="key:ops")
                return super().carry_out(run, go_on=go_on, beat=beat)

        world.planner(selective=Pausing(world.store, page=10)).tick()
        (run,) = world.ledger.plans.runs()
        assert (run.state, run.ended) == (RunState.STOPPED, 0)
        assert "paused" in (run.error or "")
        assert world.sweeps.get("nightly").next_at is None


class TestLeader:
    def test_one_leads_until_it_gives_back(self, world: World) -> None:
        first, second = Leader(world.store), Leader(world.store)
        assert first.take()
        assert first.take(), "whoever has it keeps it"
        assert not second.take()
        first.give_back()
        assert second.take()
        assert not first.beat()

    def test_beats_keep_it_and_silence_loses_it(self, world: World) -> None:
        ticks = iter(range(0, 1_000, 3))
        first = Leader(world.store, now=lambda: float(next(ticks)))
        second = Leader(world.store)
        assert first.take()
        for _ in range(5):
            world.clock.advance(milliseconds=LOST_AFTER - 1)
            assert first.beat()
            assert not second.take()
        world.clock.advance(milliseconds=LOST_AFTER)
        assert second.take()
        assert not first.beat()
        first.give_back()
        assert second.beat()

    def test_nobody_sees_it(self, world: World) -> None:
        """No list, no event; not even of the one who was refused it."""
        assert Leader(world.store).take()
        assert not Leader(world.store).take()
        assert world.store.leases(LeaseFilter())[0] == []
        assert world.store.events() == []
