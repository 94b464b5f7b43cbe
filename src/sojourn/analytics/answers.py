"""What is asked of measures: use over time, when in the week, who."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from sojourn.analytics.buckets import Before, Bucket, spread
from sojourn.analytics.capacity import CHANGES_MAX, Change, Fullness, capacity_at, changes_of
from sojourn.analytics.counts import Counts, counted
from sojourn.analytics.holds import PolicyAt
from sojourn.analytics.keeper import UsageKeeper
from sojourn.analytics.levels import Levels, add, mean, peak, quantile
from sojourn.clock import DAY, HOUR

HOURLY_MAX = 32 * DAY
"""A longer stretch of time is told by day."""
RANGE_MAX = 5 * 366 * DAY
"""The longest stretch of time that is told of at once."""


class Point(Struct, frozen=True, kw_only=True):
    """A pool in an hour or a day, as far as that has gone by."""

    at: int
    peak: int
    p95: int
    p50: int
    mean: float
    denied: int
    capacity: int | None  # at its end; None: the feature was not there
    full: int  # ms for which no seat was left, by the capacity of each instant


class Usage(Struct, frozen=True, kw_only=True):
    """How a pool was used in a stretch of time."""

    pool_id: str
    since: int  # what was asked for, from the beginning of an hour or a day
    until: int
    known_since: int | None  # what lies before is not known; None: nothing is known yet
    span: int  # of each point
    points: list[Point]
    peak: int
    p95: int
    p50: int
    mean: float
    full: int  # ms for which as many seats were held as there were, or more
    capacity: int | None  # at the end
    capacities: list[Change]  # at `since`, and each change; of many, the latest CHANGES_MAX
    counts: Counts


class Cell(Struct, frozen=True, kw_only=True):
    """An hour of the week: 0 is Monday, midnight."""

    hour: int
    mean: float
    peak: int
    hours: int  # that were measured


def usage_of(
    keeper: UsageKeeper,
    pool_id: str,
    policies: Sequence[PolicyAt],
    *,
    since: int,
    until: int,
    span: int | None = None,
) -> Usage:
    """Return how a pool was used from the beginning of an hour, or a day, until an instant. `policies` are
    those that it had, the earliest first."""
    span = span or (HOUR if until - since <= HOURLY_MAX else DAY)
    since = since // span * span
    cursor = keeper.cursor()
    begun = 0 if cursor is None else cursor.since // HOUR * HOUR
    known = _known_since(keeper, pool_id, begun)
    points: list[Point] = []
    levels: Levels = {}
    counts = Counts()
    full = 0
    if known is not None and known < until:
        first = max(since, known // span * span)
        fullness = Fullness(keeper, pool_id, policies, begun=begun)
        for bucket in _buckets(keeper, pool_id, first, until, span=span, begun=begun):
            end = min(bucket.at + span, until)
            point = _point(bucket, capacity_at(policies, end - 1), fullness.of(bucket, end))
            points.append(point)
            add(levels, bucket.levels)
            counts.add(bucket.counts)
            full += point.full
    return Usage(
        pool_id=pool_id,
        since=since,
        until=until,
        known_since=known,
        span=span,
        points=points,
        peak=peak(levels),
        p95=quantile(levels, 0.95),
        p50=quantile(levels, 0.5),
        mean=mean(levels),
        full=full,
        capacity=capacity_at(policies, until),
        capacities=changes_of(policies, since, until)[-CHANGES_MAX:],
        counts=counts,
    )


def _known_since(keeper: UsageKeeper, pool_id: str, begun: int) -> int | None:
    """Return from when on a pool's use is known; None if nothing is. Before its first event it was none."""
    if not begun:
        return None
    oldest = keeper.oldest(pool_id)
    return begun if oldest is None else min(oldest, begun)


def _point(bucket: Bucket, capacity: int | None, full: int) -> Point:
    return Point(
        at=bucket.at,
        peak=peak(bucket.levels),
        p95=quantile(bucket.levels, 0.95),
        p50=quantile(bucket.levels, 0.5),
        mean=mean(bucket.levels),
        denied=bucket.counts.denials,
        capacity=capacity,
        full=full,
    )


def _buckets(
    keeper: UsageKeeper, pool_id: str, since: int, until: int, *, span: int, begun: int
) -> Iterator[Bucket]:
    """List every hour, or every day, of a pool. The last day, which is not over, is put together."""
    known = keeper.span(pool_id, since, until, by_day=span == DAY)
    if span == HOUR:
        yield from spread(
            pool_id, known.hours, known.before, since=since, until=until, span=HOUR, begun=begun
        )
        return
    before = known.before
    for day in range(since, until, DAY):
        if day in known.days:
            before = _left(known.days[day])
            yield known.days[day]
            continue
        end = min(until, day + DAY)
        hours = list(
            spread(pool_id, known.hours, before, since=day, until=end, span=HOUR, begun=begun)
        )
        whole = Bucket(pool_id=pool_id, at=day, level=hours[0].level, last=hours[-1].last)
        for hour in hours:
            add(whole.levels, hour.levels)
        whole.counts = counted(hour.counts for hour in hours)
        before = _left(whole)
        yield whole


def _left(day: Bucket) -> Before:
    """Return the level at which a day was left, as of its last hour: measures may have begun in the day."""
    return Before(day.at + DAY - HOUR, day.last)


def week_of(
    keeper: UsageKeeper, pool_id: str, zone: ZoneInfo, *, since: int, until: int
) -> list[Cell]:
    """Tell how a pool was used by hour and weekday of a zone: the mean over the weeks, and the highest peak.
    Hours are those of UTC; where a zone's begin in between, an hour counts where it begins."""
    cursor = keeper.cursor()
    begun = 0 if cursor is None else cursor.since // HOUR * HOUR
    known = _known_since(keeper, pool_id, begun)
    held, peaks, hours = [0.0] * 168, [0] * 168, [0] * 168
    if known is not None:
        first = max(since // HOUR * HOUR, known)
        marks = {
            at: (last, most, time) for at, last, most, time in keeper.marks(pool_id, first, until)
        }
        earlier = min(marks, default=first)
        left = Before(earlier, marks[earlier][0]) if earlier < first else Before()
        for at in range(first, until // HOUR * HOUR, HOUR):  # whole hours only
            level = left.level_at(at, begun)
            last, most, time = marks.get(at, (level, level, level * HOUR))
            left = Before(at, last)
            here = datetime.fromtimestamp(at / 1_000, UTC).astimezone(zone)
            cell = here.weekday() * 24 + here.hour
            held[cell] += time / HOUR
            peaks[cell] = max(peaks[cell], most)
            hours[cell] += 1
    return [
        Cell(hour=i, mean=held[i] / hours[i] if hours[i] else 0.0, peak=peaks[i], hours=hours[i])
        for i in range(168)
    ]
