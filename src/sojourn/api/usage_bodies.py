"""What calls of analytics take and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from sojourn.analytics.answers import Point, Usage
from sojourn.analytics.counts import EDGES, Counts, Lengths, Share
from sojourn.analytics.keeper import Shares
from sojourn.analytics.what_if import Replay
from sojourn.clock import HOUR
from sojourn.license import CAPACITY_MAX, WhenFull, split_pool_id
from sojourn.wire.bodies import (
    Answer,
    Feature,
    Instant,
    Limit,
    Name,
    Wait,
    Wire,
    rfc3339,
    seconds,
)

Unit = Literal["hour", "day"]
Kind = Literal["user", "client"]
Weeks = Annotated[int, Meta(ge=1, le=8)]
SeatsMore = Annotated[int, Meta(ge=-CAPACITY_MAX, le=CAPACITY_MAX)]
ZoneName = Annotated[str, Meta(min_length=1, max_length=100)]


class RangeQuery(Wire, frozen=True, kw_only=True):
    """A pool and a stretch of time: the last seven days if nothing is said."""

    license_id: Name
    feature: Feature
    since: Instant | UnsetType = UNSET
    until: Instant | UnsetType = UNSET


class UsageQuery(RangeQuery, frozen=True, kw_only=True):
    unit: Unit | UnsetType = UNSET  # hours for up to 32 days, else days


class WeekQuery(RangeQuery, frozen=True, kw_only=True):
    zone: ZoneName = "UTC"


class ShareQuery(RangeQuery, frozen=True, kw_only=True):
    by: Kind = "user"
    limit: Limit = 50


class IncidentQuery(Wire, frozen=True, kw_only=True):
    license_id: Name | UnsetType = UNSET  # with feature
    feature: Feature | UnsetType = UNSET
    since: Instant | UnsetType = UNSET
    until: Instant | UnsetType = UNSET
    limit: Limit = 100


class ForecastQuery(Wire, frozen=True, kw_only=True):
    license_id: Name
    feature: Feature
    weeks: Weeks = 4


class PointBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """An hour or a day. Seats in use: the most at once, and the least at or below which it was for 95 % and
    half of the time."""

    at: str
    peak: int
    p95: int
    p50: int
    mean: float
    denied: int
    capacity: int | None = None  # at its end; absent: the feature was not there
    full: float = 0.0  # seconds for which no seat was left


class CapacityBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """The capacity from an instant on."""

    at: str
    seats: int | None = None  # absent: the feature was not there


class GroupBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """So many took this long: from `above` on, less than `below`, in seconds."""

    above: float
    count: int
    below: float | None = None  # absent: or longer


class LengthsBody(Answer, frozen=True, kw_only=True):
    count: int
    mean: float  # seconds
    longest: float
    groups: list[GroupBody]


class CountsBody(Answer, frozen=True, kw_only=True):
    granted: int
    resumed: int  # holders that came back to their lease
    taken_over: int  # holders that had it still
    waited: int  # grants after standing in the line
    entered: int  # the line
    denied: dict[str, int]  # by reason
    ended: dict[str, int]  # by reason, when the seat came free
    held: LengthsBody  # seats that came free: for how long
    ghosts: LengthsBody  # silent holders: from their last beat until the seat came free
    waits: LengthsBody  # in the line, of those who got a seat


class UsageReport(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """How a pool was used. Exact: from all events, and not from samples."""

    license_id: str
    feature: str
    since: str
    until: str
    unit: Unit
    peak: int
    p95: int
    p50: int
    mean: float
    full: float  # seconds for which no seat was left
    points: list[PointBody]
    counts: CountsBody
    capacities: list[CapacityBody]  # at `since`, and each change; of more than 500, the latest
    capacity: int | None = None  # at the end
    known_since: str | None = None  # what lies before is not known
    measured_until: str | None = None  # the latest event that counts


class CellBody(Answer, frozen=True, kw_only=True):
    weekday: int  # 0 is Monday
    hour: int
    mean: float
    peak: int
    hours: int  # that were measured


class WeekBody(Answer, frozen=True, kw_only=True):
    zone: str
    cells: list[CellBody]


class ShareBody(Answer, frozen=True, kw_only=True):
    name: str
    held: float  # seconds
    granted: int
    denied: int


class OthersBody(Answer, frozen=True, kw_only=True):
    held: float  # seconds
    granted: int
    denied: int


class SharesBody(Answer, frozen=True, kw_only=True):
    """`whole` is the sum of everybody; `others` are those that `items` does not name."""

    items: list[ShareBody]
    others: OthersBody
    whole: OthersBody


class IncidentBody(Answer, frozen=True, kw_only=True):
    license_id: str
    feature: str
    started_at: str
    ended_at: str
    refusals: int
    users: dict[str, int]  # refusals of each
    unnamed: int  # refusals of further users
    reasons: dict[str, int]
    limit: int
    in_use: int


class WhatIfBody(Wire, frozen=True, kw_only=True):
    """What is to be otherwise; durations in seconds."""

    license_id: Name
    feature: Feature
    since: Instant | UnsetType = UNSET
    seats: SeatsMore = 0  # more, or fewer
    lost_after: Wait | UnsetType = UNSET
    suspect_after: Wait | UnsetType = UNSET
    linger: Annotated[float, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    when_full: WhenFull | UnsetType = UNSET
    wait: Wait | UnsetType = UNSET  # who is refused waits in a line for so long


class ReplayBody(Answer, frozen=True, kw_only=True):
    denied: int  # refusals for want of a seat
    refused_users: list[str]
    spared: int  # recorded refusals that would have been grants
    peak: int
    evicted: int
    waited: int  # who waited and got a seat
    longest_wait: float  # seconds
    mean_wait: float
    gave_up: int  # waited in vain


class WhatIfAnswer(Answer, frozen=True, kw_only=True):
    since: str
    until: str  # the last sweep: who has fallen silent since is not known yet
    events: int
    recorded: int  # refusals for want of a seat that there were
    as_it_was: ReplayBody  # a replay of the policy as it was: the same refusals
    what_if: ReplayBody


class AheadBody(Answer, frozen=True, kw_only=True):
    at: str
    expected: float  # the day's peak
    low: float
    high: float


class ForecastBody(Answer, frozen=True, kw_only=True):
    """`days` is empty where fewer than three whole weeks are known. `error` and `covered` are measured: the
    same forecast was made for `tried` days that have passed."""

    weeks_known: int
    days: list[AheadBody]
    tried: int
    error: float  # seats, on the mean
    covered: float  # the share of days that lay within the interval


class RebuildBody(Answer, frozen=True, kw_only=True):
    begun: bool


def usage_body(usage: Usage, behind: int | None) -> UsageReport:
    license_id, feature = split_pool_id(usage.pool_id)
    return UsageReport(
        license_id=license_id,
        feature=feature,
        since=rfc3339(usage.since),
        until=rfc3339(usage.until),
        unit="hour" if usage.span == HOUR else "day",
        peak=usage.peak,
        p95=usage.p95,
        p50=usage.p50,
        mean=round(usage.mean, 3),
        full=seconds(usage.full),
        points=[_point(each) for each in usage.points],
        counts=counts_body(usage.counts),
        capacities=[CapacityBody(at=rfc3339(at), seats=seats) for at, seats in usage.capacities],
        capacity=usage.capacity,
        known_since=None if usage.known_since is None else rfc3339(usage.known_since),
        measured_until=None if behind is None else rfc3339(behind),
    )


def _point(point: Point) -> PointBody:
    return PointBody(
        at=rfc3339(point.at),
        peak=point.peak,
        p95=point.p95,
        p50=point.p50,
        mean=round(point.mean, 3),
        denied=point.denied,
        capacity=point.capacity,
        full=seconds(point.full),
    )


def counts_body(counts: Counts) -> CountsBody:
    return CountsBody(
        granted=counts.granted,
        resumed=counts.resumed,
        taken_over=counts.taken_over,
        waited=counts.waited,
        entered=counts.entered,
        denied=counts.denied,
        ended=counts.ended,
        held=_lengths(counts.held),
        ghosts=_lengths(counts.ghosts),
        waits=_lengths(counts.waits),
    )


def _lengths(lengths: Lengths) -> LengthsBody:
    groups = [
        GroupBody(
            above=seconds(EDGES[place - 1]) if place else 0.0,
            count=count,
            below=seconds(EDGES[place]) if place < len(EDGES) else None,
        )
        for place, count in sorted(lengths.groups.items())
    ]
    return LengthsBody(
        count=lengths.number,
        mean=seconds(round(lengths.total / max(1, lengths.number))),
        longest=seconds(lengths.longest),
        groups=groups,
    )


def shares_body(shares: Shares) -> SharesBody:
    items = [
        ShareBody(name=each.name, held=seconds(each.held), granted=each.granted, denied=each.denied)
        for each in shares.items
    ]
    return SharesBody(items=items, others=_others(shares.others), whole=_others(shares.whole))


def _others(share: Share) -> OthersBody:
    return OthersBody(held=seconds(share.held), granted=share.granted, denied=share.denied)


def replay_body(told: Replay) -> ReplayBody:
    return ReplayBody(
        denied=len(told.denied),
        refused_users=told.refused_users[:1_000],
        spared=told.spared,
        peak=told.peak,
        evicted=told.evicted,
        waited=len(told.waits),
        longest_wait=seconds(max(told.waits, default=0)),
        mean_wait=seconds(round(sum(told.waits) / max(1, len(told.waits)))),
        gave_up=told.gave_up,
    )
