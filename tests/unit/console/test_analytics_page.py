"""The page of analytics, without a browser: whose hours it counts in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.api_harness import Answer, Api, api
from tests.unit.console.test_console import HERE, NAME, SECRET, sign_in

from sojourn.clock import DAY, HOUR
from sojourn.license import Policy, pool_id
from sojourn.testing import builders

OSLO = "sojourn-zone=Europe%2FOslo"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


@pytest.fixture
def busy(world: Api) -> str:
    """A pool of which one seat was held for one hour, from 12:00 to 13:00 UTC; its license."""
    license_, _ = world.services.licenses.create("Acme", {"desk": Policy(capacity=2)}, actor="test")
    world.clock.advance(milliseconds=DAY - world.clock.now() % DAY + 12 * HOUR)
    policy = Policy(capacity=2, lost_after=2 * HOUR)
    world.services.licenses.set_feature(license_.id, "desk", policy, actor="test")
    lease = builders.take(world.store, "ann", pool_id=pool_id(license_.id, "desk"))
    world.clock.advance(milliseconds=HOUR)
    assert builders.give_back(world.store, lease)
    world.clock.advance(milliseconds=HOUR)
    world.services.sweeper.run(actor="test")
    world.services.usage.tick()
    return license_.id


def look(world: Api, license_id: str, *, more: str = "", noted: str = "") -> Answer:
    cookies = f"{NAME}={sign_in(world)}" + (f"; {noted}" if noted else "")
    path = f"/console/analytics?license={license_id}&feature=desk{more}"
    return world.call("GET", path, headers=[*HERE, ("cookie", cookies)])


def zone(page: Answer) -> str:
    found = re.search(r"Mean seats in use by hour, in ([^ <]+)", page.body.decode())
    assert found is not None
    return found[1]


def hours(page: Answer) -> set[int]:
    """Return the hours of the day in which the heat map has seats in use."""
    days = re.findall(r'(?s)<th scope="row">\w{3}</th>(.*?)</tr>', page.body.decode())
    cells = [re.findall(r'<td class="shade-(\d)"', day) for day in days]
    return {hour for row in cells for hour, shade in enumerate(row) if shade != "0"}


def test_hours_are_those_that_the_browser_has_noted(world: Api, busy: str) -> None:
    """Already at the first look, before any form was sent."""
    page = look(world, busy, noted=OSLO)
    assert zone(page) == "Europe/Oslo"
    there, utc = hours(page), hours(look(world, busy))
    assert utc == {12}
    assert len(there) == 1
    assert there < {13, 14}  # with daylight saving or without


def test_the_address_goes_before_what_was_noted(world: Api, busy: str) -> None:
    page = look(world, busy, more="&zone=UTC", noted=OSLO)
    assert zone(page) == "UTC"
    assert 'zone=UTC#title-week">in UTC' not in page.body.decode()
    assert 'zone=UTC#title-week">in UTC' in look(world, busy, noted=OSLO).body.decode()


@pytest.mark.parametrize("noted", ["", "sojourn-zone=Mars/Olympus", "sojourn-zone=%2e%2e%2fetc"])
def test_what_is_no_zone_is_utc(world: Api, busy: str, noted: str) -> None:
    assert zone(look(world, busy, noted=noted)) == "UTC"
