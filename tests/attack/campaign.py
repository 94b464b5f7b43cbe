"""`make campaign-attack`: floods a server, one way after the other, and watches an honest client meanwhile.

    python -m tests.attack                  all floods, at full force; writes what it found down
    python -m tests.attack --brief          a moment of each, and nothing is written
    python -m tests.attack --only metrics   those whose names hold a word

The honest client holds a seat and beats over one connection. Memory is the server's, in MiB: before a flood,
the most during it, and once it has given back, within half a minute after. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from tests.attack.floods import HOST, Flood, Force, Tally, Target, bearer, floods, pause, request
from tests.serving import Served, acquire, new_client, served

TIMES_QUIET = 5.0
"""How much slower than in quiet an honest beat may be, by the medians."""
GROWTH_MAX = 64.0  # MiB
LEFT_MAX = 16.0
"""MiB that a flood may leave behind: what Python keeps for the next time, and caches that are bounded."""
GIVE_BACK = 30.0  # seconds
LOOK_EVERY = 0.1
BEAT_EVERY = 0.02
FULL = Force(connections=100, rate=400.0, seconds=10.0)
BRIEF = Force(connections=20, rate=150.0, seconds=0.6)
SESSIONS = 400
"""Sessions of 10 KB in the store, for lists."""
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "attack.json"
REPORT = ROOT / "docs" / "campaigns.md"
BEGIN, END = "<!-- attack: make campaign-attack -->", "<!-- end of attack -->"


class Row(Struct, frozen=True, kw_only=True):
    """What one flood did. Latencies in ms, memory in MiB."""

    flood: str
    rate: float  # answers per second that the flood got
    statuses: dict[str, int]
    quiet_p50: float
    quiet_p99: float
    under_p50: float
    under_p99: float
    beats: int
    beats_failed: int
    before: float
    peak: float
    after: float

    @property
    def faults(self) -> list[str]:
        """Say what is not as promised."""
        found = self.lasting
        if self.under_p50 > TIMES_QUIET * self.quiet_p50:
            found.append(f"a beat takes {self.under_p50 / self.quiet_p50:.1f} × as long")
        return found

    @property
    def lasting(self) -> list[str]:
        """Say what is not as promised, but for how long anything took: that depends on the machine."""
        found = []
        if self.beats_failed or not self.beats:
            found.append(f"{self.beats_failed} of {self.beats} beats failed")
        if self.peak - self.before > GROWTH_MAX:
            found.append(f"memory grew by {self.peak - self.before:.0f} MiB")
        if self.after - self.before > LEFT_MAX:
            found.append(f"{self.after - self.before:.0f} MiB were not given back")
        return found


class Honest:
    """Beats, over one connection, until it is told to stop."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._beat = request("POST", "/api/licenses/sessions/heartbeat", bearer(token))
        self.took: list[float] = []
        self.failed = 0

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            while time.monotonic() < until:
                began = time.perf_counter()
                writer.write(self._beat)
                head = await reader.readuntil(b"\r\n\r\n")
                lower = head.lower()
                at = lower.find(b"content-length:")
                await reader.readexactly(int(lower[at + 15 : lower.find(b"\r", at)]))
                self.took.append((time.perf_counter() - began) * 1_000)
                self.failed += head[9:12] != b"200"
                await pause(BEAT_EVERY)
        finally:
            writer.close()

    def quantile(self, share: float) -> float:
        ranked = sorted(self.took)
        return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def memory(pid: int) -> float:
    """Return how much of the machine's memory a process has, in MiB."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(told.stdout) / 1_024


async def watch(pid: int, seconds: float) -> float:
    """Return the most memory that a process had within a time."""
    until, most = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        most = max(most, await asyncio.to_thread(memory, pid))
        await pause(LOOK_EVERY)
    return most


async def given_back(pid: int, before: float) -> float:
    """Wait until memory is given back, at most GIVE_BACK; return what there is then."""
    until = time.monotonic() + GIVE_BACK
    while (now := await asyncio.to_thread(memory, pid)) - before > LEFT_MAX:
        if time.monotonic() > until:
            break
        await pause(LOOK_EVERY)
    return now


async def measure(
    name: str, flood: Flood, target: Target, force: Force, *, pid: int, token: str
) -> Row:
    """Beat in quiet, then under a flood."""
    await flood(target, msgspec.structs.replace(force, seconds=0.2), Tally())  # what is made once
    quiet = Honest(target.port, token)
    await quiet.run(force.seconds / 3)
    before = memory(pid)
    under, tally = Honest(target.port, token), Tally()
    peak, *_ = await asyncio.gather(
        watch(pid, force.seconds), flood(target, force, tally), under.run(force.seconds)
    )
    after = await given_back(pid, before)
    return Row(
        flood=name,
        rate=tally.answers / force.seconds,
        statuses=dict(tally.statuses.most_common(5)),
        quiet_p50=statistics.median(quiet.took),
        quiet_p99=quiet.quantile(0.99),
        under_p50=statistics.median(under.took),
        under_p99=under.quantile(0.99),
        beats=len(under.took),
        beats_failed=under.failed,
        before=before,
        peak=max(peak, after),
        after=after,
    )


def prepare(server: Served) -> tuple[Target, str]:
    """Make what an attack needs: a seat that is held, a key that may read, and sessions to list."""
    _, key = server.license(editor={"capacity": 10, "lostAfter": 3_600, "heartbeatInterval": 600})
    with server.admin() as http:
        made = http.post("/api/keys", json={"name": "viewer", "role": "viewer"}).json()["data"]
        for number in range(SESSIONS):
            data = {"text": "x" * 10_000}
            http.post("/api/sessions", json={"userId": f"u{number % 20}", "data": data})
    with new_client() as http:
        seat = acquire(http, server.url, key, "editor", "ann").json()["data"]
    return Target(server.port, made["key"]), seat["token"]


def attack(force: Force, only: Sequence[str] = ()) -> list[Row]:
    """Flood a server in every way; return what each did."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        target, token = prepare(server)
        for name, flood in floods(target).items():
            if only and not any(word in name for word in only):
                continue
            rows.append(
                asyncio.run(measure(name, flood, target, force, pid=server.pid, token=token))
            )
            say(line(rows[-1]))
    return rows


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


HEAD = (
    "| flood | answers/s | beat in quiet p50, p99 | under it p50, p99 | memory before | most | after |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def line(row: Row) -> str:
    """Write a row of the table."""
    return (
        f"| {row.flood} | {row.rate:.0f} | {row.quiet_p50:.1f}, {row.quiet_p99:.1f} ms"
        f" | {row.under_p50:.1f}, {row.under_p99:.1f} ms"
        f" | {row.before:.0f} | {row.peak:.0f} | {row.after:.0f} MiB |"
    )


def write_down(rows: Sequence[Row], force: Force) -> None:
    """Keep the results where they are read."""
    when = datetime.now(UTC).date().isoformat()
    found = {"when": when, "machine": platform.machine(), "force": force, "rows": rows}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    words = (
        f"{when}, each flood {force.seconds:.0f} s over {force.connections} connections; those that ask do so"
        f" {force.rate:.0f} times in a second:"
    )
    table = "\n".join([words, "", HEAD, *map(line, rows)])
    before, _, rest = REPORT.read_text().partition(BEGIN)
    REPORT.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack")
    parser.add_argument("--brief", action="store_true", help="a moment of each; writes nothing")
    parser.add_argument("--only", nargs="*", default=(), help="floods whose names hold a word")
    asked = parser.parse_args(given)
    force = BRIEF if asked.brief else FULL
    say(HEAD)
    rows = attack(force, asked.only)
    if not asked.brief and not asked.only:
        write_down(rows, force)
    faults = [f"{row.flood}: {fault}" for row in rows for fault in row.faults]
    say("\n".join(["", *faults]) if faults else "\nAll as promised.")
    return 1 if faults else 0
