"""What must end by itself: waited for with a deadline, so that what never ends fails and does not stall."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 60.0  # seconds; far more than anything takes that ends at all


def ended(work: Callable[[], T], deadline: float = DEADLINE) -> T:
    """Return what `work` returns, or raise what it raises. Fail where it has not ended by the deadline."""
    results: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as fault:  # noqa: BLE001  # it is raised by whoever waits
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(deadline)
    assert not thread.is_alive(), f"it has not ended within {deadline:g} s"
    if faults:
        raise faults[0]
    return results[0]


async def becomes(met: Callable[[], bool], *, within: float = DEADLINE) -> None:
    """Let the loop go on until something is so; fail after so many seconds, which it never takes."""
    async with asyncio.timeout(within):
        for _ in itertools.count():
            if met():
                return
            await asyncio.sleep(0)
