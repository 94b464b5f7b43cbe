"""Doubt: a holder whose socket dropped, or who did not answer, is suspect from now on.

It is done under the pool's lock, unlike a goodbye. So no acquire that has found a pool full, and goes by that
for a moment (`fullness`), misses a seat that has just become one to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sojourn.event import asked_event
from sojourn.lease import Doubt, Lease
from sojourn.stores.sql import events, fullness, outages
from sojourn.stores.sql.database import Tx, Verbs
from sojourn.stores.sql.seats import lock_live

LINGERS = "SELECT id, linger FROM sojourn_pools WHERE id {in ids}"
SUSPECT = """
UPDATE sojourn_leases SET suspect_at = {least}(suspect_at, :since) WHERE id {in ids} AND suspect_at > :since
"""


class DoubtVerbs(Verbs):
    """The verbs that make leases suspect, and ask who is there."""

    def doubt(self, doubts: Sequence[Doubt], *, at_once: bool = False) -> list[bool]:
        """Make leases suspect from now on; see `Store.doubt`."""
        if not doubts:
            return []

        def work(tx: Tx) -> list[bool]:
            found, now = lock_live(tx, sorted({each.lease_id for each in doubts}))
            live = {lease.id: lease for lease in found}
            meant: dict[str, Lease] = {}
            answers = []
            for each in doubts:
                lease = live.get(each.lease_id)
                counts = (
                    lease is not None
                    and lease.fence == each.fence
                    and now - lease.last_beat_at >= each.silent_for
                )
                if counts and lease is not None:
                    meant[lease.id] = lease
                answers.append(counts)
            if not all(answers):
                outages.notice(tx, self._max_pause)
            if meant:
                _suspect(tx, list(meant.values()), now, at_once=at_once)
            return answers

        return self._db.transaction(work)

    def ask(self, pool_id: str, actor: str | None, data: dict[str, Any] | None = None) -> None:
        """Tell the stream that holders are to say whether they are there; see `Store.ask`."""
        asked = asked_event(pool_id, actor, data)
        self._db.transaction(lambda tx: events.append(tx, [asked], tx.now()))


def _suspect(tx: Tx, leases: Sequence[Lease], now: int, *, at_once: bool) -> None:
    """Write since when these are suspect, with one statement for those of the same linger."""
    lingers: dict[str, int] = {}
    if at_once:
        ids = tx.dialect.keys(sorted({lease.pool_id for lease in leases}))
        lingers = {row[0]: int(row[1]) for row in tx.rows(LINGERS, {"ids": ids})}
    groups: dict[int, list[str]] = {}
    for lease in leases:
        groups.setdefault(now - lingers.get(lease.pool_id, 0), []).append(lease.id)
    changed = 0
    for since, group in sorted(groups.items()):
        changed += tx.do(SUSPECT, {"since": since, "ids": tx.dialect.keys(group)})
    if changed:
        fullness.changed(tx)  # a seat may be free earlier than was known
