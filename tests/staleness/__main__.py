"""Runs the campaign: each scheme on each seed, then the figures, the table and the plot."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from tests.staleness.plot import plot
from tests.staleness.report import Report, buckets, row, table, tails, thresholds
from tests.staleness.schemes import SCHEMES
from tests.staleness.world import Seen, World

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3, 4, 5)
MINUTES = 120
CAPACITY = 40


def run(
    seeds: Sequence[int],
    *,
    minutes: int,
    capacity: int,
    names: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Play the traces of these seeds under each scheme (of these names), for so many minutes each."""
    rows, measured = [], list[Seen]()
    for scheme in SCHEMES:
        if names and scheme.name not in names:
            continue
        runs = []
        for seed in seeds:
            say(f"{scheme.name} · seed {seed}")
            first = (
                scheme is SCHEMES[0]
            )  # where nothing is reclaimed, scores can be compared to the truth
            world = World(
                seed=seed,
                capacity=capacity,
                when_full=scheme.when_full,
                scheme=scheme.make(),
                doubts=scheme.doubts,
                measure=first,
            )
            runs.append(world.run(minutes * 60_000))
            measured += runs[-1:] if first else []
        rows.append(row(scheme.name, runs))
    snapshots = [x for seen in measured for x in seen.snapshots]
    return Report(
        seeds=list(seeds),
        minutes=minutes,
        capacity=capacity,
        rows=rows,
        thresholds=thresholds(snapshots),
        buckets=buckets(snapshots),
        tails=tails([x for seen in measured for x in seen.surprises]),
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.staleness", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results/staleness.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/guide/staleness.svg")
    asked = parser.parse_args(arguments)
    report = run(asked.seeds, minutes=asked.minutes, capacity=CAPACITY, say=_say)
    asked.plot.write_text(plot(report))
    _say(table(report))
    kept = msgspec.structs.replace(
        report, rows=[msgspec.structs.replace(x, holds=[]) for x in report.rows]
    )
    asked.results.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    figures = msgspec.json.encode([report.thresholds, report.buckets, report.tails])
    _say(msgspec.json.format(figures).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
