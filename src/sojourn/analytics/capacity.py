"""Seats that a pool had over time, and for how long none of them was left.

A pool is full while as many seats are held as it has, or more. An hour or a day in which the capacity changed
is judged piece by piece: each stretch between two changes by the capacity that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sojourn.analytics.buckets import Bucket, spread
from sojourn.analytics.holds import PolicyAt, policy_at
from sojourn.analytics.keeper import UsageKeeper
from sojourn.analytics.levels import Step, above, measured, ordered, within
from sojourn.clock import HOUR

CHANGES_MAX = 500
"""Changes of a capacity that are listed; of more, the latest."""

Change = tuple[int, int | None]
"""An instant, and the capacity from then on; None: the feature was not there."""


def capacity_at(policies: Sequence[PolicyAt], at: int) -> int | None:
    """Return the capacity at an instant; None where the feature was not there."""
    policy = policy_at(policies, at) if policies and policies[0].at <= at else None
    return None if policy is None else policy.capacity


def changes_of(policies: Sequence[PolicyAt], since: int, until: int) -> list[Change]:
    """Return the capacity at `since`, and each change after it and before `until`."""
    found: list[Change] = [(since, capacity_at(policies, since))]
    for each in policies:
        capacity = None if each.policy is None else each.policy.capacity
        if since < each.at < until and capacity != found[-1][1]:
            found.append((each.at, capacity))
    return found


class Fullness:
    """Tells for how long a pool was full. Reads the hours and steps of a bucket only where its capacity
    changed within it."""

    def __init__(
        self, keeper: UsageKeeper, pool_id: str, policies: Sequence[PolicyAt], *, begun: int
    ) -> None:
        self._keeper = keeper
        self._pool_id = pool_id
        self._policies = policies
        self._begun = begun

    def of(self, bucket: Bucket, end: int) -> int:
        """Return the milliseconds of an hour or a day, up to `end`, for which no seat was left."""
        changes = changes_of(self._policies, bucket.at, end)
        if len(changes) == 1:
            return _above(bucket.levels, changes[0][1])
        known = self._keeper.span(self._pool_id, bucket.at, end, by_day=False)
        hours = list(
            spread(
                self._pool_id,
                known.hours,
                known.before,
                since=bucket.at,
                until=end,
                span=HOUR,
                begun=self._begun,
            )
        )
        changed = sorted({at // HOUR * HOUR for at, _ in changes[1:]})
        steps = self._keeper.steps(self._pool_id, changed)
        return sum(self._of_hour(hour, steps.get(hour.at, ()), end) for hour in hours)

    def _of_hour(self, hour: Bucket, steps: Sequence[Step], end: int) -> int:
        end = min(end, hour.at + HOUR)
        changes = changes_of(self._policies, hour.at, end)
        forgotten = hour.level + sum(change for _, change in steps) != hour.last
        if len(changes) == 1 or forgotten:  # then the hour is judged by its end
            return _above(hour.levels, changes[-1][1])
        every = ordered(steps)
        full, level = 0, hour.level
        for (since, capacity), (until, _) in pairwise([*changes, (end, None)]):
            here = within(every, since, until)
            full += _above(measured(level, here, since, until), capacity)
            level += sum(change for _, change in here)
        return full


def _above(levels: dict[int, int], capacity: int | None) -> int:
    return above(levels, capacity) if capacity else 0
