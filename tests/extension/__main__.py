"""Ends the browser of somebody who has a seat in every way that there is, and tells when the seat is free.

    python -m tests.extension [--rounds N] [--only PART …] [--idle MINUTES]

Real Chromium, the real extension, a real server, and the clock on the wall, with short thresholds. It prints
what goes on, then a table; it writes bench/results/extension.json, and the table into docs/campaigns.md,
unless only a part was asked for. It exits with 1 if a living holder lost the seat though she could speak for
it, if a ghost held it for too long, or if a socket is left.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.browser.chromium import find
from tests.conftest import know_the_fetched
from tests.extension.ends import ENDS, POLICY, End, Seen, tried
from tests.extension.report import RESULTS, Report, faults, keep, table
from tests.extension.stage import staged
from tests.serving import Served, served

ROUNDS = 3
IDLE = 10.0  # minutes
IDLE_POLICY = {"heartbeatInterval": 30, "lostAfter": 90}
"""What a license has that says nothing of it: the server speaks each 20 s then."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cases(only: Sequence[str], rounds: int) -> Iterator[tuple[End, bool]]:
    """List what is tried: each end where somebody needs the seat, and, if she goes on, where nobody does."""
    for _ in range(rounds):
        for end in ENDS:
            if only and not any(part in end.name for part in only):
                continue
            yield end, True
            if end.lives:
                yield end, False


def words(seen: Seen) -> str:
    free = (
        "nobody else had it" if seen.free_after is None else f"free after {seen.free_after:.1f} s"
    )
    return f"{free}{f', {seen.kept}' if seen.kept else ''}, {seen.sockets} sockets left"


def idle(server: Served, folder: Path, minutes: float) -> dict[str, float]:
    """Leave a browser alone, with no debugger attached; say whether worker and seat are as they were."""
    with staged(server, folder, policy=IDLE_POLICY) as stage:
        stage.sign_in()
        boots = stage.boots
        threading.Event().wait(minutes * 60)
        alive = stage.browser.worker() is not None
        same = stage.lease()["leaseId"] == stage.lease_id and stage.lease()["fence"] == 1
        return {
            "minutes": minutes,
            "worker_alive": float(alive),
            "worker_starts_meanwhile": float(stage.boots - boots),
            "seat_kept": float(same and stage.holds()),
        }


def campaign(asked: argparse.Namespace, folder: Path) -> Report:
    seen, failed, waited = list[Seen](), dict[str, str](), dict[str, float]()
    every = list(cases(asked.only, asked.rounds))
    version = subprocess.run([find(), "--version"], capture_output=True, text=True, check=True)
    with served(folder / "data") as server:
        for number, (end, needed) in enumerate(every, start=1):
            name = f"{end.name}{', and somebody needs the seat' if needed else ''}"
            say(f"[{number}/{len(every)}] {name} …")
            try:
                seen.append(tried(end, server, folder / str(number), needed=needed))
                say(f"        {words(seen[-1])}")
            except Exception as fault:  # noqa: BLE001 - one end that fails keeps no other from being tried
                failed[name] = repr(fault)
                say(f"        failed: {fault!r}")
                server.kill()
                server.start()
        if asked.idle:
            say(f"idle for {asked.idle:g} minutes …")
            waited = idle(server, folder / "idle", asked.idle)
            say(f"        {waited}")
    return Report(
        day=time.strftime("%Y-%m-%d", time.gmtime()),
        browser=version.stdout.strip().split(" built")[0],
        load=round(os.getloadavg()[2], 1),
        policy=POLICY,
        seen=seen,
        idle=waited,
        failed=failed,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.extension",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of all ends; {ROUNDS}")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="of an end's name")
    parser.add_argument("--idle", type=float, default=IDLE, metavar="MINUTES", help="0: not at all")
    asked = parser.parse_args(arguments)
    know_the_fetched()
    with tempfile.TemporaryDirectory(prefix="sojourn-extension-") as folder:
        report = campaign(asked, Path(folder))
    say(table(report))
    if not asked.only:
        keep(report)
        say(f"Written to {RESULTS}, and into docs/campaigns.md.")
    wrong = faults(report)
    for each in wrong:
        say(f"WRONG: {each}")
    return 1 if wrong or report.idle.get("seat_kept") == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
