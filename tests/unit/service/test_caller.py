"""Who still waits at the other end, on systems that can be asked and on those that cannot."""

from __future__ import annotations

import importlib.util
import select
import socket
from types import ModuleType

import pytest

from sojourn.service import caller


def made_anew() -> ModuleType:
    """Return the module as it is made where `select` is what it is now; nobody else gets to see it."""
    spec = importlib.util.spec_from_file_location("caller_elsewhere", caller.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_there_is_no_poll_the_loop_alone_says_who_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows has none."""
    for name in ("poll", "POLLRDHUP", "POLLHUP", "POLLERR", "POLLNVAL"):
        monkeypatch.delattr(select, name, raising=False)
    module = made_anew()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        there = module.Caller(ours.fileno())
        theirs.close()
        assert not module.look([there])
        assert not there.hung_up()
        there.gone = True
        assert module.look([module.Caller(), there])
        assert there.hung_up()


def test_where_there_is_one_the_system_says_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        there = caller.Caller(ours.fileno())
        assert not there.hung_up()
        theirs.close()
        assert caller.look([there, caller.Caller()])
        assert there.gone
