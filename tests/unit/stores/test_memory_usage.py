"""What a store in memory says of the use of a pool is counted, whatever is known of a denial before."""

from __future__ import annotations

from sojourn.clock import SECOND, ManualClock
from sojourn.license import WhenFull
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import pool, refused, take, usage


class OfAnySize(MemoryStore):
    """Takes every pool for a large one."""

    full_from = 1


def test_suspects_are_counted_when_asked() -> None:
    """A denial may show evidence of the second before; whoever looks at the pool sees it as it is."""
    clock = ManualClock()
    store = OfAnySize(clock)
    store.define([pool(2, when_full=WhenFull.RECLAIM_SUSPECT)])
    silent = take(store, "ann")
    take(store, "bob")
    clock.advance(milliseconds=silent.suspect_at - clock.now() - SECOND // 2)
    assert refused(store, "cid").suspect == 0
    clock.advance(milliseconds=SECOND // 2)
    seen = usage(store)
    assert (seen.in_use, seen.suspect, seen.leases, seen.at) == (2, 2, 2, clock.now())
    assert refused(store, "cid").in_use == 2
