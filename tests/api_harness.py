"""The API over a memory store, driven in this process or served on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

import uvicorn
from msgspec import Struct, field

from sojourn.api.app import create_app
from sojourn.api.server import Server, server_config
from sojourn.clock import ManualClock
from sojourn.doctor.doctor import Doctor
from sojourn.lease import LeaseFilter
from sojourn.ledger import Role
from sojourn.license import Policy
from sojourn.service.services import Services
from sojourn.session import Begin, Begun
from sojourn.settings import Settings
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring

T = TypeVar("T")

ADMIN = "an admin key set by hand, long enough"
FEATURE = "editor"
SEATS = "/api/licenses/sessions"
BEAT = "/api/licenses/sessions/heartbeat"
CURRENT = "/api/licenses/sessions/current"
START_TIMEOUT = 20.0
CLIENT_ADDRESS = "192.0.2.7"

Headers = Sequence[tuple[str, str]]


class Answer(Struct):
    """What came back, as it went over the wire."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        answer = self.json
        assert answer["success"] is True
        return answer["data"]

    @property
    def code(self) -> str:
        return str(self.json["code"])

    def header(self, name: str) -> str | None:
        found = [v for n, v in self.headers if n.decode().lower() == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0].decode() if found else None


class World:
    """A service and whom it knows: a license with one feature, and a key of every role.

    Nothing ticks by itself: tests move the clock.
    """

    def __init__(
        self,
        *,
        capacity: int = 2,
        queue_max: int = 10_000,
        doctor: Doctor | None = None,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock, max_pause=10**12)  # a moved clock is no outage
        self.ledger = open_ledger("memory:", clock=self.clock)
        self.keyring = Keyring([b"k" * 32])
        self.services = Services(
            self.store,
            self.ledger,
            self.keyring,
            sweep_interval=3_600,
            pulse_interval=3_600,
            queue_max=queue_max,
        )
        self.settings = Settings(
            queue_max=queue_max,
            **{"webhook_interval": 0, "doctor_interval": 0, "plan_interval": 0} | settings,
        )
        self.app = create_app(self.services, self.settings, doctor)
        self.services.keys.ensure_admin(ADMIN)
        self.keys = {
            role: self.services.keys.create(role.value, role, actor="test")[1] for role in Role
        }
        license_, self.license_key = self.services.licenses.create(
            "Acme", {FEATURE: Policy(capacity=capacity)}, actor="test"
        )
        self.license_id = license_.id
        self.license_name = license_.name

    def session(self, user: str = "ann") -> str:
        """Sign somebody in; return the session's id."""
        begun = self.services.sessions.begin([Begin(user_id=user)])[0]
        assert isinstance(begun, Begun)
        return begun.session.id

    def footprint(self) -> tuple[Any, ...]:
        """Everything that a refused request must leave as it was, but for recorded denials."""
        leases, _ = self.store.leases(LeaseFilter(include_ended=True), limit=1_000)
        return (
            leases,
            [event.id for event in self.store.events(limit=1_000)],
            self.ledger.licenses(limit=1_000),
            self.ledger.pools(limit=1_000),
            self.ledger.keys(),
        )

    def wish(self, user: str = "ann", client: str = "tab-1", **more: Any) -> dict[str, Any]:
        return {"feature": FEATURE, "userId": user, "clientId": client, **more}


class Api(World):
    """A world whose application runs in this process, on a loop that runs while it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.loop = asyncio.new_event_loop()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()

    def start(self) -> dict[str, Any]:
        self._life = self.loop.create_task(
            self.app({"type": "lifespan"}, self._inbox.get, self._outbox.put)
        )
        said = self._live("lifespan.startup")
        if (
            said["type"] == "lifespan.startup.complete"
        ):  # its first sweep is not to meet a test's clock
            assert self.services.caught_up.wait(START_TIMEOUT)
        return said

    def stop(self) -> dict[str, Any]:
        said = self._live("lifespan.shutdown")
        self.run(self._life)
        return said

    def _live(self, event: str) -> dict[str, Any]:
        async def tell() -> dict[str, Any]:
            await self._inbox.put({"type": event})
            said: dict[str, Any] = await self._outbox.get()
            return said

        return self.run(tell())

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def call(self, method: str, path: str, **request: Any) -> Answer:
        """Send one request; see `send`."""
        return self.run(send(self.app, method, path, **request))

    def acquire(self, user: str = "ann", client: str = "tab-1", **more: Any) -> Answer:
        wish = self.wish(user, client, **more)
        return self.call("POST", SEATS, bearer=self.license_key, json=wish)

    def seat(self, user: str = "ann", client: str = "tab-1", **more: Any) -> Any:
        """Take a seat that is surely free, and return what was answered."""
        answer = self.acquire(user, client, **more)
        assert answer.status == 201, answer.body
        return answer.data

    def beat(self, token: str, **said: Any) -> Answer:
        return self.call("POST", BEAT, bearer=token, json=said)

    def admin(self, method: str, path: str, **request: Any) -> Answer:
        return self.call(method, path, bearer=ADMIN, **request)


@contextlib.contextmanager
def api(**settings: Any) -> Iterator[Api]:
    """Run an application around a test."""
    world = Api(**settings)
    started = world.start()
    assert started["type"] == "lifespan.startup.complete", started
    try:
        yield world
    finally:
        stopped = world.stop()
        world.run(world.loop.shutdown_default_executor())
        world.loop.close()
        assert stopped["type"] == "lifespan.shutdown.complete", stopped


async def send(
    app: Any,
    method: str,
    path: str,
    *,
    bearer: str | None = None,
    json: Any = None,
    body: bytes = b"",
    headers: Headers = (),
    pieces: Sequence[bytes] | None = None,
) -> Answer:
    """Send one request straight into an ASGI application; `pieces` are the body as it arrives."""
    sent = [(name.lower().encode(), value.encode()) for name, value in headers]
    if bearer is not None:
        sent.append((b"authorization", f"Bearer {bearer}".encode()))
    content = body if json is None else encode(json)
    if content and b"content-type" not in dict(sent):
        sent.append((b"content-type", b"application/json"))
    raw, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode("ascii"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": sent,
        "client": (CLIENT_ADDRESS, 40_000),
        "server": ("sojourn.test", 80),
        "state": {},
    }
    waiting = list(pieces if pieces is not None else [content])
    answer = Answer()

    async def receive() -> Any:
        if waiting:
            part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}
        return {"type": "http.disconnect"}

    async def deliver(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, deliver)
    return answer


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def gather(*work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, list[T]]:
    async def together() -> list[T]:
        return list(await asyncio.gather(*work))

    return together()


class Served(Struct):
    """A real server on loopback, in a thread."""

    world: World
    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)


@contextlib.contextmanager
def served(world: World, **options: Any) -> Iterator[Served]:
    """Serve a world as `sojourn serve` does, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    class Noticed(Server):
        loop: asyncio.AbstractEventLoop
        over: asyncio.Event

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
            started.set()

        async def main_loop(self) -> None:
            """End when that is asked for; uvicorn looks ten times a second, and hundreds of tests wait."""
            while not await self.on_tick(0):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self.over.wait()

    config = uvicorn.Config(world.app, **{**server_config(world.settings), **options})
    server = Noticed(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(START_TIMEOUT), "the server did not start"
        yield Served(world, listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        with contextlib.suppress(AttributeError, RuntimeError):  # it did not start, or is over
            server.loop.call_soon_threadsafe(server.over.set)
        thread.join()
        listener.close()
