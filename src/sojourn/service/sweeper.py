"""Housekeeping: notes what expired, forgets what is old. Never needed for a right answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from msgspec.structs import asdict, replace

from sojourn.ledger import Ledger, SweepRun
from sojourn.log import get_logger
from sojourn.store import Store, Swept

log = get_logger(__name__)

BATCH = 500
ROUNDS_MAX = 200
"""A pass ends after so many batches; what is left waits for the next one."""


class Sweeper:
    """Sweeps in bounded batches. Safe side by side, in any number of processes."""

    def __init__(self, store: Store, ledger: Ledger, *, batch: int = BATCH) -> None:
        self._store = store
        self._ledger = ledger
        self._batch = batch
        self.traced: Callable[[str], AbstractContextManager[Any]] = nullcontext  # by its actor

    def run(
        self,
        *,
        actor: str = "system:sweep",
        progress: Callable[[Swept], object] | None = None,
        told_if_idle: bool = True,
        cutoffs_only: bool = False,
    ) -> SweepRun:
        """Sweep until nothing is left or the bound is reached; record the run in the ledger.

        `told_if_idle`: also when there was nothing to do. `cutoffs_only`: see `Store.sweep`.
        """
        with self.traced(actor):
            return self._run(actor, progress, told_if_idle, cutoffs_only)

    def _run(
        self,
        actor: str,
        progress: Callable[[Swept], object] | None,
        told_if_idle: bool,
        cutoffs_only: bool,
    ) -> SweepRun:
        started_at = self._store.now()
        began = time.monotonic()
        total = Swept()
        error: str | None = None
        try:
            for _ in range(ROUNDS_MAX):
                swept = self._store.sweep(limit=self._batch, cutoffs_only=cutoffs_only)
                total = add(total, swept)
                if progress is not None:
                    progress(total)
                if not swept.more:
                    break
        except Exception as fault:
            error = str(fault)
            raise
        finally:
            run = SweepRun(
                started_at=started_at,
                took=round((time.monotonic() - began) * 1000),
                actor=actor,
                leases_expired=total.leases_expired,
                leases_removed=total.leases_removed,
                sessions_cut=total.sessions_cut,
                sessions_removed=total.sessions_removed,
                events_removed=total.events_removed,
                error=error,
            )
            if replace(total, more=False) != Swept():
                log.info(
                    "swept",
                    actor=actor,
                    took=run.took,
                    **{k: v for k, v in asdict(total).items() if v},
                )
            if told_if_idle or error is not None or total != Swept():
                self._ledger.record_sweep(run)
        return run


def add(a: Swept, b: Swept) -> Swept:
    return Swept(
        leases_expired=a.leases_expired + b.leases_expired,
        leases_removed=a.leases_removed + b.leases_removed,
        sessions_cut=a.sessions_cut + b.sessions_cut,
        sessions_removed=a.sessions_removed + b.sessions_removed,
        events_removed=a.events_removed + b.events_removed,
        ips_forgotten=a.ips_forgotten + b.ips_forgotten,
        more=b.more,
    )
