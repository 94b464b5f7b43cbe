"""How long a pool was at each level of use.

A level is a number of seats in use at once. `Levels` counts milliseconds by level, so that of two stretches
of time the sum is that of both together: peak, quantiles and mean of hours, days and years are exact, and
none of them is a mean of means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Levels = dict[int, int]
"""Milliseconds at each level; no level with none."""

Step = tuple[int, int]
"""An instant, and by how much the level changes there."""


def add(levels: Levels, more: Mapping[int, int], sign: int = 1) -> None:
    """Add milliseconds to levels, or take them away; levels that come to nothing are left out."""
    for level, lasted in more.items():
        total = levels.get(level, 0) + sign * lasted
        if total:
            levels[level] = total
        else:
            levels.pop(level, None)


def shifted(levels: Mapping[int, int], by: int) -> Levels:
    """Return the same times, each at a level that is higher by `by`."""
    return {level + by: lasted for level, lasted in levels.items()}


def measured(level: int, steps: Iterable[Step], since: int, until: int) -> Levels:
    """Measure a stretch of time that begins at `level`; steps are in order and lie within it."""
    levels: Levels = {}
    at = since
    for instant, change in steps:
        if instant > at:
            levels[level] = levels.get(level, 0) + instant - at
            at = instant
        level += change
    if until > at:
        levels[level] = levels.get(level, 0) + until - at
    return levels


def ordered(steps: Iterable[Step]) -> list[Step]:
    """Return one step for each instant at which the level changes, in order."""
    changes: dict[int, int] = {}
    for instant, change in steps:
        changes[instant] = changes.get(instant, 0) + change
    return sorted((instant, change) for instant, change in changes.items() if change)


def total(levels: Mapping[int, int]) -> int:
    """Return how many milliseconds were measured."""
    return sum(levels.values())


def quantile(levels: Mapping[int, int], share: float) -> int:
    """Return the least level at or below which the pool was for that share of the time; 0 of nothing."""
    wanted = share * total(levels)
    reached, level = 0, 0
    for level in sorted(levels):
        reached += levels[level]
        if reached >= wanted:
            break
    return level


def peak(levels: Mapping[int, int]) -> int:
    """Return the highest level, however short; 0 of nothing."""
    return max(levels, default=0)


def seat_time(levels: Mapping[int, int]) -> int:
    """Return the milliseconds for which seats were held, together."""
    return sum(level * lasted for level, lasted in levels.items())


def mean(levels: Mapping[int, int]) -> float:
    """Return the mean level; 0 of nothing."""
    lasted = total(levels)
    return seat_time(levels) / lasted if lasted else 0.0


def above(levels: Mapping[int, int], level: int) -> int:
    """Return the milliseconds for which the pool was at a level or higher."""
    return sum(lasted for each, lasted in levels.items() if each >= level)


def within(steps: Sequence[Step], since: int, until: int) -> list[Step]:
    """Return the steps from `since` on, before `until`."""
    return [step for step in steps if since <= step[0] < until]
