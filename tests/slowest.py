"""What is said at the end of a run: which files took longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

import pytest

PARTS_SHOWN = 7


def slowest_parts(reports: Iterable[Iterable[object]]) -> Iterator[str]:
    """Say of the files that took longest how many tests they have, and for how long a worker was at them."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for each in chain.from_iterable(reports):
        if isinstance(each, pytest.TestReport):
            part = each.nodeid.partition("::")[0]
            seconds[part] += each.duration  # type: ignore[assignment]  # a Counter counts parts of seconds too
            tests[part] += each.when == "call"
    if len(seconds) > 1:
        yield f"{tests.total():,} tests in {sum(seconds.values()):,.0f} s of all workers; slowest:"
        for part, took in seconds.most_common(PARTS_SHOWN):
            yield f"{took:7.1f} s  {tests[part]:5,} tests  {part}"
