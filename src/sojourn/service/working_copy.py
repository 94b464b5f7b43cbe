"""The store's working copy of the pools: as the ledger has them, whoever else writes it.

Two servers that change one license write the ledger one after the other, but may reach the store in the
other order: one of them stood still in between. So whoever has written the copy looks at the ledger once
more, and writes again what has changed since. The one that writes last has then written what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sojourn.license import Pool
from sojourn.store import Action, Store

TRIES = 10
"""How often one call writes what goes on changing; whoever changes it writes it, too."""
ACTOR = "system:licenses"


def define(
    store: Store,
    read: Callable[[], Sequence[Pool]],
    *,
    there: Callable[[Pool], bool] = lambda _: False,
) -> Sequence[Pool]:
    """Write the pools that `read` finds in the ledger, and return them. One that is gone from there by the
    time that it was written is dropped again, and its leases with it. `there`: whether one that is not found
    again is in the ledger all the same, where `read` reads a page of many."""
    pools = read()
    for _ in range(TRIES):
        if not pools:
            break
        store.define(pools)
        latest = read()
        if latest == pools:
            break
        left = {pool.id for pool in latest}
        gone = [pool.id for pool in pools if pool.id not in left and not there(pool)]
        if gone:
            store.drop(gone, Action(actor=ACTOR, name="remove_feature"))
        pools = latest
    return pools
