"""The page of sweeps: their plans, and what they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sojourn.api.console.pages import Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console import sweeps
from sojourn.console.frame import Notice
from sojourn.console.words import count
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator

RUNS_MAX = 20


class KeepingPages(Pages):
    """Sweeps."""

    async def sweeps(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "sweeps.html", "sweeps", self._sweeps)

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        """Pause or resume a plan, or tidy up now, and show the page again."""
        works: dict[str, Callable[[Visitor, Operator], Notice]] = {
            "pause": self._pause,
            "resume": self._resume,
            "housekeeping": self._tidy,
        }
        wish = visitor.field("do")
        if wish not in works:
            raise InvalidInput("do: pause, resume or housekeeping.")
        done = await self.do(visitor, Permission.SEATS_END, works[wish])
        if not isinstance(done, Notice):
            return done
        return await self.show(visitor, "sweeps.html", "sweeps", self._sweeps, notice=done)

    def _pause(self, visitor: Visitor, operator: Operator) -> Notice:
        plan = self.context.sweeps.change(visitor.field("plan"), paused=True, actor=operator.actor)
        return Notice(verdict=Verdict.OK, title=f"{plan.name} is paused until it is resumed.")

    def _resume(self, visitor: Visitor, operator: Operator) -> Notice:
        plan = self.context.sweeps.change(visitor.field("plan"), paused=False, actor=operator.actor)
        self.context.plan_soon()
        return Notice(verdict=Verdict.OK, title=f"{plan.name} runs again.")

    def _tidy(self, _visitor: Visitor, operator: Operator) -> Notice:
        run = self.context.services.sweeper.run(actor=operator.actor)
        removed = run.leases_removed + run.sessions_removed + run.events_removed
        return Notice(
            verdict=Verdict.OK,
            title=f"{count(run.leases_expired, 'expired lease')} noted, "
            f"{removed:,} old entries removed.",
        )

    def _sweeps(self, _visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        now = self.context.services.ledger.now()
        plans = self.context.sweeps.all()
        runs = self.context.sweeps.runs(plan=None, limit=RUNS_MAX)
        tidied = self.context.services.ledger.sweeps(limit=RUNS_MAX)
        rows = [(run.started_at, sweeps.run_row(run, now)) for run in runs]
        rows += [(run.started_at, sweeps.housekeeping_row(run, now)) for run in tidied]
        rows.sort(key=lambda each: -each[0])
        return {
            "answer": sweeps.answer(plans, runs, now),
            "plans": [sweeps.plan_row(plan, now) for plan in plans],
            "runs": [row for _, row in rows[:RUNS_MAX]],
        }
