"""Holders that are asked whether they are there: who is taken for gone, and who is spared."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from tests.api_harness import FEATURE, Served, World, served
from tests.seat_clients import attend, heard
from tests.unit.api.test_api_seat_sockets import (
    HEARD_AGO,
    PROGRAM,
    ask,
    cut_off,
    deafen,
    doubt,
    eventually,
    sockets,
    take,
)
from tests.waiting import DEADLINE

from sojourn.api import asking
from sojourn.device import Device
from sojourn.errors import StoreUnavailable
from sojourn.event import EventKind, asked_event
from sojourn.lease import Asked
from sojourn.license import Policy
from sojourn.service.presence import Attendant


@pytest.fixture
def server() -> Iterator[Served]:
    with served(World(capacity=1)) as server:
        yield server


def test_who_was_asked_just_now_is_not_asked_again(server: Served) -> None:
    """All holders are asked, whether or not they seem to be gone; and for a while not once more."""
    with attend(server, take(server)["token"]) as client:
        heard(client)
        assert ask(server, "bob").json()["asked"]["asked"] == 1
        askings = sockets(server).askings
        askings._all_asked = dict.fromkeys(askings._all_asked, time.monotonic() + DEADLINE)
        doubt(server, silent=False)
        answer = ask(server, "cid")
        assert answer.json()["asked"] == {"asked": 0, "answered": 0, "silent": 0}
        assert askings.asked == 1


def test_holder_that_has_just_fallen_silent_is_asked(server: Served) -> None:
    """A program whose machine lost power a moment ago says nothing, and seems to be there."""
    with attend(server, take(server, device=PROGRAM)["token"]) as client:
        heard(client)
        cut_off(server)
        assert ask(server, "bob").status_code == 201
    assert sockets(server).askings.denials_with_ghost == 0


@pytest.mark.parametrize("kind", ["phone", "toaster"])
def test_who_may_well_live_is_spared(server: Served, kind: str) -> None:
    """A phone may be in a tunnel; and of a kind that nobody knows it is not known how often it stalls."""
    with attend(server, take(server, device={"kind": kind})["token"]) as client:
        heard(client)
        cut_off(server)
        answer = ask(server, "bob")
        assert answer.status_code == 409
        assert answer.json()["asked"] == {"asked": 1, "answered": 0, "silent": 1, "spared": 1}
        text = httpx.get(server.url + "/metrics", timeout=DEADLINE).text
    assert sockets(server).askings.denials_with_ghost == 0
    assert "sojourn_holders_spared_total 1.0" in text


def test_who_waits_has_holders_asked_again(server: Served) -> None:
    """Also while somebody stands in line: a holder that falls silent then is found, too."""
    token = take(server, device=PROGRAM)["token"]
    with attend(server, token) as client, ThreadPoolExecutor(1) as threads:
        heard(client)
        waits = threads.submit(ask, server, "bob", wait=60)
        waiting = server.world.services.waiting
        eventually(lambda: waiting.length == 1)
        cut_off(server)
        assert waits.result().status_code == 201
        assert waiting.served == 1


def test_who_waits_has_other_servers_asked(server: Served) -> None:
    """Those who hold the seats may have their sockets there."""
    services, askings = server.world.services, sockets(server).askings
    take(server)

    def asked() -> int:
        services.presence.others = 1  # as far as anybody knows
        askings._nobody.clear()
        return len(server.world.store.events(kinds=[EventKind.LEASE_ASKED]))

    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(ask, server, "bob", wait=60)
        eventually(lambda: services.waiting.length == 1)
        before = asked()
        eventually(lambda: asked() > before)
        services.operations.force_cleanup("ann", FEATURE, actor="test")
        assert waits.result().status_code == 201


def test_line_of_a_store_that_is_away_asks_on(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is taken for gone meanwhile; and once it is back, who is silent is found."""
    leases, away = server.world.store.leases, threading.Event()
    tried = threading.Event()

    def sometimes(*given: Any, **more: Any) -> Any:
        if away.is_set():
            tried.set()
            raise StoreUnavailable("It is away.")
        return leases(*given, **more)

    token = take(server, device=PROGRAM)["token"]
    with attend(server, token) as client, ThreadPoolExecutor(1) as threads:
        heard(client)
        waits = threads.submit(ask, server, "bob", wait=60)
        eventually(lambda: server.world.services.waiting.length == 1)
        cut_off(server)
        monkeypatch.setattr(server.world.store, "leases", sometimes)
        away.set()
        assert tried.wait(DEADLINE)
        assert sockets(server).open == 1
        away.clear()
        assert waits.result().status_code == 201


@pytest.mark.parametrize("network", ["203.0.113.0/24", "198.51.100.0/24"])
def test_office_that_wants_a_seat_of_another_server(
    server: Served, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Nobody of a network answers: it has no line, or its machines are gone. Which it is tells the
    question: whether somebody has called another server from there."""
    askings, look = sockets(server).askings, sockets(server).askings._look
    licenses = server.world.services.licenses
    licenses.set_feature(server.world.license_id, "editor", Policy(capacity=2), actor="test")

    def with_addresses(ids: list[str], policy: Policy) -> Any:
        rows, scores = look(ids, policy)
        device = Device(kind="desktop", ip="203.0.113.7")
        return [replace(each, device=device) for each in rows], scores

    async def is_asked(pool_id: str) -> Asked:
        marks = asking._mark(f"network {network}")
        askings.hear(asked_event(pool_id, "server:srv_other", {"heardFrom": marks}))
        return await askings._local[pool_id]

    with (
        attend(server, take(server, "ann")["token"]) as one,
        attend(server, take(server, "bob")["token"]) as two,
    ):
        heard(one), heard(two)
        (pool,) = sockets(server).presence.pools.values()
        for each in pool.open.values():
            deafen(each)
        server.world.clock.advance(milliseconds=HEARD_AGO)
        monkeypatch.setattr(askings, "_look", with_addresses)
        work, loop = is_asked(pool.pool.id), sockets(server)._watch._loop
        assert loop is not None
        found = asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE)
    from_there = network.startswith("203")
    assert (found.asked, found.spared, len(found.silent)) == (
        (2, 0, 2) if from_there else (2, 2, 0)
    )


def test_who_has_answered_need_not_again(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server's asking of the pool begins before ours is over, and waits for answers of its own."""
    presence, askings = sockets(server).presence, sockets(server).askings
    licenses = server.world.services.licenses
    licenses.set_feature(server.world.license_id, "editor", Policy(capacity=2), actor="test")
    missing, looks = presence.missing, []

    with (
        attend(server, take(server, "ann")["token"]) as one,
        attend(server, take(server, "bob")["token"]) as two,
    ):
        heard(one), heard(two)
        (pool,) = presence.pools.values()
        for each in pool.open.values():
            deafen(each)
        ann, bob = sorted(pool.open.values(), key=lambda each: each.claims.user_id)

        def looked(pool_id: str, asked: list[Attendant]) -> list[Attendant]:
            looks.append(list(asked))
            if len(looks) == 2:
                ann.line.answered = True
            elif len(looks) == 3:
                presence.ask([ann])
            elif len(looks) == 5:
                bob.line.answered = True
            return missing(pool_id, asked)

        async def hear() -> Any:
            presence.ask([ann, bob])
            until = asyncio.get_running_loop().time() + DEADLINE
            return await askings._hear_out(pool.pool.id, [ann, bob], until, 0)

        monkeypatch.setattr(presence, "missing", looked)
        loop = sockets(server)._watch._loop
        assert loop is not None
        assert asyncio.run_coroutine_threadsafe(hear(), loop).result(DEADLINE) == []
    assert looks == [[ann, bob], [ann, bob], [bob], [bob], [bob]]


def test_time_in_which_the_server_stood_still_is_nobodys(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that came while it did nothing are read before anybody is judged."""
    for name in ("ANSWER_WITHIN", "ANSWER_WITHIN_LEAST"):
        monkeypatch.setattr(asking, name, 2 * asking.STALLED)
    askings = sockets(server).askings
    with attend(server, take(server, device=PROGRAM)["token"]) as client:
        heard(client)
        attendant = cut_off(server)

        def stall(*_: Any, **__: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(asking.LOOK / 2, time.sleep, 4 * asking.STALLED)
            loop.call_later(3 * asking.LOOK, setattr, attendant.line, "answered", True)

        attendant.line.tell = stall  # type: ignore[method-assign]  # we stand still as it answers
        answer = ask(server, "bob")
        assert answer.json()["asked"] == {"asked": 1, "answered": 1, "silent": 0}
    assert askings.spared == 0
