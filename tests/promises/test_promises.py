"""A few seconds of a campaign on each store: a crowd, a handful of faults, and no promise broken.

The long form is `make campaign-promises`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.promises.checker import said
from tests.promises.epoch import QUICK, Epoch, Load
from tests.promises.stage import stage

SECONDS_MAX = 180.0  # it ends when all faults have been, and enough was asked for
ENOUGH = 600  # acquires, granted or denied
LONGEST = (
    0.9  # seconds of a freeze: less than what makes an outage, which others would have to bridge
)
LOAD = Load(pools=3, capacity=4, contenders=8, stayers=2, people=4, lates=2, copies=1, think=0.04)

FAULTS: dict[str, tuple[str, ...]] = {
    "sqlite": (
        "server-kill",
        "server-freeze",
        "client-answers-lost",
        "server-clock-1h",
        "server-stop",
    ),
    "postgresql": ("server-kill", "store-kill", "answers-lost", "server-freeze", "server-stop"),
    "mariadb": ("server-kill", "store-kill", "answers-lost", "server-freeze", "server-stop"),
    "valkey": (
        "server-kill",
        "server-freeze",
        "answers-lost",
        "store-kill",
        "store-clock-1h",
        "server-stop",
    ),
    "valkey-everysec": ("server-kill", "store-freeze", "store-loss", "server-stop"),
}
"""What is made to fail, in an order from the seed."""


@pytest.mark.parametrize("store", FAULTS)
def test_promises_hold(store: str, tmp_path: Path) -> None:
    faults = FAULTS[store]
    walls = any("-clock" in fault for fault in faults)
    with stage(store, walls=walls) as staged:
        epoch = Epoch(
            stage=staged,
            seed=1,
            seconds=SECONDS_MAX,
            done_when_struck=True,
            enough=ENOUGH,
            faults=faults,
            pace=QUICK,
            load=LOAD,
            longest=LONGEST,
            folder=tmp_path,
        )
        told = epoch.run().told()
    assert told.verdict["counts"] == {}, "\n".join(said(told.verdict))
    assert set(told.faults) == set(faults)
    assert told.verdict["acquires"] > 300
    assert told.verdict["checked"]["denials"] > 100
