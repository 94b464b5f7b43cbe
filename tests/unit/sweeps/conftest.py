from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.sweeping import World

from sojourn.clock import ManualClock
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger


@pytest.fixture
def world() -> Iterator[World]:
    clock = ManualClock()
    with closing(open_ledger("memory:", clock=clock)) as ledger:
        yield World(clock, MemoryStore(clock, max_pause=10**12), ledger)
