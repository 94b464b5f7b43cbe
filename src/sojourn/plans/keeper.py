"""The contract of the ledger's part that keeps plans of sweeps, and what became of their runs."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from sojourn.plans.plan import SelectiveRun, SweepPlan
from sojourn.webhook_store import HookedLedger

RUNS_KEPT = 1_000
"""The latest runs that are remembered; older ones are forgotten."""


class Pending(Struct, frozen=True):
    """What is to be done, by the ledger's now. Attributes: cut_off: runs of plans that have begun and not
    ended: of a server that was lost, unless it is under way."""

    due: tuple[SweepPlan, ...]  # the longest due first
    cut_off: tuple[SelectiveRun, ...]
    now: int
    last_run_at: int = 0  # when the latest run began; 0: none has


class PlanKeeper(Protocol):
    """Synchronous; may be called from several threads. What an operator does is audited in the same
    transaction."""

    def create(self, plan: SweepPlan, *, actor: str) -> SweepPlan:
        """Raises Conflict when there is a plan of this name, or there are `PLANS_MAX` already."""

    def get(self, name: str) -> SweepPlan | None:
        """Look a plan up by its id or its name."""

    def all(self) -> list[SweepPlan]:
        """Return all plans, by name."""

    def change(self, plan: SweepPlan, *, actor: str) -> SweepPlan | None:
        """Replace a plan. None if it is another revision by now, or gone. Raises Conflict as `create`."""

    def delete(self, plan_id: str, *, actor: str) -> bool:
        """Delete a plan; its runs are remembered. A run that is under way stops."""

    def pending(self) -> Pending:
        """Return the plans that are due, and the runs that have not ended."""

    def begin(self, plan: SweepPlan, run: SelectiveRun, *, closes_at: int | None) -> bool:
        """Write a run down and put its plan's next one at `run.next_at`, in one step. False when
        another has begun it, or the plan has changed: once for each time that it is due."""

    def take_up(self, run: SelectiveRun) -> SelectiveRun | None:
        """Go on with a run that was cut off: from then on its former server cannot write to it. None
        when another has."""

    def note(self, run: SelectiveRun) -> bool:
        """Write down how far a run is, or what it came to. False when it is to stop: its plan is paused
        or deleted, or another server has taken it up (then nothing was written)."""

    def record(self, run: SelectiveRun) -> None:
        """Write down a run by hand, which has ended."""

    def runs(self, *, plan_id: str | None = None, limit: int = 100) -> list[SelectiveRun]:
        """Return the latest runs, newest first."""


class PlannedLedger(HookedLedger, Protocol):
    """A ledger that keeps plans too."""

    @property
    def plans(self) -> PlanKeeper: ...
