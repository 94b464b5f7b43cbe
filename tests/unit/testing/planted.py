"""Stores with a bug, and the tests of the suite that are run on them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sojourn.stores.memory import MemoryStore

TEST_FILE = """
import pytest
from sojourn.testing.contract import StoreContract
from {module} import {bug}

class TestPlanted(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return {bug}(clock)

for name in dir(TestPlanted):
    if name.startswith("test_") and not any(each in name for each in {tests}):
        setattr(TestPlanted, name, None)  # collecting all takes longer than what is to be run
"""


def outcomes(
    pytester: pytest.Pytester, bug: type[MemoryStore], tests: Sequence[str]
) -> tuple[int, int]:
    """Run these tests of the suite on a store; return how many passed and failed."""
    pytester.makepyfile(
        TEST_FILE.format(module=bug.__module__, bug=bug.__name__, tests=list(tests))
    )
    result = pytester.inline_run("-q", "-p", "no:cacheprovider")
    passed, _, failed = result.countoutcomes()
    return passed, failed
