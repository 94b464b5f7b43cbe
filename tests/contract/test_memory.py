"""The reference model against its own contract."""

from __future__ import annotations

import pytest

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.testing.contract import StoreContract
from sojourn.testing.machine import machine_for


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)


TestMemoryAgainstOracle = machine_for(MemoryStore, examples=150)
