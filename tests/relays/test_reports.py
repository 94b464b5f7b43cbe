"""What relays report of themselves: each event counts once at the authority, whatever is lost or put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.relays.test_services import Sites, seated
from tests.relays.world import Center, Site

from sojourn.clock import DAY
from sojourn.errors import InvalidInput
from sojourn.lease import Denied, Lease
from sojourn.region import reports
from sojourn.relay_command import USES_KEPT, RegionCount, RegionReport


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


def used(center: Center) -> dict[str, tuple[int, int, int]]:
    """Return granted, denied and ended, by relay, of all days."""
    found: dict[str, tuple[int, int, int]] = {}
    for each in center.ledger.relay_commands.uses(since=0):
        granted, denied, ended = found.get(each.relay, (0, 0, 0))
        sums = (granted + each.granted, denied + each.denied, ended + each.ended)
        found[each.relay] = sums
    return found


def of(site: Site) -> tuple[int, int, int]:
    return used(site.center).get(site.api_key.id, (0, 0, 0))


def test_what_happened_is_reported_with_the_next_beat(sites: Sites) -> None:
    """By region: what was granted and refused there, and not what one has to do with it."""
    ann, _ = seated(sites.east, "ann", "bob")
    seated(sites.west, "dan", "eve")
    assert isinstance(sites.east.acquire("fay"), Lease)
    assert isinstance(sites.east.acquire("gus"), Denied)
    sites.east.release(ann)
    for site in sites.all:
        site.beat()
    assert of(sites.east) == (3, 1, 1)
    assert of(sites.west) == (2, 0, 0)
    for site in sites.all:
        site.beat()
    assert of(sites.east) == (3, 1, 1)


def test_lost_answers_and_restarts_count_nothing_twice(sites: Sites) -> None:
    seated(sites.east, "ann")
    sites.east.wire.loses_answers = True
    for user in ("bob", "cem"):
        sites.east.acquire(user)
        sites.east.beat()
        sites.east.restart()
    sites.east.wire.loses_answers = False
    sites.east.beat()
    sites.east.beat()
    granted, denied, _ = of(sites.east)
    assert granted + denied == 3


def test_what_happened_while_cut_off_comes_later(sites: Sites) -> None:
    """Two days without a network: each event is counted on its own day."""
    seated(sites.east, "ann")
    sites.east.beat()
    sites.east.wire.cut = True
    sites.east.acquire("bob")
    sites.advance(DAY)
    sites.east.acquire("cem")
    sites.advance(DAY)
    sites.east.wire.cut = False
    sites.east.beat()
    sites.east.beat()
    found = sites.center.ledger.relay_commands.uses(since=0)
    assert len({each.day for each in found}) >= 2
    granted, denied, _ = of(sites.east)
    assert granted + denied >= 2
    again = of(sites.east)
    sites.east.beat()
    assert of(sites.east) == again


def test_an_authority_that_was_put_back_is_told_again(sites: Sites) -> None:
    """It goes on where its backup was: nothing is missing, nothing counts twice."""
    seated(sites.east, "ann")
    sites.east.beat()
    ledger: Any = sites.center.ledger
    undo = ("DELETE FROM sojourn_relay_uses", "DELETE FROM sojourn_relay_reports")
    before = of(sites.east)
    assert before[0] == 1
    sites.east.acquire("bob")
    for statement in undo:
        ledger._db.transaction(lambda tx, what=statement: tx.do(what, {}))
    for _ in range(3):
        sites.east.beat()
    granted, denied, _ = of(sites.east)
    assert granted + denied == 2


def test_a_relay_that_was_put_back_goes_on_from_there(sites: Sites) -> None:
    """Its stream gives ids anew: what happens from then on counts."""
    seated(sites.east, "ann")
    sites.east.beat()
    copy = sites.east.snapshot()
    sites.east.acquire("bob")
    sites.east.acquire("cem")
    sites.east.beat()
    before = of(sites.east)
    sites.east.put_back(copy)
    for _ in range(3):
        sites.east.beat()
    granted, denied, _ = of(sites.east)
    assert (granted, denied) == before[:2]
    sites.east.acquire("dan")
    sites.east.beat()
    granted, denied, _ = of(sites.east)
    assert granted + denied == sum(before[:2]) + 1


def test_long_streams_are_reported_in_pieces(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LIST_MAX", 2)
    monkeypatch.setattr(reports, "PAGES_MAX", 2)
    leases = seated(sites.east, "ann", "bob", "cem", "dan")
    for lease in leases:
        sites.east.release(lease)
    for _ in range(6):
        sites.east.beat()
    assert of(sites.east) == (4, 0, 4)


def test_a_relay_reports_of_nothing_else(sites: Sites) -> None:
    """Of licenses that it does not serve, or days that cannot be, nothing is counted."""
    seated(sites.east, "ann")
    sites.east.beat()
    now = sites.center.clock.now()
    today = now // DAY * DAY
    mine = sites.center.pool_id
    counts = [
        RegionCount(pool_id=pool, day=day, granted=5)
        for pool, day in (
            ("lic_other:seats", today),
            (mine, today + 1),
            (mine, today + 3 * DAY),
            (mine, today - USES_KEPT - DAY),
        )
    ]
    report = RegionReport(after=1, up_to=2, counts=tuple(counts))
    assert report.within({sites.center.license_id}, now).counts == ()


@pytest.mark.parametrize(
    "report",
    [
        RegionReport(after=-1, up_to=2),
        RegionReport(after=1, up_to=2**60),
        RegionReport(after=1, up_to=2, counts=(RegionCount(pool_id="", day=0),)),
        RegionReport(after=1, up_to=2, counts=(RegionCount(pool_id="x:y", day=0, granted=-1),)),
        RegionReport(after=1, up_to=2, counts=(RegionCount(pool_id="x:y", day=0),) * 2_001),
    ],
)
def test_a_report_that_no_relay_sends(report: RegionReport) -> None:
    with pytest.raises(InvalidInput):
        report.check()


def test_old_days_are_forgotten(sites: Sites) -> None:
    seated(sites.east, "ann")
    sites.east.beat()
    keeper = sites.center.ledger.relay_commands
    sites.advance(USES_KEPT + DAY)
    taken = keeper.for_beat(sites.east.api_key.id).taken
    day = sites.center.clock.now() // DAY * DAY
    count = RegionCount(pool_id=sites.center.pool_id, day=day, granted=1)
    report = RegionReport(after=taken, up_to=taken + 1, counts=(count,))
    keeper.reported(sites.east.api_key.id, report)
    assert [each.day for each in keeper.uses(since=0)] == [day]
    assert keeper.reported(sites.east.api_key.id, report) == taken + 1
    assert of(sites.east) == (1, 0, 0)
