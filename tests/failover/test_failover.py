"""A database fails over under load: short here, long in `make campaign-failover`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.failover.campaign import fail_over
from tests.failover.pairs import PAIRS

WRITES_WITHIN = 20.0  # seconds: five on a quiet machine


@pytest.mark.parametrize("kind", PAIRS)
def test_failover_under_load(kind: str, tmp_path: Path) -> None:
    """A running server writes again, and nothing that was answered is lost, or of ours left behind."""
    cost = fail_over(kind, tmp_path / "data")
    assert (cost.lost_sessions, cost.lost_seats) == (0, 0), cost.told()
    assert cost.left_behind == (), cost.told()
    assert cost.seconds < WRITES_WITHIN, cost.told()
