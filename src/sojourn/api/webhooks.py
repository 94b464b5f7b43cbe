"""Webhooks: events sent to an operator's own receivers, signed, retried, replayable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.api.events import event_body
from sojourn.clock import SECOND
from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind
from sojourn.service.keys import Permission
from sojourn.webhook import (
    TEST_KIND,
    Delivery,
    DeliveryState,
    Letter,
    Webhook,
    WebhookChange,
)
from sojourn.wire.bodies import Answer, Done, Limit, Name, Page, Wire, optional, rfc3339
from sojourn.wire.paging import page_of
from sojourn.wire.reply import encode

Url = Annotated[str, Meta(min_length=8, max_length=2_000, pattern=r"\A[!-~]+\Z")]
DescriptionText = Annotated[str, Meta(max_length=200, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Grace = Annotated[int, Meta(ge=0, le=7 * 86_400)]
Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class CreateWebhookBody(Wire, frozen=True, kw_only=True):
    url: Url
    kinds: tuple[EventKind, ...] = ()  # none: all, also those that later versions add
    description: DescriptionText = ""


class ChangeWebhookBody(Wire, frozen=True, kw_only=True):
    url: Url | UnsetType = UNSET
    kinds: tuple[EventKind, ...] | UnsetType = UNSET
    description: DescriptionText | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RotateSecretBody(Wire, frozen=True, kw_only=True):
    keep_old: Grace = 86_400  # seconds for which the secret before signs too


class ReplayBody(Wire, frozen=True, kw_only=True):
    """Exactly one of the three."""

    delivery_id: Number | UnsetType = UNSET
    dead: bool = False
    from_event: Number | UnsetType = UNSET


class DeliveriesQuery(Wire, frozen=True, kw_only=True):
    after: Number | UnsetType = UNSET
    limit: Limit = 100
    state: DeliveryState | UnsetType = UNSET


class WebhookBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    webhook_id: str
    url: str
    kinds: tuple[str, ...]
    enabled: bool
    created_at: str
    read_to: int  # the last event that was looked at for it
    description: str = ""
    disabled_because: str | None = None
    secret: str | None = None  # shown once, when it is made


class DeliveryBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    delivery_id: int
    message_id: str
    kind: str
    at: str
    state: DeliveryState
    attempts: int
    event_id: int | None = None
    next_attempt_at: str | None = None
    last_attempt_at: str | None = None
    last_status: int | None = None
    last_error: str | None = None


class ReplayedBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    replayed: int | None = None  # absent: as many as there are from that event on


@operator("POST", "/api/webhooks", may=Permission.WEBHOOKS, status=201, problems=("conflict",))
def create_webhook(ask: OperatorCall, body: CreateWebhookBody) -> Done[WebhookBody]:
    """Make a webhook for what happens from now on.

    The answer holds the secret that signs its messages, this once. Without `kinds` it gets every event.
    """
    made, secret = ask.context.outbound.desk.create(
        body.url, kinds=body.kinds, description=body.description, actor=ask.actor
    )
    return Done(data=webhook_body(made, secret), message="Keep the secret: it is shown only now.")


@operator("GET", "/api/webhooks", may=Permission.READ)
def list_webhooks(ask: OperatorCall) -> Done[Page[WebhookBody]]:
    """List webhooks, the oldest first."""
    return Done(data=Page(items=[webhook_body(x) for x in ask.context.outbound.desk.all()]))


@operator("GET", "/api/webhooks/{webhookId}", may=Permission.READ, problems=("webhook_unknown",))
def get_webhook(ask: OperatorCall, webhook_id: Name) -> Done[WebhookBody]:
    """Show a webhook."""
    return Done(data=webhook_body(ask.context.outbound.desk.get(webhook_id)))


@operator(
    "PATCH", "/api/webhooks/{webhookId}", may=Permission.WEBHOOKS, problems=("webhook_unknown",)
)
def change_webhook(
    ask: OperatorCall, webhook_id: Name, body: ChangeWebhookBody
) -> Done[WebhookBody]:
    """Change a webhook, or stop and resume it.

    One that is enabled again goes on where it stopped: nothing that the stream still holds is lost.
    """
    change = WebhookChange(
        url=body.url, kinds=body.kinds, description=body.description, enabled=body.enabled
    )
    changed = ask.context.outbound.desk.change(webhook_id, change, actor=ask.actor)
    ask.context.outbound.soon()
    return Done(data=webhook_body(changed))


@operator(
    "DELETE", "/api/webhooks/{webhookId}", may=Permission.WEBHOOKS, problems=("webhook_unknown",)
)
def delete_webhook(ask: OperatorCall, webhook_id: Name) -> Done[None]:
    """Delete a webhook, and what waits for it."""
    ask.context.outbound.desk.delete(webhook_id, actor=ask.actor)
    return Done(data=None, message="The webhook is deleted.")


@operator(
    "POST",
    "/api/webhooks/{webhookId}/rotate-secret",
    may=Permission.WEBHOOKS,
    problems=("webhook_unknown",),
)
def rotate_webhook_secret(
    ask: OperatorCall, webhook_id: Name, body: RotateSecretBody
) -> Done[WebhookBody]:
    """Make a new secret.

    For `keepOld` seconds every message carries a signature by the old one too, so that the receiver
    can change over without refusing any.
    """
    rotated, secret = ask.context.outbound.desk.rotate(
        webhook_id, grace=body.keep_old * SECOND, actor=ask.actor
    )
    return Done(
        data=webhook_body(rotated, secret), message="Keep the secret: it is shown only now."
    )


@operator(
    "GET",
    "/api/webhooks/{webhookId}/deliveries",
    may=Permission.READ,
    problems=("webhook_unknown",),
)
def list_deliveries(
    ask: OperatorCall, webhook_id: Name, query: DeliveriesQuery
) -> Done[Page[DeliveryBody]]:
    """List deliveries, newest first.

    Pending ones and dead letters (30 days), and the latest that were delivered (7 days, 1,000 at most).
    """
    desk, state = ask.context.outbound.desk, optional(query.state)

    def read(after: int | None, limit: int) -> Sequence[Delivery]:
        return desk.deliveries(webhook_id, state=state, after=after, limit=limit)

    return Done(
        data=page_of(
            read,
            delivery_body,
            after=optional(query.after),
            limit=query.limit,
            cursor=lambda delivery: delivery.seq,
            name=lambda delivery: str(delivery.seq),
        )
    )


@operator(
    "POST",
    "/api/webhooks/{webhookId}/replay",
    may=Permission.WEBHOOKS,
    problems=("webhook_unknown", "delivery_unknown"),
)
def replay_deliveries(ask: OperatorCall, webhook_id: Name, body: ReplayBody) -> Done[ReplayedBody]:
    """Send again: one delivery, all dead letters, or everything from an event on.

    Messages keep their ids, so that a receiver can tell what it has seen.
    """
    given = (body.delivery_id is not UNSET, body.dead, body.from_event is not UNSET)
    if sum(given) != 1:
        raise InvalidInput("Give one of deliveryId, dead and fromEvent.")
    webhooks = ask.context.outbound.desk
    if isinstance(body.from_event, int):
        webhooks.replay_from(webhook_id, body.from_event, actor=ask.actor)
        answer = ReplayedBody()
    else:
        seq = optional(body.delivery_id)
        answer = ReplayedBody(replayed=webhooks.replay(webhook_id, seq=seq, actor=ask.actor))
    ask.context.outbound.soon()
    return Done(data=answer)


@operator(
    "POST",
    "/api/webhooks/{webhookId}/test",
    may=Permission.WEBHOOKS,
    status=202,
    problems=("webhook_unknown",),
)
def test_webhook(ask: OperatorCall, webhook_id: Name) -> Done[DeliveryBody]:
    """Send an event of the kind `webhook.test`, ahead of whatever is held back.

    Its delivery tells what came of it. A webhook that is disabled sends it when it is enabled.
    """
    now = ask.context.services.ledger.now()
    letter = test_letter(webhook_id, now, ask.actor)
    delivery = ask.context.outbound.desk.try_out(webhook_id, letter, actor=ask.actor)
    ask.context.outbound.soon()
    return Done(data=delivery_body(delivery))


def test_letter(webhook_id: str, now: int, actor: str) -> Letter:
    """Write an event of an operator's own, to try a webhook."""
    return _letter(TEST_KIND, now, {"webhookId": webhook_id, "sentBy": actor})


def letter_of(event: Event) -> Letter:
    """Write an event as it goes out: its data is what `GET /api/events` shows."""
    return _letter(event.kind.value, event.at, event_body(event), event.id)


def _letter(kind: str, at: int, data: Any, event_id: int | None = None) -> Letter:
    body = encode({"type": kind, "timestamp": rfc3339(at), "data": data}).decode()
    return Letter(kind=kind, at=at, body=body, event_id=event_id)


def webhook_body(webhook: Webhook, secret: str | None = None) -> WebhookBody:
    return WebhookBody(
        webhook_id=webhook.id,
        url=webhook.url,
        kinds=webhook.kinds,
        enabled=webhook.enabled,
        created_at=rfc3339(webhook.created_at),
        read_to=webhook.position,
        description=webhook.description,
        disabled_because=webhook.disabled_because,
        secret=secret,
    )


def delivery_body(delivery: Delivery) -> DeliveryBody:
    pending = delivery.state is DeliveryState.PENDING
    last_at = delivery.last_at
    return DeliveryBody(
        delivery_id=delivery.seq,
        message_id=delivery.message_id,
        kind=delivery.kind,
        at=rfc3339(delivery.event_at),
        state=delivery.state,
        attempts=delivery.attempts,
        event_id=delivery.event_id,
        next_attempt_at=rfc3339(delivery.next_at) if pending else None,
        last_attempt_at=None if last_at is None else rfc3339(last_at),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )


CALLS = (
    create_webhook,
    list_webhooks,
    get_webhook,
    change_webhook,
    delete_webhook,
    rotate_webhook_secret,
    list_deliveries,
    replay_deliveries,
    test_webhook,
)
