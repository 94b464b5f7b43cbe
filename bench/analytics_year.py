"""How long a year of 10^8 events takes to answer, from roll-ups as they are after such a year.

Writes the rows that a year of one busy pool leaves (8,760 hours and 365 days with up to 400 levels each,
300 users a day) into a SQLite ledger, and prints the processor's seconds for each question. It does not
play 10^8 events: `tests/unit/analytics` holds the roll-ups to raw events.

    python bench/analytics_year.py
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

from sojourn.analytics.answers import usage_of, week_of
from sojourn.analytics.buckets import Bucket
from sojourn.analytics.counts import Counts, Share
from sojourn.analytics.keeper import Changes, Cursor
from sojourn.analytics.levels import Levels, add
from sojourn.clock import DAY, HOUR
from sojourn.stores.open import open_ledger

POOL = "lic_1:render"
BEGAN = 1_764_547_200_000 // DAY * DAY
USERS = 300
LEVELS = 400


def hour_of(chance: random.Random, at: int) -> Bucket:
    base = chance.randint(0, 600)
    spread = sorted(chance.sample(range(base, base + LEVELS), k=LEVELS // 2))
    each = HOUR // len(spread)
    levels: Levels = dict.fromkeys(spread, each)
    levels[base] = levels.get(base, 0) + HOUR - each * len(spread)
    counts = Counts(granted=5_700, denied={"seat_limit": 3}, ended={"released": 5_500})
    return Bucket(
        pool_id=POOL, at=at, level=base, last=base, stepped_at=at + 1, levels=levels, counts=counts
    )


def fill(url: str) -> None:
    chance = random.Random(1)
    with closing(open_ledger(url, migrate=True)) as ledger:
        assert ledger.usage.begin(None, since=BEGAN)
        for day in range(365):
            at = BEGAN + day * DAY
            hours = [hour_of(chance, at + i * HOUR) for i in range(24)]
            whole = Bucket(pool_id=POOL, at=at, level=0, last=0)
            for hour in hours:
                add(whole.levels, hour.levels)
                whole.counts.add(hour.counts)
            shares = {
                (POOL, at, kind, f"{kind}-{i}"): Share(
                    held=chance.randint(1, 20_000_000), granted=3
                )
                for i in range(USERS)
                for kind in ("user", "client")
            }
            before = ledger.usage.cursor()
            assert before is not None
            after = Cursor(event_id=day + 1, since=BEGAN, at=at + DAY, revision=before.revision + 1)
            assert ledger.usage.commit(
                before,
                Changes(
                    cursor=after,
                    holds=[],
                    forgotten=[],
                    hours=hours,
                    days=[whole],
                    steps={},
                    shares=shares,
                    incidents=[],
                    policies=[],
                ),
            )


def timed(name: str, work: Callable[[], object]) -> None:
    began, wall = time.process_time(), time.perf_counter()
    work()
    took, waited = time.process_time() - began, time.perf_counter() - wall
    sys.stdout.write(f"{name:<32}{took:>8.3f} s of processor {waited:>8.3f} s\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'year.db'}"
        timed("writing a year of roll-ups", lambda: fill(url))
        since, until = BEGAN, BEGAN + 365 * DAY
        with closing(open_ledger(url)) as ledger:
            usage = ledger.usage
            timed("a year by day", lambda: usage_of(usage, POOL, [], since=since, until=until))
            timed(
                "30 days by hour",
                lambda: usage_of(usage, POOL, [], since=until - 30 * DAY, until=until, span=HOUR),
            )
            zone = ZoneInfo("UTC")
            timed("hours of the week", lambda: week_of(usage, POOL, zone, since=since, until=until))
            timed("shares of users", lambda: usage.shares(POOL, "user", since, until))
            timed("incidents", lambda: usage.incidents(None, since, until))


if __name__ == "__main__":
    main()
