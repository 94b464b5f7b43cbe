"""How seats were used: over time, by whom, who was refused; what would have been, what is to be expected."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from sojourn.analytics.answers import Point, Usage
from sojourn.analytics.counts import EDGES, Counts, Lengths
from sojourn.analytics.what_if import Replay, Scenario
from sojourn.api.call import OperatorCall, operator
from sojourn.clock import DAY, HOUR
from sojourn.errors import InvalidInput
from sojourn.license import CAPACITY_MAX, WhenFull, split_pool_id
from sojourn.plans.schedule import zone_of
from sojourn.service.keys import Permission
from sojourn.wire.bodies import (
    Answer,
    Done,
    Feature,
    Instant,
    Limit,
    Name,
    Page,
    Wait,
    Wire,
    instant,
    optional,
    rfc3339,
    seconds,
)

PATIENCE = 60.0
"""Seconds for which a replay, or a year, may take."""
RANGE = 7 * DAY
"""What is told of if nothing is said, in milliseconds until now."""
PROBLEMS = ("license_unknown", "feature_unknown")

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


@operator("GET", "/api/analytics/usage", may=Permission.READ, problems=PROBLEMS, patience=PATIENCE)
def get_usage(ask: OperatorCall, query: UsageQuery) -> Done[UsageReport]:
    """Tell how a feature was used: seats in use over time, refusals, why and when seats ended."""
    usage = ask.context.services.usage
    pool = usage.pool(query.license_id, query.feature)
    since, until = _range(ask, query.since, query.until)
    span = {"hour": HOUR, "day": DAY}.get(optional(query.unit) or "")
    if span == HOUR and until - since > 366 * DAY:
        raise InvalidInput("So many hours are not told of at once.", hint="Ask for days.")
    found = usage.usage(pool, since=since, until=until, span=span)
    return Done(data=usage_body(found, usage.behind()))


@operator(
    "GET",
    "/api/analytics/week",
    may=Permission.READ,
    problems=(*PROBLEMS, "invalid_schedule"),
    patience=PATIENCE,
)
def get_week(ask: OperatorCall, query: WeekQuery) -> Done[WeekBody]:
    """Tell at which hours of the week a feature is used, by the clock of a zone."""
    usage = ask.context.services.usage
    pool = usage.pool(query.license_id, query.feature)
    since, until = _range(ask, query.since, query.until)
    cells = usage.week(pool, zone_of(query.zone), since=since, until=until)
    told = [
        CellBody(
            weekday=each.hour // 24,
            hour=each.hour % 24,
            mean=round(each.mean, 3),
            peak=each.peak,
            hours=each.hours,
        )
        for each in cells
    ]
    return Done(data=WeekBody(zone=query.zone, cells=told))


@operator("GET", "/api/analytics/shares", may=Permission.READ, problems=PROBLEMS, patience=PATIENCE)
def list_shares(ask: OperatorCall, query: ShareQuery) -> Done[Page[ShareBody]]:
    """List who held a feature's seats for the longest, by user or by client. Whole days, UTC."""
    usage = ask.context.services.usage
    pool = usage.pool(query.license_id, query.feature)
    since, until = _range(ask, query.since, query.until)
    found = usage.shares(pool, query.by, since=since, until=until, limit=query.limit)
    items = [
        ShareBody(name=each.name, held=seconds(each.held), granted=each.granted, denied=each.denied)
        for each in found
    ]
    return Done(data=Page(items=items))


@operator(
    "GET", "/api/analytics/incidents", may=Permission.READ, problems=PROBLEMS, patience=PATIENCE
)
def list_incidents(ask: OperatorCall, query: IncidentQuery) -> Done[Page[IncidentBody]]:
    """List refusals by incident, newest first: those of a feature that are no more than ten minutes apart."""
    usage = ask.context.services.usage
    license_id, feature = optional(query.license_id), optional(query.feature)
    if (license_id is None) is not (feature is None):
        raise InvalidInput("Name both licenseId and feature, or neither.")
    pool = usage.pool(license_id, feature) if license_id and feature else None
    since, until = _range(ask, query.since, query.until)
    found = usage.incidents(pool, since=since, until=until, limit=query.limit)
    items = []
    for each in found:
        of, what = split_pool_id(each.pool_id)
        items.append(
            IncidentBody(
                license_id=of,
                feature=what,
                started_at=rfc3339(each.started_at),
                ended_at=rfc3339(each.ended_at),
                refusals=each.times,
                users=each.users,
                unnamed=each.unnamed,
                reasons=each.reasons,
                limit=each.limit,
                in_use=each.in_use,
            )
        )
    return Done(data=Page(items=items))


@operator(
    "POST",
    "/api/analytics/what-if",
    may=Permission.READ,
    problems=(*PROBLEMS, "invalid_policy"),
    patience=PATIENCE,
)
def replay_usage(ask: OperatorCall, body: WhatIfBody) -> Done[WhatIfAnswer]:
    """Replay a feature's past with more seats or fewer, other thresholds, or a line. Nothing is changed.

    Everybody comes and goes as they did; who gets a seat is decided anew. Replayed as it was, it gives the
    refusals that were recorded: `asItWas` says so.
    """
    usage = ask.context.services.usage
    pool = usage.pool(body.license_id, body.feature)
    since, _ = _range(ask, body.since, UNSET)
    scenario = Scenario(
        seats=body.seats,
        lost_after=_ms(optional(body.lost_after)),
        suspect_after=_ms(optional(body.suspect_after)),
        linger=_ms(optional(body.linger)),
        when_full=optional(body.when_full),
        wait=_ms(optional(body.wait)),
    )
    found = usage.what_if(pool, scenario, since=since)
    return Done(
        data=WhatIfAnswer(
            since=rfc3339(found.since),
            until=rfc3339(found.until),
            events=found.events,
            recorded=found.told.recorded,
            as_it_was=replay_body(found.as_it_was),
            what_if=replay_body(found.told),
        )
    )


@operator(
    "GET", "/api/analytics/forecast", may=Permission.READ, problems=PROBLEMS, patience=PATIENCE
)
def get_forecast(ask: OperatorCall, query: ForecastQuery) -> Done[ForecastBody]:
    """Forecast the busiest moment of each day of the next weeks, with its measured error."""
    usage = ask.context.services.usage
    pool = usage.pool(query.license_id, query.feature)
    found = usage.forecast(pool, weeks=query.weeks)
    return Done(
        data=ForecastBody(
            weeks_known=found.weeks,
            days=[
                AheadBody(
                    at=rfc3339(day.at),
                    expected=round(day.expected, 2),
                    low=round(day.low, 2),
                    high=round(day.high, 2),
                )
                for day in found.days
            ],
            tried=found.tried,
            error=round(found.error, 2),
            covered=round(found.covered, 3),
        )
    )


@operator("POST", "/api/analytics/rebuild", may=Permission.LICENSES_WRITE, patience=PATIENCE)
def rebuild_usage(ask: OperatorCall) -> Done[RebuildBody]:
    """Measure anew what the events that are kept still tell. What is known of earlier days stays."""
    begun = ask.context.services.usage.rebuild(actor=ask.actor)
    said = "It is measured anew." if begun else "There is nothing to measure."
    return Done(data=RebuildBody(begun=begun), message=said)


def _range(
    ask: OperatorCall, since: Instant | UnsetType, until: Instant | UnsetType
) -> tuple[int, int]:
    now = ask.context.services.usage.now()
    end = min(now, instant(optional(until)) or now)
    begin = instant(optional(since))
    return (max(0, end - RANGE) if begin is None else begin), end


def _ms(told: float | None) -> int | None:
    return None if told is None else round(told * 1_000)


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


CALLS = (
    get_usage,
    get_week,
    list_shares,
    list_incidents,
    replay_usage,
    get_forecast,
    rebuild_usage,
)
