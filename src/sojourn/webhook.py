"""What a webhook and a delivery are, and what becomes of a delivery after an attempt."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

from sojourn.clock import DAY, HOUR, MINUTE, SECOND

WEBHOOKS_MAX = 50
"""How many there may be: each may cost a server a thread while its receiver hangs."""
SECRETS_MAX = 4
"""How many of a webhook's secrets sign at once, while receivers change over to the first."""
ROTATION_GRACE = DAY
BACKOFF = (
    *(5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE),
    *(2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR),
)
"""The wait after each failed attempt but the last, which leaves a dead letter."""
ATTEMPTS_MAX = len(BACKOFF) + 1
JITTER = 0.2
"""How much longer a wait may be, so that what failed together does not come back together."""
HOLDING_ATTEMPTS = 3
"""A delivery holds those behind it back for so many attempts of a receiver that is not well."""
WAIT_MAX = DAY
"""The most that a receiver's Retry-After can ask for."""
DELIVERED_KEPT = 7 * DAY
DELIVERED_KEPT_MAX = 1_000  # of each webhook
DEAD_KEPT = 30 * DAY
NOT_WELL = frozenset({408, 425, 429, *range(500, 600)})
"""Answers that tell of the receiver, and not of this one event."""
GONE = 410
TEST_KIND = "webhook.test"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Secret(Struct, frozen=True, kw_only=True):
    """What signs. `until` is set once another has taken its place."""

    text: str
    until: int | None = None


class Webhook(Struct, frozen=True, kw_only=True):
    """Where events go. What happened up to the event `position` has become deliveries, or was not
    asked for."""

    id: str
    url: str
    description: str = ""
    kinds: tuple[str, ...] = ()  # empty: all
    secrets: tuple[Secret, ...] = ()  # newest first
    enabled: bool = True
    disabled_because: str | None = None
    created_at: int = 0
    position: int = 0
    hold_until: int = 0

    def wants(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds

    def signing(self, now: int) -> list[str]:
        """Return the secrets that sign now, newest first."""
        return [each.text for each in self.secrets if each.until is None or each.until > now]


class WebhookChange(Struct, frozen=True, kw_only=True):
    """Fields left UNSET stay as they are."""

    url: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    kinds: tuple[str, ...] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Letter(Struct, frozen=True, kw_only=True):
    """An event as it will be sent. One of an operator's own, to try a webhook, has no event id."""

    kind: str
    at: int
    body: str
    event_id: int | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one webhook; `seq` numbers those of a webhook."""

    webhook_id: str
    seq: int
    kind: str
    event_id: int | None
    event_at: int
    body: str
    state: DeliveryState
    attempts: int
    next_at: int
    last_at: int | None = None
    last_status: int | None = None
    last_error: str | None = None

    @property
    def message_id(self) -> str:
        """Name the message, the same at every attempt and replay, so that a receiver can tell."""
        return f"evt_{self.event_id or f'{self.webhook_id}_{self.seq}'}_{self.event_at}"


class Attempt(Struct, frozen=True, kw_only=True):
    """What a receiver did with a delivery: its answer's status, or why there was none."""

    status: int | None = None
    error: str | None = None
    retry_after: int | None = None  # ms

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def not_well(self) -> bool:
        """Tell whether the next event would fare no better."""
        return self.status is None or self.status in NOT_WELL


class Outcome(Struct, frozen=True, kw_only=True):
    """What is written down of an attempt. `wait` is until the next one, `hold` that of the others."""

    seq: int
    attempts: int  # this one included
    state: DeliveryState
    status: int | None = None
    error: str | None = None
    wait: int = 0
    hold: int = 0
    gone: bool = False  # the receiver wants no more: the webhook is to be disabled


def judge(delivery: Delivery, attempt: Attempt, luck: Callable[[], float]) -> Outcome:
    """Say what becomes of a delivery. `luck` draws from [0, 1)."""
    made = delivery.attempts + 1
    outcome = Outcome(
        seq=delivery.seq, attempts=made, state=DeliveryState.DELIVERED, status=attempt.status
    )
    if attempt.accepted:
        return outcome
    error = attempt.error or f"The receiver answered {attempt.status}."
    gone = attempt.status == GONE
    if gone or made >= ATTEMPTS_MAX:
        return Outcome(
            seq=delivery.seq,
            attempts=made,
            state=DeliveryState.DEAD,
            status=attempt.status,
            error=error,
            gone=gone,
        )
    wait = round(BACKOFF[made - 1] * (1 + JITTER * luck()))
    if attempt.retry_after is not None:
        wait = max(wait, min(attempt.retry_after, WAIT_MAX))
    holds = attempt.not_well and (made <= HOLDING_ATTEMPTS or attempt.retry_after is not None)
    return Outcome(
        seq=delivery.seq,
        attempts=made,
        state=DeliveryState.PENDING,
        status=attempt.status,
        error=error,
        wait=wait,
        hold=wait if holds else 0,
    )
