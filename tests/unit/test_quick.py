"""What `make quick` leaves out is what starts a server, a browser or a process, however it does so."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from tests.quick import Rule, waits
from tests.slowest import slowest_parts

from sojourn.testing import redis_server, servers
from sojourn.testing.servers import Kind, postgres

BY_KIND = {Kind.POSTGRES: postgres}


def directly() -> Any:
    return postgres()


def by_a_module() -> Any:
    return redis_server.redis_server()


def by_a_helper() -> Any:
    return directly()


def by_a_table() -> Any:
    return BY_KIND[Kind.POSTGRES]()


def by_a_process() -> Any:
    return subprocess.Popen(["true"])


def in_a_closure() -> Any:
    return [servers.mariadb() for _ in range(1)]


@contextmanager
def as_a_context() -> Iterator[Any]:
    with postgres() as server:
        yield server


class Holder:
    def begin(self) -> Any:
        return directly()


def by_an_object() -> Any:
    return Holder()


def not_at_all() -> Any:
    return Kind.POSTGRES, sorted([3, 2])


def calls_itself() -> Any:
    return calls_itself


@pytest.mark.parametrize(
    ("function", "starts"),
    [
        (directly, {"a database server"}),
        (by_a_module, {"Redis"}),
        (by_a_helper, {"a database server"}),
        (by_a_table, {"a database server"}),
        (by_a_process, {"processes"}),
        (in_a_closure, {"a database server"}),
        (as_a_context, {"a database server"}),
        (by_an_object, {"a database server"}),
        (not_at_all, set()),
        (calls_itself, set()),
    ],
)
def test_what_a_function_starts(function: Callable[[], Any], starts: set[str]) -> None:
    assert Rule(None)._of(function) == starts


def test_the_files_that_took_longest_are_told() -> None:
    """With their tests, and the time of their fixtures; at most seven of them."""

    def report(file: str, when: Literal["setup", "call"], seconds: float) -> pytest.TestReport:
        place = (file, 1, "test_it")
        return pytest.TestReport(
            f"{file}::test_it", place, {}, "passed", None, when, duration=seconds
        )

    files = [f"tests/test_{n}.py" for n in range(9)]
    calls = [report(file, "call", n) for n, file in enumerate(files)]
    setups = [report(files[0], "setup", 100.0), "no report"]
    first, *lines = slowest_parts([calls, setups])
    assert first == "9 tests in 136 s of all workers; slowest:"
    assert lines[0] == "  100.0 s      1 tests  tests/test_0.py"
    assert [line.split()[-1] for line in lines[1:]] == files[:2:-1]
    assert list(slowest_parts([calls[:1]])) == []


@pytest.mark.parametrize(
    ("name", "waiting"),
    [
        ("tests/contract/test_memory.py::TestMemoryClocks::test_time_goes_on", True),
        ("tests/contract/test_memory.py::TestMemory::test_time_goes_on", False),
    ],
)
def test_what_waits_for_leases_is_known_by_its_name(name: str, waiting: bool) -> None:
    assert waits(name) is waiting
