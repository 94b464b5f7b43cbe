"""A crowd of clients in a process of its own, which writes down what it saw.

    python -m tests.promises.clients PLAN.json

It prints a line of counts each half second, as JSON, and ends by itself when the plan's time is over, or
when it is told to by SIGTERM. What the clients do is in `seats` and `people`; here is what they stand on.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from tests.promises.history import Pool, Record, Writer
from tests.promises.wire import Caller, Exchange, request

REPORT_EVERY = 0.5  # seconds
DRAIN = 4.0  # seconds a client may take to come to its end


@dataclass(kw_only=True)
class Plan:
    """What a crowd is to do.

    Attributes:
        ports: of the servers. far: the same through proxies that may be cut.
        hot: the pools that are contested, with `contenders` and `stayers` in each.
        storms: (from, to, connections): seconds from the start, in which so many more rush in.
        late, copies: clients that give requests up, and that send them twice with an Idempotency-Key.
    """

    path: str
    seed: int
    seconds: float
    ports: list[int]
    far: list[int]
    key: str
    admin: str
    pools: dict[str, Pool]
    hot: list[str]
    contenders: int = 12
    stayers: int = 2
    people: int = 10
    lates: int = 3
    copies: int = 2
    far_share: float = 0.12
    think: float = 0.02
    storms: list[tuple[float, float, int]] = field(default_factory=list)
    late: bool = True
    idempotent: bool = True
    cutoffs: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Plan:
        raw = json.loads(text)
        raw["pools"] = {name: Pool(**pool) for name, pool in raw["pools"].items()}
        return Plan(**raw)


class World:
    """What all clients of a crowd have in common."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.writer = Writer(Path(plan.path))
        self.began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.resting: set[asyncio.Future[None]] = set()
        self._ended = False

    def end(self) -> None:
        """Call it a day before the plan's time is over; who rests is woken."""
        self._ended = True
        for rest in self.resting:
            if not rest.done():
                rest.set_result(None)

    @property
    def over(self) -> bool:
        return self._ended or time.monotonic() - self.began > self.plan.seconds

    @property
    def age(self) -> float:
        return time.monotonic() - self.began


class Client:
    """One client. Its requests go one after the other, but for those of its `hands`."""

    def __init__(self, world: World, number: int, *, hands: int = 1) -> None:
        self.world = world
        self.number = number
        self.random = random.Random(f"{world.plan.seed}-{number}")
        far = self.random.random() < world.plan.far_share
        ports = world.plan.far if far and world.plan.far else world.plan.ports
        far = ports is world.plan.far
        self.callers = [Caller(ports, number, far=far) for _ in range(hands)]

    @property
    def plan(self) -> Plan:
        return self.world.plan

    async def run(self) -> None:
        raise NotImplementedError

    async def rest(self, seconds: float) -> None:
        """Let time pass, as a client that waits does; not once the world is over."""
        if self.world.over:
            return
        loop, resting = asyncio.get_running_loop(), self.world.resting
        passed: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, passed)
        resting.add(passed)
        await passed
        resting.discard(passed)
        timer.cancel()

    async def ask(
        self,
        op: str,
        wire: bytes,
        about: dict[str, Any],
        *,
        patience: float = 2.0,
        hand: int = 0,
        abandon: float | None = None,
    ) -> tuple[Record, dict[str, Any]]:
        """Send a request, write down what became of it, return the record and the answer's data.

        `abandon`: do not wait for its answer for longer than this; 0: hang up at once.
        """
        caller = self.callers[hand]
        if abandon == 0:
            exchange = await caller.send_and_close(wire)
        else:
            exchange = await caller.call(wire, abandon or patience)
        counts = self.world.counts
        if exchange.why == "refused":
            counts["refused"] += 1
        else:
            counts["requests"] += 1
            counts[op] += 1
            counts["unanswered"] += exchange.done is None
        body, said = facts(op, exchange)
        record = Record(
            self.number,
            op,
            exchange.server,
            round(exchange.sent, 6),
            None if exchange.done is None else round(exchange.done, 6),
            round(exchange.closed, 6),
            exchange.status,
            about,
            said,
        )
        if exchange.status >= 500:
            counts["5xx"] += 1
        self.world.writer.write(record)
        return record, body

    async def beat_call(
        self, token: str, about: dict[str, Any], *, closing: bool = False
    ) -> tuple[Record, dict[str, Any]]:
        body = b'{"closing":true}' if closing else b""
        wire = request("POST", "/api/licenses/sessions/heartbeat", bearer=token, body=body)
        return await self.ask("beat", wire, about, patience=1.0)


def _wake(rest: asyncio.Future[None]) -> None:
    if not rest.done():
        rest.set_result(None)


def facts(op: str, exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answer's data, and those of its facts that a checker may want."""
    if exchange.done is None:
        return {}, {"x": exchange.why}
    try:
        body = json.loads(exchange.body)
    except ValueError:
        return {}, {"malformed": exchange.body[:80].decode("latin-1")}
    if not isinstance(body, dict):
        return {}, {"malformed": str(type(body))}
    if 200 <= exchange.status < 300:
        data = body.get("data")
        if body.get("success") is not True or not isinstance(data, dict):
            return {}, {"malformed": "no data"}
        return data, _good(op, data)
    said = {
        "code": body.get("code"),
        "why": body.get("reason"),
        "resumable": body.get("resumable"),
    }
    if exchange.status == 409:
        said |= {
            "used": body.get("inUse"),
            "limit": body.get("limit"),
            "kept": body.get("reservedFree"),
        }
    if body.get("status") != exchange.status or not isinstance(body.get("code"), str):
        said["malformed"] = "problem"
    return body, said


def _good(op: str, data: dict[str, Any]) -> dict[str, Any]:
    match op:
        case "acquire":
            return {
                "l": data.get("leaseId"),
                "f": data.get("fence"),
                "r": data.get("resumed"),
                "in": data.get("expiresIn"),
            }
        case "beat":
            return {"in": data.get("expiresIn"), "st": data.get("state")}
        case "release":
            return {"rel": data.get("released")}
        case "begin" | "check" | "rotate":
            session = data.get("session") or {}
            return {
                "id": session.get("id"),
                "u": session.get("userId"),
                "d": session.get("data"),
                "rev": session.get("revision"),
            }
        case "save":
            return {"rev": data.get("revision")}
        case _:
            return {"n": data.get("ended")}


async def _report(world: World) -> None:
    loop = asyncio.get_running_loop()
    while True:
        passed = loop.create_future()
        loop.call_later(REPORT_EVERY, _wake, passed)
        await passed
        sys.stdout.write(json.dumps(world.counts) + "\n")
        sys.stdout.flush()


async def _until_over(world: World) -> None:
    watch = Client(world, 0)
    while not world.over:
        await watch.rest(0.2)
    raise Over


class Over(Exception):
    """The crowd's time is over."""


async def play(plan: Plan) -> None:
    """Let the crowd act until its time is over."""
    from tests.promises import people, seats  # noqa: PLC0415  # they stand on this module

    world = World(plan)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, world.end)
    clients: list[Client] = [*seats.crowd(world), *people.crowd(world)]
    work: list[Coroutine[Any, Any, None]] = [client.run() for client in clients]
    tasks = [asyncio.ensure_future(one) for one in work]
    tasks += [asyncio.ensure_future(one) for one in seats.storms(world)]
    reporter = asyncio.ensure_future(_report(world))
    watch = asyncio.ensure_future(_until_over(world))
    await asyncio.wait([*tasks, watch], return_when=asyncio.FIRST_EXCEPTION)
    ended, late = await asyncio.wait(tasks, timeout=DRAIN, return_when=asyncio.FIRST_EXCEPTION)
    for task in (*late, reporter, watch):
        task.cancel()
    await asyncio.gather(*late, reporter, watch, return_exceptions=True)
    for client in clients:
        for caller in client.callers:
            caller.close()
    world.writer.close()
    sys.stdout.write(json.dumps(world.counts) + "\n")
    sys.stdout.flush()
    for task in ended:
        task.result()  # a client that fails is a fault of ours, and must not go unseen


def main() -> None:
    plan = Plan.from_json(Path(sys.argv[1]).read_text())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play(plan))


if __name__ == "__main__":
    main()
