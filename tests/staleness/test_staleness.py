"""The campaign in short: half an hour of one pool, in the four ways that differ most. The long form is
`make campaign-staleness`."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest
from tests.staleness.__main__ import ROOT, run
from tests.staleness.plot import plot
from tests.staleness.report import Report, Row, table
from tests.staleness.schemes import SCHEMES
from tests.staleness.traces import SECOND
from tests.staleness.world import TICK

FIXED, _, PHI, LATE, _, WEIGHED, _ = (scheme.name for scheme in SCHEMES)
SHORT = (FIXED, PHI, LATE, WEIGHED)
GOAL = 3.0
"""Seconds for which half of the ghosts may keep somebody waiting."""


@pytest.fixture(scope="module")
def report() -> Report:
    return run([1], minutes=31, capacity=40, names=SHORT)


def the(report: Report, name: str) -> Row:
    return next(row for row in report.rows if row.scheme == name)


def test_asking_with_staleness_frees_seats_and_ends_nobody_living(report: Report) -> None:
    asked = the(report, WEIGHED)
    assert asked.ghosts >= 10
    assert asked.median is not None
    assert asked.median <= GOAL + TICK / SECOND  # these are few ghosts, seen every half second
    assert asked.lost_to_scheme == 0


def test_a_fixed_time_keeps_people_waiting_for_most_of_it(report: Report) -> None:
    """What is measured is there to be found: else the goal would be reached by measuring nothing."""
    fixed, asked = the(report, FIXED), the(report, WEIGHED)
    assert fixed.median is not None
    assert asked.median is not None
    assert fixed.median > 10 * asked.median
    assert fixed.lost_to_scheme == 0
    assert fixed.served <= asked.served


def test_the_judge_sees_living_holders_that_are_ended(report: Report) -> None:
    """Ways that do end some, on the same traces: a score alone, and answers that are not weighed."""
    assert the(report, PHI).lost_to_scheme > 0
    assert the(report, LATE).lost_to_scheme > 0


def test_doubt_means_what_it_says(report: Report) -> None:
    """At phi 2 most of the doubted are gone; the living are seldom doubted so much."""
    at = {row.phi: row for row in report.thresholds}
    assert (at[2.0].precision or 0) > 0.9
    assert (at[1.0].recall_of_late or 0) > 0.7
    found = {row.phi: row.found["all"] for row in report.tails}
    assert found[1.0] < 0.2
    assert found[2.0] < 0.03


def test_the_same_seed_gives_the_same_figures() -> None:
    first, again = (run([5], minutes=6, capacity=10, names=[WEIGHED]) for _ in range(2))
    assert first == again


def test_what_was_published_reaches_the_goal() -> None:
    """The committed figures of the campaign, and the plot that goes with them."""
    published = msgspec.json.decode(
        (ROOT / "bench/results/staleness.json").read_bytes(), type=Report
    )
    asked = the(published, WEIGHED)
    assert asked.ghosts > 200
    assert asked.median is not None
    assert asked.median <= GOAL
    assert asked.lost_to_scheme == 0
    guide = (ROOT / "docs/guide/staleness.md").read_text()
    assert table(published) in guide
    assert (ROOT / "docs/guide/staleness.svg").stat().st_size < 100_000


def test_the_plot_is_well_formed(report: Report) -> None:
    drawn = ET.fromstring(plot(report))  # our own
    assert len(_lines(drawn)) == len(SHORT)
    published = ET.parse(ROOT / "docs/guide/staleness.svg").getroot()
    assert len(_lines(published)) == len(SCHEMES)


def _lines(drawn: ET.Element) -> list[ET.Element]:
    return [x for x in drawn.iter() if x.tag.endswith("polyline")]
