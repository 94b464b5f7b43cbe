"""The pulse goes the way the renewals go.

The store's pulse says that holders can keep their seats: who finds it stale gives everybody back the
time they could not (ADR 6). Written by a way of its own it would go on while no renewal gets through,
and holders would lose their seats to an outage that nobody noticed. So it waits in the renewals' queue,
is carried out after those of its round, and is held back while those of any pool fail or hang.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from sojourn.errors import StoreUnavailable
from sojourn.lease import Renewal
from sojourn.service.seats import BeatCall, Lost
from sojourn.store import Outage, Store

Renew = Callable[[Sequence[BeatCall]], Sequence[Renewal | Lost]]

HANG = 1.0
"""Seconds after which a batch of renewals that has not come back counts as hanging."""
DOUBT = 30.0
"""Seconds for which a pool whose renewals failed holds the pulse back, unless one gets through before:
holders try again within that time, and where none does, nobody is kept from anything."""
FAILING_MAX = 10_000
"""Pools that are remembered for it; the first ones are forgotten for more."""


class WritingPath:
    """Watches renewals, and says whether a pulse would be true. Safe from several threads."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._under_way: dict[int, float] = {}  # thread -> since when its batch is with the store
        self._failing: dict[str, float] = {}  # pool -> when its renewals failed last

    def renewing(self, verb: Renew) -> Renew:
        """Return the verb that renews, watched."""

        def renew(calls: Sequence[BeatCall]) -> Sequence[Renewal | Lost]:
            me = threading.get_ident()
            with self._lock:
                self._under_way[me] = self._now()
            try:
                answers = verb(calls)
            except StoreUnavailable:
                self._note(calls, failed=True)
                raise
            else:
                if self._failing:
                    self._note(calls, failed=False)
                return answers
            finally:
                with self._lock:
                    del self._under_way[me]

        return renew

    def _note(self, calls: Sequence[BeatCall], *, failed: bool) -> None:
        with self._lock:
            for pool in {call.claims.pool_id for call in calls}:
                self._failing.pop(pool, None)
                if failed:
                    self._failing[pool] = self._now()
            while len(self._failing) > FAILING_MAX:
                del self._failing[next(iter(self._failing))]

    def pulse(self, asked: Sequence[None]) -> list[Outage | None]:
        """Write the pulse, once for all that ask. Raises StoreUnavailable while renewals do not get
        through: then it is not written."""
        with self._lock:
            now = self._now()
            hangs = any(now - since > HANG for since in self._under_way.values())
            self._failing = {p: at for p, at in self._failing.items() if now - at < DOUBT}
            failed = bool(self._failing)
        if hangs or failed:
            raise StoreUnavailable(
                "Renewals do not get through, so the pulse is held back: holders get the time given back."
            )
        return [self._store.pulse(), *[None] * (len(asked) - 1)]
