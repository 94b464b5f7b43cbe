"""What operators do: look, sweep, and plan sweeps. Every change is audited with it."""

from __future__ import annotations

import time

from msgspec.structs import replace

from sojourn.errors import Conflict, InvalidInput, NotFound, SojournError
from sojourn.plans.keeper import PlannedLedger
from sojourn.plans.plan import SCOPE_EXAMPLE, RunState, SelectiveRun, SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.plans.times import checked, next_due
from sojourn.store import Store
from sojourn.sweeps.planner import Planner, QuietHours, count
from sojourn.sweeps.selective import Look, Selective
from sojourn.token import new_id


class Sweeps:
    """Synchronous; safe from several threads. The planner's ticks are whoever's who starts them."""

    def __init__(self, store: Store, ledger: PlannedLedger) -> None:
        self._ledger = ledger
        self._plans = ledger.plans
        self._selective = Selective(store)
        self._quiet = QuietHours(store)
        self.planner = Planner(store, ledger, selective=self._selective)

    def look(self, scope: SweepScope) -> Look:
        """Say what a sweep of a scope would end now, and why; nothing is changed. A scope that restricts
        nothing means every suspect."""
        return self._selective.look(scope.check())

    def sweep(self, scope: SweepScope, *, actor: str) -> SelectiveRun:
        """Sweep a scope now. Raises InvalidInput where it restricts nothing."""
        if not scope.check().restricts:
            raise InvalidInput("The scope restricts nothing.", hint=SCOPE_EXAMPLE)
        run = SelectiveRun(
            id=new_id("swr_"), actor=actor, scope=scope, started_at=self._ledger.now()
        )
        began, told = time.monotonic(), [run]

        def go_on(further: SelectiveRun) -> bool:
            told[0] = further
            return True

        try:
            run = self._selective.carry_out(run, go_on=go_on, beat=lambda: True)
        except SojournError as fault:
            run = replace(told[0], state=RunState.FAILED, error=fault.message)
            raise
        finally:
            if run.state is RunState.RUNNING:  # the last of its pages was not reached
                run = replace(told[0], state=RunState.STOPPED, error="It did not come to its end.")
            took = round((time.monotonic() - began) * 1_000)
            run = replace(run, finished_at=run.started_at + took)
            self._plans.record(run)
            count(self.planner.counts, run, took / 1_000)
        return run

    def create(
        self, name: str, scope: SweepScope, schedule: Schedule, *, paused: bool, actor: str
    ) -> SweepPlan:
        """Make a plan. Raises InvalidInput where its scope or its schedule cannot be, Conflict where there
        is one of this name."""
        plan = SweepPlan(
            id=new_id("spl_"),
            name=name.strip(),
            scope=scope,
            schedule=checked(schedule, self._ledger.now()),
            paused=paused,
            created_by=actor,
        )
        return self._plans.create(self._timed(plan.check()), actor=actor)

    def change(
        self,
        plan_id: str,
        *,
        name: str | None = None,
        scope: SweepScope | None = None,
        schedule: Schedule | None = None,
        paused: bool | None = None,
        actor: str,
    ) -> SweepPlan:
        """Change what is given. A plan that is resumed, or has another schedule, is due at the next time
        from now on."""
        plan = before = self.get(plan_id)
        if name is not None:
            plan = replace(plan, name=name.strip())
        if scope is not None:
            plan = replace(plan, scope=scope)
        if schedule is not None:
            plan = replace(plan, schedule=checked(schedule, self._ledger.now()))
        if paused is not None:
            plan = replace(plan, paused=paused)
        if plan == before:
            return plan
        if (plan.schedule, plan.paused) != (before.schedule, before.paused):
            plan = self._timed(plan)
        changed = self._plans.change(plan.check(), actor=actor)
        if changed is None:
            raise Conflict(
                "The plan was changed meanwhile.", hint="Look at it again, then change it."
            )
        return changed

    def _timed(self, plan: SweepPlan) -> SweepPlan:
        if plan.paused:
            return replace(plan, next_at=None, closes_at=None)
        hour = self._quiet.hour(plan.schedule)
        due = next_due(plan.schedule, self._ledger.now(), quiet_hour=hour)
        return replace(plan, next_at=due.at, closes_at=due.closes_at)

    def get(self, name: str) -> SweepPlan:
        """Look a plan up by its id or its name. Raises NotFound."""
        found = self._plans.get(name)
        if found is None:
            raise NotFound(
                f"There is no plan {name!r}.",
                code="plan_unknown",
                hint="List plans with `sojourn sweeps list`.",
            )
        return found

    def all(self) -> list[SweepPlan]:
        return self._plans.all()

    def remove(self, name: str, *, actor: str) -> SweepPlan:
        """Delete a plan. Its history stays."""
        found = self.get(name)
        self._plans.delete(found.id, actor=actor)
        return found

    def runs(self, *, plan: str | None = None, limit: int = 100) -> list[SelectiveRun]:
        """Return the latest runs, of all plans and by hand, or of one plan."""
        if plan is None:
            return self._plans.runs(limit=limit)
        found = self._plans.get(plan)
        runs = self._plans.runs(plan_id=plan if found is None else found.id, limit=limit)
        if not runs and found is None:
            self.get(
                plan
            )  # tells that there is none; the id of one that was removed has its history
        return runs
