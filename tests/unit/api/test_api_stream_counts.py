"""What the stream tells is counted once, however many workers there are, and only grows."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_harness import CURRENT, FEATURE, Api, api
from tests.unit.api.test_api_metrics import sample

from sojourn.api import metrics, seats_in_use, stream_counts
from sojourn.api.stream_counts import OTHERS, StreamCounts
from sojourn.errors import StoreUnavailable
from sojourn.license import Policy
from sojourn.session import Begin, End


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told again: each scrape counts anew."""
    for module in (metrics, stream_counts, seats_in_use):
        monkeypatch.setattr(module, "FRESH_FOR", 0.0)


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as world:
        yield world


def scraped(world: Api) -> str:
    return world.call("GET", "/metrics").body.decode()


def test_denials_by_feature_and_reason(world: Api) -> None:
    for user in ("ann", "bob"):
        world.seat(user)
    for user in ("cy", "di", "ed"):
        assert world.acquire(user).status == 409
    world.acquire(feature="nothing")
    text = scraped(world)
    denied = "sojourn_denials_total"
    assert sample(text, f'{denied}{{feature="{FEATURE}",reason="seat_limit"}}') == 3
    assert sample(text, f'{denied}{{feature="nothing",reason="feature_unknown"}}') == 1
    assert (
        scraped(world) == text
        or sample(text, f'{denied}{{feature="{FEATURE}",reason="seat_limit"}}') == 3
    )


def test_leases_that_begin_and_end(world: Api) -> None:
    first = world.seat("ann")
    world.seat("bob")
    world.call("DELETE", CURRENT, bearer=first["token"])
    world.admin("DELETE", f"/api/licenses/sessions/force-cleanup/bob/{FEATURE}")
    text = scraped(world)
    begun, ended = "sojourn_leases_begun_total", "sojourn_leases_ended_total"
    assert sample(text, f'{begun}{{feature="{FEATURE}",how="acquired"}}') == 2
    assert sample(text, f'{ended}{{feature="{FEATURE}",reason="released"}}') == 1
    assert sample(text, f'{ended}{{feature="{FEATURE}",reason="revoked"}}') == 1


def test_sessions_and_why_they_ended(world: Api) -> None:
    """Reasons of an application's own are not for whoever scrapes."""
    ids = [world.session(f"user-{n}") for n in range(3)]
    for session_id, reason in zip(ids, ("signed_out", "asked by Ann", "fired"), strict=True):
        world.services.sessions.end([End(ids=(session_id,), reason=reason)])
    text = scraped(world)
    assert sample(text, "sojourn_sessions_begun_total") == 3
    assert sample(text, 'sojourn_sessions_ended_total{reason="signed_out"}') == 1
    assert sample(text, f'sojourn_sessions_ended_total{{reason="{OTHERS}"}}') == 2
    assert "Ann" not in text


def test_sweeps(world: Api) -> None:
    world.seat("ann")
    world.clock.advance(seconds=3_600)
    world.admin("POST", "/api/sweeps")
    assert sample(scraped(world), 'sojourn_swept_total{what="leases_expired"}') == 1


def test_suspects_and_pools_by_license_where_not_everybody_scrapes() -> None:
    with api(capacity=2, metrics_key="a-key-for-prometheus") as world:
        world.seat("ann")
        world.clock.advance(seconds=61)
        text = world.call("GET", "/metrics", bearer="a-key-for-prometheus").body.decode()
        assert sample(text, f'sojourn_seats_suspect{{feature="{FEATURE}"}}') == 1
        for name, value in (("in_use", 1), ("suspect", 1), ("capacity", 2)):
            labels = f'feature="{FEATURE}",license="{world.license_id}"'
            found = re.search(rf"sojourn_pool_seats_{name}{{([^}}]*)}} (\S+)", text)
            assert found is not None
            assert ",".join(sorted(found[1].split(","))) == labels
            assert float(found[2]) == value


def test_pools_by_license_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with most seats in use are told."""
    monkeypatch.setattr(seats_in_use, "POOLS_NAMED", 2)
    with api(metrics_key="k" * 20) as world:
        for n in range(4):
            world.services.licenses.create(f"L{n}", {"viewer": Policy(capacity=1)}, actor="test")
        world.seat("ann")
        text = world.call("GET", "/metrics", bearer="k" * 20).body.decode()
        assert text.count("sojourn_pool_seats_in_use{") == 2
        assert world.license_id in text


def test_features_are_bounded(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a license key may ask for features that are none."""
    monkeypatch.setattr(stream_counts, "FEATURES_MAX", 3)
    for n in range(6):
        world.acquire(feature=f"f{n}")
    text = scraped(world)
    assert text.count("sojourn_denials_total{") == 4
    others = f'sojourn_denials_total{{feature="{OTHERS}",reason="feature_unknown"}}'
    assert sample(text, others) == 3


def test_what_is_read_for_a_scrape_is_bounded(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is counted at the next one."""
    monkeypatch.setattr(stream_counts, "READ", 2)
    monkeypatch.setattr(stream_counts, "ROUNDS_MAX", 2)
    scraped(world)
    for n in range(7):
        world.session(f"user-{n}")
    assert sample(scraped(world), "sojourn_sessions_begun_total") == 4
    assert sample(scraped(world), "sojourn_sessions_begun_total") == 7


def test_a_store_that_fails_while_it_is_read_counts_nothing_twice(
    world: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_counts, "READ", 2)
    scraped(world)
    for n in range(5):
        world.session(f"user-{n}")
    real, asked = world.store.events, []

    def fails(**given: Any) -> Any:
        asked.append(given)
        if len(asked) == 2:
            raise StoreUnavailable("It is down.")
        return real(**given)

    monkeypatch.setattr(world.store, "events", fails)
    assert sample(scraped(world), "sojourn_sessions_begun_total") == 0
    assert sample(scraped(world), "sojourn_sessions_begun_total") == 5


class TestWorkers:
    """They share one account, whoever is scraped."""

    def counts(self, world: Api, folder: Path) -> StreamCounts:
        made = StreamCounts(world.store, world.ledger, folder)
        made.begin()
        return made

    def begun(self, counts: StreamCounts) -> float:
        counts.read_on()
        (family,) = [each for each in counts.collect() if each.name == "sojourn_sessions_begun"]
        return float(family.samples[0].value)

    def test_each_tells_the_same(self, world: Api, tmp_path: Path) -> None:
        """Also one that starts later, in place of one that has ended."""
        one, two = self.counts(world, tmp_path), self.counts(world, tmp_path)
        for n in range(5):
            world.session(f"user-{n}")
        assert self.begun(one) == self.begun(two) == 5
        world.services.sessions.begin([Begin(user_id="x")])
        assert self.begun(two) == self.begun(self.counts(world, tmp_path)) == self.begun(one) == 6

    def test_who_cannot_read_on_tells_what_another_has_counted(
        self, world: Api, tmp_path: Path
    ) -> None:
        one, two = self.counts(world, tmp_path), self.counts(world, tmp_path)
        world.session("ann")
        assert self.begun(one) == 1
        held, let_go = multiprocessing.Event(), multiprocessing.Event()
        holder = multiprocessing.Process(target=_hold, args=(tmp_path, held, let_go))
        holder.start()
        try:
            assert held.wait(60)
            world.session("bob")
            assert self.begun(two) == 1
        finally:
            let_go.set()
            holder.join(60)
        assert self.begun(two) == 2

    def test_a_file_that_is_garbled(self, world: Api, tmp_path: Path) -> None:
        """It begins anew, as a server that restarts does."""
        one = self.counts(world, tmp_path)
        (tmp_path / "stream").write_bytes(b"{nonsense")
        one.read_on()
        again = self.counts(world, tmp_path)
        world.session("ann")
        assert self.begun(again) == 1


def _hold(folder: Path, held: Any, let_go: Any) -> None:
    with StreamCounts(None, None, folder)._alone() as alone:  # type: ignore[arg-type]  # none is asked
        assert alone
        held.set()
        assert let_go.wait(60)
