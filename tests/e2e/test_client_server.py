"""The Python client against a real server: what it promises, in real time, with short thresholds."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.serving import Served, served

from sojourn.client import AsyncClient, Change, Client, SeatDenied, SeatLost, SeatState, Waiting
from sojourn.testing.proxy import FaultProxy

LOST_AFTER = 1.5
PATIENCE = 20.0  # seconds until a test that hangs fails

PROGRAM = """
import json, sys
from sojourn.client import Client

url, key, user, how = sys.argv[1:]
client = Client(url, license_key=key)
seat = client.seat("render", user=user, client_id="program").acquire()
print(json.dumps({"lease": seat.lease_id, "fence": seat.fence}), flush=True)
sys.stdin.readline()
if how == "raise":
    raise SystemError("as programs do")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("client")) as running:
        yield running


def new_license(
    server: Served, *, capacity: int = 1, lost_after: float = LOST_AFTER, interval: float = 0.5
) -> str:
    """Make a license with one feature, and return its key."""
    policy = {"capacity": capacity, "lostAfter": lost_after, "heartbeatInterval": interval}
    return server.license(render=policy)[1]


@contextmanager
def program(server: Served, key: str, user: str, how: str = "end") -> Iterator[Any]:
    """Run a program that holds a seat until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, key, user, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def leases(server: Served, key: str) -> int:
    """Count the live leases of a license, by asking as a client that is refused."""
    with Client(server.url, license_key=key) as client:
        with pytest.raises(SeatDenied) as caught:
            client.seat("render", user="counter", client_id="counter").acquire()
        return caught.value.in_use


def test_kept_for_longer_than_it_lives(server: Served) -> None:
    key = new_license(server)
    changes: list[Change] = []
    with Client(server.url, license_key=key) as client:
        with client.seat("render", user="ada", on_change=changes.append) as seat:
            fence = seat.fence
            assert not seat.wait_lost(timeout=2 * LOST_AFTER)
            seat.check()
            assert seat.fence == fence
            with Client(server.url, license_key=key) as other:
                with pytest.raises(SeatDenied, match="Maximum user limit reached") as caught:
                    other.seat("render", user="bob").acquire()
                assert caught.value.in_use == 1
                assert 0 < caught.value.retry_after <= LOST_AFTER
        with Client(server.url, license_key=key) as other:
            assert other.seat("render", user="bob").acquire().held
    assert [change.state for change in changes] == [SeatState.SAFE, SeatState.RELEASED]


def test_a_killed_holders_seat_is_granted_within_lost_after(server: Served) -> None:
    key = new_license(server)
    with program(server, key, "ada") as (process, _), Client(server.url, license_key=key) as bob:
        with pytest.raises(SeatDenied):
            bob.seat("render", user="bob").acquire()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert bob.seat("render", user="bob", wait=PATIENCE).acquire().held


def test_a_restarted_program_comes_back_to_its_own_seat_at_once(server: Served) -> None:
    key = new_license(server)
    with program(server, key, "ada") as (process, first):
        process.send_signal(signal.SIGKILL)
        process.wait()
        with program(server, key, "ada") as (_, second):
            assert second["lease"] == first["lease"]
            assert second["fence"] > first["fence"]


@pytest.mark.parametrize("how", ["end", "raise"])
def test_a_program_that_ends_gives_its_seat_back(server: Served, how: str) -> None:
    key = new_license(server, lost_after=60)
    with program(server, key, "ada", how) as (process, _):
        process.communicate(b"\n", timeout=PATIENCE)
        with Client(server.url, license_key=key) as client:
            assert client.seat("render", user="bob").acquire().held


def test_the_second_copy_takes_over_and_the_first_knows(server: Served) -> None:
    key = new_license(server)
    with Client(server.url, license_key=key) as one, Client(server.url, license_key=key) as two:
        first = one.seat("render", user="ada", client_id="same").acquire()
        second = two.seat("render", user="ada", client_id="same").acquire()
        assert first.wait_lost(timeout=PATIENCE)
        with pytest.raises(SeatLost, match="taken over") as caught:
            first.check()
        assert caught.value.reason == "taken_over"
        assert "instance=" in caught.value.hint
        second.check()


def test_a_lost_answer_leaves_one_seat(server: Served) -> None:
    key = new_license(server, capacity=2)
    with FaultProxy(server.url) as proxy, Client(proxy.url, license_key=key, retries=9) as client:
        proxy.drop_response(matching=b"POST /api/licenses/sessions ")

        def heal() -> None:
            assert proxy.wait_dropped()
            proxy.pass_through()

        healer = threading.Thread(target=heal)
        healer.start()
        seat = client.seat("render", user="ada").acquire()
        healer.join()
        assert seat.held
        with Client(server.url, license_key=key) as other:
            other.seat("render", user="bob").acquire()
            assert leases(server, key) == 2  # ada's and bob's: not a third


def test_silence_costs_no_seat_if_it_ends_in_time(server: Served) -> None:
    """A black hole for half a lease; then what it held arrives, late and out of date."""
    key = new_license(server, lost_after=4)
    changes: list[SeatState] = []
    with FaultProxy(server.url) as proxy, Client(proxy.url, license_key=key) as client:
        seat = client.seat("render", user="ada", on_change=lambda c: changes.append(c.state))
        seat.acquire()
        proxy.blackhole()
        assert seat.wait(SeatState.JEOPARDY, timeout=PATIENCE)
        seat.check()
        proxy.pass_through()
        assert seat.wait(SeatState.SAFE, timeout=PATIENCE)
        assert not seat.wait_lost(timeout=1)
        assert SeatState.LOST not in changes
        assert leases(server, key) == 1


def test_cut_off_for_too_long_it_knows_before_the_seat_is_anothers(server: Served) -> None:
    key = new_license(server)
    with FaultProxy(server.url) as proxy, Client(proxy.url, license_key=key) as client:
        seat = client.seat("render", user="ada").acquire()
        proxy.refuse()
        with Client(server.url, license_key=key) as other:
            bobs = other.seat("render", user="bob", wait=PATIENCE).acquire()
            assert not seat.held
            proxy.pass_through()
            with pytest.raises(SeatLost):
                seat.check()
            assert not seat.wait(SeatState.SAFE, timeout=LOST_AFTER)  # full: it stays so
            bobs.release()
        assert seat.wait(SeatState.SAFE, timeout=PATIENCE)  # and then comes back by itself


def test_who_came_first_is_served_first_and_told_its_place(server: Served) -> None:
    """Two wait; the one who came first gets the seat, the other is told that it has moved up."""
    key = new_license(server, lost_after=60, interval=20)
    places: dict[str, list[int | None]] = {"bob": [], "cem": []}
    moved = {name: threading.Semaphore(0) for name in places}
    with Client(server.url, license_key=key) as client:
        ada = client.seat("render", user="ada").acquire()

        def told(waiting: Waiting) -> None:
            name = str(waiting.seat.user)
            places[name].append(waiting.position)
            moved[name].release()

        waiters = {
            name: client.seat("render", user=name, wait=math.inf, on_wait=told) for name in places
        }
        threads = {name: threading.Thread(target=each.acquire) for name, each in waiters.items()}
        for name in ("bob", "cem"):
            threads[name].start()
            assert moved[name].acquire(timeout=PATIENCE)
        assert (places["bob"][0], places["cem"][0]) == (1, 2)
        ada.release()
        assert waiters["bob"].wait(SeatState.SAFE, timeout=PATIENCE)
        assert not waiters["cem"].held
        while places["cem"][-1] != 1:
            assert moved["cem"].acquire(timeout=PATIENCE)
        waiters["bob"].release()
        assert waiters["cem"].wait(SeatState.SAFE, timeout=PATIENCE)
        for thread in threads.values():
            thread.join(PATIENCE)


def test_a_server_that_is_killed_costs_nobody_a_seat(tmp_path: Path) -> None:
    with served(tmp_path) as own:
        key = new_license(own, lost_after=20)
        changes: list[SeatState] = []
        with Client(own.url, license_key=key) as client:
            seat = client.seat("render", user="ada", on_change=lambda c: changes.append(c.state))
            fence = seat.acquire().fence
            own.kill()
            assert seat.wait(SeatState.JEOPARDY, timeout=PATIENCE)
            own.start()
            assert seat.wait(SeatState.SAFE, timeout=PATIENCE)
            assert seat.fence == fence
            assert SeatState.LOST not in changes
            assert leases(own, key) == 1


def test_an_outage_longer_than_the_lease_is_the_servers_fault_not_the_holders(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as own:
        key = new_license(own)
        with Client(own.url, license_key=key) as client:
            seat = client.seat("render", user="ada").acquire()
            own.kill()
            assert seat.wait_lost(timeout=PATIENCE)
            own.start()
            assert seat.wait(SeatState.SAFE, timeout=PATIENCE)
            assert seat.lease_id is not None


def test_exit_is_quick_when_the_server_is_gone(tmp_path: Path) -> None:
    with served(tmp_path) as own:
        key = new_license(own)
        with program(own, key, "ada") as (process, _):
            own.kill()
            process.communicate(b"\n", timeout=PATIENCE)
            assert process.returncode == 0


def test_awaited_seats_are_kept_while_the_loop_is_blocked(server: Served) -> None:
    """A handler that blocks its loop for longer than a lease lives loses nothing."""
    key = new_license(server, capacity=2)
    blocked = threading.Event()

    async def story() -> None:
        async with AsyncClient(server.url, license_key=key) as client:
            ada = client.seat("render", user="ada", client_id="c1")
            bob = client.seat("render", user="bob", client_id="c1")
            await asyncio.gather(ada.acquire(), bob.acquire())
            blocked.wait(2 * LOST_AFTER)  # on the loop's own thread, and nobody sets it
            ada.check()
            assert leases(server, key) == 2
            await bob.release()
            await client.seat("render", user="cem", client_id="c1").acquire()

    asyncio.run(asyncio.wait_for(story(), PATIENCE))
    with Client(server.url, license_key=key) as client:  # all were given back
        client.seat("render", user="dan", client_id="c1").acquire()
        client.seat("render", user="eve", client_id="c1").acquire()
