"""The quietest hour of a day, from how much happened in each hour of the last days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from sojourn.plans.schedule import wall_clock

HOURS_MIN = 24
"""Fewer hours than a day tell nothing."""
USUAL = 3
"""Of hours that are equally quiet, the one nearest to this is chosen: three in the morning."""


def quietest_hour(counts: Mapping[int, int], zone: ZoneInfo) -> int | None:
    """Return the hour of day, by the zone's wall clock, in which least happened on average.

    `counts`: the instant (ms) at which an hour began -> how much happened in it. None if that is less
    than a day, or if nothing happened at all.
    """
    if len(counts) < HOURS_MIN or not any(counts.values()):
        return None
    hours: dict[int, list[int]] = defaultdict(list)
    for began, count in counts.items():
        hours[wall_clock(began, zone).hour].append(count)
    return min(hours, key=lambda hour: (sum(hours[hour]) / len(hours[hour]), _apart(hour), hour))


def _apart(hour: int) -> int:
    return min((hour - USUAL) % 24, (USUAL - hour) % 24)
