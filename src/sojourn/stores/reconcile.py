"""Holds the store's leases beside the ledger's, explains each difference, and mends what it can."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

from sojourn.lease import EndReason, LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.store import LIST_MAX, Action, Ended, Known, Recorded, Store
from sojourn.stores.recorder import ENDS, GRANTS, LedgerRecorder, end_of, held_in, history, pools


class Why(StrEnum):
    ENDED = "ended_in_ledger"  # it was ended, and the store has lost that
    LOST = "unknown_to_store"  # it was granted, and the store has lost that
    UNTOLD = "unknown_to_ledger"  # it lives, and nothing tells how it came to


REPAIRS = {
    Why.ENDED: "End it again.",
    Why.LOST: "Record that it is lost: its seat is free. If it lives under an older fence, give it its own.",
    Why.UNTOLD: "Nothing: its holder beats. Revoke it if you do not know it.",
}


class Difference(Struct, frozen=True):
    """A lease of which the ledger and the store say different things."""

    pool_id: str
    lease_id: str
    why: Why
    fence: int = 0  # under which the ledger knows it; the store, if the ledger does not

    @property
    def repair(self) -> str:
        return REPAIRS[self.why]


def _known(difference: Difference) -> Known:
    return Known(difference.pool_id, difference.lease_id, difference.fence)


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
        return [found for pool in pools(self._ledger) for found in self._compare(pool.id)]

    def _compare(self, pool_id: str) -> Iterator[Difference]:
        held = held_in(self._ledger, pool_id).held
        known = {
            str(event.subject): int(event.data["fence"])
            for event in history(self._ledger, pool_id=pool_id)
            if event.kind in GRANTS
        }
        for lease_id, fence in sorted(self._leases(pool_id, ended=False).items()):
            if lease_id not in known:
                yield Difference(pool_id, lease_id, Why.UNTOLD, fence)
            elif lease_id not in held and fence <= known[lease_id]:  # else it was resumed since
                yield Difference(pool_id, lease_id, Why.ENDED, known[lease_id])
        there = self._leases(pool_id, ended=True)
        for lease_id, fence in sorted(held.items()):
            if there.get(lease_id, 0) < fence:
                yield Difference(pool_id, lease_id, Why.LOST, fence)

    def repair(self, plan: list[Difference], *, actor: str) -> int:
        """Mend what is in the plan and is still so. Return how many."""
        still = [each for each in self.compare() if each in plan]
        done = 0
        if ended := [each for each in still if each.why is Why.ENDED]:
            action = Action(actor=actor, name="reconcile")
            done += self._live.end_again([*self._ends(ended)], action)
        if lost := [_known(each) for each in still if each.why is Why.LOST]:
            done += self._live.note_lost(lost, actor=actor)
            self._recorder.run()
        return done

    def _ends(self, differences: list[Difference]) -> Iterator[Ended]:
        """Look up how the ledger says that these have ended."""
        for pool_id in {each.pool_id for each in differences}:
            wanted = {each.lease_id for each in differences if each.pool_id == pool_id}
            reasons = {
                str(event.subject): end.reason
                for event in history(self._ledger, pool_id=pool_id)
                if event.kind in ENDS and event.subject in wanted and (end := end_of(event))
            }
            for each in differences:
                if each.pool_id == pool_id:
                    reason = reasons.get(each.lease_id, EndReason.REVOKED)
                    yield Ended(_known(each), reason)

    def _leases(self, pool_id: str, *, ended: bool) -> dict[str, int]:
        license_id, feature = split_pool_id(pool_id)
        which = LeaseFilter(license_id=license_id, feature=feature, include_ended=ended)
        found: dict[str, int] = {}
        after: str | None = None
        while page := self._store.leases(which, after=after, limit=LIST_MAX)[0]:
            found |= {lease.id: lease.fence for lease in page}
            after = page[-1].id
        return found
