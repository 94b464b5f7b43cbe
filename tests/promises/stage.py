"""Stores and servers as real processes, on free loopback ports, in folders that go with them.

SQLite has one server, and a memory of a file; the others have two servers, each behind a proxy of its own on
the way to the store, and one more before it for clients that are far away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.promises.history import Pool
from tests.serving import ADMIN_KEY, TICK, Served, new_client

from sojourn.stores.open import migrate
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.redis_server import RedisServer, redis_server
from sojourn.testing.servers import Server, fresh_database, mariadb, postgres
from sojourn.testing.wall_clock import WallClock

ANSWERED = 30.0
NUMBERED_AGAIN = 50_000  # events
"""Seconds within which a server that runs and has its store answers an operator."""
STORES = ("sqlite", "postgresql", "mariadb", "valkey", "valkey-everysec")
ROOT = Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
"""For processes that are started: this tree's tests, and its product."""
WALLED = ("-m", "tests.promises.walled")
QUEUE_MAX = 300
STOP_TIMEOUT = 30.0


class Node(Served):
    """A server of the stage, which may be frozen, and run under a planted bug."""

    def __init__(
        self, data: Path, *, store: str, environ: dict[str, str], program: Sequence[str] = ()
    ) -> None:
        super().__init__(data, store=store, environ=environ, program=program)
        self.frozen = False

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            os.kill(self.pid, signal.SIGCONT)
            self.frozen = False

    def kill(self) -> None:
        self.thaw()
        super().kill()


@dataclass(kw_only=True)
class Stage:
    """What the nemesis may lay hands on.

    Attributes:
        store: the database's or Valkey's process; None for SQLite.
        to_store: proxies between each server and the store; empty for SQLite.
        far: proxies between far clients and each server.
        disk: the small file system SQLite's file is on, if any.
    """

    kind: str
    folder: Path
    nodes: list[Node]
    store: Server | RedisServer | None
    to_store: list[FaultProxy]
    far: list[FaultProxy]
    server_wall: WallClock | None = None
    store_wall: WallClock | None = None
    disk: Path | None = None
    url: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    _heard: dict[str, dict[tuple[str, str], tuple[float, dict[str, Any]]]] = field(
        default_factory=dict
    )
    _asked_after: int = 0

    def license(self, pools: dict[str, Pool]) -> str:
        """Make a license with these pools; return its key."""
        features = {
            name: {
                "capacity": pool.capacity,
                "lostAfter": pool.lost_after,
                "heartbeatInterval": pool.heartbeat,
                "suspectAfter": pool.suspect_after,
                "linger": pool.linger,
                "whenFull": "reclaim_suspect" if pool.reclaims else "deny",
                "overdraft": pool.overdraft,
                "reservations": [
                    {"name": "kept", "seats": pool.reserved, "users": list(pool.kept_for)}
                ]
                if pool.reserved
                else [],
            }
            for name, pool in pools.items()
        }
        _, key = self.nodes[0].license(**features)
        return key

    def outages(self) -> list[tuple[float, float]]:
        """Ask the servers when the store was away: from and until; see `_told`."""
        return [(at - data["lasted"], at) for at, data in self._told("store.returned")]

    def noticed(self) -> list[float]:
        """Ask them when they saw that the store had been restarted; likewise."""
        return [at for at, _ in self._told("store.replaced")]

    def _told(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        """Ask the servers, as an operator would, what they tell of the store, and when that was on this
        process's monotonic clock. The store's time goes on as the clock of this machine does, whoever sets
        its own."""
        to_monotonic = time.monotonic() - time.time()
        heard, after = self._heard.setdefault(kind, {}), self._asked_after
        for event in self._events(kind=kind, after=after):
            at = datetime.fromisoformat(event["at"]).timestamp() + to_monotonic
            heard[event["at"], json.dumps(event["data"])] = at, event["data"]
        return sorted(heard.values(), key=lambda told: told[0])

    def _events(self, **asked: Any) -> list[dict[str, Any]]:
        with self.nodes[0].admin() as http:
            until = time.monotonic() + ANSWERED
            while (
                True
            ):  # a server that has just been through it all may be unavailable for a moment yet
                answer = http.get("/api/events", params={"limit": 1_000} | asked)
                if answer.status_code != 503 or time.monotonic() > until:
                    break
                TICK.wait(0.2)
            answer.raise_for_status()
            items: list[dict[str, Any]] = answer.json()["data"]["items"]
            return items

    def settle(self) -> None:
        """Ask about what comes from here on, next time: there are millions before. A store that loses its
        last second gives some numbers again."""
        newest = self._events(newestFirst=True, limit=1)
        self._asked_after = max(
            0, max((event["id"] for event in newest), default=0) - NUMBERED_AGAIN
        )

    @property
    def admin(self) -> str:
        return ADMIN_KEY

    def answers(self) -> bool:
        """Tell whether every server says that it is ready."""
        with new_client(2) as http:
            for node in self.nodes:
                try:
                    if http.get(f"{node.url}/readyz").status_code != 200:
                        return False
                except httpx.HTTPError:
                    return False
        return True


def two(kind: str) -> bool:
    return kind != "sqlite"


@contextlib.contextmanager
def stage(
    kind: str,
    *,
    walls: bool = False,
    disk: int = 0,
    program: Sequence[str] = (),
    environ: dict[str, str] | None = None,
) -> Iterator[Stage]:
    """Put everything up, and take it away.

    `walls`: servers and store go by wall clocks that can be set. `disk`: SQLite's file lives on a file
    system of so many MiB, which takes root. `program`: what runs instead of `-m sojourn`.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sojourn-promises-")))
        folder.chmod(0o755)
        server_wall = stack.enter_context(WallClock()) if walls else None
        store_wall = stack.enter_context(WallClock()) if walls and two(kind) else None
        small = _small_disk(stack, folder, disk) if disk else None
        store, url = _store(stack, kind, store_wall, small or folder)
        more = {"SOJOURN_QUEUE_MAX": str(QUEUE_MAX), "SOJOURN_SHOW_HOLDERS": "false"}
        more |= {"SOJOURN_MAX_PAUSE": "2"}  # or a busy machine alone is an outage now and then
        more |= {"SOJOURN_LOG_LEVEL": "warning", "PYTHONPATH": PYTHONPATH}
        more |= server_wall.environ if server_wall else {}
        more |= environ or {}
        nodes, to_store = list[Node](), list[FaultProxy]()
        for number in range(2 if two(kind) else 1):
            way = url
            if two(kind):
                to_store.append(stack.enter_context(FaultProxy(url)))
                way = to_store[-1].url
            more |= _ledger(kind, folder)
            data = (small or folder) / f"server-{number}"
            node = Node(data, store=way, environ=more, program=program or (WALLED if walls else ()))
            nodes.append(node)
            stack.callback(node.kill)
        for node in nodes:
            node.start()
        far = [stack.enter_context(FaultProxy(node.url)) for node in nodes]
        yield Stage(
            kind=kind,
            folder=folder,
            nodes=nodes,
            store=store,
            to_store=to_store,
            far=far,
            server_wall=server_wall,
            store_wall=store_wall,
            disk=small,
            url=url,
        )


def _store(
    stack: contextlib.ExitStack, kind: str, wall: WallClock | None, folder: Path
) -> tuple[Server | RedisServer | None, str]:
    if kind == "sqlite":
        return None, f"sqlite:///{folder}/sojourn.db"
    if kind.startswith("valkey"):
        fsync = "everysec" if kind.endswith("everysec") else "always"
        server = stack.enter_context(redis_server(options={"appendfsync": fsync}, wall=wall))
        strict = "?failover=strict" if kind.endswith("everysec") else ""
        return server, server.url + strict
    database = stack.enter_context(
        postgres(wall=wall) if kind == "postgresql" else mariadb(wall=wall)
    )
    url = stack.enter_context(fresh_database(database))
    migrate(url)
    return database, url


def _ledger(kind: str, folder: Path) -> dict[str, str]:
    """Beside Valkey both servers keep their ledger in one file."""
    if not kind.startswith("valkey"):
        return {}
    path = folder / "ledger.db"
    if not path.exists():
        migrate(f"sqlite:///{path}")
    return {"SOJOURN_LEDGER": f"sqlite:///{path}"}


def _small_disk(stack: contextlib.ExitStack, folder: Path, mebibytes: int) -> Path:
    """Mount a file system in memory. Raises PermissionError without root."""
    if os.geteuid() != 0:
        raise PermissionError("a small disk is mounted by root only")
    path = folder / "disk"
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)], check=True
    )
    stack.callback(subprocess.run, ["umount", "-l", str(path)], check=False)
    return path


def port_of(url: str) -> int:
    return int(urlsplit(url).port or 0)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder as it is now, files that vanish meanwhile left out."""
    with contextlib.suppress(shutil.Error):
        shutil.copytree(source, target, dirs_exist_ok=True)


def wait(seconds: float) -> None:
    """Let time pass: faults come on a schedule."""
    TICK.wait(seconds)


def client_process(plan: Path) -> subprocess.Popen[str]:
    """Start the crowd."""
    environ: dict[str, Any] = {**os.environ, "PYTHONPATH": PYTHONPATH}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.promises.clients", str(plan)],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
