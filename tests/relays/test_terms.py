"""Terms of a license that concern its relays: how long they go on alone, and what reaches them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.relays.test_services import Sites, seated
from tests.relays.world import TTL

from sojourn.clock import DAY, HOUR, MINUTE, SECOND
from sojourn.errors import InvalidInput
from sojourn.lease import Denied, Lease
from sojourn.ledger import LicenseChange
from sojourn.relays.share import usable


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


def change(sites: Sites, **fields: Any) -> None:
    what = LicenseChange(**fields)
    sites.center.licenses.change(sites.center.license_id, what, actor="test")


def left(sites: Sites) -> int:
    [pool] = sites.east.region.status().pools
    return pool.left


def test_a_license_has_a_time_of_its_own(sites: Sites) -> None:
    """A site may go on for weeks without a network; its seats are free for others once that is over."""
    seated(sites.east, "ann")
    assert left(sites) == usable(TTL)
    change(sites, allotment_ttl=30 * DAY)
    sites.east.beat()
    assert left(sites) == usable(30 * DAY)
    sites.east.wire.cut = True
    sites.advance(29 * DAY)
    assert isinstance(sites.east.acquire("bob"), Lease)
    assert sites.center.out() == sites.east.seats
    sites.advance(DAY)
    assert sites.center.out() == 0
    assert isinstance(sites.east.acquire("cem"), Denied)


def test_a_shorter_time_takes_nothing_back(sites: Sites) -> None:
    """A relay that has not heard of it goes on for as long as it was told: the authority counts as long."""
    seated(sites.east, "ann")
    change(sites, allotment_ttl=2 * MINUTE)
    sites.east.beat()
    assert left(sites) == usable(TTL)
    sites.east.wire.cut = True
    sites.advance(TTL - SECOND)
    assert sites.center.out() == sites.east.seats


def test_the_server_s_own_time_comes_back(sites: Sites) -> None:
    change(sites, allotment_ttl=2 * HOUR)
    seated(sites.east, "ann")
    assert left(sites) == usable(2 * HOUR)
    change(sites, allotment_ttl=None)
    sites.advance(HOUR + MINUTE)
    sites.east.beat()
    assert left(sites) == usable(TTL)


@pytest.mark.parametrize("ttl", [0, SECOND, 31 * DAY])
def test_a_time_has_bounds(sites: Sites, ttl: int) -> None:
    with pytest.raises(InvalidInput):
        change(sites, allotment_ttl=ttl)


def test_a_license_that_runs_out_does_so_at_its_relays(sites: Sites) -> None:
    """Its last day comes with the next beat, and counts there while the authority is away."""
    seated(sites.east, "ann")
    change(sites, valid_until=sites.center.clock.now() + 20 * MINUTE)
    sites.east.beat()
    sites.east.wire.cut = True
    sites.advance(20 * MINUTE - 1)
    assert not isinstance(sites.east.acquire("ann"), Denied)
    sites.advance(1)
    refused = sites.east.acquire("bob")
    assert isinstance(refused, Denied)
    assert refused.reason == "license_expired"
