"""Plans of selective sweeps: what is swept when, paused and resumed, and what came of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.api.sweeps import ScopeBody, require, scope_body, scope_of
from sojourn.plans.plan import RunState, SelectiveRun, SweepPlan
from sojourn.plans.schedule import Schedule
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Answer, Done, Limit, Name, Page, Wire, optional, rfc3339, seconds

PlanName = Annotated[str, Meta(min_length=1, max_length=100)]
ZoneName = Annotated[str, Meta(min_length=1, max_length=200)]
Interval = Annotated[float, Meta(ge=0, le=31_622_400)]


class ScheduleBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """One of `every`, `cron`, `window` and `quietest`; a window may bound `every`."""

    every: Interval | None = None  # seconds
    cron: ZoneName | None = None  # minute, hour, day, month, weekday
    window: ZoneName | None = None  # 02:00-05:00, or 02:00-05:00 Europe/Oslo
    quietest: bool = False  # the hour of the day in which least happens
    zone: ZoneName = "UTC"


class CreatePlanBody(Wire, frozen=True, kw_only=True):
    name: PlanName
    scope: ScopeBody
    schedule: ScheduleBody
    paused: bool = False


class ChangePlanBody(Wire, frozen=True, kw_only=True):
    """Scope and schedule are replaced as a whole."""

    name: PlanName | UnsetType = UNSET
    scope: ScopeBody | UnsetType = UNSET
    schedule: ScheduleBody | UnsetType = UNSET
    paused: bool | UnsetType = UNSET


class PlanBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    plan_id: str
    name: str
    scope: ScopeBody
    schedule: ScheduleBody
    paused: bool
    created_at: str
    created_by: str
    next_at: str | None = None  # absent: it is paused
    closes_at: str | None = None  # when the window of the next run closes


class SweepRunBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A run of a plan, or a selective sweep by hand, which has no plan."""

    run_id: str
    actor: str
    state: RunState
    scope: ScopeBody
    started_at: str
    looked: int
    ended: int
    noted: int  # as expired
    taken_up: int = 0  # times that another server went on with it
    plan_id: str | None = None
    plan_name: str | None = None
    due_at: str | None = None
    finished_at: str | None = None
    took: float | None = None
    next_at: str | None = None  # when its plan was to run next
    error: str | None = None


class RunsQuery(Wire, frozen=True, kw_only=True):
    plan: Name | UnsetType = UNSET
    limit: Limit = 20


@operator("GET", "/api/sweeps/plans", may=Permission.READ)
def list_sweep_plans(ask: OperatorCall) -> Done[Page[PlanBody]]:
    """List plans of sweeps, by name."""
    return Done(data=Page(items=[plan_body(plan) for plan in ask.context.sweeps.all()]))


@operator(
    "POST",
    "/api/sweeps/plans",
    may=Permission.SEATS_END,
    status=201,
    problems=("invalid_schedule", "license_unknown", "feature_unknown", "conflict"),
)
def create_sweep_plan(ask: OperatorCall, body: CreatePlanBody) -> Done[PlanBody]:
    """Plan a sweep. It runs once each time it is due, however many servers there are.

    What it ends is what the same scope ends by hand: try it with `dryRun` first.
    """
    scope = scope_of(body.scope)
    require(ask, scope)
    made = ask.context.sweeps.create(
        body.name, scope, _schedule(body.schedule), paused=body.paused, actor=ask.actor
    )
    ask.context.plan_soon()
    return Done(data=plan_body(made))


@operator("GET", "/api/sweeps/plans/{planId}", may=Permission.READ, problems=("plan_unknown",))
def get_sweep_plan(ask: OperatorCall, plan_id: Name) -> Done[PlanBody]:
    """Show a plan, by its id or its name."""
    return Done(data=plan_body(ask.context.sweeps.get(plan_id)))


@operator(
    "PATCH",
    "/api/sweeps/plans/{planId}",
    may=Permission.SEATS_END,
    problems=(
        *("plan_unknown", "invalid_schedule", "license_unknown", "feature_unknown", "conflict"),
    ),
)
def change_sweep_plan(ask: OperatorCall, plan_id: Name, body: ChangePlanBody) -> Done[PlanBody]:
    """Change a plan, pause it or resume it, by its id or its name.

    One that is paused stops before its next step, if it is under way. One that is resumed is due at the
    next time from now on.
    """
    scope = None if isinstance(body.scope, UnsetType) else scope_of(body.scope)
    if scope is not None:
        require(ask, scope)
    changed = ask.context.sweeps.change(
        plan_id,
        name=optional(body.name),
        scope=scope,
        schedule=None if isinstance(body.schedule, UnsetType) else _schedule(body.schedule),
        paused=optional(body.paused),
        actor=ask.actor,
    )
    ask.context.plan_soon()
    return Done(data=plan_body(changed))


@operator(
    "DELETE", "/api/sweeps/plans/{planId}", may=Permission.SEATS_END, problems=("plan_unknown",)
)
def delete_sweep_plan(ask: OperatorCall, plan_id: Name) -> Done[PlanBody]:
    """Delete a plan, by its id or its name. What its runs did stays in the history."""
    removed = ask.context.sweeps.remove(plan_id, actor=ask.actor)
    return Done(data=plan_body(removed), message="The plan is removed.")


@operator("GET", "/api/sweeps/runs", may=Permission.READ, problems=("plan_unknown",))
def list_sweep_runs(ask: OperatorCall, query: RunsQuery) -> Done[Page[SweepRunBody]]:
    """List the latest runs of plans, and selective sweeps by hand, newest first. `plan`: an id or a name."""
    runs = ask.context.sweeps.runs(plan=optional(query.plan), limit=query.limit)
    return Done(data=Page(items=[run_body(run) for run in runs]))


def _schedule(body: ScheduleBody) -> Schedule:
    return Schedule(
        every=None if body.every is None else round(body.every * 1_000),
        cron=body.cron,
        window=body.window,
        quietest=body.quietest,
        zone=body.zone,
    )


def schedule_body(schedule: Schedule) -> ScheduleBody:
    return ScheduleBody(
        every=None if schedule.every is None else seconds(schedule.every),
        cron=schedule.cron,
        window=schedule.window,
        quietest=schedule.quietest,
        zone=schedule.zone,
    )


def plan_body(plan: SweepPlan) -> PlanBody:
    return PlanBody(
        plan_id=plan.id,
        name=plan.name,
        scope=scope_body(plan.scope),
        schedule=schedule_body(plan.schedule),
        paused=plan.paused,
        created_at=rfc3339(plan.created_at),
        created_by=plan.created_by,
        next_at=None if plan.next_at is None else rfc3339(plan.next_at),
        closes_at=None if plan.closes_at is None else rfc3339(plan.closes_at),
    )


def run_body(run: SelectiveRun) -> SweepRunBody:
    over = run.finished_at
    return SweepRunBody(
        run_id=run.id,
        actor=run.actor,
        state=run.state,
        scope=scope_body(run.scope),
        started_at=rfc3339(run.started_at),
        looked=run.looked,
        ended=run.ended,
        noted=run.noted,
        taken_up=run.taken_up,
        plan_id=run.plan_id,
        plan_name=run.plan_name,
        due_at=None if run.due_at is None else rfc3339(run.due_at),
        finished_at=None if over is None else rfc3339(over),
        took=None if over is None else seconds(max(0, over - run.started_at)),
        next_at=None if run.next_at is None else rfc3339(run.next_at),
        error=run.error,
    )


CALLS = (
    list_sweep_plans,
    create_sweep_plan,
    get_sweep_plan,
    change_sweep_plan,
    delete_sweep_plan,
    list_sweep_runs,
)
