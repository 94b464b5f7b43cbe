"""SQLite on a small disk, which fills up and has room again: a real one, of 12 MiB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sojourn.errors import StoreUnavailable
from sojourn.ledger import ApiKey, Role
from sojourn.session import Save
from sojourn.store import Store
from sojourn.stores import open as stores
from sojourn.stores.sql import room
from sojourn.testing.builders import beat, pool, present, sign_in, take, usage

DISK = 12 * 1024 * 1024
TEXT = "x" * 20_000
WRITER = """
import os, sys
from sojourn.session import Save
from sojourn.stores.open import open_store
from sojourn.testing.builders import sign_in
store = open_store(sys.argv[1])
for number in range(int(sys.argv[2])):
    sign_in(store, f"theirs-{number}", data={"x": "y" * 20_000})
    assert store.save([Save(id="ses_1", set={"n": number, "x": "x" * 20_000})]) != [None]
os._exit(9)  # as by a power cut: nothing is put back, nothing closed
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of one's own. It takes root, or the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "sojourn-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        assert not (os.environ.get("CI") and os.geteuid() == 0), "root may mount"
        pytest.skip("mounting a small disk takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def url(disk: Path) -> str:
    return f"sqlite:///{disk}/sojourn.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(stores.open_store(url, migrate=True)) as store:
        store.define([pool(2)])
        sign_in(store)
        yield store


def fill(disk: Path, leave: int = 0) -> Path:
    """Take what is free on a disk, all but so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while (free := room.free(ballast) - leave) > 0:
                file.write(b"\0" * free)
        except OSError:
            pass
    return ballast


def write(store: Store, number: int = 0) -> None:
    revisions = store.save([Save(id="ses_1", set={"n": number, "x": TEXT})])
    assert revisions[0] is not None


def log_of(disk: Path) -> int:
    log = disk / "sojourn.db-wal"
    return log.stat().st_size if log.exists() else 0


def refused(disk: Path, work: Callable[[], object]) -> None:
    """The folder and what is free in it are named."""
    with pytest.raises(StoreUnavailable) as caught:
        work()
    assert str(disk) in caught.value.message
    assert "bytes are free" in caught.value.message
    assert "no restart" in str(caught.value.hint)


def test_log_leaves_room(store: Store, disk: Path) -> None:
    """A small database writes many times its disk, and its log takes no more than a share of it."""
    most = 0
    for number in range(1_200):  # 24 MB and more
        write(store, number)
        most = max(most, log_of(disk))
    assert room.LOG_MIN < most < DISK / 3
    assert present(store).data["n"] == 1_199


def test_log_gets_shorter_as_the_disk_fills(store: Store, disk: Path) -> None:
    """What others put on the disk takes from what the log may have; nothing is refused meanwhile."""
    for leave in (4 << 20, 2 << 20, 1 << 20, 512 << 10):
        fill(disk, leave)
        for number in range(100):
            write(store, number)
        assert log_of(disk) <= max(room.LOG_MIN, leave) + 64 * 1024
    assert present(store).data["n"] == 99


def test_full_disk_heals(store: Store, disk: Path) -> None:
    """On a full disk nothing is written, and who is in stays in; with room, all goes on at once."""
    lease = take(store)
    ballast = fill(disk)
    written = -1

    def until_refused() -> None:
        nonlocal written
        for number in range(1_000):
            write(store, number)
            written = number

    refused(disk, until_refused)
    for _ in range(3):
        refused(disk, lambda: sign_in(store, "later", data={"x": TEXT * 3}))
    assert present(store).data.get("n", -1) == written
    assert usage(store).in_use == 1
    ballast.unlink()
    write(store, 7)
    assert present(store).data["n"] == 7
    assert beat(store, lease) is not None
    sign_in(store, "later")
    events = store.events(limit=1_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))


def killed(url: str, count: int) -> None:
    """Have a process write, and leave its log behind as a power cut does."""
    ended = subprocess.run([sys.executable, "-c", WRITER, url, str(count)], check=False)
    assert ended.returncode == 9


def without_index(disk: Path) -> None:
    """Take the index of the log away, as a machine does that is started again."""
    (disk / "sojourn.db-shm").unlink()


def test_restart_on_a_full_disk(url: str, disk: Path, store: Store) -> None:
    """A log that was left behind is put back although there is no room for its index, if the database
    need not grow for it."""
    for number in range(60):  # which leaves pages in the database for what follows
        sign_in(store, f"old-{number}", data={"x": TEXT})
    store.save([Save(id=f"old-{number}", unset=("x",)) for number in range(60)])
    store.close()
    size = (disk / "sojourn.db").stat().st_size
    rewriter = WRITER.replace(
        'sign_in(store, f"theirs-{number}", data={"x": "y" * 20_000})', "pass"
    )
    ended = subprocess.run([sys.executable, "-c", rewriter, url, "20"], check=False)
    assert ended.returncode == 9
    without_index(disk)
    fill(disk)
    assert log_of(disk) > 0
    with closing(stores.open_store(url)) as again:
        assert present(again).data["n"] == 19
        write(again, 20)
    assert (disk / "sojourn.db").stat().st_size >= size


def test_restart_once_there_is_room(url: str, disk: Path, store: Store) -> None:
    """Where the database would have to grow, it is said what is wrong; with room, all that was
    acknowledged is there."""
    store.close()
    killed(url, 30)
    without_index(disk)
    ballast = fill(disk)
    refused(disk, lambda: stores.open_store(url))
    refused(disk, lambda: stores.migrate(url))
    ballast.unlink()
    with closing(stores.open_store(url)) as again:
        assert present(again).data["n"] == 29
        assert present(again, "theirs-29").data["x"]
        write(again, 30)


def test_migrating_on_a_full_disk(url: str, disk: Path) -> None:
    """A database that cannot be made says why, and is made once there is room."""
    ballast = fill(disk, leave=16 * 1024)
    refused(disk, lambda: stores.migrate(url))
    refused(disk, lambda: stores.open_store(url, migrate=True))
    ballast.unlink()
    with closing(stores.open_store(url, migrate=True)) as store:
        sign_in(store)


def test_ledger_on_a_full_disk(disk: Path) -> None:
    """A ledger of its own says the same, and heals the same way."""
    with closing(stores.open_ledger(f"sqlite:///{disk}/ledger.db", migrate=True)) as ledger:

        def make(name: str) -> None:
            key = ApiKey(id=f"key_{name}", name=name, role=Role.ADMIN)
            ledger.create_key(key, name.encode(), actor="test")

        make("first")
        ballast = fill(disk)
        made = 0

        def until_refused() -> None:
            nonlocal made
            for number in range(1_000):
                make(f"n-{number}")
                made += 1

        refused(disk, until_refused)
        assert len(ledger.keys()) == made + 1
        ballast.unlink()
        make("last")
        assert len(ledger.keys()) == made + 2
