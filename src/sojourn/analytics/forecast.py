"""How many seats the coming weeks are likely to need at their busiest, and how far off such a forecast was.

A day's peak is taken to be the weekday's: the mean of its latest weeks, the newest weighing most. The error
is not assumed but measured: for every day of the past that has enough weeks before it, the same forecast is
made from what was known then, and what it missed by is kept, by how many weeks it looked ahead. The interval
holds as many of the days to come as it held of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from msgspec import Struct

from sojourn.clock import DAY

WEEKS = 6
"""Weeks whose weekdays are averaged."""
DECAY = 0.7
"""What a week weighs of the one after it."""
WEEKS_MIN = 3
"""Whole weeks that must be known."""
WEEKS_AHEAD_MAX = 8
ROUNDING = 1e-9
"""Seats by which sums of fractions may be off."""
COVERED = 0.8
"""The share of past days that an interval held."""


class Ahead(Struct, frozen=True, kw_only=True):
    """A day to come."""

    at: int
    expected: float  # its peak
    low: float
    high: float


class Forecast(Struct, frozen=True, kw_only=True):
    """`days` is empty where too little is known: `weeks` whole weeks are, and `WEEKS_MIN` are needed."""

    weeks: int
    days: list[Ahead]
    tried: int = 0  # days of the past that were forecast in the same way
    error: float = 0.0  # by how many seats those were off, on the mean
    covered: float = 0.0  # the share of them that lay within an interval made before


def forecast(peaks: Sequence[int], first: int, *, weeks: int = 4) -> Forecast:
    """Forecast the peaks of the days after those of `peaks`: one for each whole day from `first` on."""
    known = len(peaks) // 7
    if known < WEEKS_MIN:
        return Forecast(weeks=known, days=[])
    weeks = min(weeks, WEEKS_AHEAD_MAX)
    missed = _missed(peaks, weeks)
    tried = [abs(each) for each in missed[0]]
    days: list[Ahead] = []
    for place in range(7 * weeks):
        ahead = place // 7
        expected = _expected(peaks, len(peaks) + place)
        low, high = _interval(missed[ahead] or missed[0])
        days.append(
            Ahead(
                at=first + (len(peaks) + place) * DAY,
                expected=max(0.0, expected),
                low=max(0.0, expected + low),
                high=max(0.0, expected + high),
            )
        )
    return Forecast(
        weeks=known,
        days=days,
        tried=len(tried),
        error=fmean(tried) if tried else 0.0,
        covered=_covered(missed[0]),
    )


def _expected(peaks: Sequence[int], place: int, known: int | None = None) -> float:
    """Forecast the day at a place from the `known` first days."""
    known = len(peaks) if known is None else known
    place -= 7 * max(1, -(-(place - known + 1) // 7))
    total = weight = 0.0
    share = 1.0
    for _ in range(WEEKS):
        if place < 0:
            break
        total += share * peaks[place]
        weight += share
        share *= DECAY
        place -= 7
    return total / weight if weight else 0.0


def _missed(peaks: Sequence[int], weeks: int) -> list[list[float]]:
    """Return what forecasts of the past have missed by, for each number of weeks ahead."""
    missed: list[list[float]] = [[] for _ in range(weeks)]
    for ahead in range(weeks):
        for place in range(7 * (ahead + 2), len(peaks)):
            known = place - 7 * ahead - place % 7  # the beginning of its week, so many weeks before
            if known >= 14:
                missed[ahead].append(peaks[place] - _expected(peaks, place, known))
    return missed


def _interval(missed: Sequence[float]) -> tuple[float, float]:
    """Return between which errors the share COVERED of them lies."""
    if not missed:
        return 0.0, 0.0
    ordered = sorted(missed)
    cut = (1 - COVERED) / 2
    return min(0.0, _at(ordered, cut)), max(0.0, _at(ordered, 1 - cut))


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _covered(missed: Sequence[float]) -> float:
    """Return the share of days that an interval held which was made of the days before them only."""
    held = tried = 0
    for place in range(7, len(missed)):
        low, high = _interval(missed[:place])
        tried += 1
        held += low - ROUNDING <= missed[place] <= high + ROUNDING
    return held / tried if tried else 0.0
