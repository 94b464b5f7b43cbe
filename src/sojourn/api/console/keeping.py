"""The pages that keep things well: sweeps and their plans, webhooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sojourn.api.console.lists import Cell
from sojourn.api.console.pages import Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console import sweeps
from sojourn.console.frame import Notice
from sojourn.console.seats import Heading
from sojourn.console.words import count, exact, when
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator

RUNS_MAX = 20


class KeepingPages(Pages):
    """Sweeps and webhooks."""

    async def sweeps(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "sweeps.html", "sweeps", self._sweeps)

    async def webhooks(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "webhooks", self._webhooks)

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

    def _webhooks(self, _visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        ledger = self.context.services.ledger
        book, now = ledger.webhooks, ledger.now()
        found, backlogs = book.all(), {each.webhook_id: each for each in book.backlogs()}
        rows, behind = [], []
        for each in found:
            backlog = backlogs.get(each.id)
            waits = backlog.pending if backlog else 0
            age = exact(now - backlog.oldest_at) if backlog and waits else ""
            if each.enabled and backlog and now - backlog.oldest_at > 60_000 and waits:
                behind.append(each.url)
            state, tone = ("On", "active") if each.enabled else ("Off", "bad")
            if each.url in behind:
                state, tone = "Behind", "suspect"
            rows.append(
                (
                    Cell(text=each.url, under=each.description or each.id),
                    Cell(text=state, under=each.disabled_because or "", tone=tone),
                    Cell(text=", ".join(each.kinds) or "everything"),
                    Cell(text=f"{waits:,}", under=f"the oldest for {age}" if age else ""),
                    Cell(text=when(each.created_at, now).ago),
                )
            )
        return {
            "name": "Webhooks",
            "answer": Heading(
                f"{count(len(found), 'webhook')}.",
                f"{count(len(behind), 'webhook')} {'has' if len(behind) == 1 else 'have'} events waiting."
                if behind
                else "",
                "What waits is kept, and sent when the receiver is back.",
            ),
            "search": None,
            "search_for": "",
            "heads": ("Receiver", "State", "Events", "Waiting", "Made"),
            "table_rows": rows,
            "nothing": "No webhook yet. Events can be sent to another server as they happen.",
            "older": "",
            "command": "sojourn webhook list",
        }
