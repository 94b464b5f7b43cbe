"""`make campaign-regions`: five relays and an authority as processes, cut, healed and killed under load."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.regions.campaign import LIVING, LOST_AFTER, Outcome, Plan, play
from tests.regions.fleet import INTERVAL

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "regions.json"


def summary(outcome: Outcome) -> dict[str, Any]:
    history, plan = outcome.history, outcome.plan
    heals = sorted(history.heals)
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "relays": len(plan.names),
        "capacity": plan.capacity,
        "users": plan.users * len(plan.names),
        "seconds": round(outcome.took, 1),
        "beatEverySeconds": INTERVAL,
        "lostAfterSeconds": LOST_AFTER,
        "seed": plan.seed,
        "faults": dict(sorted(history.faults.items())),
        "granted": history.granted,
        "grantedCutOff": history.granted_cut_off,
        "denied": history.denied,
        "beats": history.beats,
        "mostSold": outcome.most_sold,
        "oversold": max(0, outcome.most_sold - plan.capacity),
        "livingDropped": sum(x.silent < LIVING for x in history.dropped),
        "silentDropped": sum(x.silent >= LIVING for x in history.dropped),
        "turnedAway": len(history.turned_away),
        "healSeconds": {
            "count": len(heals),
            "p50": round(statistics.median(heals), 2) if heals else None,
            "max": round(heals[-1], 2) if heals else None,
        },
        "violations": outcome.violations,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.regions", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--relays", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--restores", type=int, default=4)
    parser.add_argument("--pace", type=float, default=2.0, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-results", action="store_true", help="do not write bench/results")
    options = parser.parse_args(argv)
    plan = Plan(
        names=Plan().names[: options.relays],
        seconds=options.seconds,
        restores=options.restores,
        pace=options.pace,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = play(Path(folder), plan)
    told = json.dumps(summary(outcome), indent=2)
    sys.stdout.write(told + "\n")
    if not options.no_results:
        RESULTS.write_text(told + "\n")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
