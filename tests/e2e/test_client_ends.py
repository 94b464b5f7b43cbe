"""How programs that hold a seat end, and what becomes of the seat: signals, Ctrl+C, forks, kills, sleep.

The server is real; thresholds are long, so that only what was given back is free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.serving import Served, served
from tests.waiting import DEADLINE, ended

from sojourn.client import Client, SeatDenied

CLOSE_TIMEOUT = "CLOSE_TIMEOUT = 30.0"
"""Programs have longer to give seats back than the 5 s they have otherwise: the machine may stall, and a seat
that was not given back in time would look like one that was forgotten."""
START = """
import asyncio, os, signal, sys, threading, time
from sojourn.client import returns
returns.CLOSE_TIMEOUT = 30.0  # before anybody else takes it
from sojourn.client import AsyncClient, Client

url, key = sys.argv[1:]
def say(what):
    print(what, flush=True)
"""
WORKING = (
    START
    + """
with Client(url, license_key=key) as client, client.seat("render", user="ada") as seat:
    say("held")
    while True:
        seat.check()
"""
)
AWAITING = (
    START
    + """
async def main():
    async with AsyncClient(url, license_key=key) as client, client.seat("render", user="ada"):
        say("held")
        await asyncio.sleep(600)
asyncio.run(main())
"""
)
LEAKING = (
    START
    + """
seat = Client(url, license_key=key).seat("render", user="ada").acquire()
say("held")
while True:
    time.sleep(600)
"""
)
HANDLING = (
    START
    + """
def mine(number, frame):
    say("mine")
    sys.exit(3)
signal.signal(signal.SIGTERM, mine)
seat = Client(url, license_key=key).seat("render", user="ada").acquire()
say("held")
while True:
    time.sleep(600)
"""
)
FORKING = (
    START
    + """
seat = Client(url, license_key=key).seat("render", user="ada").acquire()
child = os.fork()
if not child:
    say("child")
    while True:
        time.sleep(600)
os.kill(child, signal.SIGTERM)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
seat.check()
say("held")
sys.stdin.read()
"""
)
PREFORKED = (
    START
    + """
seat = Client(url, license_key=key).seat("render", user="ada")
child = os.fork()
if not child:
    seat.acquire()
    say("held")
    while True:
        time.sleep(600)
sys.stdin.readline()
os.kill(child, signal.SIGTERM)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)
CHECKING = (
    START
    + """
seat = Client(url, license_key=key).seat("render", user="ada").acquire()
last = None
while True:
    at = time.monotonic()
    if (held := seat.held) is not last:
        say(f"{seat.fence if held else 0} {at}")
        last = held
    time.sleep(0.001)
"""
)
NAMED = (
    START
    + """
seat = Client(url, license_key=key).seat("render", user="ada").acquire()
say(seat.client_id)
say(seat.lease_id)
sys.stdin.read()
"""
)
ABANDONING = (
    START
    + """
Client(url, license_key=key).seat("render", user="ada").acquire()
waiting = threading.Event()
async def main():
    seat = AsyncClient(url, license_key=key).seat(
        "render", user="eve", wait=1e9, on_wait=lambda _: waiting.set()
    )
    task = asyncio.ensure_future(seat.acquire())
    while not waiting.is_set():
        await asyncio.sleep(0.01)
    if sys.stdin.readline() == "raise\\n":
        raise RuntimeError("as programs do")
    asyncio.get_running_loop().stop()
loop = asyncio.new_event_loop()
say("begun")
try:
    loop.run_until_complete(main())
except RuntimeError as fault:
    say(fault)
loop.close()
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ends")) as running:
        yield running


@pytest.fixture
def key(server: Served) -> str:
    policy = {"capacity": 1, "lostAfter": 3_600, "heartbeatInterval": 1_200}
    return server.license(render=policy)[1]


@contextmanager
def running(code: str, url: str, key: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, url, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and its children
        process.communicate()


def hears(process: Any) -> str:
    return str(ended(process.stdout.readline).strip())


def is_free(server: Served, key: str) -> bool:
    with Client(server.url, license_key=key) as client:
        try:
            client.seat("render", user="bob", client_id="probe").acquire()
        except SeatDenied:
            return False
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("code", [WORKING, AWAITING, LEAKING], ids=["with", "async", "leak"])
def test_a_signal_gives_the_seat_back_and_ends_the_program(
    server: Served, key: str, code: str, number: signal.Signals
) -> None:
    with running(code, server.url, key) as process:
        assert hears(process) == "held"
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
        assert process.returncode == -number
        assert is_free(server, key)


@pytest.mark.parametrize("how", ["raise", "stop"])
def test_a_loop_that_ends_with_a_waiter_does_not_keep_the_program(
    server: Served, key: str, how: str
) -> None:
    """Its task was never canceled: the thread that waits in the line for it must not hold up the exit."""
    with running(ABANDONING, server.url, key) as process:
        assert hears(process) == "begun"
        process.communicate(f"{how}\n", timeout=DEADLINE)
        assert process.returncode == 0
        with Client(
            server.url, license_key=key
        ) as client:  # past the place that it had in the line
            assert client.seat("render", user="bob", wait=DEADLINE).acquire().held


def test_a_signal_that_the_program_handles_is_left_to_it(server: Served, key: str) -> None:
    with running(HANDLING, server.url, key) as process:
        assert hears(process) == "held"
        process.terminate()
        assert hears(process) == "mine"
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 3
        assert is_free(server, key)


def test_a_suspended_program_knows_before_anything_else_that_its_seat_is_gone(
    server: Served,
) -> None:
    """It wakes up while somebody else has the seat. Not once does it say that it holds it."""
    policy = {"capacity": 1, "lostAfter": 4, "heartbeatInterval": 1, "whenFull": "deny"}
    key = server.license(render=policy)[1]
    with running(CHECKING, server.url, key) as process, Client(server.url, license_key=key) as bob:
        while not int(hears(process).split()[0]):
            """A machine that stalls for the time of the lease costs the seat, and it comes back."""
        process.send_signal(signal.SIGSTOP)
        seat = bob.seat("render", user="bob", wait=DEADLINE).acquire()
        fence, acquired_at = seat.fence or 0, time.monotonic()
        process.send_signal(signal.SIGCONT)
        held, at = 1, 0.0
        while (held or at < acquired_at) and held <= fence:  # or bob has stalled, and lost it again
            said, since = hears(process).split()
            held, at = int(said), float(since)
            assert not (held and at > acquired_at and held < fence)
        seat.release()
        while held <= fence:
            held = int(hears(process).split()[0])


def test_each_of_two_copies_that_were_killed_gets_its_own_seat_back(server: Served) -> None:
    policy = {"capacity": 2, "lostAfter": 3_600, "heartbeatInterval": 1_200}
    key = server.license(render=policy)[1]
    with running(NAMED, server.url, key) as one, running(NAMED, server.url, key) as two:
        before = {(hears(each), hears(each)) for each in (one, two)}
        assert len({name for name, _ in before}) == len({lease for _, lease in before}) == 2
        for each in (one, two):
            each.kill()
            each.wait(DEADLINE)
    with running(NAMED, server.url, key) as one, running(NAMED, server.url, key) as two:
        assert {(hears(each), hears(each)) for each in (one, two)} == before


def test_signals_can_be_left_alone(server: Served, key: str) -> None:
    code = LEAKING.replace("license_key=key", "license_key=key, signals=False")
    with running(code, server.url, key) as process:
        assert hears(process) == "held"
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == -signal.SIGTERM
        assert not is_free(server, key)


def test_a_forked_child_that_is_ended_takes_nobodys_seat(server: Served, key: str) -> None:
    with running(FORKING, server.url, key) as process:
        said = [hears(process), hears(process)]
        if "child" in said:  # or it was ended before it said so
            said.append(hears(process))
        assert "held" in said
        assert str(-signal.SIGTERM) in said
        assert not is_free(server, key)
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert is_free(server, key)


def test_a_forked_child_gives_back_the_seat_that_it_took_itself(server: Served, key: str) -> None:
    """Its parent had described the seat, as servers do that load an application before they fork."""
    with running(PREFORKED, server.url, key) as process:
        assert hears(process) == "held"
        assert not is_free(server, key)
        said, _ = process.communicate("end\n", timeout=DEADLINE)
        assert int(said) == -signal.SIGTERM
        assert is_free(server, key)


def test_a_signal_ends_the_program_when_the_server_does_not_answer(tmp_path: Path) -> None:
    """It is frozen: a request is neither answered nor refused."""
    with served(tmp_path) as own:
        policy = {"capacity": 1, "lostAfter": 3_600, "heartbeatInterval": 1_200}
        code = WORKING.replace(CLOSE_TIMEOUT, "CLOSE_TIMEOUT = 5.0")
        with running(code, own.url, own.license(render=policy)[1]) as process:
            assert hears(process) == "held"
            os.kill(own.pid, signal.SIGSTOP)
            try:
                process.terminate()
                process.wait(DEADLINE)
            finally:
                os.kill(own.pid, signal.SIGCONT)
            assert process.returncode == -signal.SIGTERM
