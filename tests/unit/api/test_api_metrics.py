"""Scraping costs the event loop nothing, however many scrape: others are answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api

from sojourn.api import metrics
from sojourn.api.metrics import Metrics


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each time that the text is written, and on which thread."""
    seen: list[str] = []
    write = Metrics.text

    def text(self: Metrics) -> bytes:
        seen.append(threading.current_thread().name)
        return write(self)

    monkeypatch.setattr(Metrics, "text", text)
    return seen


def test_a_scrape_is_told_again_for_a_while(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = written(monkeypatch)
    monkeypatch.setattr(metrics, "FRESH_FOR", float("inf"))
    answers = [world.call("GET", "/metrics") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert len({answer.body for answer in answers}) == 1
    assert len(seen) == 1
    monkeypatch.setattr(metrics, "FRESH_FOR", 0.0)
    world.call("GET", "/metrics")
    world.call("GET", "/metrics")
    assert len(seen) == 3


def test_who_scrapes_at_once_is_told_what_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a thread of its own; and one of them who hangs up takes it from nobody."""
    begun, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def text(_: Metrics) -> bytes:
        seen.append(threading.current_thread().name)
        begun.set()
        assert go_on.wait(20)
        return b"told"

    monkeypatch.setattr(Metrics, "text", text)

    async def scrape() -> list[Any]:
        shown = Metrics()
        asked = [asyncio.ensure_future(shown.fresh()) for _ in range(20)]
        assert await asyncio.to_thread(begun.wait, 20)
        asked[0].cancel()
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    gone, *told = asyncio.run(scrape())
    assert isinstance(gone, asyncio.CancelledError)
    assert told == [b"told"] * 19
    assert seen != [threading.main_thread().name]
    assert len(seen) == 1
