"""What `make quick` leaves out is what starts a server, a browser or a process, however it does so."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.quick import Rule

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
