"""The page of analytics in Chromium: every state, for axe too; with and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.analyzing import CAPACITY, STATES
from tests.browser.operators import Hospital, Operator, assert_looks_well, hospital, operators

Come = Callable[..., Operator]


@pytest.fixture
def place() -> Iterator[Hospital]:
    with hospital() as place:
        yield place


@pytest.fixture
def come(chromium: Browser, place: Hospital) -> Iterator[Come]:
    with operators(chromium, place) as make:
        yield make


@pytest.mark.parametrize("name", STATES)
def test_a_state(come: Come, name: str) -> None:
    """It is reached, and looks well."""
    it = come()
    STATES[name](it)
    assert_looks_well(it)


def test_the_chart_is_drawn_from_the_table(come: Come) -> None:
    """With scripts there is a chart whose values follow the crosshair; the table has them all."""
    it = come()
    STATES["analytics"](it)
    expect(it.page.locator("#chart canvas")).to_be_visible()
    it.page.locator("#chart .u-over").hover(position={"x": 200, "y": 100})
    expect(it.page.locator("#chart .u-legend")).to_contain_text("In use, at most")
    it.page.get_by_text("The figures as a table").click()
    assert it.page.locator("#points tbody tr").count() >= 7 * 24
    with it.page.expect_download() as saved:
        it.button("Save picture").click()
    assert saved.value.suggested_filename == "seats.png"


def test_without_scripts_it_is_a_picture_and_tables(come: Come) -> None:
    it = come(scripts=False)
    STATES["analytics"](it)
    expect(it.page.locator("#chart svg")).to_be_visible()
    expect(it.page.locator("#points tbody tr").first).to_be_attached()
    it.page.locator("#seats").fill("5")
    it.button("Replay").click()
    expect(it.page.locator(".told")).to_contain_text("With 5 seats more, nobody would have been")
    expect(it.page.locator(".told")).to_contain_text("were)")
    it.page.locator("#lost-after").fill("7200")
    it.page.locator("#linger").fill("60")
    it.button("Replay").click()
    told = it.page.locator(".told")
    expect(told).to_contain_text("leases that run out after 2 h 00 min of silence")
    expect(told).to_contain_text("1 min 00 s to come back after a goodbye")
    expect(it.page.locator("#seats")).to_have_value("5")


def test_hours_are_the_readers_from_the_first_look(come: Come) -> None:
    it = come(zone="Pacific/Auckland")
    STATES["analytics"](it)
    heading = it.page.locator("section", has=it.page.locator("#title-week")).locator("header")
    expect(heading).to_contain_text("by hour, in Pacific/Auckland")
    heading.get_by_role("link", name="in UTC").click()
    expect(heading).to_contain_text("by hour, in UTC")
    heading.get_by_role("link", name="in Pacific/Auckland").click()
    expect(heading).to_contain_text("by hour, in Pacific/Auckland")


def test_figures_are_exported(come: Come) -> None:
    """The CSV has a line for each hour, and the peak of the page."""
    it = come()
    STATES["analytics"](it)
    link = it.page.get_by_role("link", name="Export CSV")
    answer = it.page.request.get("/console/" + str(link.get_attribute("href")))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = answer.text().splitlines()
    assert lines[0] == "at,peak,p95,p50,mean,denied,capacity,full"
    assert max(int(line.split(",")[1]) for line in lines[1:]) == CAPACITY
    expect(it.title()).to_contain_text(f"at most {CAPACITY} of {CAPACITY} seats")
