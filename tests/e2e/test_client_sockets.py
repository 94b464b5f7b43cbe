"""Seats that the Python client keeps by open sockets, against a real server.

Leases live for an hour and beats are 20 minutes apart: what happens sooner has come over a socket.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.serving import Served, served
from tests.waiting import DEADLINE, ended

from sojourn.client import AsyncClient, Change, Client, SeatState, live
from sojourn.client.http import SEATS
from sojourn.device import Device
from sojourn.testing.proxy import FaultProxy

LONG = {"capacity": 1, "lostAfter": 3_600, "heartbeatInterval": 1_200}
HOLDING = """
import sys
from sojourn.client import Client
url, key = sys.argv[1:]
client = Client(url, license_key=key, sockets=True)
seat = client.seat("render", user="ada", on_change=lambda c: print(c.state, c.reason, flush=True))
seat.acquire()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("sockets")) as running:
        yield running


@contextmanager
def holding(server: Served, key: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, server.url, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert ended(process.stdout.readline) == "safe granted\n"
        sockets_become(server, 1)
        yield process
    finally:
        process.kill()
        process.communicate()


def sockets(server: Served) -> int:
    with server.admin() as http:
        told = http.get("/metrics").text
    for line in told.splitlines():
        if line.startswith("sojourn_seat_sockets "):
            return int(float(line.split()[1]))
    raise AssertionError("the server does not count its sockets")


def until(met: Callable[[], bool]) -> None:
    over = threading.Event()

    def look() -> None:
        while not met():
            over.wait(0.05)

    try:
        ended(look)
    finally:
        over.set()


def sockets_become(server: Served, count: int) -> None:
    until(lambda: sockets(server) == count)


def threads_of_clients() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("sojourn")}


def test_a_killed_holders_seat_is_anothers_at_once(server: Served) -> None:
    key = server.license(render=LONG)[1]
    with holding(server, key) as process, Client(server.url, license_key=key) as client:
        process.kill()
        process.wait(DEADLINE)
        assert client.seat("render", user="bob", wait=DEADLINE).acquire().held


def test_a_suspended_holder_learns_that_its_seat_is_gone(server: Served) -> None:
    key = server.license(render=LONG)[1]
    with holding(server, key) as process, Client(server.url, license_key=key) as client:
        process.send_signal(signal.SIGSTOP)
        bobs = client.seat("render", user="bob", wait=DEADLINE).acquire()
        process.send_signal(signal.SIGCONT)
        assert ended(process.stdout.readline).split()[0] == "lost"
        bobs.release()
        assert ended(process.stdout.readline).split()[0] == "safe"


def test_a_living_holder_answers_and_keeps_its_seat(server: Served) -> None:
    """It is of a kind that is spared if it does not answer in time: then it is asked again."""
    key = server.license(render=LONG)[1]
    before = threads_of_clients()
    with Client(server.url, license_key=key, sockets=True) as client:
        seat = client.seat("render", user="ada", device=Device(kind="phone")).acquire()
        sockets_become(server, 1)

        def answers() -> bool:
            response = http.post(SEATS, json=bob, headers={"Authorization": f"Bearer {key}"})
            assert response.status_code == 409
            asked = response.json().get("asked", {})
            return asked.get("asked") == 1 and not asked.get("silent")

        bob = {"feature": "render", "userId": "bob", "clientId": "b"}
        with server.admin() as http:
            until(answers)
        seat.check()
    until(lambda: not threads_of_clients() - before)
    sockets_become(server, 0)


def test_a_loss_is_told_at_once(server: Served) -> None:
    license_id, key = server.license(render=LONG)
    changes: list[Change] = []
    with Client(server.url, license_key=key, sockets=True) as client:
        seat = client.seat("render", user="ada", on_change=changes.append).acquire()
        sockets_become(server, 1)
        path = "/api/licenses/sessions/force-cleanup/ada/render"
        with server.admin() as http:
            http.delete(path, params={"licenseId": license_id}).raise_for_status()
        assert seat.wait_lost(DEADLINE)
        sockets_become(server, 0)
    assert changes[-1].reason in {"revoked", "released"}


def test_a_server_that_restarts_costs_no_seat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RESTART", 0.5)  # there are no other clients to be spread out from
    with served(tmp_path) as own:
        key = own.license(render=LONG)[1]
        with Client(own.url, license_key=key, sockets=True) as client:
            seat = client.seat("render", user="ada").acquire()
            fence = seat.fence
            for end in (own.kill, own.stop):
                sockets_become(own, 1)
                end()
                own.start()
            sockets_become(own, 1)
            seat.check()
            assert seat.fence == fence


def test_a_network_that_was_cut_costs_no_seat(server: Served) -> None:
    key = server.license(render=LONG)[1]
    with (
        FaultProxy(server.url) as proxy,
        Client(proxy.url, license_key=key, sockets=True) as client,
    ):
        seat = client.seat("render", user="ada").acquire()
        sockets_become(server, 1)
        proxy.refuse()
        sockets_become(server, 0)
        proxy.pass_through()
        sockets_become(server, 1)
        seat.check()


def test_a_goodbye_is_not_taken_back_by_the_socket(server: Served) -> None:
    key = server.license(render={**LONG, "linger": 1})[1]
    with Client(server.url, license_key=key, sockets=True, timeout=DEADLINE) as client:
        seat = client.seat("render", user="ada").acquire()
        sockets_become(server, 1)
        assert seat.closing()
        with Client(server.url, license_key=key) as other:
            assert other.seat("render", user="bob", wait=DEADLINE).acquire().held


def test_nothing_is_left_when_a_client_is_closed(server: Served) -> None:
    key = server.license(render={**LONG, "capacity": 20})[1]
    before = threads_of_clients()

    async def story() -> None:
        async with AsyncClient(server.url, license_key=key, sockets=True) as client:
            seats = [client.seat("render", user=f"u{n}") for n in range(20)]
            await asyncio.gather(*(each.acquire() for each in seats))
            await asyncio.to_thread(sockets_become, server, 20)
            assert all(each.state is SeatState.SAFE for each in seats)

    asyncio.run(story())
    until(lambda: not threads_of_clients() - before)
    sockets_become(server, 0)
