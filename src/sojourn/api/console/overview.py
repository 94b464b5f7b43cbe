"""The page `/console/overview`, and the stream that its list of what happens follows."""

from __future__ import annotations

from typing import Any

from sojourn.api.console.feed import FeedStream
from sojourn.api.console.pages import Pages
from sojourn.api.console.visits import ConsoleAnswer, Reception, Visitor, zone_of_visitor
from sojourn.api.context import Context
from sojourn.clock import HOUR
from sojourn.console import overview, seats
from sojourn.console.feed import CHOICES, latest, written
from sojourn.console.frame import fragment, redirect
from sojourn.console.lookup import Told
from sojourn.console.today import Hourly, today
from sojourn.console.webhooks import WebhookRow, rows_of
from sojourn.console.words import exact
from sojourn.people.pages import HtmlPage
from sojourn.service.operators import Operator

POOLS_OF_OVERVIEW = 6
EVENTS_OF_OVERVIEW = 1_000


class OverviewPages(Pages):
    """Answers for whoever is signed in; everybody else is sent to the sign-in."""

    def __init__(self, context: Context, reception: Reception) -> None:
        super().__init__(context, reception)
        self._hourly = Hourly(context.services.usage)
        self._hooks = Told(self._read_hooks)

    async def overview(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "overview.html", "overview", self._overview)

    async def feed(self, visitor: Visitor) -> ConsoleAnswer:
        """Follow what happens, for one open page; a browser that opens the address itself is led to one."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        key_id = found.key.id
        if not visitor.partial:
            return redirect("overview")
        if not self.context.feed.has_room(key_id):
            return fragment("_feed.html", status=503, feed=[])  # the page keeps what it shows

        async def still() -> bool:
            # A page is what is shown where that cannot be known: nobody is turned away for it.
            return isinstance(await self.reception.admit(visitor), Operator | HtmlPage)

        return FeedStream(
            self.context.feed,
            _choice(visitor, "show"),
            key_id,
            still=still,
            stops=lambda: self.context.draining,
        )

    def _read_hooks(self) -> list[WebhookRow]:
        ledger = self.context.services.ledger
        backlogs = {each.webhook_id: each for each in ledger.webhooks.backlogs()}
        return rows_of(ledger.webhooks.all(), backlogs, ledger.now())

    def _overview(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        uses = self.lookup.pools()
        now = self.context.services.store.now()
        events = self.lookup.feed(limit=EVENTS_OF_OVERVIEW)
        lately = [event for event in events if event.at > now - 24 * HOUR]
        whole = len(lately) < len(events) or len(events) < EVENTS_OF_OVERVIEW
        span = now - lately[-1].at if lately else 0
        oldest = "in 24 hours" if whole else f"in {exact(span)}"
        refused = self.lookup.waiting()
        choice = _choice(visitor, "feed")
        shown = (
            events if choice == "all" else latest(self.context.services.store, CHOICES[choice][1])
        )
        day = today(
            self._hourly.get([use.pool.id for use in uses]),
            zone_of_visitor(visitor),
            now,
            in_use=sum(use.usage.in_use for use in uses),
            capacity=sum(use.usage.capacity for use in uses),
        )
        return {
            "answer": seats.seats_answer(uses, refused),
            "needs": overview.needs(
                uses, refused, self.context.rounds, now, hooks=self._hooks.get()
            ),
            "quiet": overview.quiet(self.lookup.denials(), now),
            "figures": overview.figures(uses, lately, oldest=oldest, day=day),
            "pools": [seats.pool_row(use) for use in uses[:POOLS_OF_OVERVIEW]],
            "pools_in_all": len(uses),
            "day": day,
            "feed": written(shown, now),
            "choice": choice,
            "choices": [(name, title) for name, (title, _) in CHOICES.items()],
        }


def _choice(visitor: Visitor, name: str) -> str:
    asked = visitor.query(name)
    return asked if asked in CHOICES else "all"
