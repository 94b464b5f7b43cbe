"""`make campaign-relays`: many thousand random ways through the relays' protocol, and every short one."""

from __future__ import annotations

import argparse
import sys
import time

from tests.relays.model import Lost, Oversold, explore, walk

STEPS = 120
TOLD_EVERY = 10.0  # seconds


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.relays", description=__doc__)
    parser.add_argument("--walks", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the first")
    parser.add_argument("--depth", type=int, default=5, help="of every way, without a restore")
    options = parser.parse_args(argv)
    told = time.monotonic()
    try:
        for i in range(options.walks):
            walk(options.seed + i, STEPS)
            if time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                say(f"{i + 1:,} of {options.walks:,} ways, nothing sold twice")
        left_out = ("backup", "restore", "fewer", "as before", "lags")
        states = explore(options.depth, restores=0, without=left_out)
    except (Oversold, Lost) as found:
        say(f"{type(found).__name__} (--seed {options.seed + i} --walks 1): {found}")
        return 1
    say(
        f"{options.walks:,} ways of {STEPS} steps, and every one of {options.depth} ({states:,} states):"
    )
    say("no seat was sold twice, and none was lost.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
