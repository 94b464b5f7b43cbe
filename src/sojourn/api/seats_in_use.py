"""Seats in use and capacity, by feature and by pool, for whoever must be warned before people are refused."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from sojourn.errors import SojournError
from sojourn.ledger import Ledger
from sojourn.license import Pool
from sojourn.log import get_logger
from sojourn.store import Store

log = get_logger(__name__)

FRESH_FOR = 5.0
"""Seconds for which what was counted is told again."""
PATIENCE = 1.0
"""Seconds for which a scrape waits for a count; past that it tells the last one."""
POOLS_MAX = 10_000
"""Pools that are counted; of more, the first ones by id."""
BATCH = 1_000
FEATURES_MAX = 200
"""Features with a label of their own: those with most seats in use. The others are told together, as"""
OTHERS = "(others)"
POOLS_NAMED = 200
"""Pools that are told one by one: those with most seats in use."""


class Seats(Struct):
    """Of all pools of a feature. `full`: how many of them have no seat left, nor one above the capacity;
    `overdraft`: seats that are held or kept for reservations above the capacity."""

    in_use: int = 0
    suspect: int = 0
    capacity: int = 0
    pools: int = 0
    full: int = 0
    overdraft: int = 0
    reserved: int = 0

    def add(self, other: Seats) -> None:
        self.in_use += other.in_use
        self.suspect += other.suspect
        self.capacity += other.capacity
        self.pools += other.pools
        self.full += other.full
        self.overdraft += other.overdraft
        self.reserved += other.reserved


class SeatsInUse:
    """Counts when somebody scrapes, on a thread, once for all who scrape meanwhile.

    `name_licenses`: tell seats by license as well.
    """

    def __init__(self, store: Store, ledger: Ledger, *, name_licenses: bool = False) -> None:
        self._store = store
        self._ledger = ledger
        self._name_licenses = name_licenses
        self._pools: dict[tuple[str, str], Seats] = {}  # by license and feature
        self._found: dict[str, Seats] = {}
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Count anew, if the last count is old. Never raises, and waits no longer than PATIENCE."""
        loop = asyncio.get_running_loop()
        if self._counting is None or self._counting.done():
            if loop.time() - self._counted_at < FRESH_FOR:
                return
            self._counting = loop.create_task(self._count())
        await asyncio.wait({self._counting}, timeout=PATIENCE)

    async def _count(self) -> None:
        try:
            self._found = await asyncio.to_thread(self.count)
        except SojournError as fault:
            log.debug("seats_not_counted", error=fault.message)
        self._counted_at = asyncio.get_running_loop().time()

    def count(self) -> dict[str, Seats]:
        """Ask ledger and store. Raises StoreError."""
        found: dict[str, Seats] = {}
        fullest: list[tuple[int, str, str, Seats]] = []
        after: str | None = None
        for _ in range(POOLS_MAX // BATCH):
            pools = self._ledger.pools(after=after, limit=BATCH)
            for pool, seats in zip(pools, self._of(pools), strict=True):
                found.setdefault(pool.feature, Seats()).add(seats)
                fullest.append((seats.in_use, pool.license_id, pool.feature, seats))
            fullest = heapq.nlargest(POOLS_NAMED, fullest, key=lambda each: each[0])
            if len(pools) < BATCH:
                break
            after = pools[-1].id
        if self._name_licenses:
            self._pools = {(name, feature): seats for _, name, feature, seats in fullest}
        ranked = sorted(found, key=lambda feature: -found[feature].in_use)
        for feature in ranked[FEATURES_MAX:]:
            found.setdefault(OTHERS, Seats()).add(found.pop(feature))
        return found

    def _of(self, pools: list[Pool]) -> Iterable[Seats]:
        used = self._store.usage([pool.id for pool in pools]) if pools else []
        for pool, usage in zip(pools, used, strict=True):
            in_use = 0 if usage is None else usage.in_use
            yield Seats(
                in_use=in_use,
                suspect=0 if usage is None else usage.suspect,
                capacity=pool.policy.capacity,
                pools=1,
                full=int(in_use >= pool.policy.most),
                overdraft=0 if usage is None else usage.overdrawn,
                reserved=pool.policy.reserved,
            )

    def collect(self) -> Iterable[Metric]:
        told = (
            ("sojourn_seats_in_use", "Seats in use, of all licenses.", "in_use"),
            ("sojourn_seats_suspect", "Seats in use whose holders are silent.", "suspect"),
            ("sojourn_seats_capacity", "Seats that there are, of all licenses.", "capacity"),
            ("sojourn_seats_licenses", "Licenses that have the feature.", "pools"),
            ("sojourn_seats_licenses_full", "Licenses without a free seat.", "full"),
            ("sojourn_seats_overdraft", "Seats above the capacity, held or reserved.", "overdraft"),
            ("sojourn_seats_reserved", "Seats that are kept for reservations.", "reserved"),
        )
        for name, words, field in told:
            family = GaugeMetricFamily(name, words, labels=("feature",))
            for feature, seats in sorted(self._found.items()):
                family.add_metric((feature,), getattr(seats, field))
            yield family
        if not self._name_licenses:
            return
        each = (
            ("sojourn_pool_seats_in_use", "Seats in use.", "in_use"),
            ("sojourn_pool_seats_suspect", "Those whose holders are silent.", "suspect"),
            ("sojourn_pool_seats_capacity", "Seats that there are.", "capacity"),
        )
        for name, words, field in each:
            family = GaugeMetricFamily(name, words, labels=("license", "feature"))
            for labels, seats in sorted(self._pools.items()):
                family.add_metric(labels, getattr(seats, field))
            yield family
