"""The benchmark of the line, in small: who came first is served first, on stores of two kinds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("line")
    for name in ("line", "places"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_served_in_order_of_arrival(bench: Any, store: str) -> None:
    """Nobody is served before somebody who came first, and never two at once."""
    rows = bench.measure(60, lambda _: None, [store])
    assert [(row.freed, row.served) for row in rows] == [("woken", 60), ("polled", 20)]
    for row in rows:
        assert row.furthest == 0
        assert row.most_held == 1
