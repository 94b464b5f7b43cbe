"""An authority and its relays as processes on loopback, with a faulty network between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from tests.serving import SECRET, Served

from sojourn.testing.proxy import FaultProxy

INTERVAL = 0.2  # seconds between two beats of a relay: fifty times as often as usual
WAIT = 300.0  # seconds until something that was mended must be well
TICK = threading.Event()
LONG = {"SOJOURN_MAX_PAUSE": "3600"}  # a machine that stalls is no outage here


def until(met: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; return what it was met by."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if found := met():
                return found
        TICK.wait(0.05)
    raise AssertionError(f"not within {WAIT:.0f} s: {what}")


def start(server: Served) -> None:
    """Start a server, and wait for longer than others do: here a machine may stall for minutes."""
    try:
        server.start()
    except RuntimeError:
        with httpx.Client(timeout=10) as http:
            until(lambda: http.get(f"{server.url}/readyz").status_code == 200, "it is ready")


class Site:
    """One relay, its process, and its way to the authority. `starts` is even while it runs."""

    def __init__(self, name: str, folder: Path, authority: str, key: str) -> None:
        self.name = name
        self.proxy = FaultProxy(authority)
        self.proxy.__enter__()
        environ = {
            **LONG,
            "SOJOURN_ROLE": "relay",
            "SOJOURN_AUTHORITY": self.proxy.url,
            "SOJOURN_RELAY_KEY": key,
            "SOJOURN_RELAY_INTERVAL": str(INTERVAL),
        }
        self.server = Served(folder, environ=environ)
        self.starts = 1
        self.cut = False

    def start(self) -> None:
        start(self.server)
        self.starts += 1

    def kill(self) -> None:
        self.starts += 1
        self.server.kill()

    def region(self) -> dict[str, Any]:
        with self.server.admin() as http:
            return dict(http.get("/api/relays").json()["data"]["region"])

    def well(self) -> bool:
        """Tell whether it is heard by its authority."""
        found = self.region()
        return not found.get("fault") and "heardAgo" in found

    def close(self) -> None:
        self.server.kill()
        self.proxy.__exit__()


class Fleet:
    """`capacity`: of the one feature that all regions share."""

    def __init__(
        self, folder: Path, names: Sequence[str], *, capacity: int, lost_after: float
    ) -> None:
        self.folder = folder
        self.authority = Served(folder / "authority", environ=LONG)
        self.capacity = capacity
        self._lost_after = lost_after
        self._names = names
        self.sites: list[Site] = []
        self.backups: list[Path] = []

    def start(self) -> None:
        start(self.authority)
        policy = {"capacity": self.capacity, "lostAfter": self._lost_after}
        self.license_id, self.key = self.authority.license(editor=policy)
        for name in self._names:
            with self.authority.admin() as http:
                made = http.post("/api/keys", json={"name": name, "role": "relay"})
            assert made.status_code == 201, made.text
            key = made.json()["data"]["key"]
            self.sites.append(Site(name, self.folder / name, self.authority.url, key))
            self.sites[-1].start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for site in self.sites:
            site.close()
        self.authority.kill()

    def back_up(self) -> None:
        copy = self.folder / f"backup-{len(self.backups)}.db"
        self._run("backup", str(copy))
        self.backups.append(copy)

    def restore(self, copy: Path) -> None:
        """Kill the authority, put it back to an earlier state, and start it."""
        self.authority.kill()
        self._run("restore", str(copy), "--yes")
        start(self.authority)

    def _run(self, *arguments: str) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}
        data = self.authority.data
        done = subprocess.run(
            [sys.executable, "-m", "sojourn", *arguments, "--data", str(data)],
            env={**environ, "SOJOURN_SECRET": SECRET},
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def relays(self) -> dict[str, Any]:
        with self.authority.admin() as http:
            return dict(http.get("/api/relays").json()["data"])

    def allotted(self) -> int:
        pools = [pool for relay in self.relays()["items"] for pool in relay.get("pools", ())]
        return sum(pool["seats"] for pool in pools)

    def keep_logs(self, place: Path) -> None:
        for server in (self.authority, *(site.server for site in self.sites)):
            if server.log.exists():
                shutil.copy(server.log, place / f"{server.data.name}.log")
