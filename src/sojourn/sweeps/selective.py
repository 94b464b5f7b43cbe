"""Ending the leases that a scope means, and nothing else.

Leases are looked at in pages, in order of id. Those that are meant are ended by id, pool by pool, in small
steps, each with the operator's event; a beat that came since they were looked at keeps its lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.lease import Lease, LeaseFilter
from sojourn.license import split_pool_id
from sojourn.plans.plan import RunState, SelectiveRun, SweepScope, why
from sojourn.store import LIST_MAX, Action, Store

STEP = 200
"""Leases that are ended in one step."""
PAGES_MAX = 10_000
"""Pages that are looked at: ten million leases."""
SHOWN_MAX = 1_000
NOTE_STEP = 500
NOTE_ROUNDS = 200

GoOn = Callable[[SelectiveRun], bool]


class Meant(Struct, frozen=True):
    lease: Lease
    why: tuple[str, ...]


class Look(Struct, frozen=True, kw_only=True):
    """What a sweep would end now. `meant` has the first of them; `total` counts all."""

    meant: tuple[Meant, ...]
    total: int
    looked: int
    at: int


class Selective:
    """Synchronous; safe from several threads, and beside any number of others."""

    def __init__(self, store: Store, *, page: int = LIST_MAX, step: int = STEP) -> None:
        self._store = store
        self._page = page
        self._step = step

    def look(self, scope: SweepScope, *, limit: int = SHOWN_MAX) -> Look:
        """Say what would be ended, changing nothing."""
        meant: list[Meant] = []
        total = looked = 0
        at = self._store.now()
        for page, now in self._pages(scope.filter, None):
            at, looked = now, looked + len(page)
            for lease in page:
                reasons = why(scope, lease, now)
                total += reasons is not None
                if reasons is not None and len(meant) < limit:
                    meant.append(Meant(lease, reasons))
        return Look(meant=tuple(meant), total=total, looked=looked, at=at)

    def carry_out(
        self, run: SelectiveRun, *, go_on: GoOn, beat: Callable[[], bool]
    ) -> SelectiveRun:
        """Sweep from `run.last_id` on; return the run as far as it came, still RUNNING if it was stopped.

        `go_on` is told after each page, and `beat` before each step; False of either stops it. Raises
        what the store raises: then the last run that `go_on` was told of is how far it came.
        """
        action = Action(
            actor=run.actor, name="sweep", data={"run": run.id, "plan": run.plan_name or ""}
        )
        for page, now in self._pages(run.scope.filter, run.last_id):
            due = [lease for lease in page if why(run.scope, lease, now) is not None]
            for step in self._steps(due):
                if not beat():
                    return run
                ended = self._store.revoke(step, action, suspects_only=not run.scope.living)
                run = replace(run, ended=run.ended + len(ended))
            run = replace(run, looked=run.looked + len(page), last_id=page[-1].id)
            if not go_on(run):
                return run
        if run.scope.coarse:
            run = replace(run, noted=run.noted + self._note(run.scope.filter, beat))
        return replace(run, state=RunState.DONE)

    def _pages(
        self, which: LeaseFilter, after: str | None
    ) -> Iterator[tuple[Sequence[Lease], int]]:
        for _ in range(PAGES_MAX):
            page, now = self._store.leases(which, after=after, limit=self._page)
            if not page:
                return
            yield page, now
            if len(page) < self._page:
                return
            after = page[-1].id

    def _steps(self, due: Sequence[Lease]) -> Iterator[LeaseFilter]:
        """Name them, pool by pool. Who beats from now on has a later beat than the latest of them."""
        pools: dict[str, list[Lease]] = {}
        for lease in due:
            pools.setdefault(lease.pool_id, []).append(lease)
        for pool_id, leases in pools.items():
            license_id, feature = split_pool_id(pool_id)
            for start in range(0, len(leases), self._step):
                step = leases[start : start + self._step]
                yield LeaseFilter(
                    license_id=license_id,
                    feature=feature,
                    ids=tuple(lease.id for lease in step),
                    silent_since=max(lease.last_beat_at for lease in step),
                )

    def _note(self, which: LeaseFilter, beat: Callable[[], bool]) -> int:
        """Note what has expired in a scope that a store can tell by itself: it holds no seat."""
        noted = 0
        for _ in range(NOTE_ROUNDS):
            if not beat():
                break
            swept = self._store.sweep(limit=NOTE_STEP, which=which)
            noted += swept.leases_expired
            if not swept.more:
                break
        return noted
