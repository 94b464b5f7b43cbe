"""The reference model against its own contract."""

from __future__ import annotations

import pytest

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore, stream
from sojourn.testing.contract import StoreContract, StoreFloods
from sojourn.testing.machine import machine_for


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)


class TestMemoryFloods(StoreFloods):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)


TestMemoryAgainstOracle = machine_for(MemoryStore, examples=40)


def test_wall_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is set back revives nothing: the store waits until it has caught up."""
    readings = iter([1_000, 900, 1_100])
    monkeypatch.setattr(stream, "host_now", lambda: next(readings))
    store = MemoryStore()
    assert [store.now() for _ in range(3)] == [1_000, 1_000, 1_100]
