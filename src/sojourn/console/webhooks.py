"""The page `/console/webhooks`: does it arrive, why not, and what can be sent again?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.console.seats import Heading
from sojourn.console.words import When, count, exact, when
from sojourn.webhook import ATTEMPTS_MAX, Delivery, DeliveryState, Webhook
from sojourn.webhook_store import Backlog

LATE = MINUTE
"""A webhook whose oldest event has waited for so long is behind."""
STRIP = 48
"""Latest deliveries that the strip shows."""
STATES = {"": "All", "pending": "Waiting", "dead": "Given up", "delivered": "Delivered"}


class WebhookRow(Struct, frozen=True, kw_only=True):
    """A webhook. `late`: its oldest event waits for too long."""

    webhook_id: str
    url: str
    host: str
    about: str
    link: str
    state: str
    tone: str
    because: str
    kinds: str
    waits: int
    oldest: str
    late: bool
    enabled: bool
    made: When


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """A delivery. `was`: what the receiver said, or why it said nothing."""

    seq: int
    kind: str
    at: When
    state: str
    word: str
    tone: str
    tries: str
    was: str
    following: str


def webhook_link(webhook_id: str, **more: str) -> str:
    return "webhooks?" + urlencode({"webhook": webhook_id} | more)


def webhook_row(webhook: Webhook, backlog: Backlog | None, now: int) -> WebhookRow:
    waits = backlog.pending if backlog else 0
    age = now - backlog.oldest_at if backlog and waits else 0
    late = webhook.enabled and age > LATE
    state, tone = ("On", "active") if webhook.enabled else ("Paused", "leaving")
    if late:
        state, tone = "Behind", "suspect"
    if webhook.disabled_because:
        state, tone = "Stopped", "bad"
    return WebhookRow(
        webhook_id=webhook.id,
        url=webhook.url,
        host=urlsplit(webhook.url).netloc or webhook.url,
        about=webhook.description,
        link=webhook_link(webhook.id),
        state=state,
        tone=tone,
        because=webhook.disabled_because or "",
        kinds=", ".join(webhook.kinds) or "everything",
        waits=waits,
        oldest=f"the oldest for {exact(age)}" if waits else "",
        late=late,
        enabled=webhook.enabled,
        made=when(webhook.created_at, now),
    )


def answer_of_all(rows: Sequence[WebhookRow]) -> Heading:
    if not rows:
        return Heading("No events are sent anywhere.", rest="A webhook sends them as they happen.")
    late, stopped = sum(row.late for row in rows), sum(bool(row.because) for row in rows)
    bad = []
    if late:
        bad.append(f"{count(late, 'webhook')} {'does' if late == 1 else 'do'} not arrive.")
    if stopped:
        bad.append(f"{count(stopped, 'webhook')} {'has' if stopped == 1 else 'have'} stopped.")
    rest = "What waits is kept, and sent when the receiver is back."
    return Heading(f"{count(len(rows), 'webhook')}.", " ".join(bad), rest)


def answer_of_one(row: WebhookRow, latest: Sequence[Delivery], now: int) -> Heading:
    """Say whether it arrives; `latest` are its deliveries, newest first."""
    waits = f"{count(row.waits, 'event')} {'waits' if row.waits == 1 else 'wait'}"
    arrived = next((x for x in latest if x.state is DeliveryState.DELIVERED), None)
    if row.because:
        return Heading(f"{row.host} gets nothing.", f"It was stopped: {row.because}")
    if not row.enabled:
        return Heading(
            f"{row.host} is paused.", rest="What happens meanwhile is sent when it goes on."
        )
    if row.late:
        return Heading(
            f"{row.host} does not answer.",
            f"{waits}, {row.oldest}.",
        )
    if arrived is None or arrived.last_at is None:
        return Heading(f"{row.host} was sent nothing yet.")
    return Heading(
        f"{row.host} gets what happens.", rest=f"The latest {when(arrived.last_at, now).ago}."
    )


def delivery_row(each: Delivery, now: int) -> DeliveryRow:
    words = {
        DeliveryState.PENDING: ("Waiting", "suspect"),
        DeliveryState.DELIVERED: ("Delivered", "active"),
        DeliveryState.DEAD: ("Given up", "bad"),
    }
    word, tone = words[each.state]
    said = each.last_error or (f"answered {each.last_status}" if each.last_status else "")
    following = ""
    if each.state is DeliveryState.PENDING:
        wait = each.next_at - now
        following = f"next try in {exact(wait)}" if wait > 0 else "next try now"
    return DeliveryRow(
        seq=each.seq,
        kind=each.kind,
        at=when(each.event_at, now),
        state=each.state.value,
        word=word,
        tone=tone,
        tries=_tries(each),
        was=said,
        following=following,
    )


def _tries(delivery: Delivery) -> str:
    if not delivery.attempts:
        return "not tried yet"
    tries = "1 try" if delivery.attempts == 1 else f"{delivery.attempts} tries"
    return tries if delivery.state is DeliveryState.DELIVERED else f"{tries} of {ATTEMPTS_MAX}"


def rows_of(
    webhooks: Sequence[Webhook], backlogs: Mapping[str, Backlog], now: int
) -> list[WebhookRow]:
    """Show webhooks, those that need somebody first."""
    rows = [webhook_row(each, backlogs.get(each.id), now) for each in webhooks]
    return sorted(rows, key=lambda row: (not row.late and not row.because, row.url))
