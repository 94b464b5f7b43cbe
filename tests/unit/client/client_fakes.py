"""A world that stands still and a license server in a function, for tests of the client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from sojourn.client import Change, Client, Seat, SeatState
from sojourn.client.beats import Beats
from sojourn.client.world import Join, World
from sojourn.token import TokenKind, new_token

KEY = new_token(TokenKind.LICENSE)
START = 1_000.0
SEATS = "/api/licenses/sessions"

Fault = Callable[["Call"], Any]
"""Answers instead of the server, raises, or returns None: let the server answer."""


class FakeWorld(World):
    """Time moves when told, chance is what it is told, and threads are stepped by hand."""

    def __init__(self) -> None:
        self.time = START
        self.luck = 0.5
        self.started: list[str] = []
        self.beats: list[Beats] = []

    def now(self) -> float:
        return self.time

    def chance(self) -> float:
        return self.luck

    def start(self, target: Callable[[], None], name: str) -> Join:
        self.started.append(name)
        return lambda timeout: None

    def wait(self, lock: threading.Condition, seconds: float) -> None:
        assert seconds < 1e6, "this wait would never end"
        lock.release()
        try:
            self.advance(seconds)
        finally:
            lock.acquire()

    def advance(self, seconds: float) -> None:
        """Let time pass, doing everything when it is due."""
        until = self.time + seconds
        self.settle()
        while (due := min((b._next() for b in self.beats), default=until)) < until:
            self.time = max(self.time, due)
            self.settle()
        self.time = max(self.time, until)  # a slow request may have taken longer
        self.settle()

    def sleep(self, seconds: float) -> None:
        """Close the lid: time passes, and nothing is done."""
        self.time += seconds

    def settle(self) -> None:
        for beats in self.beats:
            while beats.step():
                pass
            beats.notes.run(block=False)


@dataclass
class Call:
    """A request the server got."""

    at: float
    method: str
    path: str
    bearer: str
    body: dict[str, Any]
    timeout: float
    key: str | None = None

    @property
    def verb(self) -> str:
        if self.method == "DELETE":
            return "release"
        return "beat" if self.path.endswith("/heartbeat") else "acquire"


@dataclass
class FakeLease:
    id: str
    holder: tuple[str, str]
    fence: int
    expires_at: float
    ended: str | None = None


@dataclass
class FakeServer:
    """One pool, as much of its meaning as a client can notice."""

    world: FakeWorld
    capacity: int = 1
    interval: float = 30.0
    lost_after: float = 90.0
    latency: float = 0.0  # of every request, half of it before it is decided
    retry_after: float = 7.0
    line: bool = False  # whether who says `wait` waits, and is told a place
    parks: bool = True  # whether it has room for the requests of those who wait
    calls: list[Call] = field(default_factory=list)
    leases: list[FakeLease] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)  # one per coming request
    always: Fault | None = None  # for every request, once `faults` are used up
    fence: int = 0
    secret: str = "s1"
    firsts: dict[str, tuple[dict[str, Any], float]] = field(default_factory=dict)  # by key

    def __call__(self, request: httpx.Request) -> httpx.Response:
        call = Call(
            at=self.world.time,
            method=request.method,
            path=request.url.path,
            bearer=request.headers["Authorization"].removeprefix("Bearer "),
            body=json.loads(request.content) if request.content else {},
            timeout=request.extensions["timeout"]["read"],
            key=request.headers.get("Idempotency-Key"),
        )
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else self.always
        if fault is not None and (answer := fault(call)) is not None:
            assert isinstance(answer, httpx.Response)
            return answer
        self.world.time += self.latency / 2
        answer = getattr(self, call.verb)(call)
        self.world.time += self.latency / 2
        assert isinstance(answer, httpx.Response)
        return answer

    def acquire(self, call: Call) -> httpx.Response:
        if call.key in self.firsts:
            granted, until = self.firsts[call.key]
            return success(201, **{**granted, "expiresIn": max(0.0, until - self.world.time)})
        if call.bearer.startswith("sjl_"):
            lease = self._of(call.bearer)
            if lease is None:
                return problem(401, "token_forged")
            if f".{lease.fence}." not in call.bearer or lease.ended not in {None, "evicted"}:
                return problem(410, "lease_ended", resumable=False)
            resumed = True
        elif call.bearer.startswith("sjk_") and call.bearer != KEY:
            return problem(401, "unauthenticated", error="This license key is not known.")
        else:
            holder = (call.body.get("userId", "jwt"), call.body["clientId"])
            found = [x for x in self.leases if x.holder == holder and not x.ended]
            resumed = bool(found)
            lease = found[0] if found else FakeLease(f"lse_{len(self.leases)}", holder, 0, 0)
        others = [x for x in self.live() if x is not lease]
        place: dict[str, Any] = {}
        if len(others) >= self.capacity and self.line and (wait := call.body.get("wait")):
            place = {"position": 1, "waiting": 2, "estimate": 30.0, "keepPlace": 15.0}
            if self.parks:
                free_at = min(x.expires_at for x in others)
                self.world.time = min(self.world.time + wait, max(free_at, self.world.time))
            others = [x for x in self.live() if x is not lease]
        if len(others) >= self.capacity:
            return problem(
                409, "seat_limit", error="Maximum user limit reached", limit=self.capacity, **place,
                inUse=len(others), suspect=0, retryAfter=1.0 if place else self.retry_after,
                mine=[{"leaseId": x.id, "userId": x.holder[0], "state": "active"} for x in others],
            )  # fmt: skip
        self.fence += 1
        lease.fence, lease.ended = self.fence, None
        lease.expires_at = self.world.time + self.lost_after
        if lease not in self.leases:
            self.leases.append(lease)
        granted = {
            "leaseId": lease.id, "token": f"sjl_{lease.id}.{lease.fence}.{self.secret}",
            "fence": lease.fence, "heartbeatInterval": self.interval, "lostAfter": self.lost_after,
            "expiresIn": self.lost_after, "resumed": resumed,
        }  # fmt: skip
        if call.key is not None:
            self.firsts[call.key] = (granted, lease.expires_at)
        return success(201, **granted)

    def beat(self, call: Call) -> httpx.Response:
        lease = self._of(call.bearer)
        if lease is None:
            return problem(401, "token_forged")
        if f".{lease.fence}." not in call.bearer:
            return lost("taken_over")
        if lease.ended or lease.expires_at <= self.world.time:
            return lost(lease.ended or "expired", resumable=lease.ended in {None, "evicted"})
        left = 10.0 if call.body.get("closing") else self.lost_after
        lease.expires_at = self.world.time + left
        return success(200, expiresIn=left, state="active")

    def release(self, call: Call) -> httpx.Response:
        lease = self._of(call.bearer)
        if lease is not None and f".{lease.fence}." in call.bearer:
            lease.ended = lease.ended or "released"
        return success(200, released=True)

    def live(self) -> list[FakeLease]:
        return [x for x in self.leases if not x.ended and x.expires_at > self.world.time]

    def times(self, verb: str) -> list[float]:
        """Say when requests of a kind came, in seconds since the start."""
        return [round(c.at - START, 6) for c in self.calls if c.verb == verb]

    def occupy(self, user: str = "bob", *, seconds: float = 1e9) -> FakeLease:
        """Let somebody else take a seat."""
        self.fence += 1
        until = self.world.time + seconds
        lease = FakeLease(f"lse_{len(self.leases)}", (user, "other"), self.fence, until)
        self.leases.append(lease)
        return lease

    def _of(self, token: str) -> FakeLease | None:
        lease_id, _, rest = token.removeprefix("sjl_").partition(".")
        if not rest.endswith(self.secret):
            return None
        return next(x for x in self.leases if x.id == lease_id)


def success(status: int, **data: Any) -> httpx.Response:
    return httpx.Response(status, json={"success": True, "data": data})


def problem(
    status: int, code: str, *, header: float | None = None, **fields: Any
) -> httpx.Response:
    body = {"type": "t", "title": "t", "status": status, "code": code, "error": code} | fields
    headers = {"Content-Type": "application/problem+json"}
    if header is not None:
        headers["Retry-After"] = f"{header:.0f}"
    return httpx.Response(status, content=json.dumps(body), headers=headers)


def lost(reason: str, *, resumable: bool = False) -> httpx.Response:
    return problem(410, "lease_lost", reason=reason, resumable=resumable)


# --- faults ---


def refused(call: Call) -> httpx.Response:
    raise httpx.ConnectError("Connection refused")


def reset(call: Call) -> httpx.Response:
    raise httpx.ReadError("Connection reset by peer")


def answers(response: Callable[[], httpx.Response]) -> Fault:
    return lambda call: response()


@dataclass
class Scene:
    """A world, a server in it and a client of that."""

    world: FakeWorld
    server: FakeServer
    client: Client
    changes: list[Change]

    def seat(self, **options: Any) -> Seat:
        usual = {"user": "ada", "client_id": "c1", "on_change": self.changes.append}
        return self.client.seat("render", **{**usual, **options})

    def blackhole(self, call: Call) -> httpx.Response:
        self.world.time += call.timeout
        raise httpx.ReadTimeout("timed out")

    def answer_lost(self, call: Call) -> httpx.Response:
        """Decide, and let the answer get lost."""
        getattr(self.server, call.verb)(call)
        return self.blackhole(call)

    def states(self) -> list[tuple[SeatState, str]]:
        return [(change.state, change.reason) for change in self.changes]


@contextmanager
def scene(*, server: dict[str, Any] | None = None, **options: Any) -> Iterator[Scene]:
    world = FakeWorld()
    fake = FakeServer(world, **(server or {}))
    if "jwt" not in options:
        options = {"license_key": KEY} | options
    client = Client(
        "http://127.0.0.1:8700", transport=httpx.MockTransport(fake), world=world, **options
    )
    world.beats.append(client._beats)
    yield Scene(world, fake, client, [])
    fake.faults, fake.always = [], None
    client.close()
