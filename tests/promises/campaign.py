"""Holds the promises to the worst of days: crowds, kills, freezes, cuts, full disks and clocks set back.

    python -m tests.promises --store sqlite|postgresql|mariadb|valkey|valkey-everysec [--seed S] …

Without `--store` it takes one after the other, and the planted bugs at the end. It prints what goes on, then
a table, and writes `bench/results/promises-STORE.json`. It exits with 1 if a promise was broken; the
histories that prove it are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.conftest import know_the_fetched
from tests.promises.checker import check, said
from tests.promises.epoch import LONG, Epoch, Judging, Load, Told
from tests.promises.history import Facts, read
from tests.promises.nemesis import CLOCKS, DECK
from tests.promises.stage import ROOT, STORES, Stage, stage

ACQUIRES = 1_000_000
KILLS = 50  # of servers
STORE_KILLS = 20
EPOCH = 100.0  # seconds
SOAK_EPOCH = 120.0
EPOCHS_MAX = 40  # of faults, and as many of soak
STORM = 900  # connections, where the crowd has about 140: three times what the queue takes
DISK = 12  # MiB
FILES = 8_192  # open at once: sockets of a storm, at both ends
RESULTS = ROOT / "bench" / "results"
CLOCK_LOAD = Load(pools=3, contenders=8, people=4, lates=1, copies=1, think=0.2)
"""Each look at a clock that can be set reads a file, in every process: with more clients, most of what is
seen is how long they wait for one another."""
DISK_LOAD = Load(pools=2, contenders=6, people=3, lates=1, copies=1, think=0.2)
SHOWN_MAX = 60  # lines of evidence


@dataclass(kw_only=True)
class Tally:
    """What a campaign has come to so far."""

    store: str
    seed: int
    began: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    relaxed: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    soak: float = 0.0
    judging: list[Judging] = field(default_factory=list)

    def add(self, told: Told) -> None:
        verdict = told.verdict
        self.counts.update(told.counts)
        self.counts["judged"] += verdict["records"]
        self.counts["decided acquires"] += verdict["acquires"]
        self.faults.update(told.faults)
        self.violations.update(verdict["counts"])
        self.relaxed.update(verdict["relaxed"])
        self.checked.update(verdict["checked"])
        for kind, seconds in verdict["recoveries"]:
            self.recoveries.setdefault(kind, []).append(seconds)
        if verdict["counts"]:
            self.evidence += [f"epoch {told.seed}, {told.path}:", *said(verdict)]
            say(f"  epoch {told.seed}: VIOLATIONS {verdict['counts']}")

    def settle(self, *, all_of_them: bool = False) -> None:
        """Take in verdicts; those still at work but the last may go on."""
        while len(self.judging) > (0 if all_of_them else 1):
            self.add(self.judging.pop(0).told())

    @property
    def kills(self) -> int:
        return self.faults["server-kill"]

    @property
    def store_kills(self) -> int:
        """Of the store's own process; SQLite lives in the server's."""
        own = self.faults["store-kill"] + self.faults["store-loss"]
        return self.kills if self.store == "sqlite" else own

    def line(self) -> str:
        minutes = (time.monotonic() - self.began) / 60
        return (
            f"{minutes:.1f} min, {self.counts['requests']:,} requests,"
            f" {self.counts['acquire']:,} acquires, {self.kills} kills of servers,"
            f" {self.store_kills} of the store, {sum(self.violations.values())} violations"
        )


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def campaign(store: str, options: argparse.Namespace, folder: Path) -> Tally:
    """Run the long form on one store."""
    tally = Tally(store=store, seed=options.seed)
    seeds = _seeds(options.seed)
    say(f"{store}, seed {options.seed}, histories in {folder}")
    with stage(store) as main:
        for number in range(EPOCHS_MAX):
            if _enough(tally, options) or _out_of_time(tally, options):
                break
            load = replace(options.load, storm=STORM if number % 2 else 0)
            deck = _deck(store)
            _epoch(tally, main, next(seeds), options.epoch, deck, load, folder)
    _beside(tally, store, options, seeds, folder)
    with stage(store) as calm:
        for _ in range(EPOCHS_MAX):
            acquired = tally.counts["acquire"] >= options.acquires
            if tally.soak >= options.soak * 60 and (acquired or _out_of_time(tally, options)):
                break
            seconds = min(SOAK_EPOCH, max(20.0, options.soak * 60 - tally.soak))
            _epoch(tally, calm, next(seeds), seconds, (), options.load, folder)
            tally.soak += seconds
        tally.settle(all_of_them=True)
    return tally


def _seeds(seed: int) -> Iterator[int]:
    number = seed * 1_000
    while True:
        yield number
        number += 1


def _deck(store: str) -> list[str]:
    if store != "valkey-everysec":
        return list(DECK)
    return ["store-loss" if fault == "store-kill" else fault for fault in DECK]


def _enough(tally: Tally, options: argparse.Namespace) -> bool:
    return bool(tally.kills >= options.kills and tally.store_kills >= options.store_kills)


def _out_of_time(tally: Tally, options: argparse.Namespace) -> bool:
    return bool(time.monotonic() - tally.began > options.minutes * 60)


def _beside(
    tally: Tally,
    store: str,
    options: argparse.Namespace,
    seeds: Iterator[int],
    folder: Path,
) -> None:
    """Run what takes a stage of its own: clocks that can be set, and a small disk."""
    if options.clocks:
        with stage(store, walls=True) as clocks:
            _epoch(tally, clocks, next(seeds), options.epoch, CLOCKS, CLOCK_LOAD, folder)
            tally.settle(all_of_them=True)
    if options.disk and store == "sqlite":
        if os.geteuid() != 0:
            say("  a full disk is left out: only root mounts a small one")
            return
        with stage(store, disk=DISK) as small:
            faults = ("disk-full",) * 4
            _epoch(tally, small, next(seeds), 45.0, faults, DISK_LOAD, folder)
            tally.settle(all_of_them=True)


def _epoch(
    tally: Tally,
    on: Stage,
    seed: int,
    seconds: float,
    faults: Sequence[str],
    load: Load,
    folder: Path,
) -> None:
    say(f"  epoch {seed}: {tally.line()}")
    epoch = Epoch(
        stage=on,
        seed=seed,
        seconds=seconds,
        faults=faults,
        pace=LONG,
        load=load,
        folder=folder,
        say=lambda text: say(f"    {text}"),
    )
    tally.judging.append(epoch.run())
    tally.settle()


def results(tally: Tally) -> dict[str, Any]:
    """Return the figures as they are written down."""
    return {
        "store": tally.store,
        "seed": tally.seed,
        "measured": time.strftime("%Y-%m-%d"),
        "minutes": round((time.monotonic() - tally.began) / 60, 1),
        "soakMinutes": round(tally.soak / 60, 1),
        "requests": tally.counts["requests"],
        "acquires": tally.counts["acquire"],
        "decidedAcquires": tally.counts["decided acquires"],
        "unanswered": tally.counts["unanswered"],
        "operations": {
            op: tally.counts[op]
            for op in ("beat", "release", "begin", "check", "save", "rotate", "end", "others")
        },
        "serverKills": tally.kills,
        "storeKills": tally.store_kills,
        "faults": dict(sorted(tally.faults.items())),
        "recoverySeconds": {
            kind: {"p50": round(statistics.median(times), 3), "max": round(max(times), 3)}
            for kind, times in sorted(tally.recoveries.items())
        },
        "checked": dict(sorted(tally.checked.items())),
        "relaxed": dict(sorted(tally.relaxed.items())),
        "violations": dict(sorted(tally.violations.items())),
    }


def table(figures: dict[str, Any]) -> str:
    """Draw the figures as rows of a name and a value."""
    rows = [(name, figures[name]) for name in ("store", "seed", "minutes", "soakMinutes")]
    rows += [(name, f"{figures[name]:,}") for name in ("requests", "acquires", "unanswered")]
    rows += [(f"fault: {name}", count) for name, count in figures["faults"].items()]
    rows += [
        (f"recovery: {name}", f"p50 {times['p50']:.2f} s, max {times['max']:.2f} s")
        for name, times in figures["recoverySeconds"].items()
    ]
    rows += [(f"checked: {name}", f"{count:,}") for name, count in figures["checked"].items()]
    rows += [(f"let pass: {name}", f"{count:,}") for name, count in figures["relaxed"].items()]
    rows += [(f"VIOLATED: {name}", f"{count:,}") for name, count in figures["violations"].items()]
    rows.append(("violations", sum(figures["violations"].values())))
    width = max(len(str(name)) for name, _ in rows)
    return "\n".join(f"  {name!s:<{width}}  {value}" for name, value in rows)


def row(figures: dict[str, Any]) -> str:
    """Write the figures as a row of the table in docs/campaigns.md."""
    faults, slow = figures["faults"], figures["recoverySeconds"]
    several = {
        "kills": figures["serverKills"],
        "store": figures["storeKills"],
        "freezes": faults.get("server-freeze", 0) + faults.get("store-freeze", 0),
        "stops": faults.get("server-stop", 0),
        "network": sum(
            n
            for name, n in faults.items()
            if name.startswith(("store-cut", "store-hole", "client-", "answers"))
        ),
        "clocks": sum(n for name, n in faults.items() if "-clock" in name),
    }
    kill = slow.get("server-kill", {"p50": 0, "max": 0})
    return (
        f"| {figures['store']} | {figures['requests']:,} | {figures['acquires']:,} |"
        f" {' | '.join(str(n) for n in several.values())} |"
        f" {kill['p50']:.1f} / {kill['max']:.1f} s | {sum(figures['violations'].values())} |"
    )


def judge_again(store: str, folder: Path) -> bool:
    """Judge the histories of a run that were kept, those in which a promise was broken, by the checker as it
    is now; note in the run's figures what it says. Tell whether all promises held."""
    path = RESULTS / f"promises-{store}.json"
    figures = json.loads(path.read_text())
    left: Counter[str] = Counter()
    again = []
    for kept in sorted(folder.glob("history-*.verdict.json")):
        before = json.loads(kept.read_text())["counts"]
        if not before:
            continue
        name = kept.name.removesuffix(".verdict.json")
        records = list(read(folder / f"{name}.jsonl"))
        facts = Facts.from_json((folder / f"{name}.facts.json").read_text())
        found = check(facts, records)
        left.update(found.counts)
        again.append({"epoch": name, "violations": before, "byTheCheckerOfNow": dict(found.counts)})
        say(f"  {name}: {before}, now {dict(found.counts)}")
    path.write_text(
        json.dumps(figures | {"violations": dict(left), "judgedAgain": again}, indent=2) + "\n"
    )
    return not left


HEAD = (
    "| store | requests | acquires | server kills | store kills | freezes | stops | network |"
    " clocks | recovery p50 / max | violations |"
)


def finish(tally: Tally, write: Callable[[str], None] = say) -> bool:
    """Print and keep what came of it; tell whether all promises held."""
    figures = results(tally)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"promises-{tally.store}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    for line in tally.evidence[:SHOWN_MAX]:
        write(line)
    write(table(figures))
    write(f"{HEAD}\n{row(figures)}\nkept in {path.relative_to(ROOT)}")
    return not tally.violations


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.promises", description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=(*STORES, "all", "none"), default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=18.0, help="then no more epochs of faults")
    parser.add_argument(
        "--soak", type=float, default=10.0, help="minutes without faults at the end"
    )
    parser.add_argument("--acquires", type=int, default=ACQUIRES)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--store-kills", type=int, default=STORE_KILLS)
    parser.add_argument("--epoch", type=float, default=EPOCH, help="seconds")
    parser.add_argument("--no-clocks", dest="clocks", action="store_false")
    parser.add_argument("--no-disk", dest="disk", action="store_false")
    parser.add_argument(
        "--again",
        type=Path,
        help="a folder of histories that a run has kept: judge them again, and note it in its figures",
    )
    parser.add_argument("--planted", action="store_true", help="the planted bugs too")
    options = parser.parse_args(arguments)
    options.load = Load()
    return options


def main(arguments: Sequence[str]) -> int:
    know_the_fetched()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    options = options_of(arguments)
    if options.again is not None:
        return 0 if judge_again(options.store, options.again) else 1
    stores = {"all": STORES, "none": ()}.get(options.store, (options.store,))
    folder = Path(tempfile.mkdtemp(prefix="sojourn-histories-"))
    good = True
    for store in stores:
        good = finish(campaign(store, options, folder)) and good
    if options.planted or options.store == "all":
        from tests.promises.planting import find_all  # noqa: PLC0415  # it starts servers of its own

        good = find_all(folder, say) and good
    return 0 if good else 1
