"""Everything one server process runs, over one store and one ledger."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

from sojourn.allotment import ALLOTMENT_TTL
from sojourn.analytics.keeper import MeasuredLedger
from sojourn.clock import SECOND
from sojourn.errors import SojournError, StoreError
from sojourn.log import get_logger
from sojourn.service.backends import Backends
from sojourn.service.batcher import Batcher, type_verb
from sojourn.service.commands import CarryOut, RelayCommands
from sojourn.service.instances import REGISTER_INTERVAL, InstanceRegistry
from sojourn.service.keys import Keys
from sojourn.service.licenses import Licenses
from sojourn.service.operations import Operations
from sojourn.service.orders import RelayOrders
from sojourn.service.origins import AllowedOrigins
from sojourn.service.pulse import WritingPath
from sojourn.service.regions import Region
from sojourn.service.relays import Relays
from sojourn.service.seats import Seats
from sojourn.service.sessions import Complete, SessionService
from sojourn.service.sweeper import Sweeper
from sojourn.service.ticker import Ticker
from sojourn.service.usage import UsageService
from sojourn.service.waiting import WaitingRoom
from sojourn.staleness.pauses import TICK
from sojourn.staleness.trends import SAMPLE_EVERY
from sojourn.store import Outage, Recorder, Store, Swept
from sojourn.token import Keyring

log = get_logger(__name__)

FOLLOW_INTERVAL = 15.0
"""Seconds between two looks for what cutoffs left: one's own server does it at once, unless it was killed."""

RECORD_INTERVAL = 0.5
"""Seconds between two looks for events that the ledger does not have."""

MEASURE_INTERVAL = 5.0
"""Seconds between two looks for events that are not measured yet."""

PULSE_PATIENCE = 60.0
"""Seconds for which a pulse may wait for its turn; then the next one is asked for."""


class Services:
    """The services and their background work.

    `start` needs a running event loop. `stop` answers what was accepted, then ends the threads; the
    store and the ledger stay open until `close`.
    """

    def __init__(
        self,
        store: Store,
        ledger: MeasuredLedger,
        keyring: Keyring,
        *,
        sweep_interval: float = 900.0,
        pulse_interval: float = 2.0,
        queue_max: int = 10_000,
        recorder: Recorder | None = None,  # where the ledger is not in the store's database
        complete: Complete | None = None,
        region: Region | None = None,  # of a relay
        allotment_ttl: int = ALLOTMENT_TTL,
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.keyring = keyring
        self.recorder = recorder
        self.seats = Seats(store, ledger, keyring, recorder)
        self.origins = AllowedOrigins(ledger)
        self.region = region
        self.seats.gate = None if region is None else region.gate
        self.relays = Relays(store, ledger, keyring, ttl=allotment_ttl) if region is None else None
        self.licenses = Licenses(store, ledger, moved=self._moved, read_only=region is not None)
        self.keys = Keys(ledger)
        self.operations = Operations(store, ledger, self.seats.suspicion)
        self.relay_commands = RelayCommands(store, ledger) if region is None else None
        self.relay_orders = RelayOrders(store, ledger) if region is None else None
        if region is not None:
            region.carry_out = CarryOut(store, self.operations)
        self.sweeper = Sweeper(store, ledger)
        self.usage = UsageService(store, ledger, recorder)
        self.presence = InstanceRegistry(ledger, keyring)
        self.sessions = SessionService(
            store, complete=complete, keyring=keyring
        )  # never closed: the store is ours to close
        self.backends = Backends(self.sessions, self.keys)
        self._path = WritingPath(store)
        self.batcher = Batcher(
            self._verbs(),
            queue_max=queue_max,
            runners=store.parallel,
        )
        self.waiting = WaitingRoom(self.batcher)
        self.seats.freed = self.operations.freed = self.waiting.freed
        self._stopping = threading.Event()
        self._aftermath = Ticker("cutoff", self._follow, FOLLOW_INTERVAL)
        self._tickers = [
            Ticker("pulse", self.pulse, pulse_interval),
            Ticker("sweep", self.sweeper.run, sweep_interval),
            self._aftermath,
            Ticker("presence", self.presence.register, REGISTER_INTERVAL),
            Ticker("steady", self.seats.suspicion.tick, TICK / SECOND / 2),
            Ticker("usage", self.usage.tick, MEASURE_INTERVAL),
            Ticker("trends", self.operations.sample, SAMPLE_EVERY / SECOND),
        ]
        if self.recorder is not None:
            self._tickers.append(Ticker("record", self.recorder.run, RECORD_INTERVAL))
        self._behind = threading.Event()  # a cutoff came while another was followed
        self.caught_up = threading.Event()
        """Set once the sweep that follows a start or a cutoff has come to its end."""

    def _verbs(self) -> dict[str, type_verb]:
        """Return the queue's verbs, in the order in which a round carries them out."""
        # What frees seats runs before what takes them; what keeps them, before what takes them. An end
        # comes first: it releases leases, and whatever else is asked of that session in the same
        # round finds it ended. Who is doubted may have beaten since. The pulse comes after the renewals, and
        # goes their way. A check comes
        # last: it shows the session as its round leaves it.
        guarding = self.origins.guarding
        return {
            "end": self.backends.end,
            "release": guarding(self.seats.release, keeps=True),
            "renew": guarding(self._path.renewing(self.seats.renew), keeps=True),
            "doubt": self.seats.doubt,
            "pulse": self._path.pulse,
            "rotate": self.backends.rotate,
            "begin": self.backends.begin,
            "save": self.backends.save,
            "acquire": guarding(self.seats.acquire),
            "check": self.backends.check,
        }

    def _moved(self, license_id: str) -> None:
        """Forget what is remembered of a license that has changed."""
        self.origins.forget(license_id)
        self.seats.forget(license_id)
        if self.relays is not None:
            self.relays.forget(license_id)

    def pulse(self) -> None:
        """Say that this service is alive, in the renewals' turn; tell the log when it, or the store, had
        been away. Raises StoreError while renewals do not get through."""
        self._tell(self.batcher.ask("pulse", None, patience=PULSE_PATIENCE))

    def _tell(self, outage: Outage | None) -> None:
        if outage is not None:
            log.warning(
                "returned_after_outage",
                seconds=outage.lasted / 1000,
                leases=outage.extended,
            )

    def cut_off(self, user_id: str | None, *, reason: str, actor: str) -> int:
        """End every session begun up to now, of a user or of everybody; return that instant.

        They are refused from now on. Their tombstones, events and leases follow in the background, at
        once: the sweep that does it is not waited for, since it may concern a million sessions.
        """
        at = self.sessions.cut_off(user_id, reason=reason, actor=actor)
        self.caught_up.clear()
        self._behind.set()
        self._aftermath.wake()
        return at

    def _follow(self) -> None:
        """Sweep what cutoffs left, batch by batch: our own, and those of servers that were killed once they
        had answered."""
        more = True
        while more and not self._stopping.is_set():
            self._behind.clear()
            said: list[Swept] = []
            self.sweeper.run(
                actor="system:cutoff",
                progress=said.append,
                told_if_idle=False,
                cutoffs_only=True,
            )
            more = self._behind.is_set() or bool(said and said[-1].more)
        self.caught_up.set()
        if self._behind.is_set():  # asked for meanwhile
            self.caught_up.clear()

    def start(self) -> None:
        """Heal the store's copy of the pools, then start the runner and the background work."""
        self._tell(self.store.pulse())  # nothing can be renewed yet: what lay before is given back
        if self.recorder is not None:
            self.recorder.run()  # first: what a replaced store has lost is to be known before a grant
        if self.region is not None:
            self.region.prepare()
        self.licenses.reconcile()
        self.presence.register()
        self.batcher.start()
        for ticker in self._tickers:
            ticker.start(at_once=ticker is self._aftermath)
        if self.region is not None:
            self.region.start()

    def licensed(self, key_hashes: Sequence[bytes]) -> list[bool | SojournError]:
        """Tell which of these are hashes of licenses' keys. A relay asks its authority for those that it does
        not know; where that does not answer, it is why."""
        found = self.ledger.licenses_by_key(key_hashes)
        unknown = [x for x, license_ in zip(key_hashes, found, strict=True) if license_ is None]
        fault: SojournError | None = None
        if unknown and self.region is not None:
            try:
                self.region.learn(unknown)
            except SojournError as why:
                fault = why
            found = self.ledger.licenses_by_key(key_hashes)
        return [True if license_ is not None else fault or False for license_ in found]

    async def stop(self) -> None:
        self._stopping.set()
        self.waiting.close()
        if self.region is not None:  # before the queue: who asks its authority is let go
            await asyncio.to_thread(self.region.stop)
        await self.batcher.close()
        for ticker in self._tickers:  # not on the loop, which a pulse may be waiting for
            await asyncio.to_thread(ticker.stop)
        with contextlib.suppress(StoreError):  # the others see it by its silence
            self.presence.leave()

    def close(self) -> None:
        if self.region is not None:
            self.region.close()
        self.store.close()
        self.ledger.close()
