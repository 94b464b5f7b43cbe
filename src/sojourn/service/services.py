"""Everything one server process runs, over one store and one ledger."""

from __future__ import annotations

import structlog

from sojourn.ledger import Ledger
from sojourn.service.batcher import Batcher
from sojourn.service.keys import Keys
from sojourn.service.licenses import Licenses
from sojourn.service.operations import Operations
from sojourn.service.seats import Seats
from sojourn.service.sweeper import Sweeper
from sojourn.service.ticker import Ticker
from sojourn.store import Store
from sojourn.token import Keyring

log = structlog.get_logger(__name__)


class Services:
    """The services and their background work.

    `start` needs a running event loop. `stop` answers what was accepted, then ends the threads; the
    store and the ledger stay open until `close`.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        keyring: Keyring,
        *,
        sweep_interval: float = 900.0,
        pulse_interval: float = 2.0,
        queue_max: int = 10_000,
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.keyring = keyring
        self.seats = Seats(store, ledger, keyring)
        self.licenses = Licenses(store, ledger)
        self.keys = Keys(ledger)
        self.operations = Operations(store, ledger)
        self.sweeper = Sweeper(store, ledger)
        # What frees seats runs before what takes them; what keeps them, before what takes them.
        self.batcher = Batcher(
            {
                "release": self.seats.release,
                "renew": self.seats.renew,
                "acquire": self.seats.acquire,
            },
            queue_max=queue_max,
        )
        self._tickers = [
            Ticker("pulse", self.pulse, pulse_interval),
            Ticker("sweep", self.sweeper.run, sweep_interval),
        ]

    def pulse(self) -> None:
        """Say that this service is alive; tell the log when it, or the store, had been away."""
        outage = self.store.pulse()
        if outage is not None:
            log.warning(
                "returned_after_outage",
                seconds=outage.lasted / 1000,
                leases=outage.extended,
            )

    def start(self) -> None:
        """Heal the store's copy of the pools, then start the runner and the background work."""
        self.pulse()
        self.licenses.reconcile()
        self.batcher.start()
        for ticker in self._tickers:
            ticker.start()

    async def stop(self) -> None:
        await self.batcher.close()
        for ticker in self._tickers:
            ticker.stop()

    def close(self) -> None:
        self.store.close()
        self.ledger.close()
