"""The contract of the ledger's part that keeps webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from sojourn.ledger import Ledger
from sojourn.webhook import (
    Delivery,
    DeliveryState,
    Letter,
    Outcome,
    Secret,
    Webhook,
    WebhookChange,
)


class Batch(Struct, frozen=True, kw_only=True):
    """What a stretch of the stream holds for a webhook, from after `position` up to `read_to`."""

    webhook_id: str
    position: int
    read_to: int
    letters: tuple[Letter, ...] = ()


class Claim(Struct, frozen=True, kw_only=True):
    """Deliveries that one server may make now, in their order, and nobody else."""

    webhook: Webhook
    deliveries: tuple[Delivery, ...]
    at: int


class Backlog(Struct, frozen=True, kw_only=True):
    """What waits for a webhook: how much, since when, and whether any of it may be sent now."""

    webhook_id: str
    pending: int
    fresh: int  # of the pending, those that were never tried
    oldest_at: int
    enabled: bool
    due: bool


class Book(Protocol):
    """Synchronous; may be called from several threads. What an operator does is audited in the same
    transaction. None and False: there is no such webhook."""

    def create(self, webhook: Webhook, *, actor: str) -> Webhook:
        """Raises Conflict when there are `WEBHOOKS_MAX` already."""

    def get(self, webhook_id: str) -> Webhook | None: ...

    def all(self) -> list[Webhook]:
        """Return all of them, the oldest first."""

    def change(self, webhook_id: str, change: WebhookChange, *, actor: str) -> Webhook | None: ...

    def delete(self, webhook_id: str, *, actor: str) -> bool:
        """Delete a webhook and its deliveries."""

    def rotate(self, webhook_id: str, secret: Secret, *, grace: int, actor: str) -> Webhook | None:
        """Put a secret first; those before it sign on for `grace` ms."""

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: DeliveryState | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """List deliveries, newest first, after (that is: older than) a number."""

    def replay(self, webhook_id: str, *, seq: int | None = None, actor: str) -> int | None:
        """Send one delivery again, whatever its state, or (None) all dead letters; return how many."""

    def replay_from(self, webhook_id: str, event_id: int, *, actor: str) -> bool:
        """Send everything from an event on again, as far as the store's stream remembers it."""

    def try_out(self, webhook_id: str, letter: Letter, *, actor: str) -> Delivery | None:
        """Add a letter of an operator's own, ahead of whatever is held back."""

    # Delivering

    def enqueue(self, batches: Sequence[Batch]) -> int:
        """Make deliveries of a stretch of the stream and move the webhooks' positions past it, in one
        step, but for those whose position another has moved meanwhile. Returns how many were made."""

    def rewind(self, webhook_id: str, position: int) -> None:
        """The stream has started over: read it from its beginning. Nothing if the position is another."""

    def backlogs(self) -> list[Backlog]:
        """Say what waits, of the webhooks that have something waiting."""

    def claim(self, webhook_id: str, owner: str, *, lease: int, limit: int) -> Claim | None:
        """Take a webhook for `lease` ms, and what is due. None: nothing is, or another has it."""

    def settle(self, claim: Claim, owner: str, outcomes: Sequence[Outcome], *, lease: int) -> bool:
        """Write down what attempts came to, and prolong the claim (give it back, when `lease` is 0).
        False when the claim is lost, or the webhook is to be left alone for now."""

    def dead(self) -> int:
        """Count the dead letters."""

    def tidy(self, limit: int) -> int:
        """Forget old deliveries; return how many."""


class HookedLedger(Ledger, Protocol):
    """A ledger that keeps webhooks too."""

    @property
    def webhooks(self) -> Book: ...
