"""How a process that serves is set up."""

from __future__ import annotations

import gc
import sys
import weakref

from sojourn.api.server import COLLECT_AFTER, SWITCH_INTERVAL, settle_down


class Link:
    """One of two that hold each other."""

    def __init__(self) -> None:
        self.other: Link | None = None


def test_a_process_that_serves_settles_down() -> None:
    """What there is stays out of the collector's rounds; what comes later is still collected."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        settle_down()
        assert sys.getswitchinterval() == SWITCH_INTERVAL
        assert gc.get_threshold() == (COLLECT_AFTER, *threshold[1:])
        assert len(gc.get_objects()) < gc.get_freeze_count()
        one, other = Link(), Link()
        one.other, other.other = other, one
        gone = weakref.ref(one)
        del one, other
        gc.collect()
        assert gone() is None
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
