"""The pages of webhooks: receivers, their deliveries, and what may be done with both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sojourn.api.console.pages import Pages, asking
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.api.webhooks import test_letter
from sojourn.console import webhooks
from sojourn.console.frame import Notice
from sojourn.console.webhooks import STATES, STRIP, webhook_link
from sojourn.console.words import count
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.finding import Verdict
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator
from sojourn.webhook import Delivery, DeliveryState, WebhookChange

DELIVERIES = 50
"""Deliveries of a page."""
SEQ_MAX = 2**63 - 1
KINDS = tuple(kind.value for kind in EventKind)
ASKED = ("delete", "rotate", "replay")


class WebhookPages(Pages):
    """Facts for every role; actions for those that may change webhooks."""

    async def webhooks(self, visitor: Visitor) -> ConsoleAnswer:
        if visitor.query("webhook"):
            return await self.show(visitor, "webhook.html", "webhooks", self._one)
        return await self.show(visitor, "webhooks.html", "webhooks", self._all)

    async def lost(self, visitor: Visitor, notice: Notice) -> ConsoleAnswer:
        again = asking(visitor, {})
        return await self.show(
            again, "webhooks.html", "webhooks", self._all, notice=notice, status=404
        )

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        """Do what a form asks for, and show the page again; with a new secret, this once."""
        given: list[str] = []  # the webhook, and its secret if it has a new one
        works: dict[str, Callable[[Visitor, Operator], Notice]] = {
            "make": partial(self._make, given),
            "pause": partial(self._enable, False),
            "resume": partial(self._enable, True),
            "delete": self._delete,
            "rotate": partial(self._rotate, given),
            "test": self._test,
            "replay": self._replay,
            "replay-dead": self._replay_dead,
            "replay-from": self._replay_from,
        }
        wish = visitor.field("do")
        if wish not in works:
            raise InvalidInput(f"do: one of {', '.join(works)}.")
        done = await self.do(visitor, Permission.WEBHOOKS, works[wish])
        if not isinstance(done, Notice):
            return done
        self.context.outbound.soon()
        webhook_id = given[0] if given else visitor.field("webhook")
        if not webhook_id or (wish == "delete" and done.verdict is Verdict.OK):
            again = asking(visitor, {})
            return await self.show(again, "webhooks.html", "webhooks", self._all, notice=done)
        again = asking(visitor, {"webhook": webhook_id})
        read = partial(self._one, secret=given[1] if given else "")
        return await self.show(again, "webhook.html", "webhooks", read, notice=done)

    # What is shown

    def _all(self, _visitor: Visitor, operator: Operator) -> dict[str, Any]:
        book, now = self.context.services.ledger.webhooks, self.context.services.ledger.now()
        rows = webhooks.rows_of(book.all(), {x.webhook_id: x for x in book.backlogs()}, now)
        return {
            "answer": webhooks.answer_of_all(rows),
            "hooks": rows,
            "kinds": KINDS,
            "may_change": self.may(operator, Permission.WEBHOOKS),
        }

    def _one(self, visitor: Visitor, operator: Operator, *, secret: str = "") -> dict[str, Any]:
        webhook_id, wish = visitor.query("webhook"), visitor.query("ask")
        desk, ledger = self.context.outbound.desk, self.context.services.ledger
        found, now = desk.get(webhook_id), ledger.now()
        backlogs = {each.webhook_id: each for each in ledger.webhooks.backlogs()}
        row = webhooks.webhook_row(found, backlogs.get(found.id), now)
        shown = visitor.query("show") if visitor.query("show") in STATES else ""
        after = _number(visitor.query("before"))
        state = DeliveryState(shown) if shown else None
        page = desk.deliveries(webhook_id, state=state, after=after, limit=DELIVERIES + 1)
        whole = after is None and state is None and len(page) >= STRIP
        latest = page if whole else self._latest(webhook_id)
        listed = page[:DELIVERIES]
        chosen = {"show": shown} if shown else {}
        older = {"before": str(listed[-1].seq)} | chosen if len(page) > DELIVERIES else {}
        return {
            "answer": webhooks.answer_of_one(row, latest, now),
            "hook": row,
            "secret": secret,
            "asked": wish if wish in ASKED else "",
            "states": STATES.items(),
            "shown": shown,
            "strip": [webhooks.delivery_row(each, now) for each in reversed(latest[:STRIP])],
            "deliveries": [webhooks.delivery_row(each, now) for each in listed],
            "older": webhook_link(webhook_id, **older) if older else "",
            "may_change": self.may(operator, Permission.WEBHOOKS),
        }

    def _latest(self, webhook_id: str) -> list[Delivery]:
        return self.context.outbound.desk.deliveries(
            webhook_id, state=None, after=None, limit=STRIP
        )

    # What may be done

    def _make(self, given: list[str], visitor: Visitor, operator: Operator) -> Notice:
        kinds = [each for each in visitor.form.get("kind", ()) if each]
        if unknown := [each for each in kinds if each not in KINDS]:
            raise InvalidInput(f"kind: there is no event {unknown[0][:64]!r}.")
        made, secret = self.context.outbound.desk.create(
            visitor.field("url").strip(),
            kinds=kinds,
            description=visitor.field("description").strip(),
            actor=operator.actor,
        )
        given += [made.id, secret]
        return Notice(
            verdict=Verdict.OK,
            title="The webhook is made. Copy the secret that signs its messages now.",
            text="It is shown this once. What happens from now on is sent.",
        )

    def _enable(self, enabled: bool, visitor: Visitor, operator: Operator) -> Notice:
        self.context.outbound.desk.change(
            visitor.field("webhook"), WebhookChange(enabled=enabled), actor=operator.actor
        )
        if enabled:
            return Notice(verdict=Verdict.OK, title="It goes on where it stopped.")
        return Notice(
            verdict=Verdict.OK,
            title="It is paused.",
            text="What happens meanwhile is kept as long as the stream is, and sent when it goes on.",
        )

    def _delete(self, visitor: Visitor, operator: Operator) -> Notice:
        self.context.outbound.desk.delete(visitor.field("webhook"), actor=operator.actor)
        return Notice(verdict=Verdict.OK, title="The webhook is deleted, and what waited for it.")

    def _rotate(self, given: list[str], visitor: Visitor, operator: Operator) -> Notice:
        webhook, secret = self.context.outbound.desk.rotate(
            visitor.field("webhook"), actor=operator.actor
        )
        given += [webhook.id, secret]
        return Notice(
            verdict=Verdict.OK,
            title="There is a new secret. Copy it now: it is shown this once.",
            text="For a day messages are signed by the old one, too.",
        )

    def _test(self, visitor: Visitor, operator: Operator) -> Notice:
        webhook_id = visitor.field("webhook")
        letter = test_letter(webhook_id, self.context.services.ledger.now(), operator.actor)
        delivery = self.context.outbound.desk.try_out(webhook_id, letter, actor=operator.actor)
        return Notice(
            verdict=Verdict.OK,
            title=f"A test is on its way, as delivery {delivery.seq}.",
            text="What comes of it stands below in a moment.",
        )

    def _replay(self, visitor: Visitor, operator: Operator) -> Notice:
        seq = _number(visitor.field("delivery"))
        if seq is None:
            raise InvalidInput("delivery: which one is to be sent again?")
        desk = self.context.outbound.desk
        desk.replay(visitor.field("webhook"), seq=seq, actor=operator.actor)
        return Notice(verdict=Verdict.OK, title=f"Delivery {seq} is sent again.")

    def _replay_dead(self, visitor: Visitor, operator: Operator) -> Notice:
        desk = self.context.outbound.desk
        number = desk.replay(visitor.field("webhook"), actor=operator.actor)
        if not number:
            return Notice(verdict=Verdict.SKIPPED, title="None was given up.")
        verb = "is" if number == 1 else "are"
        return Notice(verdict=Verdict.OK, title=f"{count(number, 'event')} {verb} sent again.")

    def _replay_from(self, visitor: Visitor, operator: Operator) -> Notice:
        event_id = _number(visitor.field("event"))
        if event_id is None:
            raise InvalidInput("event: the number of the first event that is to be sent again.")
        desk = self.context.outbound.desk
        desk.replay_from(visitor.field("webhook"), event_id, actor=operator.actor)
        return Notice(
            verdict=Verdict.OK,
            title=f"Everything from event {event_id} on is sent again.",
            text="Messages keep their ids, so that the receiver can tell what it has seen.",
        )


def _number(text: str) -> int | None:
    """Read a number as our links and forms write it; None for anything else."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    return int(text) if 1 <= int(text) <= SEQ_MAX else None
