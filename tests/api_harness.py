"""The API over a memory store, driven in this process or served on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import uvicorn
from msgspec import Struct, field

from sojourn.api.app import create_app
from sojourn.api.fast import FastLane
from sojourn.api.server import server_config
from sojourn.clock import ManualClock
from sojourn.ledger import Ledger, Role
from sojourn.license import Policy
from sojourn.service.services import Services
from sojourn.settings import Settings
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring

BASE = "http://sojourn.test"
ADMIN = "an admin key set by hand, long enough"
FEATURE = "editor"
START_TIMEOUT = 20.0


class World:
    """A service and whom it knows: one license with one feature, and a key of every role."""

    def __init__(self, *, capacity: int = 2, queue_max: int = 10_000, **settings: Any) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.ledger: Ledger = open_ledger("memory:", clock=self.clock)
        self.keyring = Keyring([b"k" * 32])
        # Nothing ticks while a test runs: it moves the clock itself.
        self.services = Services(
            self.store,
            self.ledger,
            self.keyring,
            sweep_interval=3_600,
            pulse_interval=3_600,
            queue_max=queue_max,
        )
        self.settings = Settings(queue_max=queue_max, **settings)
        self.app = create_app(self.services, self.settings)
        self.services.keys.ensure_admin(ADMIN)
        self.keys = {
            role: self.services.keys.create(role.value, role, actor="test")[1] for role in Role
        }
        license_, self.license_key = self.services.licenses.create(
            "Acme", {FEATURE: Policy(capacity=capacity)}, actor="test"
        )
        self.license_id = license_.id

    def footprint(self) -> tuple[Any, ...]:
        """Everything that a request which is refused must leave as it was."""
        from sojourn.lease import LeaseFilter

        leases, _ = self.store.leases(LeaseFilter(include_ended=True), limit=1_000)
        return (
            [lease.id for lease in leases],
            [event.id for event in self.store.events(limit=1_000)],
            [x.id for x in self.ledger.licenses(limit=1_000)],
            len(self.ledger.keys()),
        )

    def wish(self, user: str = "ann", client: str = "tab-1", **more: Any) -> dict[str, Any]:
        return {"feature": FEATURE, "userId": user, "clientId": client, **more}


class Answer(Struct):
    """What came back, as it went over the wire."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    def header(self, name: str) -> str | None:
        found = [v for n, v in self.headers if n.decode().lower() == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0].decode() if found else None


async def call(
    app: Any,
    method: str,
    path: str,
    *,
    bearer: str | None = None,
    json_body: Any = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    pieces: list[bytes] | None = None,
) -> Answer:
    """Send one request straight into an ASGI application."""
    sent = list(headers.items()) if isinstance(headers, Mapping) else list(headers or [])
    if bearer is not None:
        sent.append(("authorization", f"Bearer {bearer}"))
    content = b"" if body is None else body
    if json_body is not None:
        content = json.dumps(json_body).encode()
    if content and not any(name.lower() == "content-type" for name, _ in sent):
        sent.append(("content-type", "application/json"))
    raw, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": httpx.URL(BASE + raw).path,
        "raw_path": raw.encode("ascii"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent],
        "client": ("192.0.2.7", 40_000),
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

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


@contextlib.asynccontextmanager
async def alive(world: World) -> AsyncIterator[FastLane]:
    """Run the application's lifespan around a test."""
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(world.app({"type": "lifespan"}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    started = await outbox.get()
    assert started["type"] == "lifespan.startup.complete", started
    try:
        yield world.app
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        stopped = await outbox.get()
        assert stopped["type"] == "lifespan.shutdown.complete", stopped
        await life


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
def served(world: World, *, loop: str | None = None) -> Iterator[Served]:
    """Serve a world as `sojourn serve` does, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    options = server_config(world.settings)
    options["workers"] = 1
    if loop is not None:
        options["loop"] = loop
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(world.app, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(START_TIMEOUT), "the server did not start"
        yield Served(world, listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
