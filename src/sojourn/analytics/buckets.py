"""Hours and days of a pool: how long it was at each level of use, and what was counted.

Only hours in which something happened have a bucket; in between a pool stays at the level it was left at. A
bucket covers its whole span, as if the level stayed what it is after the last change. What is learned late,
that a seat came free in an hour gone by, changes that hour and the level of all that follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sojourn.analytics.counts import Counts
from sojourn.analytics.levels import Levels, Step, add, measured, ordered, peak, seat_time, shifted
from sojourn.clock import DAY, HOUR


class Bucket(Struct, kw_only=True):
    """A pool's use in an hour or a day."""

    pool_id: str
    at: int  # when it begins
    level: int  # at its beginning
    last: int  # at its end
    stepped_at: int = 0  # the latest change within it; 0: none
    levels: Levels = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    @property
    def peak(self) -> int:
        return peak(self.levels)

    @property
    def seat_time(self) -> int:
        return seat_time(self.levels)


class Before(Struct, frozen=True):
    """At which level a pool was left by the last bucket before a stretch of time, and when that began."""

    at: int = -1
    level: int = 0

    def level_at(self, at: int, begun: int) -> int:
        """Return the level at a later instant. At `begun` the measures begin, at level 0."""
        return 0 if self.at < begun <= at else self.level


class Applied(Struct, frozen=True):
    """What becomes of a pool's hours."""

    changed: list[Bucket]
    steps: dict[int, list[Step]]  # to be kept beside those that were, by hour
    hours: dict[int, Bucket]  # all that were given, and new ones


def quiet(pool_id: str, at: int, level: int, span: int) -> Bucket:
    """Return what a stretch is in which nothing happened."""
    levels = {level: span}
    return Bucket(pool_id=pool_id, at=at, level=level, last=level, levels=levels)


def late_hours(hours: Mapping[int, Bucket], steps: Sequence[Step]) -> list[int]:
    """Name the hours whose steps must be known, since one is to be put among them."""
    found = {at // HOUR * HOUR for at, _ in steps}
    return sorted(
        hour
        for hour in found
        if hour in hours
        and hours[hour].stepped_at > min(at for at, _ in steps if at // HOUR * HOUR == hour)
    )


def apply(
    pool_id: str,
    hours: Mapping[int, Bucket],
    before: Before,
    *,
    steps: Sequence[Step],
    counts: Mapping[int, Counts],
    stored: Mapping[int, Sequence[Step]],
    begun: int = 0,
) -> Applied:
    """Put new steps and counts into a pool's hours: all of them from the first that is concerned on, and
    the level `before` the first. `stored` has the steps of those that `late_hours` names. At the hour
    `begun` the measures begin, at level 0, whatever earlier ones say."""
    fresh: dict[int, list[Step]] = {}
    for step in steps:
        fresh.setdefault(step[0] // HOUR * HOUR, []).append(step)
    after: dict[int, Bucket] = {}
    changed: list[Bucket] = []
    left = before
    for hour in sorted({*hours, *fresh, *counts}):
        carry = left.level_at(hour, begun)
        found = hours.get(hour)
        bucket = quiet(pool_id, hour, carry, HOUR) if found is None else found
        if bucket.level != carry:
            bucket = _raised(bucket, carry - bucket.level)
        if hour in fresh:
            bucket = _stepped(bucket, fresh[hour], stored.get(hour, ()))
        if hour in counts:
            more = Counts()
            more.add(bucket.counts)
            more.add(counts[hour])
            bucket = replace(bucket, counts=more)
        left = Before(hour, bucket.last)
        after[hour] = bucket
        if bucket is not found:
            changed.append(bucket)
    return Applied(changed, fresh, after)


def _raised(bucket: Bucket, by: int) -> Bucket:
    return replace(
        bucket,
        level=bucket.level + by,
        last=bucket.last + by,
        levels=shifted(bucket.levels, by),
    )


def _stepped(bucket: Bucket, fresh: Sequence[Step], stored: Sequence[Step]) -> Bucket:
    end = bucket.at + HOUR
    if fresh[0][0] >= bucket.stepped_at:
        levels, last = dict(bucket.levels), bucket.last
        for at, change in fresh:
            add(levels, {last: end - at}, -1)
            last += change
            add(levels, {last: end - at})
    elif bucket.level + sum(change for _, change in stored) == bucket.last:
        every = ordered([*stored, *fresh])
        levels = measured(bucket.level, every, bucket.at, end)
        last = bucket.level + sum(change for _, change in every)
    else:  # its steps are forgotten, so old is it: the hour stays, and what follows is right
        levels, last = bucket.levels, bucket.last + sum(change for _, change in fresh)
    stepped = max(bucket.stepped_at, fresh[-1][0])
    return replace(bucket, levels=levels, last=last, stepped_at=stepped)


def rolled(
    pool_id: str, day: int, hours: Mapping[int, Bucket], before: Before, *, begun: int = 0
) -> Bucket:
    """Put a day together from its hours."""
    level = before.level_at(day, begun)
    whole = Bucket(pool_id=pool_id, at=day, level=level, last=level)
    counts = Counts()
    for bucket in spread(
        pool_id, hours, before, since=day, until=day + DAY, span=HOUR, begun=begun
    ):
        add(whole.levels, bucket.levels)
        counts.add(bucket.counts)
        whole.last = bucket.last
        whole.stepped_at = max(whole.stepped_at, bucket.stepped_at)
    whole.counts = counts
    return whole


def spread(
    pool_id: str,
    buckets: Mapping[int, Bucket],
    before: Before,
    *,
    since: int,
    until: int,
    span: int,
    begun: int = 0,
) -> Iterator[Bucket]:
    """List every bucket from `since` on, those too in which nothing happened, and the last one only as far
    as `until`. At `begun` the level is 0, whatever it was before."""
    left = before
    for at in range(since, until, span):
        found = buckets.get(at)
        bucket = quiet(pool_id, at, left.level_at(at, begun), span) if found is None else found
        left = Before(at, bucket.last)
        level = bucket.last
        if at + span > until:
            levels = dict(bucket.levels)
            over = min(at + span - until, levels.get(level, 0))
            add(levels, {level: over}, -1)
            bucket = replace(bucket, levels=levels)
        yield bucket
