"""Measures kept in dictionaries: what a log tells by itself, and the model that databases are held to."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from sojourn.analytics.buckets import Before, Bucket
from sojourn.analytics.counts import Share
from sojourn.analytics.holds import Hold, PolicyAt, ShareKey
from sojourn.analytics.incidents import Refusals
from sojourn.analytics.keeper import (
    INCIDENTS_MAX,
    OTHERS,
    SHARES_MAX,
    Changes,
    Cursor,
    Named,
    PoolHours,
    Shares,
    Span,
)
from sojourn.analytics.levels import Step
from sojourn.clock import DAY, HOUR
from sojourn.ledger import Audit

Buckets = dict[str, dict[int, Bucket]]


class MemoryUsage:
    """Implements `sojourn.analytics.keeper.UsageKeeper`, for one thread. It forgets nothing by age."""

    def __init__(self, trail: Sequence[Audit] = ()) -> None:
        self._trail = trail
        self._cursor: Cursor | None = None
        self._holds: dict[str, Hold] = {}
        self._policies: dict[str, list[PolicyAt]] = {}
        self._hours: Buckets = {}
        self._days: Buckets = {}
        self._steps: dict[tuple[str, int], list[Step]] = {}
        self._shares: dict[ShareKey, Share] = {}
        self._incidents: dict[tuple[str, int], Refusals] = {}

    def cursor(self) -> Cursor | None:
        return self._cursor

    def oldest(self, pool_id: str | None = None) -> int | None:
        pools = self._hours if pool_id is None else {pool_id: self._hours.get(pool_id, {})}
        return min((hour for hours in pools.values() for hour in hours), default=None)

    def newest(self) -> int | None:
        return max((hour for hours in self._hours.values() for hour in hours), default=None)

    def begin(self, before: Cursor | None, *, since: int) -> bool:
        if self._cursor != before:
            return False
        for kept, edge in ((self._hours, since // HOUR * HOUR), (self._days, since // DAY * DAY)):
            for pool, buckets in kept.items():
                kept[pool] = {at: each for at, each in buckets.items() if at < edge}
        hour, day = since // HOUR * HOUR, since // DAY * DAY
        self._steps = {key: each for key, each in self._steps.items() if key[1] < hour}
        self._shares = {key: each for key, each in self._shares.items() if key[1] < day}
        self._incidents = {key: each for key, each in self._incidents.items() if key[1] < since}
        self._holds, self._policies = {}, {}
        revision = 1 if before is None else before.revision + 1
        self._cursor = Cursor(since=since, at=since, revision=revision)
        return True

    def holds(self, ids: Sequence[str], seats: Sequence[str]) -> list[Hold]:
        wanted, shared = set(ids), set(seats)
        return [x for x in self._holds.values() if x.id in wanted or x.seat in shared]

    def policies(self, pool_ids: Sequence[str]) -> dict[str, list[PolicyAt]]:
        return {pool: list(self._policies.get(pool, ())) for pool in pool_ids}

    def audits(self, *, after: int, limit: int) -> list[Audit]:
        return [audit for audit in self._trail if audit.id > after][:limit]

    def pool_hours(self, pool_id: str, since: int) -> PoolHours:
        hours = self._hours.get(pool_id, {})
        edge = max((hour for hour in hours if hour < since), default=since) // DAY * DAY
        kept = {hour: each for hour, each in hours.items() if hour >= edge}
        return PoolHours(kept, _before(hours, edge))

    def steps(self, pool_id: str, hours: Sequence[int]) -> dict[int, list[Step]]:
        return {hour: list(self._steps.get((pool_id, hour), ())) for hour in hours}

    def latest_incidents(self, pool_ids: Sequence[str]) -> dict[str, Refusals]:
        latest: dict[str, Refusals] = {}
        for (pool, _), incident in sorted(self._incidents.items()):
            if pool in pool_ids:
                latest[pool] = deepcopy(incident)
        return latest

    def commit(self, before: Cursor, changes: Changes) -> bool:
        if self._cursor != before:
            return False
        self._cursor = changes.cursor
        for hold in changes.holds:
            self._holds[hold.id] = hold
        for hold_id in changes.forgotten:
            del self._holds[hold_id]
        for kept, buckets in ((self._hours, changes.hours), (self._days, changes.days)):
            for bucket in buckets:
                kept.setdefault(bucket.pool_id, {})[bucket.at] = bucket
        for key, steps in changes.steps.items():
            self._steps.setdefault(key, []).extend(steps)
        for share, more in changes.shares.items():
            self._shares.setdefault(share, Share()).add(more)
        for incident in changes.incidents:
            self._incidents[incident.pool_id, incident.started_at] = deepcopy(incident)
        for pool, policy in changes.policies:
            self._policies.setdefault(pool, []).append(policy)
            self._policies[pool].sort(key=lambda each: each.at)
        return True

    def span(self, pool_id: str, since: int, until: int, *, by_day: bool) -> Span:
        hours, days = self._hours.get(pool_id, {}), self._days.get(pool_id, {})
        within = {at: each for at, each in days.items() if by_day and since <= at < until}
        edge = max(within, default=since - DAY) + DAY if by_day else since
        rest = {at: each for at, each in hours.items() if edge <= at < until}
        return Span(hours=rest, days=within, before=_before(hours, since))

    def open_holds(self, pool_id: str, *, limit: int) -> list[Hold]:
        mine = (x for x in self._holds.values() if x.pool_id == pool_id and x.ended_at is None)
        return sorted(mine, key=lambda hold: hold.id)[:limit]

    def marks(self, pool_id: str, since: int, until: int) -> list[tuple[int, int, int, int]]:
        hours = self._hours.get(pool_id, {})
        earlier = max((hour for hour in hours if hour < since), default=None)
        return [
            (at, each.last, each.peak, each.seat_time)
            for at, each in sorted(hours.items())
            if since <= at < until or at == earlier
        ]

    def shares(
        self, pool_id: str, kind: str, since: int, until: int, *, limit: int = SHARES_MAX
    ) -> Shares:
        found: dict[str, Share] = {}
        for (pool, day, of, name), share in self._shares.items():
            if pool == pool_id and of == kind and since <= day < until:
                found.setdefault(name, Share()).add(share)
        for hold in self._holds.values():
            if hold.pool_id == pool_id and hold.ended_at is None and hold.started_at < until:
                name = hold.user_id if kind == "user" else hold.client_id
                begun = max(hold.started_at, since, self._cursor.since if self._cursor else 0)
                found.setdefault(name, Share()).held += max(0, until - begun)
        whole = Share()
        for share in found.values():
            whole.add(share)
        named = [
            Named(name=name, held=share.held, granted=share.granted, denied=share.denied)
            for name, share in found.items()
            if name != OTHERS
        ]
        named.sort(key=lambda each: (-each.held, -each.denied, each.name))
        return Shares.of(named[:limit], whole)

    def incidents(
        self, pool_id: str | None, since: int, until: int, *, limit: int = INCIDENTS_MAX
    ) -> list[Refusals]:
        found = [
            deepcopy(incident)
            for incident in self._incidents.values()
            if pool_id in (None, incident.pool_id) and since <= incident.started_at < until
        ]
        found.sort(key=lambda each: (-each.started_at, each.pool_id))
        return found[:limit]


def _before(hours: dict[int, Bucket], at: int) -> Before:
    earlier = max((hour for hour in hours if hour < at), default=None)
    return Before() if earlier is None else Before(earlier, hours[earlier].last)
