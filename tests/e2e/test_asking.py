"""Nobody is denied while a seat is held by somebody who is gone: holders are asked first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.test_presence import TICK, Feature, eventually, http, metric, server
from tests.seat_clients import RawClient, attend, heard
from tests.serving import Served, new_client, served

from sojourn.stores import open as stores
from sojourn.testing.redis_server import redis_server

__all__ = ["http", "server"]  # fixtures

BEAT = "/api/licenses/sessions/heartbeat"
SLOW = {"heartbeatInterval": 30, "lostAfter": 90, "linger": 80}
PHONE = {"kind": "phone"}
"""Of a kind that often does not answer: it is spared, so that no test must be quick."""
PROGRAM = {"kind": "desktop"}
"""Of a kind that answers at once, if it lives."""


def events(server: Served, kind: str, feature: Feature) -> list[dict[str, Any]]:
    with server.admin() as admin:
        answer = admin.get(
            "/api/events", params={"kind": kind, "newestFirst": "true", "limit": 100}
        )
    found = answer.json()["data"]["items"]
    return [
        x for x in found if x.get("licenseId") == feature.license_id or feature.license_id in str(x)
    ]


class TestOneServer:
    def test_dropped_holder_loses_its_seat_to_who_needs_it(
        self, server: Served, http: httpx.Client
    ) -> None:
        """Long before its linger is over, and nobody is told of a refusal."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        feature.take("bob")
        assert feature.lease("ann")["endReason"] == "evicted"
        assert events(server, "lease.denied", feature) == []

    def test_who_comes_back_in_time_keeps_its_seat(
        self, server: Served, http: httpx.Client
    ) -> None:
        """A holder whose socket dropped is given a moment to open another one; then the refusal says that it
        was asked and was there."""
        feature = Feature(server, http, **SLOW)
        seat = feature.take(device=PHONE)
        client = RawClient(server, seat["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        with ThreadPoolExecutor(1) as threads, new_client() as other:
            bobs = threads.submit(Feature.ask, _on(feature, other), "bob")
            with attend(server, seat["token"]) as again:
                heard(again)
                answer = bobs.result()
                eventually(lambda: feature.state() == "active", "activity")
        assert (answer.status_code, answer.json()["code"]) == (409, "seat_limit")
        asked = answer.json()["asked"]
        assert asked["asked"] == 1
        assert asked["silent"] == asked.get("spared", 0)
        assert feature.lease()["fence"] == seat["fence"]

    def test_who_beats_over_http_in_time_keeps_its_seat(
        self, server: Served, http: httpx.Client
    ) -> None:
        """A client that cannot open a socket has the same rights."""
        feature = Feature(server, http, **SLOW)
        seat = feature.take(device=PHONE)
        client = RawClient(server, seat["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        headers = {"Authorization": f"Bearer {seat['token']}"}
        with ThreadPoolExecutor(1) as threads, new_client() as other:
            bobs = threads.submit(Feature.ask, _on(feature, other), "bob")
            while not bobs.done():
                said = http.post(f"{server.url}{BEAT}", headers=headers, json={})
                assert said.status_code == 200, said.text
            assert bobs.result().status_code == 409
        assert feature.state() != "ended"

    def test_silent_holder_that_answers_is_spared(self, server: Served, http: httpx.Client) -> None:
        """An answer keeps the seat, whatever it is."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        answered_in_time(client, feature)
        assert feature.state() != "ended"
        client.drop()

    def test_silent_holder_that_does_not_answer_is_not(
        self, server: Served, http: httpx.Client
    ) -> None:
        """Its connection is there still, and tells nothing: a machine that lost power a moment ago."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take(device=PROGRAM)["token"])
        client.hear("open")
        feature.take("bob")
        client.hear("ask")
        assert client.hear("lost") == {"type": "lost", "reason": "evicted", "resumable": True}
        client.drop()

    def test_goodbye_is_not_asked(self, server: Served, http: httpx.Client) -> None:
        """Who said goodbye has its linger: a page that is loaded again comes back within it."""
        feature = Feature(server, http, **SLOW)
        with attend(server, feature.take()["token"]) as client:
            heard(client)
            client.send('{"type": "goodbye"}')
            feature.suspect()
        answer = feature.ask("bob")
        assert answer.status_code == 409
        assert answer.json().get("asked") in (None, {"asked": 0, "answered": 0, "silent": 0})
        assert feature.state() == "suspect"

    def test_all_who_wait_share_one_asking(self, server: Served, http: httpx.Client) -> None:
        """Many want in at once: the holder is asked once, one of them gets its seat, and the others are
        refused with what came back."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take(device=PROGRAM)["token"])
        client.hear("open")
        barrier = threading.Barrier(8)

        def want(number: int) -> httpx.Response:
            with new_client() as other:
                barrier.wait()
                return _on(feature, other).ask(f"user {number}")

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(want, range(8)))
        assert sorted(x.status_code for x in answers) == [201, *[409] * 7]
        assert client.hear("ask")
        assert client.hear_that(lambda said: said["type"] in ("ask", "lost"))["type"] == "lost"
        client.drop()

    def test_first_answer_is_the_one_that_is_repeated(
        self, server: Served, http: httpx.Client
    ) -> None:
        """A request with a key that had to wait for an asking is granted, and so is its copy."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        headers = {
            "Authorization": f"Bearer {feature.key}",
            "Idempotency-Key": '"once-and-for-all"',
        }
        body = {"feature": "editor", "userId": "bob", "clientId": "one"}
        first, again = (
            http.post(f"{server.url}/api/licenses/sessions", headers=headers, json=body)
            for _ in range(2)
        )
        assert (first.status_code, again.status_code) == (201, 201), (first.text, again.text)
        assert first.json()["data"]["leaseId"] == again.json()["data"]["leaseId"]

    def test_nobody_to_ask_costs_nothing(self, server: Served, http: httpx.Client) -> None:
        """Where no socket keeps a lease, a refusal is one decision, and nobody is asked."""
        feature = Feature(server, http, **{**SLOW, "linger": 10})
        token = feature.take()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        said = http.post(f"{server.url}{BEAT}", headers=headers, json={"closing": True})
        assert said.status_code == 200
        answer = feature.ask("bob")
        assert answer.status_code == 409
        assert "asked" not in answer.json()
        assert events(server, "lease.asked", feature) == []

    def test_metrics_tell(self, server: Served, http: httpx.Client) -> None:
        """How many were asked and answered; and that nobody was denied for a ghost."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        feature.take("bob")
        eventually(lambda: metric(server, "sojourn_holders_asked_total") >= 1, "an asking")
        eventually(lambda: metric(server, "sojourn_holders_doubted_total") >= 2, "a doubt")
        assert metric(server, "sojourn_denials_with_ghost_total") == 0


def answered_in_time(client: RawClient, feature: Feature) -> None:
    """Have somebody ask for a seat until the holder's answer was in time. Until then it is spared: it is of a
    kind that nobody knows, so one answer that is missing ends it not."""
    with ThreadPoolExecutor(1) as threads, new_client() as other:

        def answers() -> bool:
            bobs = threads.submit(Feature.ask, _on(feature, other), "bob")
            while not bobs.done():
                client.say(type="here")
                TICK.wait(1.1)  # more than one a second would be too many
            answer = bobs.result()
            assert answer.status_code == 409, answer.text
            asked = answer.json().get("asked") or {}
            assert asked.get("silent", 0) == asked.get("spared", 0)
            return bool(asked.get("answered"))

        eventually(answers, "an answer in time")


def _on(feature: Feature, http: httpx.Client) -> Feature:
    """The same feature, asked for by another connection."""
    other = object.__new__(Feature)
    vars(other).update(vars(feature), http=http)
    return other


@pytest.fixture(params=["sqlite_url", "postgres_url", "valkey"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """Two servers over one store; the second has seen the first."""
    environ: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            store = stack.enter_context(redis_server()).url
            environ["SOJOURN_LEDGER"] = f"sqlite:///{tmp_path}/ledger.db"
        else:
            store = str(request.getfixturevalue(request.param))
            stores.migrate(store)
        one, two = (
            stack.enter_context(served(tmp_path / name, store=store, environ=environ))
            for name in ("one", "two")
        )
        yield one, two


def test_sockets_of_another_server_are_asked(
    pair: tuple[Served, Served], http: httpx.Client
) -> None:
    """Who wants a seat asks one server; the socket is at another one. Whoever is there keeps its seat, and
    who is not loses it, within the time that a client waits for."""
    sockets, asked = pair
    feature = Feature(sockets, http, **SLOW)
    client = RawClient(sockets, feature.take()["token"])
    client.hear("open")
    elsewhere = _on(feature, http)
    elsewhere.server = asked
    answered_in_time(client, elsewhere)
    assert feature.state() != "ended"
    client.drop()
    eventually(lambda: elsewhere.ask("bob").status_code == 201, "a seat")
    assert metric(asked, "sojourn_denials_with_ghost_total") == 0


def test_silent_holder_of_another_server_is_asked(
    pair: tuple[Served, Served], http: httpx.Client
) -> None:
    """Who does not answer there loses its seat, and hears of it."""
    sockets, asked = pair
    feature = Feature(sockets, http, **SLOW)
    client = RawClient(sockets, feature.take(device=PROGRAM)["token"])
    client.hear("open")
    elsewhere = _on(feature, http)
    elsewhere.server = asked
    # It may be refused first, if that server hears of the question late.
    eventually(lambda: elsewhere.ask("bob").status_code == 201, "its seat")
    assert client.hear("lost")["reason"] == "evicted"
    assert metric(asked, "sojourn_denials_with_ghost_total") == 0
    client.drop()


def test_holder_that_came_back_to_another_server_is_spared(
    pair: tuple[Served, Served], http: httpx.Client
) -> None:
    """The server that its socket dropped from knows nothing of that, and its doubt counts for nothing."""
    first, second = pair
    feature = Feature(first, http, **SLOW)
    seat = feature.take()
    client = RawClient(first, seat["token"])
    client.hear("open")
    client.drop()
    feature.suspect()
    with attend(second, seat["token"]) as again:
        heard(again)
        assert feature.ask("bob").status_code == 409
        eventually(lambda: feature.state() == "active", "activity")
        assert feature.lease()["fence"] == seat["fence"]
