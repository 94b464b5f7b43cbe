"""What `pytest --quick` runs: what needs no server of somebody else's, no browser and no Node.

Which tests those are is read from the tests: one is left out if its own code, that of its fixtures, or that
of a helper which these call, starts such a thing. So a new test is sorted without being listed. What waits
for leases to run out under a clock that is set is left out, too: it takes two minutes and no processor. So
are stores with a planted bug, each of which the state machine has to find: they are tests of tests.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
KIT = "sojourn.testing"
WATCH = "sojourn.testing.processes"  # what looks after processes starts none
STARTERS = {
    "sojourn.testing.servers.mariadb": "a database server",
    "sojourn.testing.servers.postgres": "a database server",
    "sojourn.testing.servers.shared": "a database server",
    "sojourn.testing.pooler.pgbouncer": "PgBouncer",
    "sojourn.testing.redis_server.redis_cluster": "Redis",
    "sojourn.testing.redis_server.redis_server": "Redis",
    "tests.adapters.express.node.installed": "Node",
    "tests.browser.chromium.launched": "a browser",
    "subprocess.Popen": "processes",
    "subprocess.run": "processes",
}
"""What starts something, and what is said of it."""
WAITING = ("Clocks::", "tests/contract/test_redis_clock.py::")
"""Parts of names of tests that mostly wait for leases to run out, on servers that a module starts once."""

PLANTED = "::test_machine_finds["
"""Part of the name of each test that has the state machine find a planted bug."""


def waits(nodeid: str) -> bool:
    """Whether a test waits for leases to run out: three seconds each, with an idle processor."""
    return any(part in nodeid for part in WAITING)


class Rule:
    """Tells what a test starts. Remembers each function that it has looked at."""

    def __init__(self, fixtures: Any) -> None:
        self._fixtures = fixtures  # pytest's FixtureManager
        self._seen: dict[Any, frozenset[str]] = {}
        self._defined: dict[tuple[str, pytest.Collector | None], Sequence[Any]] = {}

    def starts(self, item: pytest.Function) -> frozenset[str]:
        """Return what a test starts, in the words of STARTERS; empty: nothing."""
        found = set(self._of(item.function))
        for each in _params(item):
            found |= self._of(each)
        words = [each for each in _params(item) if isinstance(each, str)]
        names = [*item.fixturenames, *words, *_asked_for(item.function, words)]
        looked_at: set[str] = set()
        if "pytester" in item.fixturenames:
            found.add("pytest")
        while names:
            name = names.pop()
            if name in looked_at:
                continue
            looked_at.add(name)
            for each in self._definitions(name, item):
                found |= self._of(each.func)
                names += [*each.argnames, *_asked_for(each.func, words)]
        return frozenset(found)

    def _definitions(self, name: str, item: pytest.Function) -> Sequence[Any]:
        """Return the fixtures of a name, which are the same for all tests of a module or a class."""
        key = name, item.parent
        if key not in self._defined:
            self._defined[key] = self._fixtures.getfixturedefs(name, item) or ()
        return self._defined[key]

    def _of(self, thing: Any) -> frozenset[str]:
        thing = inspect.unwrap(thing) if callable(thing) else thing
        try:
            known = self._seen.get(thing)
        except TypeError:  # it cannot be hashed
            return frozenset()
        if known is None:
            self._seen[thing] = frozenset()  # for those that call each other
            known = self._seen[thing] = frozenset(self._look(thing))
        return known

    def _look(self, thing: Any) -> Iterator[str]:
        name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        if name in STARTERS:
            yield STARTERS[name]
        elif isinstance(thing, type) and _ours(thing.__module__):
            for each in vars(thing).values():
                if inspect.isfunction(inspect.unwrap(each) if callable(each) else each):
                    yield from self._of(each)
        elif isinstance(thing, FunctionType) and _ours(thing.__module__):
            for each in _used(thing):
                yield from self._of(each)


def _ours(module: str) -> bool:
    return module.startswith(("tests", KIT)) and module != WATCH


def _params(item: pytest.Function) -> Iterable[Any]:
    callspec = getattr(item, "callspec", None)
    return () if callspec is None else callspec.params.values()


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _asked_for(function: Any, words: Sequence[str]) -> list[str]:
    """Return what a function that asks for fixtures by name may ask for: `mariadb`, `mariadb_url`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return []
    codes = list(_codes(code))
    if not any("getfixturevalue" in each.co_names for each in codes):
        return []
    own = [each for code in codes for each in code.co_consts if isinstance(each, str)]
    made = [name for word in words for each in own for name in (word + each, each + word)]
    return own + made


def _used(function: FunctionType) -> Iterator[Any]:
    """Yield what a function names: globals, attributes of modules, members of collections."""
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            if _ours(value.__name__) or value.__name__ == "subprocess":
                yield from (getattr(value, each) for each in names if hasattr(value, each))
        elif isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, (list, tuple)):
            yield from value
        elif callable(value):
            yield value


def select(config: pytest.Config, items: list[pytest.Item]) -> dict[str, int]:
    """Take out of a collection what is not quick; return how many were left out, by their reasons."""
    left: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    out: list[pytest.Item] = []
    rules: dict[int, Rule] = {}
    for item in items:
        fixtures = item.session._fixturemanager
        rule = rules.setdefault(id(fixtures), Rule(fixtures))
        why = rule.starts(item) if isinstance(item, pytest.Function) else frozenset()
        if not why and waits(item.nodeid):
            why = frozenset({"leases and wait until they run out"})
        elif not why and PLANTED in item.nodeid:
            why = frozenset({"the machine that finds planted bugs"})
        (out if why else kept).append(item)
        left.update([" and ".join(sorted(why))] if why else [])
    items[:] = kept
    config.hook.pytest_deselected(items=out)
    return dict(left.most_common())
