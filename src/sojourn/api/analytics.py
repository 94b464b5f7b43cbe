"""How seats were used: over time, by whom, who was refused; what would have been, what is to be expected."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from sojourn.analytics.what_if import Scenario
from sojourn.api.call import OperatorCall, operator
from sojourn.api.usage_bodies import (
    AheadBody,
    CellBody,
    ForecastBody,
    ForecastQuery,
    IncidentBody,
    IncidentQuery,
    RebuildBody,
    ShareQuery,
    SharesBody,
    UsageQuery,
    UsageReport,
    WeekBody,
    WeekQuery,
    WhatIfAnswer,
    WhatIfBody,
    replay_body,
    shares_body,
    usage_body,
)
from sojourn.clock import DAY, HOUR
from sojourn.errors import InvalidInput
from sojourn.license import split_pool_id
from sojourn.plans.schedule import zone_of
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Done, Instant, Page, instant, optional, rfc3339

PATIENCE = 60.0
"""Seconds for which a replay, or a year, may take."""
RANGE = 7 * DAY
"""What is told of if nothing is said, in milliseconds until now."""
PROBLEMS = ("license_unknown", "feature_unknown")
KEPT_AS_IT_IS = (
    "Nothing was changed: the events that are kept do not tell all that would be replaced."
)


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
def list_shares(ask: OperatorCall, query: ShareQuery) -> Done[SharesBody]:
    """List who held a feature's seats for the longest, by user or by client. Whole days, UTC."""
    usage = ask.context.services.usage
    pool = usage.pool(query.license_id, query.feature)
    since, until = _range(ask, query.since, query.until)
    found = usage.shares(pool, query.by, since=since, until=until, limit=query.limit)
    return Done(data=shares_body(found))


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
    said = "It is measured anew." if begun else KEPT_AS_IT_IS
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


CALLS = (
    get_usage,
    get_week,
    list_shares,
    list_incidents,
    replay_usage,
    get_forecast,
    rebuild_usage,
)
