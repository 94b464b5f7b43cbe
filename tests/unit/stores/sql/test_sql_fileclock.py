"""The time of a SQLite file: one for all processes, through restarts of them and of the machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.store import Store
from sojourn.stores import open as stores
from sojourn.stores.sql import fileclock
from sojourn.testing.builders import sign_in
from sojourn.testing.wall_clock import OwnWallClock, WallClock

NEAR = MINUTE  # between two looks, however busy the machine; far less than any shift here
TELLER = """
import sys
from contextlib import closing
from sojourn.stores.open import open_store
with closing(open_store(sys.argv[1])) as store:
    print(store.now())
"""


@pytest.fixture
def wall() -> Iterator[OwnWallClock]:
    with OwnWallClock() as wall:
        yield wall


def opened(url: str) -> Store:
    return stores.open_store(url, migrate=True)


def near(one: int, other: int) -> bool:
    return abs(one - other) < NEAR


@pytest.mark.parametrize("hours", [-25, -1, 1, 25])
def test_processes_agree(sqlite_url: str, hours: int) -> None:
    """A process that comes when the wall clock has been set tells the time of those who were there."""
    with closing(opened(sqlite_url)) as store, WallClock() as wall:
        wall.shift(hours=hours)
        command = [sys.executable, "-c", TELLER, sqlite_url]
        before = store.now()
        told = subprocess.run(
            command, env=os.environ | wall.environ, capture_output=True, text=True, check=True
        )
        assert before <= int(told.stdout) <= store.now()


def test_child_of_a_process_agrees(sqlite_url: str, wall: OwnWallClock) -> None:
    """A process that is forked goes on by its parent's time."""
    with closing(opened(sqlite_url)) as store:
        wall.shift(hours=-1)
        before = store.now()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(store.now()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as told:
            assert before <= int(told.read()) <= store.now()


def test_ahead_once_nobody_has_it_open(sqlite_url: str, wall: OwnWallClock) -> None:
    """A wall clock set ahead is taken up when all were closed, and no earlier."""
    with closing(opened(sqlite_url)) as store:
        began = store.now()
        wall.shift(days=1)
        with closing(opened(sqlite_url)) as other:
            assert near(other.now(), began)
    with closing(opened(sqlite_url)) as store:
        assert near(store.now(), began + DAY)


def test_machine_started_again(
    sqlite_url: str, wall: OwnWallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that, time goes on from the latest instant that the file knows of, or from the wall clock
    if that is later."""
    with closing(opened(sqlite_url)) as store:
        store.pulse()
        sign_in(store)
        began = store.now()
    monkeypatch.setattr(fileclock, "boot_id", lambda: 1)
    wall.shift(hours=-1)
    with closing(opened(sqlite_url)) as store:
        assert near(store.now(), began)
    monkeypatch.setattr(fileclock, "boot_id", lambda: 2)
    wall.shift(hours=3)
    with closing(opened(sqlite_url)) as store:
        assert near(store.now(), began + 3 * HOUR)


def test_system_that_names_no_boot(
    sqlite_url: str, wall: OwnWallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing says that two processes live in one uptime, each goes on from what the file says."""
    monkeypatch.setattr(fileclock, "BOOT", Path("/nowhere"))
    with closing(opened(sqlite_url)) as store:
        sign_in(store)
        began = store.now()
        wall.shift(hours=-1)
        with closing(opened(sqlite_url)) as other:
            assert near(other.now(), began)


def test_it_is_logged_once(
    sqlite_url: str, wall: OwnWallClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock set back is told of when a pulse notices, and again only after it was right."""
    caplog.set_level(logging.WARNING, fileclock.__name__)
    with closing(opened(sqlite_url)) as store:
        for hours in (0, -1, -1, -2, 0, -1):
            wall.shift(hours=hours)
            store.pulse()
        assert len(caplog.records) == 2
        assert all("store_clock_was_set" in record.getMessage() for record in caplog.records)
