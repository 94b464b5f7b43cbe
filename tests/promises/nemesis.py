"""What makes servers, stores, networks, disks and clocks fail, on a schedule from a seed.

Each fault begins, lasts, and is healed before it returns; it is written down as a `Window`, from its first
moment to the one in which it let go. How long it took until something was well again is for the histories
to say.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.promises.history import Window
from tests.promises.stage import Node, Stage, wait

from sojourn.testing.redis_server import RedisServer

LONGEST = 4.0  # seconds for which anything is frozen, cut or full
READY_TIMEOUT = 20.0
BALLAST_STEP = 1 << 18  # bytes

DECK: tuple[str, ...] = (
    *("server-kill",) * 12,
    *("server-stop",) * 3,
    *("server-freeze",) * 2,
    *("store-kill",) * 5,
    *("store-freeze",) * 2,
    "store-cut",
    "store-hole",
    "store-hole-out",
    "store-hole-back",
    "answers-lost",
    "client-hole",
    "client-hole-out",
    "client-hole-back",
    "client-reset",
    "client-answers-lost",
)
"""The faults of one epoch, in the proportion in which they come."""

CLOCKS: tuple[str, ...] = (
    "server-clock+1h",
    "server-clock-1h",
    "store-clock+1h",
    "store-clock-1h",
    "server-clock+1d",
    "server-clock-1d",
    "store-clock+1d",
    "store-clock-1d",
)
"""Wall clocks are set, and stay so; the next fault of the same clock sets it back to this machine's."""


def possible(kind: str, faults: Sequence[str]) -> list[str]:
    """Leave out what a store has not: SQLite has neither a process nor a network of its own."""
    if kind != "sqlite":
        return list(faults)
    instead = {"store-kill": "server-kill"}
    kept = [instead.get(fault, fault) for fault in faults]
    return [f for f in kept if not f.startswith(("store-", "answers"))]


class Nemesis:
    """Makes things fail on a stage. Attributes: windows: what it did; counts: of each fault."""

    def __init__(self, stage: Stage, seed: int, *, longest: float = LONGEST) -> None:
        self.stage = stage
        self.longest = longest
        self.random = random.Random(seed)
        self.windows: list[Window] = []
        self.counts: Counter[str] = Counter()

    def strike(self, fault: str) -> None:
        """Make one thing fail, and heal it."""
        self.counts[fault] += 1
        if "-clock" in fault:
            self._clock(fault)
            return
        strikes: dict[str, Callable[[], None]] = {
            "server-kill": self._kill_server,
            "servers-kill": self._kill_servers,
            "server-stop": self._stop_server,
            "server-freeze": self._freeze_server,
            "store-kill": self._kill_store,
            "store-freeze": self._freeze_store,
            "store-loss": self._lose_last_second,
            "store-cut": lambda: self._store_network("cut"),
            "store-hole": lambda: self._store_network("hole"),
            "store-hole-out": lambda: self._store_network("hole-out"),
            "store-hole-back": lambda: self._store_network("hole-back"),
            "answers-lost": self._lose_store_answers,
            "client-hole": lambda: self._client_network("hole"),
            "client-hole-out": lambda: self._client_network("hole-out"),
            "client-hole-back": lambda: self._client_network("hole-back"),
            "client-reset": lambda: self._client_network("reset"),
            "client-answers-lost": lambda: self._client_network("answers-lost"),
            "disk-full": self._fill_disk,
        }
        strikes[fault]()

    def _note(self, kind: str, start: float, *, server: int = -1, detail: str = "") -> None:
        self.windows.append(
            Window(kind=kind, start=start, end=time.monotonic(), server=server, detail=detail)
        )

    def _some(self, least: float, most: float = LONGEST) -> float:
        return self.random.uniform(least, max(least, min(most, self.longest)))

    def _node(self) -> tuple[int, Node]:
        number = self.random.randrange(len(self.stage.nodes))
        return number, self.stage.nodes[number]

    def _about(self, number: int) -> int:
        """Name a server where others serve beside it; else what befalls it befalls all."""
        return number if len(self.stage.nodes) > 1 else -1

    def _kill_server(self) -> None:
        number, node = self._node()
        start = time.monotonic()
        node.kill()
        wait(self._some(0, 0.4))
        self._note("server-kill", start, server=number)
        node.start()

    def _kill_servers(self) -> None:
        start = time.monotonic()
        for node in self.stage.nodes:
            node.kill()
        for number, node in enumerate(self.stage.nodes):
            self._note("server-kill", start, server=number)
            node.start()

    def _stop_server(self) -> None:
        number, node = self._node()
        start = time.monotonic()
        node.stop()
        self._note("server-stop", start, server=number)
        stopped = time.monotonic()
        self._note("server-kill", stopped, server=number, detail="after a stop")
        node.start()

    def _freeze_server(self) -> None:
        number, node = self._node()
        start = time.monotonic()
        node.freeze()
        try:
            wait(self._some(0.5))
        finally:
            node.thaw()
        self._note("server-freeze", start, server=number)

    def _kill_store(self) -> None:
        store = self.stage.store
        assert store is not None
        start = time.monotonic()
        store.kill()
        wait(self._some(0, 1.0))
        self._note("store-kill", start)
        store.start()

    def _freeze_store(self) -> None:
        store = self.stage.store
        assert store is not None
        start = time.monotonic()
        store.pause()
        try:
            wait(self._some(0.5))
        finally:
            store.resume()
        self._note("store-freeze", start)

    def _lose_last_second(self) -> None:
        """A power cut under Valkey's `appendfsync everysec`: what was not yet flushed is gone."""
        store = self.stage.store
        assert isinstance(store, RedisServer)
        kept = {path: path.stat().st_size for path in _logs(store)}
        lost_from = time.monotonic()
        wait(self._some(0.2, 1.0))
        start = time.monotonic()
        store.kill()
        for path in _logs(store):
            with path.open("r+b") as log:
                log.truncate(min(kept.get(path, 0), path.stat().st_size))
        self._note("loss", lost_from - 0.05)
        self._note("store-kill", start, detail="and the last second lost")
        store.start()

    def _store_network(self, how: str) -> None:
        proxies = self.stage.to_store
        both = self.random.random() < 0.5
        chosen = proxies if both else [self.random.choice(proxies)]
        start = time.monotonic()
        try:
            for proxy in chosen:
                match how:
                    case "cut":
                        proxy.refuse()
                    case "hole":
                        proxy.blackhole()
                    case "hole-out":
                        proxy.blackhole(responses=False)
                    case _:
                        proxy.blackhole(requests=False)
            wait(self._some(0.5))
        finally:
            for proxy in chosen:
                proxy.pass_through()
        self._note("store-cut", start, detail=f"{how}, {len(chosen)} of {len(proxies)} servers")

    def _lose_store_answers(self) -> None:
        """The store has done what it was asked, and the server cannot know."""
        matching = b"EVALSHA" if isinstance(self.stage.store, RedisServer) else b"COMMIT"
        start = time.monotonic()
        for proxy in self.stage.to_store:
            proxy.drop_response(matching=matching)
        for proxy in self.stage.to_store:
            proxy.wait_dropped(1.0)
            proxy.pass_through()
        self._note("store-cut", start, detail="answers lost")

    def _client_network(self, how: str) -> None:
        proxy = self.random.choice(self.stage.far)
        start = time.monotonic()
        try:
            match how:
                case "hole":
                    proxy.blackhole()
                case "hole-out":
                    proxy.blackhole(responses=False)
                case "hole-back":
                    proxy.blackhole(requests=False)
                case "reset":
                    proxy.cut()
                case _:
                    proxy.drop_response(matching=b"POST")
            wait(self._some(0.5, 3.0))
        finally:
            proxy.pass_through()
        self._note("net", start, detail=how)

    def _clock(self, fault: str) -> None:
        who, _, shift = fault.partition("-clock")
        wall = self.stage.server_wall if who == "server" else self.stage.store_wall
        assert wall is not None
        amount = int(shift[:-1])
        start = time.monotonic()
        wall.shift(days=amount) if shift.endswith("d") else wall.shift(hours=amount)
        self._note("clock", start, detail=fault)
        wait(self._some(2.0, 5.0))
        start = time.monotonic()
        wall.shift()
        self._note("clock", start, detail=f"back from {fault}")

    def _fill_disk(self) -> None:
        disk = self.stage.disk
        assert disk is not None
        ballast = disk / "ballast"
        start = time.monotonic()
        killed = self.random.random() < 0.5
        try:
            _fill(ballast)
            wait(self._some(1.0, 3.0))
            if killed:
                self.stage.nodes[0].kill()
        finally:
            ballast.unlink()
        self._note("disk", start, detail="with a restart" if killed else "")
        if killed:
            self._note("server-kill", start, server=0, detail="while the disk was full")
            self.stage.nodes[0].start()

    def heal(self) -> None:
        """Let go of everything, and see to it that all runs: an epoch's last calm needs that."""
        for proxy in (*self.stage.to_store, *self.stage.far):
            proxy.pass_through()
        if self.stage.store is not None:
            self.stage.store.resume()
            self.stage.store.start()
        for node in self.stage.nodes:
            node.thaw()
            if not node.up:
                node.start()


def _logs(store: RedisServer) -> list[Path]:
    """List the append-only files that are still written to."""
    return sorted((store.folder / "data" / "appendonlydir").glob("*.incr.aof"))


def _fill(path: Path) -> None:
    """Write until nothing more goes in."""
    block = os.urandom(BALLAST_STEP)
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as ballast:
        while ballast.write(block) == len(block):
            continue
    size = BALLAST_STEP
    while size > 1:  # and the last corner too
        size //= 4
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as ballast:
            while ballast.write(block[:size]) == size:
                continue
