"""Cron expressions, by cronsim, which does as Debian's cron does, also when clocks are changed.

A fixed time that is skipped in spring runs when the clock has been put forward; one that comes twice in
autumn runs the first time. Wildcards in minutes or hours run in both of the hours.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from sojourn.plans.schedule import wrong

LENGTH_MAX = 100
FIELDS = 5
TRIES = 5
"""A time of the second of two equal hours may be answered by one of the first: then the next is asked for."""


def next_tick(expression: str, zone: ZoneInfo, after: int) -> int:
    """Return the first instant after `after` (ms) that an expression means. Raises InvalidInput where it
    cannot be read, or means none within 50 years."""
    if len(expression) > LENGTH_MAX:
        raise wrong(f"A cron expression has at most {LENGTH_MAX} characters.")
    if len(expression.split()) != FIELDS:
        raise wrong("A cron expression has five fields: minute, hour, day, month, weekday.")
    try:
        ticks = CronSim(expression, datetime.fromtimestamp(after // 1_000, zone))
        for _ in range(TRIES):
            at = round(next(ticks).timestamp()) * 1_000
            if at > after:
                return at
    except StopIteration:
        pass
    except (CronSimError, AssertionError, ValueError, OverflowError) as fault:
        why = str(fault).lower() or "it cannot be read"
        raise wrong(f"The cron expression {expression!r} means no time: {why}.") from None
    raise wrong(f"The cron expression {expression!r} means no time within 50 years.")
