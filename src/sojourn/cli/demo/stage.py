"""Where the demo plays: a server of its own, or one that runs, and a license with short thresholds."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from sojourn.cli.demo.tally import instant
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.server import Server, segment
from sojourn.stores.folder import DataFolder

SERVE = (sys.executable, "-m", "sojourn.cli.tethered", "serve")

FEATURE = "editor"
HEARTBEAT = 1.0  # seconds
LOST_AFTER = 3.0
LINGER = 1.0
RESUME_WINDOW = 60.0
START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0


class Stage(Struct, frozen=True):
    """A server, and a license on it that is the demo's own."""

    server: Server
    license_id: str
    license_key: str
    offset: int  # ms by which the server's clock is ahead of ours

    def now(self) -> int:
        """Tell the time by the server's clock."""
        return time.time_ns() // 1_000_000 + self.offset


@contextlib.contextmanager
def own_server() -> Iterator[Server]:
    """Run a server on a free port, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sojourn-demo-") as folder:
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [*SERVE, "--port", "0", "--data", folder, "--log-format", "json", "--no-dev"],
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server itself
            )
        try:
            url = _wait_ready(process, Path(folder) / "log")
            yield Server(url, DataFolder(folder).recall().key)
        finally:
            stop(process)


def clean_environment() -> dict[str, str]:
    """Return the environment without settings: what plays here is the demo's own."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}


def stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Read the server's output up to its READY line; the address stands in it."""
    assert process.stdout is not None
    timer = threading.Timer(START_TIMEOUT, process.kill)  # ends the reading below
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith(b"READY "):
                return line.split()[1].decode()
    finally:
        timer.cancel()
    said = log.read_text(errors="replace").strip().splitlines() or ["It said nothing."]
    reasons = [line.removeprefix("  why: ") for line in said if line.startswith("  why: ")]
    raise Failure(
        "The demo's server did not start.",
        why=(reasons or said)[-1],
        todo="Try `sojourn serve --port 0`, which says more.",
    )


@contextlib.contextmanager
def license_on(server: Server, capacity: int) -> Iterator[Stage]:
    """Make a license with short thresholds, and delete it afterwards."""
    made = server.post(
        "/api/licenses",
        {
            "name": "Demo",
            "features": {
                FEATURE: {
                    "capacity": capacity,
                    "heartbeatInterval": HEARTBEAT,
                    "lostAfter": LOST_AFTER,
                    "linger": LINGER,
                    "resumeWindow": RESUME_WINDOW,
                }
            },
        },
    )
    license_id = made["licenseId"]
    try:
        at = server.get(f"/api/licenses/{segment(license_id)}/session-stats")["at"]
        offset = instant(at) - time.time_ns() // 1_000_000
        yield Stage(server, license_id, made["key"], offset)
    finally:
        with contextlib.suppress(Failure):  # a server that is away takes the license along
            server.ask("DELETE", f"/api/licenses/{segment(license_id)}")


def check_plan(clients: int, capacity: int, seconds: float) -> None:
    """Refuse what would show nothing."""
    if not 1 <= capacity <= 100 or not 2 <= clients <= 100 or seconds <= 0:
        raise Failure(
            "The demo cannot be played like this.",
            why=f"{clients} clients, {capacity} seats, {seconds:g} seconds.",
            todo="Take 2 to 100 clients, 1 to 100 seats, and more than 0 seconds.",
            exit_code=ExitCode.USAGE,
        )
