"""Stories that the oracle of the line once judged wrongly: they must pass on a store that is right."""

from __future__ import annotations

from sojourn.lease import Release
from sojourn.stores.memory import MemoryStore
from sojourn.testing.line_rules import CLIENTS, PLAIN
from sojourn.testing.machine import StoreMachine

POOL = "lic_1:lease"
EARLY = CLIENTS[2]  # asks with priority


class OnMemory(StoreMachine):
    make_store = staticmethod(MemoryStore)


def ask(machine: OnMemory, *holders: tuple[str, str, bool]) -> None:
    asked = [{"user_id": user, "client_id": client, "wait": wait} for user, client, wait in holders]
    machine.acquire([{"pool_id": POOL, **each, **PLAIN} for each in asked])


def test_who_asks_twice_may_wait_once() -> None:
    """Who asks without waiting comes last and is refused; asking again to wait, it goes before the others."""
    machine = OnMemory()
    try:
        machine.begin(first=[])
        ask(machine, ("ann", "1", True), ("ann", "2", True))
        ask(machine, ("ann", EARLY, True), ("Ann", "1", True))
        freed = [Release(lease_id=lease.id, fence=lease.fence) for lease in machine.leases]
        assert machine.both(lambda store: store.release(freed)) == [True, True]
        machine.oracle.read(machine.news())
        ask(machine, ("Ann", EARLY, False), ("Ann", EARLY, True))
        assert machine.leases[0].holder == ("Ann", EARLY)
        machine.everything_agrees()
    finally:
        machine.teardown()
