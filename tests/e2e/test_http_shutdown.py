"""Starting and stopping: nothing accepted is lost, nothing new is taken, and failures say what is wrong."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_harness import BEAT, SEATS, Api, World, api, served

from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.service.seats import Seat, SeatCall
from sojourn.token import hash_token

TIMEOUT = 20.0
ROOT = Path(__file__).parents[2]

SERVER = """
import asyncio, socket, threading
import uvicorn, uvloop
from sojourn.api.context import Context
from sojourn.api.server import server_config
from tests.api_harness import World, BEAT, send

noticed = threading.Event()

class Noticing(Context):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "draining" and value:
            noticed.set()

world = World()
world.app.context.__class__ = Noticing
renew = world.store.renew

def held(renews):
    print("held", flush=True)
    assert noticed.wait(20)
    asyncio.run_coroutine_threadsafe(ask(), loop).result(20)
    return renew(renews)

async def ask():
    print((await send(world.app, "GET", "/readyz")).code, flush=True)

async def main():
    global loop
    loop = asyncio.get_running_loop()
    await server.serve(sockets=[listener])

world.store.renew = held
listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(world.app, **server_config(world.settings)))
print(listener.getsockname()[1], world.license_key, flush=True)
uvloop.run(main())
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_sigterm_lets_what_was_accepted_finish(process: subprocess.Popen[str]) -> None:
    port, key = line(process).split()
    wish = {"feature": "editor", "userId": "ann", "clientId": "c"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client:
        proof = {"Authorization": f"Bearer {key}"}
        token = client.post(SEATS, json=wish, headers=proof).json()["data"]["token"]
        beat: list[httpx.Response] = []

        def send_beat() -> None:
            beat.append(client.post(BEAT, headers={"Authorization": f"Bearer {token}"}))

        thread = threading.Thread(target=send_beat)
        thread.start()
        assert line(process) == "held"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "shutting_down"  # what /readyz says while the beat still waits
        thread.join(TIMEOUT)
        assert [answer.status_code for answer in beat] == [200]
    assert process.wait(TIMEOUT) in (0, -signal.SIGTERM)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT)


def test_stopping_answers_what_is_queued_and_closes_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    closed: list[str] = []
    for name in ("store", "ledger"):
        owner = getattr(world, name)
        monkeypatch.setattr(owner, "close", lambda name=name: closed.append(name))
    with served(world) as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert closed == ["store", "ledger"]


def test_a_store_that_hangs_holds_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(shutdown_timeout=0.2)
    token = seat(world)
    entered, gate = threading.Event(), threading.Event()

    def held(*_: Any) -> Any:
        entered.set()
        assert gate.wait(TIMEOUT)
        return []

    monkeypatch.setattr(world.store, "renew", held)
    answers: list[httpx.Response] = []

    def send_beat(url: str) -> None:
        proof = {"Authorization": f"Bearer {token}"}
        answers.append(httpx.post(url + BEAT, headers=proof, timeout=TIMEOUT))

    with served(world) as server:
        thread = threading.Thread(target=send_beat, args=(server.url,))
        thread.start()
        assert entered.wait(TIMEOUT)
    thread.join()
    gate.set()
    assert [answer.status_code for answer in answers] == [503]
    assert answers[0].json()["code"] == "shutting_down"
    assert answers[0].headers["cache-control"] == "no-store"


def seat(world: World) -> str:
    call = SeatCall(
        key_hash=hash_token(world.license_key), feature="editor", user_id="ann", client_id="c"
    )
    (granted,) = world.services.seats.acquire([call])
    assert isinstance(granted, Seat)
    return granted.token


def test_readyz_turns_before_anything_else() -> None:
    with api() as world:
        world.app.context.draining = True
        answer = world.call("GET", "/readyz")
        assert (answer.status, answer.code) == (503, "shutting_down")
        assert answer.header("retry-after") == "2"
        assert world.call("GET", "/livez").status == 200
        assert world.acquire().status == 201  # what still comes is served


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed_and_passed_on(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda n, _: heard.append(n))
    try:
        with api() as world:
            signal.raise_signal(number)
            assert world.app.context.draining
            assert heard == [number]
        signal.raise_signal(number)  # ours is gone, the other one is back
        assert heard == [number, number]
    finally:
        signal.signal(number, before)


def test_a_handler_set_later_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with api():

            def later(*_: Any) -> None:
                """Stands for somebody else's."""

            signal.signal(signal.SIGTERM, later)
        assert signal.getsignal(signal.SIGTERM) is later
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "fault",
    [
        StoreUnavailable("The database at db:5432 does not answer.", hint="Is it running?"),
        StoreBroken("The table sojourn_leases is missing.", hint="Run `sojourn migrate`."),
    ],
)
def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    world = Api()

    def fail() -> None:
        raise fault

    monkeypatch.setattr(world.store, "pulse", fail)
    said = world.start()
    assert said["type"] == "lifespan.startup.failed"
    assert said["message"] == f"The server cannot start. {fault.message} {fault.hint}"
    world.run(world._life)
    world.loop.close()


def test_a_stop_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Api()
    world.start()

    def fail() -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(world.services, "close", fail)
    said = world.stop()
    assert said == {"type": "lifespan.shutdown.failed", "message": "the disk is gone"}
    world.run(world.loop.shutdown_default_executor())
    world.loop.close()
