"""Everything a server process runs, together: what follows a start, and how the pulse goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any

import pytest

from sojourn.clock import ManualClock
from sojourn.errors import StoreUnavailable
from sojourn.lease import EndReason, LeaseFilter
from sojourn.service.services import Services
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.testing.builders import pool, sign_in, take
from sojourn.token import Keyring

PATIENCE = 20.0  # seconds until a test that hangs fails


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(ManualClock())


@pytest.fixture
def services(store: MemoryStore) -> Iterator[Services]:
    with closing(open_ledger("memory:", clock=ManualClock())) as ledger:
        yield Services(
            store, ledger, Keyring([b"k" * 32]), sweep_interval=3_600, pulse_interval=3_600
        )


def alive(services: Services, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario while the services do."""

    async def main() -> None:
        services.start()
        try:
            await scenario()
        finally:
            await services.stop()

    asyncio.run(main())


class TestStart:
    def test_sweeps_what_a_cutoff_left_whose_server_was_killed(
        self, store: MemoryStore, services: Services
    ) -> None:
        """Nobody tells a server of the cutoffs of another: seats of ended sessions go at its start."""
        session = sign_in(store, "anns")
        store.define([pool(2)])
        take(store, "ann", session_id=session.id)
        kept = take(store, "bob")
        store.cut_off("ann")

        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        leases = {x.user_id: x for x in store.leases(LeaseFilter(include_ended=True))[0]}
        assert leases["ann"].end_reason is EndReason.SESSION_ENDED
        assert leases["bob"] == kept
        (run,) = services.ledger.sweeps()
        assert (run.actor, run.sessions_cut) == ("system:cutoff", 1)

    def test_that_finds_nothing_leaves_no_record(self, services: Services) -> None:
        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        assert services.ledger.sweeps() == []

    def test_is_not_kept_by_a_sweep_that_fails(
        self, store: MemoryStore, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again by the clock, and meanwhile the server serves."""
        sweep, faults = store.sweep, [StoreUnavailable("away")]

        def fail_once(**options: Any) -> Any:
            if faults:
                raise faults.pop()
            return sweep(**options)

        monkeypatch.setattr(store, "sweep", fail_once)
        monkeypatch.setattr(services._aftermath, "_interval", 0.01)

        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        assert not faults
