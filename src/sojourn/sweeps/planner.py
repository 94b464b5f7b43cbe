"""Carrying out what is due, once however many servers there are.

a tick: is anything due, or cut off? ──no──► nothing was asked of the store
│ yes
▼
take the seat of our own ──another has it──► it is being done
│ ours
▼
look again; take up what was cut off; begin what is due: the ledger lets each begin once
│
▼
give the seat back
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from msgspec import Struct, field
from msgspec.structs import replace

from sojourn.clock import HOUR, SECOND
from sojourn.errors import InvalidInput, SojournError, StoreUnavailable
from sojourn.log import get_logger
from sojourn.plans.keeper import PlannedLedger
from sojourn.plans.plan import RunState, SelectiveRun, SweepPlan
from sojourn.plans.quiet import quietest_hour
from sojourn.plans.schedule import Schedule, zone_of
from sojourn.plans.times import Due, next_due
from sojourn.store import Store
from sojourn.sweeps.busy import hourly_counts
from sojourn.sweeps.leader import Leader
from sojourn.sweeps.selective import Selective
from sojourn.token import new_id

log = get_logger(__name__)

TAKEN_UP_MAX = 20
"""A run that was cut off so often has failed."""
QUIET_KEPT = HOUR
"""How long it is believed which hours are quiet."""
WITHDRAWN = "Its plan was paused or removed before it was done."


class Counts(Struct):
    """What this process has done since its start, and how late what is due is, of all servers."""

    runs: Counter[str] = field(default_factory=Counter)  # by state
    ended: int = 0
    noted: int = 0
    last_run_at: int = 0  # ms, of all servers; 0: none yet
    overdue: int = 0  # plans that are due and not begun
    lag: int = 0  # ms: for how long the first of them has been due


class QuietHours:
    """Tells the quietest hour of a zone, and remembers it for a while."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: tuple[int, dict[int, int]] | None = None  # when they were made

    def hour(self, schedule: Schedule) -> int | None:
        """Return it where a schedule asks for it. None: it is not asked for, or nothing is known."""
        if not schedule.quietest:
            return None
        now = self._store.now()
        if self._counts is None or abs(now - self._counts[0]) > QUIET_KEPT:
            self._counts = now, hourly_counts(self._store)
        return quietest_hour(self._counts[1], zone_of(schedule.zone))


class Planner:
    """Ticks on one thread. Several processes may tick over the same store and ledger."""

    def __init__(
        self,
        store: Store,
        ledger: PlannedLedger,
        *,
        selective: Selective | None = None,
        quiet: QuietHours | None = None,
        leader: Leader | None = None,
    ) -> None:
        self._plans = ledger.plans
        self._ledger = ledger
        self._selective = selective or Selective(store)
        self._quiet = quiet or QuietHours(store)
        self._leader = leader or Leader(store)
        self._stopping = threading.Event()
        self.counts = Counts()

    def stop(self) -> None:
        """Stop before the next step. What is under way is taken up by another server, or at the next
        start."""
        self._stopping.set()

    def tick(self) -> None:
        """Do what is due. Raises StoreError where that cannot be done now: it is tried again."""
        pending = self._plans.pending()
        overdue = [pending.now - plan.next_at for plan in pending.due if plan.next_at is not None]
        self.counts.overdue, self.counts.lag = len(overdue), max(overdue, default=0)
        self.counts.last_run_at = max(self.counts.last_run_at, pending.last_run_at)
        if not (pending.due or pending.cut_off) or not self._leader.take():
            return
        try:
            self._lead()
        finally:
            self._leader.give_back()

    def _lead(self) -> None:
        """Look again, as whoever led until now may have done it; then do it."""
        pending = self._plans.pending()
        for run in pending.cut_off:
            taken = self._plans.take_up(run) if self._leader.beat() else None
            if taken is not None:
                log.info("sweep_taken_up", plan=taken.plan_name, run=taken.id, looked=taken.looked)
                self._carry_out(taken, self._ledger.now())
        for plan in pending.due:
            if self._stopping.is_set() or not self._leader.beat():
                return
            self._begin(plan, self._ledger.now())  # those before it may have taken long
        self.counts.overdue = self.counts.lag = 0

    def _begin(self, plan: SweepPlan, now: int) -> None:
        try:
            due = self._after(plan, now)
        except InvalidInput as fault:  # as of a zone that this machine does not know
            log.warning("sweep_plan_paused", plan=plan.name, error=fault.message)
            stopped = replace(plan, paused=True, next_at=None, closes_at=None)
            self._plans.change(stopped, actor="system:plan")  # the others are not to wait for it
            return
        missed = plan.closes_at is not None and plan.closes_at <= now
        run = SelectiveRun(
            id=new_id("swr_"),
            actor=f"plan:{plan.id}",
            scope=plan.scope,
            started_at=now,
            plan_id=plan.id,
            plan_name=plan.name,
            due_at=plan.next_at,
            closes_at=plan.closes_at,
            next_at=due.at,
        )
        if missed:
            run = replace(
                run,
                state=RunState.MISSED,
                finished_at=now,
                error="No server ran while its window was open.",
            )
        if not self._plans.begin(plan, run, closes_at=due.closes_at):
            return
        if missed:
            self._tell(run, 0.0)
        else:
            self._carry_out(run, now)

    def _after(self, plan: SweepPlan, now: int) -> Due:
        hour = self._quiet.hour(plan.schedule)
        return next_due(plan.schedule, now, quiet_hour=hour, last=plan.next_at)

    def _carry_out(self, run: SelectiveRun, now: int) -> None:
        began, told = time.monotonic(), [run]
        stopped = ""
        if not self._plans.note(run):  # its plan may have been withdrawn since it was cut off
            self._end(run, RunState.STOPPED, WITHDRAWN, began)
            return
        if run.closes_at is not None and run.closes_at <= now:
            self._end(run, RunState.STOPPED, "Its window had closed before it was done.", began)
            return
        if run.taken_up > TAKEN_UP_MAX:
            self._end(run, RunState.FAILED, f"It was cut off {run.taken_up} times.", began)
            return

        def may_step() -> bool:
            nonlocal stopped
            elapsed = round((time.monotonic() - began) * SECOND)
            if run.closes_at is not None and run.closes_at <= now + elapsed:
                stopped = "Its window closed before it was done."
            if not self._plans.note(told[0]):
                stopped = stopped or WITHDRAWN
            return not stopped and not self._stopping.is_set() and self._leader.beat()

        def go_on(further: SelectiveRun) -> bool:
            told[0] = further
            return may_step()

        try:
            done = self._selective.carry_out(run, go_on=go_on, beat=may_step)
        except StoreUnavailable:
            self.counts.runs["cut_off"] += 1
            raise  # it is still written down as running: whoever leads next takes it up
        except Exception as fault:
            message = fault.message if isinstance(fault, SojournError) else type(fault).__name__
            self._end(told[0], RunState.FAILED, message, began)
            raise
        if done.state is RunState.DONE:
            self._end(done, RunState.DONE, None, began)
        elif stopped:
            self._end(done, RunState.STOPPED, stopped, began)
        else:  # this server stops, or has lost its seat: another takes it up
            self._plans.note(done)

    def _end(self, run: SelectiveRun, state: RunState, error: str | None, began: float) -> None:
        over = replace(run, state=state, error=error, finished_at=self._ledger.now())
        self._plans.note(over)
        self._tell(over, time.monotonic() - began)

    def _tell(self, run: SelectiveRun, seconds: float) -> None:
        count(self.counts, run, seconds)


def count(counts: Counts, run: SelectiveRun, seconds: float) -> None:
    """Count a run that is over, and tell the log of it, in one line, if it did something or failed."""
    counts.runs[run.state.value] += 1
    counts.ended += run.ended
    counts.noted += run.noted
    counts.last_run_at = max(counts.last_run_at, run.started_at)
    said = {
        "plan": run.plan_name,
        "run": run.id,
        "state": run.state.value,
        "looked": run.looked,
        "ended": run.ended,
        "noted": run.noted,
        "seconds": round(seconds, 3),
    }
    if run.state is not RunState.DONE:
        log.warning("sweep_incomplete", **said, error=run.error)
    elif run.ended or run.noted:
        log.info("sweep_done", **said)
