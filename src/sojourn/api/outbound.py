"""What a server sends of its own accord: events, to the receivers of webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sojourn.event import Event
from sojourn.service.services import Services
from sojourn.service.ticker import Ticker
from sojourn.settings import Settings
from sojourn.webhook import Letter
from sojourn.webhooks.deliverer import Deliverer
from sojourn.webhooks.reach import Reach
from sojourn.webhooks.service import Webhooks


class Outbound:
    """Nothing is sent before `start`. `write` says how an event is written."""

    def __init__(
        self, services: Services, settings: Settings, write: Callable[[Event], Letter]
    ) -> None:
        reach = Reach(settings.webhook_reach)
        if settings.dev and reach is Reach.PUBLIC:
            reach = Reach.LOOPBACK
        store, book = services.store, services.ledger.webhooks
        self.desk = Webhooks(store, book, reach=reach)
        self.deliverer = Deliverer(
            store, book, write, reach=reach, timeout=settings.webhook_timeout
        )
        self._ticker: Ticker | None = None
        if settings.webhook_interval > 0:
            self._ticker = Ticker("webhooks", self.deliverer.tick, settings.webhook_interval)

    def start(self) -> None:
        if self._ticker is not None:
            self._ticker.start()

    def soon(self) -> None:
        """Look for what is to be sent now, and not at the next tick."""
        if self._ticker is not None:
            self._ticker.wake()

    async def stop(self) -> None:
        """Let what is under way end, but wait for no receiver that hangs."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        self.deliverer.stop()
