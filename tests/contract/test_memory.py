"""The reference model against its own contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.testing.contract import StoreClocks, StoreContract, StoreFloods
from sojourn.testing.machine import machine_for
from sojourn.testing.wall_clock import OwnWallClock


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)


class TestMemoryFloods(StoreFloods):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return MemoryStore(clock)


TestMemoryAgainstOracle = machine_for(MemoryStore, examples=40)


class TestMemoryClocks(StoreClocks):
    @pytest.fixture
    def wall(self) -> Iterator[OwnWallClock]:
        with OwnWallClock() as wall:
            yield wall

    @pytest.fixture
    def database_url(self) -> str:
        return "memory:"

    @pytest.fixture
    def open_at(self) -> Callable[[str], Store]:
        """Nobody can open it twice: all have the one."""
        store = MemoryStore()
        return lambda _: store
