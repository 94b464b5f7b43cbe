"""Plans of sweeps and their runs in the ledger, on every database it may live on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from msgspec.structs import replace

from sojourn.clock import MINUTE, ManualClock
from sojourn.errors import Conflict
from sojourn.plans import keeper, plan
from sojourn.plans.keeper import PlanKeeper
from sojourn.plans.plan import RunState, SelectiveRun, SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.stores.open import open_ledger
from sojourn.stores.sql import sweep_plans
from sojourn.stores.sql.ledger import SqlLedger

START = ManualClock().now()
DUE = START + MINUTE
NIGHTLY = SweepPlan(
    id="spl_1",
    name="nightly \N{SNOWMAN}",
    scope=SweepScope(feature="editor", silent_for=60_000, network="10.0.0.0/8"),
    schedule=Schedule(window="02:00-05:00", zone="Europe/Oslo"),
    created_by="key:ops",
    next_at=DUE,
    closes_at=DUE + MINUTE,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory:", "empty_sqlite", "empty_postgres", "empty_mariadb"])
def ledger(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[SqlLedger]:
    named = request.param != "memory:"
    url = request.getfixturevalue(request.param) if named else request.param
    with closing(open_ledger(url, clock=clock)) as ledger:
        assert isinstance(ledger, SqlLedger)
        yield ledger


@pytest.fixture
def plans(ledger: SqlLedger) -> PlanKeeper:
    return ledger.plans


def run_of(made: SweepPlan, number: int = 1) -> SelectiveRun:
    return SelectiveRun(
        id=f"swr_{number}",
        actor="system:plan",
        scope=made.scope,
        started_at=DUE,
        plan_id=made.id,
        plan_name=made.name,
        due_at=made.next_at,
        closes_at=made.closes_at,
        next_at=DUE + 60 * MINUTE,
    )


def test_a_plan_is_kept_as_it_was_made(plans: PlanKeeper, ledger: SqlLedger) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    assert made == replace(NIGHTLY, created_at=START)
    assert plans.get("spl_1") == plans.get(NIGHTLY.name) == made
    assert plans.all() == [made]
    assert plans.get("nightly") is None
    (audit,) = ledger.audits()
    assert (audit.actor, audit.action, audit.subject) == (
        "key:ops",
        "sweep_plan.create",
        "spl_1",
    )
    assert audit.data["scope"]["network"] == "10.0.0.0/8"


def test_names_are_unique(plans: PlanKeeper) -> None:
    plans.create(NIGHTLY, actor="key:ops")
    with pytest.raises(Conflict, match="already"):
        plans.create(replace(NIGHTLY, id="spl_2"), actor="key:ops")
    other = plans.create(replace(NIGHTLY, id="spl_2", name="other"), actor="key:ops")
    with pytest.raises(Conflict, match="already"):
        plans.change(replace(other, name=NIGHTLY.name), actor="key:ops")


def test_plans_are_bounded(plans: PlanKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_plans, "PLANS_MAX", 1)
    plans.create(NIGHTLY, actor="key:ops")
    with pytest.raises(Conflict, match="1 plans already"):
        plans.create(replace(NIGHTLY, id="spl_2", name="other"), actor="key:ops")
    assert plan.PLANS_MAX == 200


def test_of_two_changes_at_once_one_is_told_to_look_again(plans: PlanKeeper) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    paused = plans.change(replace(made, paused=True, next_at=None, closes_at=None), actor="key:a")
    assert paused is not None
    assert (paused.paused, paused.revision) == (True, 2)
    assert plans.change(replace(made, name="late"), actor="key:b") is None
    assert plans.all() == [paused]


def test_a_deleted_plan_s_runs_are_remembered(plans: PlanKeeper, clock: ManualClock) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    assert plans.begin(made, run_of(made), closes_at=None)
    assert plans.delete(made.id, actor="key:ops")
    assert not plans.delete(made.id, actor="key:ops")
    assert plans.all() == []
    assert [x.plan_name for x in plans.runs()] == [NIGHTLY.name]


def test_only_what_is_due_is_pending(plans: PlanKeeper, clock: ManualClock) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    plans.create(replace(NIGHTLY, id="spl_2", name="paused", paused=True, next_at=None), actor="x")
    clock.advance(milliseconds=MINUTE - 1)
    assert plans.pending().due == ()
    clock.advance(milliseconds=1)
    pending = plans.pending()
    assert (pending.due, pending.cut_off, pending.now) == ((made,), (), DUE)


def test_a_run_begins_once_each_time_it_is_due(plans: PlanKeeper, clock: ManualClock) -> None:
    """However many servers want to begin it at the same moment."""
    made = plans.create(NIGHTLY, actor="key:ops")
    clock.advance(milliseconds=MINUTE)
    together = Barrier(8)

    def begin(number: int) -> bool:
        together.wait()
        return plans.begin(made, run_of(made, number), closes_at=DUE + 99 * MINUTE)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 1
    (run,) = plans.runs()
    moved = plans.get(made.id)
    assert moved is not None
    assert (moved.next_at, moved.closes_at) == (run.next_at, DUE + 99 * MINUTE)
    assert plans.pending().due == ()
    assert plans.pending().cut_off == (run,)


def test_a_run_is_not_begun_twice_though_its_plan_was_put_back(plans: PlanKeeper) -> None:
    """As by a backup that was restored into one of the two tables."""
    made = plans.create(NIGHTLY, actor="key:ops")
    assert plans.begin(made, run_of(made), closes_at=None)
    back = plans.change(made, actor="key:ops")
    assert back is not None
    assert not plans.begin(back, run_of(back, 2), closes_at=None)


def test_a_changed_plan_is_not_begun_as_it_was(plans: PlanKeeper) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    plans.change(replace(made, scope=SweepScope(feature="viewer")), actor="key:ops")
    assert not plans.begin(made, run_of(made), closes_at=None)
    assert plans.runs() == []


def test_progress_is_noted_until_the_plan_is_paused(plans: PlanKeeper) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    run = run_of(made)
    assert plans.begin(made, run, closes_at=None)
    further = replace(run, looked=10, ended=3, last_id="lse_9")
    assert plans.note(further)
    assert plans.runs() == [further]
    now = plans.get(made.id)
    assert now is not None
    plans.change(replace(now, paused=True), actor="key:ops")
    assert not plans.note(replace(further, looked=20))
    assert plans.runs()[0].looked == 20, "what was done is written all the same"


def test_a_server_whose_run_was_taken_up_writes_nothing_more(plans: PlanKeeper) -> None:
    made = plans.create(NIGHTLY, actor="key:ops")
    run = run_of(made)
    assert plans.begin(made, run, closes_at=None)
    taken = plans.take_up(run)
    assert taken is not None
    assert plans.take_up(run) is None, "another was sooner"
    assert not plans.note(replace(run, ended=99, state=RunState.DONE))
    done = replace(taken, ended=5, state=RunState.DONE, finished_at=DUE + 5)
    assert plans.note(done)
    assert plans.runs() == [done]
    assert plans.take_up(done) is None, "it has ended"
    assert plans.pending().cut_off == ()


def test_runs_by_hand_are_kept_and_old_ones_forgotten(
    plans: PlanKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_plans, "RUNS_KEPT", 3)
    made = plans.create(NIGHTLY, actor="key:ops")
    assert plans.begin(made, run_of(made), closes_at=None)  # not over: it stays
    for number in range(10):
        by_hand = SelectiveRun(
            id=f"swr_x{number}",
            actor="key:ops",
            scope=SweepScope(user_id="ann"),
            started_at=DUE + 1 + number,
            state=RunState.DONE,
            error="x" * 999,
        )
        plans.record(by_hand)
    assert [x.id for x in plans.runs()] == ["swr_x9", "swr_x8", "swr_x7", "swr_1"]
    assert [x.id for x in plans.runs(plan_id=made.id)] == ["swr_1"]
    assert len(plans.runs(limit=1)[0].error or "") == 500
    assert keeper.RUNS_KEPT == 1_000
