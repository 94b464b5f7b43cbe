"""Scraping costs the event loop nothing, however many scrape: others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from tests.api_harness import ADMIN, FEATURE, Api, api

from sojourn.api import metrics, seats_in_use
from sojourn.api.metrics import Metrics
from sojourn.api.seats_in_use import SeatsInUse
from sojourn.api.shared_metrics import SharedMetrics
from sojourn.errors import StoreUnavailable
from sojourn.license import Policy


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


def sample(text: str, name: str) -> float:
    (line,) = [each for each in text.splitlines() if each.startswith(name + " ")]
    return float(line.split()[-1])


class TestSeats:
    def test_seats_in_use_and_capacity_by_feature(self) -> None:
        with api(capacity=2) as world:
            for user in ("ann", "bob"):
                world.seat(user)
            other = {"viewer": Policy(capacity=5), FEATURE: Policy(capacity=10)}
            world.services.licenses.create("Other", other, actor="test")
            text = world.call("GET", "/metrics").body.decode()
            assert sample(text, f'sojourn_seats_in_use{{feature="{FEATURE}"}}') == 2
            assert sample(text, f'sojourn_seats_capacity{{feature="{FEATURE}"}}') == 12
            assert sample(text, f'sojourn_seats_licenses{{feature="{FEATURE}"}}') == 2
            assert sample(text, f'sojourn_seats_licenses_full{{feature="{FEATURE}"}}') == 1
            assert sample(text, 'sojourn_seats_in_use{feature="viewer"}') == 0
            assert sample(text, 'sojourn_seats_overdraft{feature="viewer"}') == 0
            assert world.license_id not in text

    def test_labels_are_bounded(self, world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seats_in_use, "FEATURES_MAX", 2)
        monkeypatch.setattr(seats_in_use, "BATCH", 3)
        features = {f"f{i}": Policy(capacity=1) for i in range(7)}
        world.services.licenses.create("Many", features, actor="test")
        world.seat("ann")
        found = SeatsInUse(world.store, world.ledger).count()
        assert len(found) == 3
        assert found[FEATURE].in_use == 1
        assert sum(each.pools for each in found.values()) == 8

    def test_a_store_that_is_away_costs_a_scrape_nothing(
        self, world: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any) -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(world.store, "usage", away)
        assert world.call("GET", "/metrics").status == 200


class Worker:
    """Counts answers, as a process of its own would; `pid` is what it goes by."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.answers = 0
        self.shared = SharedMetrics(folder, fresh_for=0)
        self.shared._own = folder / f"{pid}.json"

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("answers", "x", labels=("call",))
        answers.add_metric(("beat",), self.answers)
        yield answers
        yield GaugeMetricFamily("waiting", "x", value=self.answers)
        yield GaugeMetricFamily("sojourn_seats_in_use", "x", value=7)

    def scrape(self) -> tuple[float, float, float]:
        text = self.shared.text(self.collect).decode()
        named = ('answers_total{call="beat"}', "waiting", "sojourn_seats_in_use")
        return tuple(sample(text, name) for name in named)  # type: ignore[return-value]  # of three


def ended() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class TestWorkers:
    def test_each_tells_what_all_have_counted(self, tmp_path: Path) -> None:
        one, two = Worker(tmp_path, os.getpid()), Worker(tmp_path, os.getppid())
        one.answers, two.answers = 3, 4
        two.shared.publish(two.collect)
        assert one.scrape() == (7, 7, 7)
        assert two.scrape() == (7, 7, 7)
        two.answers = 6
        assert one.scrape() == (7, 7, 7)  # as it was written down
        assert two.scrape() == (9, 9, 7)
        assert one.scrape() == (9, 9, 7)

    def test_no_counter_steps_back_when_one_ends(self, tmp_path: Path) -> None:
        one, two = Worker(tmp_path, os.getpid()), Worker(tmp_path, ended())
        one.answers, two.answers = 3, 4
        two.shared.publish(two.collect)
        assert one.scrape() == (7, 3, 7)  # what it had waiting, nobody waits for
        assert one.scrape() == (7, 3, 7)
        three = Worker(tmp_path, ended())
        three.answers = 10
        three.shared.publish(three.collect)
        assert one.scrape() == (17, 3, 7)
        assert sorted(each.name for each in tmp_path.glob("*.json")) == [
            f"{os.getpid()}.json",
            "ended.json",
        ]

    def test_one_that_is_silent_is_left_out_of_what_is_true_only_now(self, tmp_path: Path) -> None:
        one, two = Worker(tmp_path, os.getpid()), Worker(tmp_path, os.getppid())
        two.answers = 4
        two.shared.publish(two.collect)
        os.utime(two.shared._own, (1, 1))
        assert one.scrape() == (4, 0, 7)

    def test_within_a_second_all_are_told_the_same(self, tmp_path: Path) -> None:
        one, two = Worker(tmp_path, os.getpid()), Worker(tmp_path, os.getppid())
        one.shared._fresh_for = two.shared._fresh_for = 1e9
        first = one.shared.text(one.collect)
        two.answers = 5
        assert two.shared.text(two.collect) == first

    def test_a_folder_that_cannot_be_used_costs_only_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        one = Worker(tmp_path / "file", os.getpid())
        one.answers = 2
        assert one.scrape() == (2, 2, 7)

    def test_one_thread_at_a_time_writes_down_what_a_worker_has_counted(
        self, tmp_path: Path
    ) -> None:
        """The ticker's and a scrape's use the same name: half of one file would take the other's place."""
        one = Worker(tmp_path, os.getpid())
        within, most = 0, 0
        guard = threading.Lock()
        together = threading.Barrier(4)

        def collect() -> Iterator[Metric]:
            nonlocal within, most
            with guard:
                within += 1
                most = max(most, within)
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.2)  # all who are let in meet here
            yield from one.collect()
            with guard:
                within -= 1

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: one.shared.publish(collect), range(4)))
        assert most == 1

    def test_where_asking_after_a_process_would_end_it_nobody_asks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On Windows signal 0 is Ctrl+C. What nobody is known to have ended counts on."""
        one, two = Worker(tmp_path, os.getpid()), Worker(tmp_path, ended())
        one.answers, two.answers = 3, 4
        two.shared.publish(two.collect)
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(os, "kill", None)
        assert one.scrape() == (7, 7, 7)

    def test_what_a_file_says_is_not_believed_blindly(self, tmp_path: Path) -> None:
        (tmp_path / f"{os.getppid()}.json").write_text("{nonsense")
        one = Worker(tmp_path, os.getpid())
        one.answers = 2
        assert one.scrape() == (2, 2, 7)

    def test_a_worker_of_a_server_shares(self, tmp_path: Path) -> None:
        with api(workers=2, data=str(tmp_path)) as world:
            world.call("GET", "/livez")
            text = world.call("GET", "/metrics").body.decode()
            assert sample(text, 'sojourn_http_answers_total{call="livez",code="ok"}') == 1
        assert (tmp_path / "metrics" / f"{os.getpid()}.json").exists()


class TestKey:
    def test_where_one_is_set_only_it_scrapes(self) -> None:
        with api(metrics_key="a-key-for-prometheus") as world:
            assert world.call("GET", "/metrics").status == 401
            assert world.call("GET", "/metrics", bearer="another").status == 401
            assert world.call("GET", "/metrics", bearer=ADMIN).status == 401
            assert world.call("GET", "/metrics", bearer="a-key-for-prometheus").status == 200
            assert world.call("GET", "/livez").status == 200
