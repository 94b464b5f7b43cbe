"""What operators do with webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.errors import NotFound
from sojourn.store import Store
from sojourn.text import check_words
from sojourn.token import new_id
from sojourn.webhook import (
    ROTATION_GRACE,
    Delivery,
    DeliveryState,
    Letter,
    Secret,
    Webhook,
    WebhookChange,
)
from sojourn.webhook_signature import new_secret
from sojourn.webhook_store import Book
from sojourn.webhooks.reach import Reach, check_url


class Webhooks:
    """Synchronous; safe from several threads."""

    def __init__(self, store: Store, book: Book, *, reach: Reach) -> None:
        self._store = store
        self._book = book
        self._reach = reach

    def create(
        self, url: str, *, kinds: Sequence[str] = (), description: str = "", actor: str
    ) -> tuple[Webhook, str]:
        """Make a webhook for what happens from now on; the secret is shown this once."""
        check_url(url, self._reach)
        check_words("description", description)
        newest = self._store.events(limit=1, newest_first=True)
        secret = new_secret()
        webhook = Webhook(
            id=new_id("whk_"),
            url=url,
            description=description,
            kinds=tuple(dict.fromkeys(kinds)),
            secrets=(Secret(text=secret),),
            position=newest[0].id if newest else 0,
        )
        return self._book.create(webhook, actor=actor), secret

    def all(self) -> list[Webhook]:
        return self._book.all()

    def get(self, webhook_id: str) -> Webhook:
        return _known(self._book.get(webhook_id))

    def change(self, webhook_id: str, change: WebhookChange, *, actor: str) -> Webhook:
        """Change a webhook. What is enabled again goes on where it stopped."""
        if isinstance(change.url, str):
            check_url(change.url, self._reach)
        if isinstance(change.description, str):
            check_words("description", change.description)
        return _known(self._book.change(webhook_id, change, actor=actor))

    def delete(self, webhook_id: str, *, actor: str) -> None:
        if not self._book.delete(webhook_id, actor=actor):
            raise unknown()

    def rotate(
        self, webhook_id: str, *, grace: int = ROTATION_GRACE, actor: str
    ) -> tuple[Webhook, str]:
        """Make a new secret; the one before signs too for `grace` ms."""
        secret = new_secret()
        rotated = self._book.rotate(webhook_id, Secret(text=secret), grace=grace, actor=actor)
        return _known(rotated), secret

    def deliveries(
        self, webhook_id: str, *, state: DeliveryState | None, after: int | None, limit: int
    ) -> list[Delivery]:
        found = self._book.deliveries(webhook_id, state=state, after=after, limit=limit)
        if not found:
            self.get(webhook_id)
        return found

    def replay(self, webhook_id: str, *, seq: int | None = None, actor: str) -> int:
        """Send one delivery again, or (None) all dead letters; return how many that are."""
        count = self._book.replay(webhook_id, seq=seq, actor=actor)
        if count is None:
            raise unknown()
        if count == 0 and seq is not None:
            raise NotFound(
                "There is no such delivery, or no longer.",
                code="delivery_unknown",
                hint="Deliveries are kept for a while only; replay from an event's id instead.",
            )
        return count

    def replay_from(self, webhook_id: str, event_id: int, *, actor: str) -> None:
        """Send everything from an event on again."""
        if not self._book.replay_from(webhook_id, event_id, actor=actor):
            raise unknown()

    def try_out(self, webhook_id: str, letter: Letter, *, actor: str) -> Delivery:
        delivery = self._book.try_out(webhook_id, letter, actor=actor)
        if delivery is None:
            raise unknown()
        return delivery


def unknown() -> NotFound:
    return NotFound(
        "There is no such webhook.",
        code="webhook_unknown",
        hint="List webhooks with `sojourn webhook list`.",
    )


def _known(webhook: Webhook | None) -> Webhook:
    if webhook is None:
        raise unknown()
    return webhook
