"""The overview, without a browser: today beside last week, three steps, and what happens while it happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api_harness import Api, api
from tests.unit.console.test_console import HERE, NAME, SECRET, get, sign_in
from tests.unit.console.test_setup_pages import make, read

from sojourn.analytics.answers import Point, Usage
from sojourn.analytics.counts import Counts
from sojourn.api.console import feed as streams
from sojourn.api.console.feed import OVER, FeedStream
from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.console import feed as feeds
from sojourn.console.feed import CHOICES, PAGES_EACH_MAX, Feed
from sojourn.console.render import HERE as HERE_IS
from sojourn.console.today import POOLS_CHARTED, WEEKDAYS, Hour, Hourly, Hours, today
from sojourn.license import Policy
from sojourn.service import watch
from sojourn.stores.memory import MemoryStore
from sojourn.testing import builders

T = TypeVar("T")

OSLO = ZoneInfo("Europe/Oslo")
UTC = ZoneInfo("UTC")
MONDAY = 1_795_996_800_000  # 2026-11-30T00:00Z
NOON = MONDAY + 12 * HOUR + 30 * MINUTE
DEADLINE = 60.0  # seconds, on a machine that stalls


def hours(since: int, until: int, used: Callable[[int], float], denied: int = 0) -> Hours:
    every = range(since // HOUR * HOUR, until, HOUR)
    return Hours(
        hours={at: Hour(used(at), denied) for at in every}, known_since=since, pools=1, left_out=0
    )


class TestToday:
    def test_is_drawn_beside_the_same_day_of_last_week(self) -> None:
        found = hours(MONDAY - 8 * DAY, NOON, lambda at: 9 if at >= MONDAY else 4, denied=1)
        day = today(found, UTC, NOON, in_use=7, capacity=12)
        assert day is not None
        assert day.weekday == "Last Mon"
        assert [each.name for each in day.slots] == [f"{i:02}:00" for i in range(24)]
        assert [each.used for each in day.slots] == ["9.0"] * 13 + [""] * 11
        assert [each.before for each in day.slots] == ["4.0"] * 24
        assert (day.denied, day.denied_more) == (
            13,
            0,
        )  # the hour that is not over counts on neither side
        assert day.wide.before.count("L") == 23
        assert day.wide.point is not None
        assert day.in_use == "7"

    def test_is_the_day_of_the_zone(self) -> None:
        found = hours(MONDAY - 8 * DAY, NOON, lambda at: (at - MONDAY) / HOUR)
        day = today(found, OSLO, NOON, in_use=7, capacity=12)
        assert day is not None
        assert day.slots[0].used == "-1.0"  # 23:00 UTC
        assert day.zone == "Europe/Oslo"
        assert "13:00" in day.about

    @pytest.mark.parametrize(
        ("at", "hours_of_day"),
        [("2026-03-29T10:00", 23), ("2026-10-25T10:00", 25), ("2026-06-01T10:00", 24)],
    )
    def test_has_as_many_hours_as_the_day(self, at: str, hours_of_day: int) -> None:
        """Where daylight saving begins there are 23; last week's are those of the same wall clock."""
        now = round(datetime.fromisoformat(at).replace(tzinfo=OSLO).timestamp() * 1_000)
        found = hours(now - 9 * DAY, now, lambda _: 1)
        day = today(found, OSLO, now, in_use=1, capacity=2)
        assert day is not None
        assert len(day.slots) == hours_of_day
        assert day.slots[0].name == "00:00"
        assert day.slots[-1].name == "23:00"

    def test_says_what_is_not_known(self) -> None:
        assert today(hours(0, 0, lambda _: 0), UTC, NOON, in_use=0, capacity=0) is None
        found = hours(MONDAY, NOON, lambda _: 1)
        young = Hours(hours=found.hours, known_since=MONDAY + 3 * HOUR, pools=50, left_out=7)
        day = today(young, UTC, NOON, in_use=1, capacity=2)
        assert day is not None
        assert (day.weekday, day.denied_more) == ("", None)
        assert "The 50 tightest pools of 57." in day.note
        assert "last Mon is not known as a whole" in day.note
        assert day.wide.point is None  # what is in use now is of all pools

    @given(
        used=st.lists(st.floats(0, 1e6), min_size=1, max_size=24),
        capacity=st.integers(0, 10**6),
        in_use=st.integers(0, 10**6),
        minute=st.integers(0, 59),
    )
    def test_stays_within_its_frame(
        self, used: list[float], capacity: int, in_use: int, minute: int
    ) -> None:
        now = MONDAY + (len(used) - 1) * HOUR + minute * MINUTE
        found = hours(MONDAY, MONDAY + len(used) * HOUR, lambda at: used[(at - MONDAY) // HOUR])
        day = today(found, UTC, now, in_use=in_use, capacity=capacity)
        assert day is not None
        for drawn in (day.wide, day.thin):
            marks = re.findall(r"([\d.]+),([\d.]+)", drawn.line + drawn.fill)
            assert all(drawn.left - 1 <= float(x) <= drawn.right + 1 for x, _ in marks)
            assert all(0 <= float(y) <= drawn.floor + 1 for _, y in marks)
            assert [float(x) for x, _ in marks[: len(used)]] == sorted(
                float(x) for x, _ in marks[: len(used)]
            )
            assert all(0 <= tick.at <= drawn.floor for tick in drawn.ticks)
            assert 2 <= len(drawn.ticks) <= 6

    def test_every_weekday_has_its_name(self) -> None:
        for number, name in enumerate(WEEKDAYS):
            now = NOON + number * DAY
            day = today(hours(now - 9 * DAY, now, lambda _: 1), UTC, now, in_use=1, capacity=1)
            assert day is not None
            assert day.weekday == f"Last {name}"


class Measures:
    """What a service measured: in each hour as many seats as the pool's number says."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def now(self) -> int:
        return NOON

    def usage(self, pool: str, *, since: int, until: int, span: int | None = None) -> Usage:
        assert span == HOUR
        self.asked.append(pool)
        level = int(pool)
        points = [
            Point(
                at=at,
                peak=level,
                p95=level,
                p50=level,
                mean=level,
                denied=1,
                capacity=level,
                full=0,
            )
            for at in range(since // HOUR * HOUR, until, HOUR)
        ]
        return Usage(
            pool_id=pool,
            since=since,
            until=until,
            known_since=since,
            span=HOUR,
            points=points,
            peak=level,
            p95=level,
            p50=level,
            mean=level,
            full=0,
            capacity=level,
            capacities=[(since, level)],
            counts=Counts(),
        )


def test_pools_are_added_up_a_bounded_number_of_them_and_once_a_minute() -> None:
    clock, measures = [0.0], Measures()
    hourly = Hourly(measures, monotonic=lambda: clock[0])
    names = [str(number) for number in range(1, POOLS_CHARTED + 8)]
    found = hourly.get(names)
    assert (found.pools, found.left_out) == (POOLS_CHARTED, 7)
    assert {each.used for each in found.hours.values()} == {sum(range(1, POOLS_CHARTED + 1))}
    assert {each.denied for each in found.hours.values()} == {POOLS_CHARTED}
    assert hourly.get(names[:1]) is found
    assert len(measures.asked) == POOLS_CHARTED
    clock[0] = 61.0
    assert hourly.get(names[:1]).pools == 1


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


class TestThePage:
    def test_has_today_and_what_happens(self, world: Api) -> None:
        license_id, name = make(world, Policy(capacity=2))
        builders.take(world.store, "ann", pool_id=name)
        world.clock.advance(seconds=1)
        world.services.usage.tick()
        page = get(world, "overview", sign_in(world))
        said = read(page)
        assert "Seats in use today: 1 now" in page.body.decode()
        assert "ann took a desk seat" in said
        assert "Nobody was refused, as far back as events are kept." in said
        assert license_id in page.body.decode()

    def test_tells_of_what_is_chosen_alone_also_without_scripts(self, world: Api) -> None:
        _, name = make(world, Policy(capacity=1))
        builders.take(world.store, "ann", pool_id=name)
        builders.refused(world.store, "bob", pool_id=name)
        cookie = sign_in(world)
        said = read(get(world, "overview?feed=refused", cookie))
        assert "bob was refused a desk seat" in said
        assert "ann took a desk seat" not in said
        assert "ann took a desk seat" in read(get(world, "overview?feed=nonsense", cookie))
        assert "Nothing of that kind has happened" in read(get(world, "overview?feed=lost", cookie))

    def test_without_a_license_says_the_steps(self, world: Api) -> None:
        world.services.licenses.delete(world.license_id, actor="test")
        said = read(get(world, "overview", sign_in(world)))
        assert "Three steps to the first seat" in said
        assert "Needs somebody" not in said


class TestTheStream:
    """Its own event loop and store; threads are left out, since nothing here waits for any."""

    def serve(self, work: Callable[[Feed, MemoryStore], Any]) -> None:
        async def on_thread(do: Callable[..., T], *args: Any) -> T:
            return await asyncio.to_thread(do, *args)

        async def whole() -> None:
            store = MemoryStore()
            store.define([builders.pool(1)])
            feed = Feed(store, on_thread=on_thread, troubled=unexpected)
            async with asyncio.timeout(DEADLINE):
                await work(feed, store)
            await feed.stop()
            assert feed.open == 0

        asyncio.run(whole())

    def test_tells_what_there_is_and_each_change_of_what_is_chosen(self) -> None:
        async def work(feed: Feed, store: MemoryStore) -> None:
            builders.take(store, "ann")
            with feed.listen("all", "key_1") as all_, feed.listen("refused", "key_1") as refused:
                assert b"ann" in await news(all_)
                assert b"Nothing of that kind" in await news(refused)
                builders.refused(store, "bob")
                assert b"bob" in await news(refused)
                both = await news(all_)
                assert both.index(b"bob") < both.index(b"ann")  # the latest first
                assert both.count(b"<li") == 2  # each once

        self.serve(work)

    def test_who_comes_later_is_told_what_there_is(self) -> None:
        async def work(feed: Feed, store: MemoryStore) -> None:
            builders.take(store, "ann")
            with feed.listen("all", "key_1") as first:
                await news(first)
                with feed.listen("all", "key_1") as second:
                    assert b"ann" in await news(second)

        self.serve(work)

    def test_more_than_is_read_at_once_is_read_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch, "EVENTS", 2)
        monkeypatch.setattr(watch, "ROUNDS_MAX", 1)

        async def work(feed: Feed, store: MemoryStore) -> None:
            with feed.listen("all", "key_1") as page:
                await news(page)
                for number in range(9):
                    store.acquire([builders.acquire(f"user-{number}")])
                said = b""
                while b"user-8" not in said:
                    said = await news(page)
                assert said.count(b"<li") == feeds.SHOWN

        self.serve(work)

    def test_there_is_room_for_so_many(self) -> None:
        async def work(feed: Feed, _store: MemoryStore) -> None:
            with ExitStack() as stack:
                for _ in range(PAGES_EACH_MAX):
                    stack.enter_context(feed.listen("all", "key_1"))
                assert not feed.has_room("key_1")
                assert feed.has_room("key_2")

        self.serve(work)

    def test_ends_when_its_operator_is_gone_and_when_the_server_stops(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "KEEP_ALIVE", 0.0)
        monkeypatch.setattr(streams, "LOOK", 0.01)

        async def work(feed: Feed, store: MemoryStore) -> None:
            there, stops = [True], [False]

            async def still() -> bool:
                return there[0]

            def stream() -> FeedStream:
                return FeedStream(feed, "all", "key_1", still=still, stops=lambda: stops[0])

            builders.take(store, "ann")
            there_is = Browser()
            sent = asyncio.ensure_future(stream()({}, there_is.receive, there_is.send))
            await there_is.until(b"ann")
            there[0] = False
            await sent
            assert there_is.body.endswith(OVER)
            there[0] = True
            again = Browser()
            sent = asyncio.ensure_future(stream()({}, again.receive, again.send))
            await again.until(b"ann")
            stops[0] = True
            await sent
            assert not again.body.endswith(OVER)  # the page comes again, to whoever serves then
            stops[0] = False
            gone = Browser()
            sent = asyncio.ensure_future(stream()({}, gone.receive, gone.send))
            await gone.until(b"ann")
            gone.left.set()
            await sent

        self.serve(work)


def unexpected(fault: Exception) -> None:
    raise AssertionError(fault)


async def news(page: feeds.OpenPage) -> bytes:
    while page.news is None:
        await page.wake.wait()
        page.wake.clear()
    told, page.news = page.news, None
    return told


class Browser:
    """The other end of a stream."""

    def __init__(self) -> None:
        self.body = b""
        self.more = asyncio.Event()
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.body += message.get("body", b"")
        self.more.set()

    async def until(self, words: bytes) -> None:
        while words not in self.body:
            await self.more.wait()
            self.more.clear()


def test_the_address_of_the_stream_leads_people_to_the_page(world: Api) -> None:
    answer = get(world, "feed", sign_in(world))
    assert (answer.status, answer.header("location")) == (303, "overview")
    assert get(world, "feed").status == 401


def test_a_page_without_room_keeps_what_it_shows(
    world: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "PAGES_EACH_MAX", 0)
    headers = [*HERE, ("cookie", f"{NAME}={sign_in(world)}"), ("hx-request", "true")]
    assert world.call("GET", "/console/feed", headers=headers).status == 503


def test_every_choice_is_of_kinds_that_there_are() -> None:
    titles: Sequence[str] = [title for title, _ in CHOICES.values()]
    assert len(set(titles)) == len(titles)
    assert all(kinds for name, (_, kinds) in CHOICES.items() if name != "all")


def test_styles_of_ours_name_no_side() -> None:
    """What is written from right to left has its start on the right."""
    side = re.compile(r"(?:margin|padding|border)-(?:left|right)\b|text-align: (?:left|right)\b")
    files = [each for each in (HERE_IS / "static").glob("*.css") if "min" not in each.name]
    assert len(files) >= 5
    assert {each.name: side.findall(each.read_text()) for each in files} == {
        each.name: [] for each in files
    }
