"""The page `/console/sweeps`: what is planned, what was tidied, and would it hurt?"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.console.seats import Heading
from sojourn.console.words import When, count, exact, when
from sojourn.ledger import SweepRun
from sojourn.plans.plan import RunState, SelectiveRun, SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule

STATES = {
    RunState.RUNNING: ("suspect", "Running"),
    RunState.DONE: ("active", "Done"),
    RunState.FAILED: ("bad", "Failed"),
    RunState.STOPPED: ("leaving", "Stopped"),
    RunState.MISSED: ("bad", "Missed"),
}


OVERDUE = 5 * MINUTE
"""A plan that is due for so long is not carried out: servers look at plans every few seconds."""


class PlanRow(Struct, frozen=True, kw_only=True):
    plan_id: str
    name: str
    scope: str
    times: str
    next: str
    paused: bool


class RunRow(Struct, frozen=True, kw_only=True):
    name: str
    scope: str
    tone: str
    word: str
    at: When
    did: str
    error: str


def answer(plans: Sequence[SweepPlan], runs: Sequence[SelectiveRun], now: int) -> Heading:
    """Say when something is swept next, and whether a plan fails."""
    latest: dict[str, SelectiveRun] = {}
    for run in runs:
        if run.plan_id is not None:
            latest.setdefault(run.plan_id, run)
    failing = [
        plan.name
        for plan in plans
        if plan.id in latest and latest[plan.id].state in (RunState.FAILED, RunState.MISSED)
    ]
    due = [plan.next_at for plan in plans if plan.next_at is not None]
    good = f"{count(len(plans), 'plan')} of clean-up." if plans else "Nothing is planned."
    bad = f"The last run of {', '.join(failing[:3])} failed." if failing else ""
    if due:
        soonest = min(due) - now
        if soonest < -OVERDUE:
            bad = f"{bad} A run is overdue by {exact(-soonest)}.".lstrip()
        rest = f"The next run is in {exact(soonest)}." if soonest > 0 else "A run is due now."
    else:
        rest = "Silent holders lose their seats to whoever needs them, planned or not."
    return Heading(good, bad, rest)


def plan_row(plan: SweepPlan, now: int) -> PlanRow:
    left = None if plan.next_at is None else plan.next_at - now
    return PlanRow(
        plan_id=plan.id,
        name=plan.name,
        scope=scope_text(plan.scope),
        times=schedule_text(plan.schedule),
        next="Paused" if left is None else "now" if left <= 0 else f"in {exact(left)}",
        paused=plan.paused,
    )


def run_row(run: SelectiveRun, now: int) -> RunRow:
    tone, word = STATES[run.state]
    return RunRow(
        name=run.plan_name or "By hand",
        scope=scope_text(run.scope),
        tone=tone,
        word=word,
        at=when(run.started_at, now),
        did=f"{count(run.ended, 'lease')} ended, {run.looked:,} looked at",
        error=run.error or "",
    )


def housekeeping_row(run: SweepRun, now: int) -> RunRow:
    failed = run.error is not None
    removed = run.leases_removed + run.sessions_removed + run.events_removed
    return RunRow(
        name="Housekeeping",
        scope="what expired, and what is old",
        tone="bad" if failed else "active",
        word="Failed" if failed else "Done",
        at=when(run.started_at, now),
        did=f"{run.leases_expired:,} expired noted, {removed:,} old entries removed",
        error=run.error or "",
    )


def scope_text(scope: SweepScope) -> str:
    """Say which leases a scope means."""
    said = [
        f"{word} {value}"
        for word, value in (
            ("license", scope.license_id),
            ("feature", scope.feature),
            ("user", scope.user_id),
            ("device", scope.kind),
            ("network", scope.network),
            ("version", scope.client_version),
        )
        if value is not None
    ]
    if scope.silent_for is not None:
        said.append(f"silent for {exact(scope.silent_for)}")
    if scope.older_than is not None:
        said.append(f"held for {exact(scope.older_than)}")
    if scope.suspicion is not None:
        said.append(f"suspicion from {scope.suspicion:g}")
    said.append("living ones, too" if scope.living else "silent ones")
    return ", ".join(said)


def schedule_text(schedule: Schedule) -> str:
    """Say when a plan runs."""
    said = []
    if schedule.every is not None:
        said.append(f"every {exact(schedule.every)}")
    if schedule.cron is not None:
        said.append(f"{schedule.cron} {schedule.zone}")
    if schedule.window is not None:
        said.append(f"{schedule.window} {schedule.zone}")
    if schedule.quietest:
        said.append(f"in the quietest hour, {schedule.zone}")
    return ", ".join(said)
