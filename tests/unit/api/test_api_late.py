"""A late answer promises no time that has passed: `expiresIn` is what is left when it is written."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.api_harness import BEAT, CURRENT, SEATS, Api, World, api, gather, send, served
from tests.waiting import becomes

from sojourn.lease import LeaseFilter
from sojourn.ledger import LicenseChange
from sojourn.store import Store

LATE = 0.5
"""Seconds for which an answer is held back, at least."""
PAGE = "https://app.example"


def hold_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the store decide at once, and answer late: as a server does that is frozen in between."""
    for verb in ("renew", "acquire"):
        real = getattr(store, verb)

        def late(requests: Sequence[Any], real: Any = real) -> Any:
            answers = real(requests)
            until, between = time.monotonic() + LATE, threading.Event()
            while time.monotonic() < until:
                between.wait(0.002)
            return answers

        monkeypatch.setattr(store, verb, late)


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=1) as world:
        change = LicenseChange(allowed_origins=(PAGE,))
        world.services.licenses.change(world.license_id, change, actor="test")
        yield world


@pytest.mark.parametrize("page", [None, PAGE])
def test_late_answers(world: Api, monkeypatch: pytest.MonkeyPatch, page: str | None) -> None:
    """To an acquire, its copy, a beat and a goodbye; also where a page of another origin asks."""
    hold_back(world.store, monkeypatch)
    headers = [("Origin", page)] if page else []
    once = [*headers, ("Idempotency-Key", "k")]
    wish, key = world.wish(), world.license_key
    first = world.call("POST", SEATS, bearer=key, json=wish, headers=once).data
    copy = world.call("POST", SEATS, bearer=key, json=wish, headers=once).data
    told = [first, copy]
    told.append(world.call("POST", BEAT, bearer=first["token"], json={}, headers=headers).data)
    assert [x["expiresIn"] <= 90 - LATE for x in told] == [True] * 3
    bye = {"closing": True}
    left = world.call("POST", BEAT, bearer=first["token"], json=bye, headers=headers).data
    assert left["expiresIn"] <= 10 - LATE


def test_late_answer_to_who_waited(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had waited before does not count: the lease began with the answer."""
    token = world.seat("ann")["token"]
    hold_back(world.store, monkeypatch)

    async def wait() -> Any:
        wish = world.wish("bob", wait=60)
        return await send(world.app, "POST", SEATS, bearer=world.license_key, json=wish)

    async def release() -> Any:
        await becomes(lambda: world.services.waiting.length == 1)
        return await send(world.app, "DELETE", CURRENT, bearer=token)

    answer, _ = world.run(gather(wait(), release()))
    assert 0 < answer.data["expiresIn"] <= 90 - LATE


def test_late_answers_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise in the lane that a real server takes."""
    world = World()
    with served(world) as server:
        hold_back(world.store, monkeypatch)

        def ask(path: str, bearer: str, said: Any) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(said), headers)
            answer = json.loads(connection.getresponse().read())
            connection.close()
            return answer["data"]

        seat = ask(SEATS, world.license_key, world.wish())
        beat = ask(BEAT, seat["token"], {})
    assert 0 < seat["expiresIn"] <= 90 - LATE
    assert 0 < beat["expiresIn"] <= 90 - LATE


def test_lowered_policy_is_told_at_once(world: Api) -> None:
    """A beat is told no more than `lostAfter` as it is now, though its lease lives for longer."""
    token = world.seat("ann")["token"]
    shorter = {"capacity": 1, "lostAfter": 20, "heartbeatInterval": 5, "suspectAfter": 10}
    changed = world.admin("PUT", f"/api/licenses/{world.license_id}/features/editor", json=shorter)
    assert changed.status == 200, changed.body
    leases, now = world.store.leases(LeaseFilter())
    assert leases[0].expires_at - now > 20_000
    assert 0 < world.beat(token).data["expiresIn"] <= 20
