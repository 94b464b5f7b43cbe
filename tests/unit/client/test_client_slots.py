"""Copies of one program on one machine: each has a number of its own, and a crash frees it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import DEADLINE, ended

from sojourn.client import slots
from sojourn.errors import InvalidInput

COPY = """
import os, select, sys
from sojourn.client import default_client_id
instance = sys.argv[1] if len(sys.argv) > 1 else None
print(default_client_id(instance), flush=True)
for line in sys.stdin:
    if line == "fork\\n":
        if os.fork() == 0:
            print(default_client_id(instance), flush=True)
            unread = select.poll()
            unread.register(1, 0)
            unread.poll()
            os._exit(0)
    elif line == "leave\\n":
        break
    else:
        print(default_client_id(instance), flush=True)
"""
SHARING = """
import os, sys
from tests.unit.client.client_fakes import scene

def acquires(seats):
    asked = len(s.server.calls)
    for seat in seats:
        assert seat.acquire().client_id == s.server.calls[-1].body["clientId"]
    print(*(call.body["clientId"] for call in s.server.calls[asked:]), flush=True)

with scene(server={"capacity": 9}) as s:
    seats = [s.client.seat("render", user="ada", instance=each) for each in ("a", "b", "c")]
    seats[0].acquire().release()
    seats[1].client_id
    for _ in range(2):
        told, telling = os.pipe()
        if os.fork() == 0:
            acquires(seats)
            os.write(telling, b".")
            sys.stdin.read()
            os._exit(0)
        os.read(told, 1)
    acquires(seats)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("SOJOURN_CLIENT_ID", raising=False)
    return tmp_path / "sojourn" / "clients"


class Copy:
    """A copy of one program, as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", COPY, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = self.hears()

    def hears(self) -> str:
        return str(ended(self.process.stdout.readline).strip())

    def ask(self, what: str = "name") -> str:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.hears()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def leave(self) -> None:
        self.process.communicate("leave\n", timeout=DEADLINE)


@contextmanager
def copies(*arguments: tuple[str, ...]) -> Iterator[list[Copy]]:
    running: list[Copy] = []
    try:
        running.extend(Copy(*each) for each in arguments)
        yield running
    finally:
        for copy in running:
            copy.kill()
            copy.process.stdin.close()
            copy.process.stdout.close()


def test_copies_side_by_side_have_names_that_stay(state: Path) -> None:
    with copies((), (), ()) as (first, second, third):
        assert [second.name, third.name] == [f"{first.name}~2", f"{first.name}~3"]
        assert third.ask() == third.name
        second.kill()
        with copies(()) as (again,):
            assert again.name == second.name


def test_who_was_killed_comes_back_under_its_own_name(state: Path) -> None:
    """Even though a lower number has become free: its seat is still there."""
    with copies((), ()) as (first, second):
        first.leave()
        second.kill()
        with copies((), ()) as (again, another):
            assert again.name == second.name
            assert another.name == first.name


def test_who_left_in_order_leaves_its_number(state: Path) -> None:
    with copies((), ()) as (first, second):
        second.leave()
        first.leave()
        with copies(()) as (again,):
            assert again.name == first.name


def test_a_child_has_a_name_of_its_own_and_keeps_nobodys(state: Path) -> None:
    with copies(()) as (parent,):
        child = parent.ask("fork")
        assert child == f"{parent.name}~2"
        assert parent.ask() == parent.name
        parent.kill()  # the child lives on until nobody reads its standard output: that is us
        with copies(()) as (again,):
            assert again.name == parent.name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_seats_that_were_described_before_a_fork_are_each_process_s_own(state: Path) -> None:
    """As with servers that load the application, and then fork their workers: whether or not a seat was
    asked for its name, or held and given back, in the process that all come from."""
    with subprocess.Popen(
        [sys.executable, "-c", SHARING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        names = [ended(process.stdout.readline).split() for _ in range(3)]
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    for instance, each in zip("abc", zip(*names, strict=True), strict=True):
        assert len(set(each)) == 3
        assert all(f".{instance}" in name for name in each)


def test_names_that_were_given_are_told_apart_too(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copies(("left",), ("right",), ("left",)) as (left, right, twin):
        assert left.name.endswith(".left")
        assert right.name.endswith(".right")
        assert twin.name == f"{left.name}~2"
    monkeypatch.setenv("SOJOURN_CLIENT_ID", "worker-7")
    with copies((), ()) as found:
        assert [each.name for each in found] == ["worker-7", "worker-7~2"]
    with copies((), ()) as found:
        assert [each.name for each in found] == ["worker-7", "worker-7~2"]


def test_without_a_folder_copies_are_one_and_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(slots, "_folders", lambda: iter([blocked / "sub"]))
    mine = slots.Slots()
    with caplog.at_level(logging.WARNING, logger="sojourn"):
        assert mine.claim("x") == 1
        assert mine.claim("x") == 1
    assert caplog.text.count("XDG_STATE_HOME") == 1
    mine.settle()


def test_a_folder_that_others_write_to_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "link").symlink_to(own)
    monkeypatch.setattr(slots, "_folders", lambda: iter([shared, tmp_path / "link", own]))
    mine = slots.Slots()
    assert mine.claim("x") == 1
    assert not list(shared.iterdir())
    assert len(list(own.iterdir())) == 1
    assert own.stat().st_mode & 0o777 == 0o700
    mine.forked()


def test_a_file_that_was_swept_away_is_no_lock(state: Path) -> None:
    """Housekeeping of temporary folders may take it away between opening and locking."""
    one, two = slots.Slots(), slots.Slots()
    real = slots._try_lock

    def swept(file: int) -> bool:
        for each in state.iterdir():
            each.unlink()
        monkey.undo()
        return real(file)

    monkey = pytest.MonkeyPatch()
    monkey.setattr(slots, "_try_lock", swept)
    numbers = {one.claim("x"), two.claim("x")}
    assert len(numbers) == 2
    one.forked()
    two.forked()


def test_there_is_an_end_to_copies(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_MAX", 2)
    several = [slots.Slots() for _ in range(3)]
    assert [each.claim("x") for each in several[:2]] == [1, 2]
    with pytest.raises(InvalidInput, match="2 copies") as caught:
        several[2].claim("x")
    assert "client_id" in caught.value.hint
    several[0].forked()  # closes its file, as the end of a process does
    assert several[2].claim("x") == 1
    for each in several[1:]:
        each.forked()


def test_a_full_disk_costs_no_slot(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    mine = slots.Slots()
    assert mine.claim("x") == 1
    mine.settle()
    mine.forked()
