"""Many at once: threads that start together, on two instances of a store on the same data."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest

from sojourn.event import Event
from sojourn.store import LIST_MAX, Store
from sojourn.testing.contract.base import OnManualClock

T = TypeVar("T")

START_TIMEOUT = 30.0  # seconds until every thread stands ready
ROUNDS = 20 if os.environ.get("SOJOURN_CAMPAIGN") else 2


def together(work: Sequence[Callable[[], T]]) -> list[T]:
    """Do all of this at once, as nearly as threads can, and answer in its order."""
    ready = threading.Barrier(len(work))

    def run(one: Callable[[], T]) -> T:
        ready.wait(START_TIMEOUT)
        return one()

    with ThreadPoolExecutor(len(work)) as crowd:
        return [future.result() for future in [crowd.submit(run, one) for one in work]]


def crowd(count: int, one: Callable[[int], T]) -> list[T]:
    """Do the same thing `count` times at once, each with a number of its own."""
    return together([partial(one, number) for number in range(count)])


def everything(store: Store) -> list[Event]:
    """Read the whole stream, page by page."""
    events: list[Event] = []
    while page := store.events(after=events[-1].id if events else 0, limit=LIST_MAX):
        events += page
    return events


class Crowds(OnManualClock):
    @pytest.fixture
    def open_store(self, store: Store) -> Callable[[], Store]:
        """Open the same data again. Override where a backend can; the caller need not close it."""
        return lambda: store

    @pytest.fixture
    def stores(self, store: Store, open_store: Callable[[], Store]) -> tuple[Store, Store]:
        return store, open_store()

    @pytest.fixture(autouse=True)
    def eager_switching(self) -> Iterator[None]:
        """Let threads interrupt each other as often as they can, so that races show."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)
