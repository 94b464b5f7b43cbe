"""Holds the store's leases beside the ledger's, explains each difference, and mends what it can."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from sojourn.lease import LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.store import LIST_MAX, Action, Recorded, Store
from sojourn.stores.recorder import LedgerRecorder, held_in, history, pools


class Why(StrEnum):
    ENDED = "ended_in_ledger"  # it was ended, and the store has lost that
    LOST = "unknown_to_store"  # it was granted, and the store has lost that
    UNTOLD = "unknown_to_ledger"  # it lives, and nothing tells how it came to


REPAIRS = {
    Why.ENDED: "End it again.",
    Why.LOST: "Record that it is lost: its seat is free.",
    Why.UNTOLD: "Nothing: its holder beats. Revoke it if you do not know it.",
}


class Difference(Struct, frozen=True):
    """A lease of which the ledger and the store say different things."""

    pool_id: str
    lease_id: str
    why: Why

    @property
    def repair(self) -> str:
        return REPAIRS[self.why]


class Reconciler:
    """Compares first; `repair` does what is in a plan that was read, and still so."""

    def __init__(
        self, store: Store, live: Recorded, ledger: Ledger, recorder: LedgerRecorder
    ) -> None:
        self._store = store
        self._live = live
        self._ledger = ledger
        self._recorder = recorder

    def compare(self) -> list[Difference]:
        """Bring the ledger up to date, then say where it and the store differ."""
        self._recorder.run()
        found: list[Difference] = []
        for pool in pools(self._ledger):
            held = held_in(self._ledger, pool.id)
            known = {str(event.subject) for event in history(self._ledger, pool_id=pool.id)}
            live = self._leases(pool.id, ended=False)
            # What was granted or ended since the ledger was read is no difference.
            for lease_id in sorted(live - held.keys()):
                why = Why.ENDED if lease_id in known else Why.UNTOLD
                found.append(Difference(pool.id, lease_id, why))
            lost = held.keys() - self._leases(pool.id, ended=True)
            found += [Difference(pool.id, lease_id, Why.LOST) for lease_id in sorted(lost)]
        return found

    def repair(self, plan: list[Difference], *, actor: str) -> int:
        """Mend what is in the plan and is still so. Return how many."""
        still = [each for each in self.compare() if each in plan]
        done = 0
        ended = [each.lease_id for each in still if each.why is Why.ENDED]
        for start in range(0, len(ended), LIST_MAX):
            which = LeaseFilter(ids=tuple(ended[start : start + LIST_MAX]))
            done += len(self._store.revoke(which, Action(actor=actor, name="reconcile")))
        lost = [(each.pool_id, each.lease_id) for each in still if each.why is Why.LOST]
        if lost:
            done += self._live.note_lost(lost, actor=actor)
            self._recorder.run()
        return done

    def _leases(self, pool_id: str, *, ended: bool) -> set[str]:
        license_id, feature = split_pool_id(pool_id)
        which = LeaseFilter(license_id=license_id, feature=feature, include_ended=ended)
        found: set[str] = set()
        after: str | None = None
        while page := self._store.leases(which, after=after, limit=LIST_MAX)[0]:
            found |= {lease.id for lease in page}
            after = page[-1].id
        return found
