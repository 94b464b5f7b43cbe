"""A request that waits for a seat comes twice under one key: both are told of the same seat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.api_harness import BEAT, CURRENT, SEATS, Answer, Api, api, send
from tests.waiting import becomes

from sojourn.event import EventKind
from sojourn.ledger import LicenseChange
from sojourn.service import waiting

PAGE = "https://app.example"


@pytest.fixture(name="api")
def _api() -> Iterator[Api]:
    with api(capacity=1) as world:
        yield world


class Pool:
    """A pool of one seat, which ann has."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.held = api.seat("ann")["token"]

    def ask(self, key: str, *, page: str | None = None, **more: Any) -> asyncio.Task[Answer]:
        wish = self.api.wish("bob", **{"wait": 60} | more)
        headers = [("Idempotency-Key", key), *([("Origin", page)] if page else [])]
        asked = send(
            self.api.app,
            "POST",
            SEATS,
            bearer=self.api.license_key,
            json=wish,
            headers=headers,
        )
        return asyncio.get_running_loop().create_task(asked)

    async def until_waiting(self, count: int) -> None:
        await becomes(lambda: self.api.services.waiting.length == count)

    async def twice(self, key: str, **more: Any) -> tuple[asyncio.Task[Answer], ...]:
        """Send a request, and a copy of it once it waits."""
        first = self.ask(key, **more)
        await self.until_waiting(1)
        copy = self.ask(key, **more)
        await self.until_waiting(2)
        return first, copy

    async def release(self) -> None:
        await send(self.api.app, "DELETE", CURRENT, bearer=self.held)

    async def beats(self, answer: Answer) -> bool:
        told = await send(self.api.app, "POST", BEAT, bearer=answer.data["token"], json={})
        return told.status == 200

    def events(self) -> list[EventKind]:
        return [event.kind for event in self.api.store.events(limit=1_000)]


Story = Callable[[Pool], Coroutine[Any, Any, None]]


def play(api: Api, story: Story) -> None:
    api.run(story(Pool(api)))
    assert api.services.waiting.length == 0


@pytest.mark.parametrize("page", [None, PAGE])
def test_copy_is_told_of_the_same_seat(api: Api, page: str | None) -> None:
    """Neither takes the seat from the other: it is granted once, and the copy is told so."""
    if page is not None:
        change = LicenseChange(allowed_origins=(page,))
        api.services.licenses.change(api.license_id, change, actor="test")

    async def story(pool: Pool) -> None:
        first, copy = await pool.twice('"k1"', page=page)
        await pool.release()
        told, again = await first, await copy
        assert (told.status, again.status) == (201, 201)
        assert told.data["token"] == again.data["token"]
        assert [x.header("idempotency-replayed") for x in (told, again)] == [None, "true"]
        assert await pool.beats(told)
        assert EventKind.LEASE_TAKEN_OVER not in pool.events()
        assert pool.events().count(EventKind.LEASE_ACQUIRED) == 2  # ann's, and this one

    play(api, story)


def test_copies_of_a_copy(api: Api) -> None:
    """However many there are, one asks, and all are told the same."""

    async def story(pool: Pool) -> None:
        asked = list(await pool.twice('"k1"'))
        asked.append(pool.ask('"k1"'))
        await pool.until_waiting(3)
        asked.pop(0).cancel()
        await pool.until_waiting(2)
        await pool.release()
        answers = await asyncio.gather(*asked)
        assert [x.status for x in answers] == [201, 201]
        assert len({x.data["token"] for x in answers}) == 1
        assert await pool.beats(answers[0])

    play(api, story)


def test_copy_waits_on_for_a_sender_that_has_gone(api: Api) -> None:
    """Where the first was given up, the copy waits in its place."""

    async def story(pool: Pool) -> None:
        first, copy = await pool.twice('"k1"')
        first.cancel()
        await pool.until_waiting(1)
        await pool.release()
        told = await copy
        assert (told.status, told.header("idempotency-replayed")) == (201, None)
        assert await pool.beats(told)

    play(api, story)


@pytest.mark.parametrize("key", ['"k2"', None])
def test_another_request_takes_the_place_of_all_copies(api: Api, key: str | None) -> None:
    """Who comes again with something new has given the first up, whoever copied that."""

    async def story(pool: Pool) -> None:
        first, copy = await pool.twice('"k1"')
        newer = pool.ask('"k1"' if key is None else key, wait=59)
        told = await asyncio.gather(first, copy)
        assert [(x.status, x.code, x.json["position"]) for x in told] == [
            (409, "seat_limit", 1)
        ] * 2
        await pool.until_waiting(1)
        await pool.release()
        assert (await newer).status == 201

    play(api, story)


def test_copy_of_a_wait_that_is_over(api: Api) -> None:
    """Nobody gives the seat back: both are told their place."""

    async def story(pool: Pool) -> None:
        told = await asyncio.gather(pool.ask('"k1"', wait=0.1), pool.ask('"k1"', wait=0.1))
        assert [(x.status, x.json["position"]) for x in told] == [(409, 1)] * 2

    play(api, story)


def test_copies_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies count among those who are parked; where there is no room, a copy is told its place at once."""
    monkeypatch.setattr(waiting, "WAITERS_MAX", 1)

    async def story(pool: Pool) -> None:
        first = pool.ask('"k1"')
        await pool.until_waiting(1)
        assert (await pool.ask('"k1"')).json["position"] == 1
        assert not first.done()
        await pool.release()
        assert (await first).status == 201

    play(api, story)


def test_server_that_stops_sends_copies_away(api: Api) -> None:
    """With the place that they have, as all who wait."""

    async def story(pool: Pool) -> None:
        asked = await pool.twice('"k1"')
        api.services.waiting.close()
        assert [(await x).status for x in asked] == [409, 409]

    play(api, story)
