"""What still holds over several processes, and when one of them dies.

For stores that several processes can open: the fixture `store_url` names an empty one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from sojourn.clock import HOUR, MINUTE
from sojourn.lease import LeaseFilter
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.builders import POOL, look_up, pool, present, usage

PROCESSES = 2
THREADS = 40
PATIENCE = 60  # seconds until a process has ended
WRITES = 20  # acknowledged before the kill
PATIENT: dict[str, Any] = {"heartbeat_interval": 10 * MINUTE, "lost_after": HOUR}


@contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `sojourn.testing.crowd`; it is killed at the end if it has not ended."""
    command = [sys.executable, "-m", "sojourn.testing.crowd", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


class StoreProcesses:
    @pytest.fixture
    def store(self, store_url: str) -> Iterator[Store]:
        with closing(open_store(store_url)) as store:
            yield store

    def test_crowds_of_two_processes(self, store: Store, store_url: str) -> None:
        """80 at once from two processes on 5 seats: exactly 5 leases."""
        store.define([pool(5, **PATIENT)])
        with ExitStack() as stack:
            processes = [
                stack.enter_context(child("take", store_url, POOL, str(THREADS), f"crowd-{n}"))
                for n in range(PROCESSES)
            ]
            assert [read(process) for process in processes] == ["ready"] * PROCESSES
            for process in processes:
                start(process)
            granted = [lease_id for process in processes for lease_id in json.loads(read(process))]
            assert [process.wait(PATIENCE) for process in processes] == [0] * PROCESSES
        live, _ = store.leases(LeaseFilter())
        assert sorted(granted) == sorted(lease.id for lease in live)
        assert len(granted) == usage(store).in_use == 5
        assert sorted(lease.fence for lease in live) == [1, 2, 3, 4, 5]

    def test_killed_process(self, store: Store, store_url: str) -> None:
        """What a process had been answered before it was killed is there, whole."""
        store.define([pool(1_000_000, **PATIENT)])
        with child("write", store_url, "writer") as process:
            assert read(process) == "ready"
            start(process)
            acknowledged = [read(process) for _ in range(WRITES)]
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            acknowledged += process.stdout.read().split()
        for number, lease_id in enumerate(acknowledged):
            assert present(store, lease_id).data == {"number": number}
            assert look_up(store, lease_id) is not None
        written = usage(store).in_use
        assert len(acknowledged) <= written <= len(acknowledged) + 1
        events = store.events(limit=1_000)
        assert [event.id for event in events] == list(range(1, len(events) + 1))
