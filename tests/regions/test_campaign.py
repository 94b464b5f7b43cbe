"""The regions' campaign in its short form, and what its checker finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.regions.campaign import LIVING, Plan, play
from tests.regions.checker import Belief, Dropped, History, TurnedAway, most_sold, violations


def test_short_campaign(tmp_path: Path) -> None:
    """Two relays, cut and killed, and an authority that is put back: nothing is sold twice, nobody who beats
    loses a seat, and nobody is turned away while there is one."""
    plan = Plan(names=("east", "west"), capacity=6, users=5, seconds=8.0, pace=0.8, restores=1)
    outcome = play(tmp_path, plan)
    assert outcome.violations == []
    assert outcome.history.granted > 0
    assert outcome.history.faults["authority put back"] == 1
    assert 0 < outcome.most_sold <= plan.capacity


def believed(*spans: tuple[float, float]) -> list[Belief]:
    return [Belief("east", f"u{n}", start, end) for n, (start, end) in enumerate(spans)]


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 2), (2, 4)], 1),
        ([(0, 2), (1.9, 4)], 2),
        ([(0, 9), (1, 2), (3, 4), (3.5, 5)], 3),
        ([(5, 5), (5, 4)], 0),
    ],
)
def test_the_most_that_was_sold(spans: list[tuple[float, float]], most: int) -> None:
    assert most_sold(believed(*spans)) == most


def test_each_kind_of_violation_is_found() -> None:
    good = History(beliefs=believed((0, 2), (1, 3)))
    assert violations(good, 2, living=LIVING) == []
    assert violations(good, 1, living=LIVING) == ["2 seats of 1 were believed in at one instant"]
    silent = History(dropped=[Dropped("east", "ann", 0, LIVING)])
    assert violations(silent, 1, living=LIVING) == []
    lost = History(dropped=[Dropped("east", "ann", 0, LIVING - 1)])
    assert len(violations(lost, 1, living=LIVING)) == 1
    away = History(turned_away=[TurnedAway("east", 0, "503 x", cut=True)])
    (told,) = violations(away, 1, living=LIVING)
    assert "which was cut off: 503 x" in told
    wrong = History(beliefs=[Belief("east", "ann", 0, 2), Belief("east", "ann", 1, 3)])
    assert "the history is wrong" in violations(wrong, 5, living=LIVING)[0]
