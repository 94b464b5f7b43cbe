"""Plans of sweeps and their runs, in the ledger's database.

A plan's row is locked before its runs. That a plan runs once for each time it is due is held twice: by the
row's `next_at`, which only one can move on, and by the uniqueness of (plan, due) among runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from sojourn.errors import Conflict
from sojourn.plans.keeper import RUNS_KEPT, Pending
from sojourn.plans.plan import PLANS_MAX, RunState, SelectiveRun, SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.store import bounded
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.events import audit
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.rows import to_json
from sojourn.stores.sql.schema import sweep_plans, sweep_runs

PLAN = [sweep_plans.c[name] for name in SweepPlan.__struct_fields__]
RUN = [sweep_runs.c[name] for name in SelectiveRun.__struct_fields__]
LOCK_CREATE = "SELECT value FROM sojourn_marks WHERE name = 'audits' {update}"
ERROR_MAX = 500
FORGOTTEN_MAX = 100
"""Old runs that are forgotten with each that is written."""

_scope = msgspec.json.Decoder(SweepScope).decode
_schedule = msgspec.json.Decoder(Schedule).decode
_plan, _run = sweep_plans.c, sweep_runs.c


class SqlPlans:
    """Implements `sojourn.plans.keeper.PlanKeeper`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, plan: SweepPlan, *, actor: str) -> SweepPlan:
        def work(tx: Tx) -> SweepPlan:
            tx.rows(LOCK_CREATE, {})  # two that come at once must not both be the last one
            if tx.core(select(func.count()).select_from(sweep_plans)).scalar_one() >= PLANS_MAX:
                raise Conflict(f"There are {PLANS_MAX} plans already.", hint="Remove one.")
            created = replace(plan, created_at=tx.now())
            _write(lambda: tx.core(insert(sweep_plans), _plan_row(created)), plan.name)
            audit(tx, actor, "sweep_plan.create", created.id, _told(created))
            return created

        return self._db.transaction(work)

    def get(self, name: str) -> SweepPlan | None:
        query = select(*PLAN).where(or_(_plan.id == name, _plan.name == name))
        rows = [_plan_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]
        rows.sort(key=lambda plan: plan.id != name)  # another may be called as this one's id
        return rows[0] if rows else None

    def all(self) -> list[SweepPlan]:
        query = select(*PLAN).order_by(_plan.name)
        return [_plan_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def change(self, plan: SweepPlan, *, actor: str) -> SweepPlan | None:
        def work(tx: Tx) -> SweepPlan | None:
            changed = replace(plan, revision=plan.revision + 1)
            row = _plan_row(changed)
            mine = (_plan.id == plan.id, _plan.revision == plan.revision)
            query = update(sweep_plans).where(*mine).values(row)
            if not _write(lambda: tx.core(query).rowcount, plan.name):
                return None
            audit(tx, actor, "sweep_plan.change", plan.id, _told(changed))
            return changed

        return self._db.transaction(work)

    def delete(self, plan_id: str, *, actor: str) -> bool:
        def work(tx: Tx) -> bool:
            found = tx.core(select(_plan.name).where(_plan.id == plan_id).with_for_update()).first()
            if found is None:
                return False
            tx.core(delete(sweep_plans).where(_plan.id == plan_id))
            audit(tx, actor, "sweep_plan.delete", plan_id, {"name": found.name})
            return True

        return self._db.transaction(work)

    def pending(self) -> Pending:
        def work(tx: Tx) -> Pending:
            now = tx.now()
            due = select(*PLAN).where(_plan.next_at <= now).order_by(_plan.next_at, _plan.id)
            cut_off = select(*RUN).where(
                _run.state == RunState.RUNNING.value, _run.plan_id.is_not(None)
            )
            cut_off = cut_off.order_by(_run.started_at, _run.id)
            latest = tx.core(select(func.max(_run.started_at))).scalar_one()
            return Pending(
                tuple(_plan_of(row) for row in tx.core(due)),
                tuple(_run_of(row) for row in tx.core(cut_off)),
                now,
                latest or 0,
            )

        return self._db.read(work)

    def begin(self, plan: SweepPlan, run: SelectiveRun, *, closes_at: int | None) -> bool:
        def work(tx: Tx) -> bool:
            unchanged = (_plan.id == plan.id, _plan.revision == plan.revision)
            moved = update(sweep_plans).where(*unchanged, _plan.next_at == plan.next_at)
            moved = moved.values(next_at=run.next_at, closes_at=closes_at)
            if not tx.core(moved).rowcount:
                return False
            return _insert_run(tx, run)

        return self._db.transaction(work)

    def take_up(self, run: SelectiveRun) -> SelectiveRun | None:
        taken = replace(run, taken_up=run.taken_up + 1)
        query = update(sweep_runs).where(*_same(run)).values(taken_up=taken.taken_up)
        return taken if self._db.transaction(lambda tx: tx.core(query).rowcount) else None

    def note(self, run: SelectiveRun) -> bool:
        def work(tx: Tx) -> bool:
            query = update(sweep_runs).where(*_same(run)).values(_run_row(run))
            if not tx.core(query).rowcount:
                return False
            goes_on = select(_plan.id).where(_plan.id == run.plan_id, ~_plan.paused)
            return tx.core(goes_on).first() is not None

        return self._db.transaction(work)

    def record(self, run: SelectiveRun) -> None:
        self._db.transaction(lambda tx: _insert_run(tx, run))

    def runs(self, *, plan_id: str | None = None, limit: int = 100) -> list[SelectiveRun]:
        query = select(*RUN).order_by(_run.started_at.desc(), _run.id.desc()).limit(bounded(limit))
        if plan_id is not None:
            query = query.where(_run.plan_id == plan_id)
        return [_run_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]


def _same(run: SelectiveRun) -> tuple[Any, ...]:
    """Mean the row of a run that goes on, unless somebody else has taken it up."""
    running = _run.state == RunState.RUNNING.value
    return _run.id == run.id, running, _run.taken_up == run.taken_up


def _insert_run(tx: Tx, run: SelectiveRun) -> bool:
    """Write a run down, and forget the oldest ones. False: this plan has run for this time."""
    if run.plan_id is not None:
        mine = (_run.plan_id == run.plan_id, _run.due_at == run.due_at)
        if tx.core(select(_run.id).where(*mine)).first() is not None:
            return False
    tx.core(insert(sweep_runs), _run_row(run))
    ended = _run.state != RunState.RUNNING.value
    newest = select(_run.id).where(ended).order_by(_run.started_at.desc(), _run.id.desc())
    old = list(tx.core(newest.offset(RUNS_KEPT).limit(FORGOTTEN_MAX)).scalars())
    if old:
        tx.core(delete(sweep_runs).where(_run.id.in_(sorted(old))))
    return True


def _write(work: Callable[[], Any], name: str) -> Any:
    try:
        return work()
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Conflict(f"There is a plan {name!r} already.") from error
        raise


def _told(plan: SweepPlan) -> dict[str, Any]:
    """Say in the audit trail what a plan is by now."""
    return {
        "name": plan.name,
        "scope": plan.scope,
        "schedule": plan.schedule,
        "paused": plan.paused,
    }


def _plan_row(plan: SweepPlan) -> dict[str, Any]:
    row = msgspec.structs.asdict(plan)
    return row | {"scope": to_json(plan.scope), "schedule": to_json(plan.schedule)}


def _plan_of(row: Sequence[Any]) -> SweepPlan:
    values = dict(zip(SweepPlan.__struct_fields__, row, strict=True))
    values["scope"] = _scope(values["scope"])
    values["schedule"] = _schedule(values["schedule"])
    return SweepPlan(**values | {"paused": bool(values["paused"])})


def _run_row(run: SelectiveRun) -> dict[str, Any]:
    row = msgspec.structs.asdict(run)
    error = None if run.error is None else run.error[:ERROR_MAX]
    return row | {"scope": to_json(run.scope), "state": run.state.value, "error": error}


def _run_of(row: Sequence[Any]) -> SelectiveRun:
    values = dict(zip(SelectiveRun.__struct_fields__, row, strict=True))
    values["scope"] = _scope(values["scope"])
    return SelectiveRun(**values | {"state": RunState(values["state"])})
