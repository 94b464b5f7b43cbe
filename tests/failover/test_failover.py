"""A database fails over under load: short here, long in `make campaign-failover`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.failover.campaign import fail_over
from tests.failover.pairs import PAIRS

WRITES_WITHIN = 20.0  # seconds: five on a quiet machine


@pytest.mark.parametrize("kind", PAIRS)
def test_failover_under_load(kind: str, tmp_path: Path) -> None:
    """A running server writes again, and nothing that was durable is lost, or of ours left behind: where a
    killed Valkey has answered what its replica lacks, each seat comes back by its token."""
    cost = fail_over(kind, tmp_path / "data")
    assert cost.bad == 0, cost.told()
    assert cost.seconds < WRITES_WITHIN, cost.told()
