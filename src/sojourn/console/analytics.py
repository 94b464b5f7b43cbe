"""The page `/console/analytics`: do they need more seats, or better timeouts?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.analytics.answers import Cell, Point, Usage
from sojourn.analytics.counts import EDGES, Counts, Lengths
from sojourn.analytics.forecast import WEEKS_MIN, Forecast
from sojourn.analytics.incidents import Refusals
from sojourn.analytics.keeper import Shares
from sojourn.analytics.what_if import Replay, Scenario
from sojourn.clock import DAY, HOUR
from sojourn.console.seats import Heading, person_link
from sojourn.console.words import When, count, exact, when
from sojourn.license import split_pool_id

RANGES = {
    "1d": ("24 hours", DAY),
    "7d": ("7 days", 7 * DAY),
    "30d": ("30 days", 30 * DAY),
    "90d": ("90 days", 90 * DAY),
    "365d": ("a year", 365 * DAY),
}
RANGE = "7d"
SHADES = 8
WIDE, HIGH = 800, 220
"""The chart's own units."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ENDS = {
    "released": "given back",
    "expired": "ran out: no beat came",
    "evicted": "taken from a silent or idle holder",
    "moved": "moved to another device of the same user",
    "revoked": "ended by an operator",
    "session_ended": "ended with its session",
}
NAMED = 10


class Figure(Struct, frozen=True, kw_only=True):
    name: str
    value: str
    of: str = ""
    text: str = ""
    shares: tuple[float, float] | None = None


class Chart(Struct, frozen=True, kw_only=True):
    """What is drawn without scripts; with them, the table is read and drawn anew."""

    line: str
    fill: str
    capacity: str
    denied: list[tuple[float, float, float]]  # left, top, height
    most: str
    begins: str
    ends: str
    about: str


class Row(Struct, frozen=True, kw_only=True):
    """A row with a bar: `share` in percent."""

    name: str
    value: str
    share: float
    under: str = ""
    link: str = ""


class Shade(Struct, frozen=True, kw_only=True):
    level: int
    said: str
    figure: str


class Day(Struct, frozen=True, kw_only=True):
    day: str
    expected: str
    low: str
    high: str


class PointRow(Struct, frozen=True, kw_only=True):
    at: int  # seconds
    iso: str
    said: str
    point: Point
    full: str  # for how long no seat was left; empty: never


class IncidentRow(Struct, frozen=True, kw_only=True):
    at: When
    said: str
    users: tuple[tuple[str, str], ...]
    more: int


def answer(usage: Usage) -> Heading:
    """Say how full it was, and whether anybody was refused."""
    _, feature = split_pool_id(usage.pool_id)
    if usage.known_since is None or not usage.points:
        return Heading(
            "Nothing is known of this time yet.",
            rest="Seats are measured from the first event on, within seconds.",
        )
    of = f" of {usage.capacity:,}" if usage.capacity is not None else ""
    good = f"{feature}: at most {usage.peak:,}{of} seats were in use at once."
    bad = ""
    refused = usage.counts.denied.get("seat_limit", 0)
    if refused:
        bad = f"{count(refused, 'request')} found no seat."
    since = max(usage.since, usage.known_since)
    rest = f"Every event of {exact(usage.until - since)} counts, none is a sample."
    if usage.full:
        rest += f" No seat was left for {exact(usage.full)}."
    if usage.known_since > usage.since:
        rest += f" What lies before {_day(usage.known_since)} is not known."
    return Heading(good, bad, rest)


def figures(usage: Usage) -> list[Figure]:
    capacity = usage.capacity or 0

    def seats(name: str, number: int, text: str) -> Figure:
        share = min(100.0, 100 * number / capacity) if capacity else 0.0
        return Figure(
            name=name,
            value=f"{number:,}",
            of=f"of {capacity:,}" if capacity else "",
            text=text,
            shares=(round(share, 1), 0.0),
        )

    ghosts = usage.counts.ghosts
    lost = exact(ghosts.total // ghosts.number) if ghosts.number else "0 s"
    return [
        seats("Peak", usage.peak, f"mean {usage.mean:,.1f}"),
        seats("95 % of the time", usage.p95, f"half of it: {usage.p50:,} or fewer"),
        Figure(
            name="Refused",
            value=f"{usage.counts.denials:,}",
            text=f"{usage.counts.waited:,} got in after waiting",
        ),
        Figure(
            name="Held by nobody",
            value=lost,
            text=f"on the mean, from the last beat on; {count(ghosts.number, 'seat')}",
        ),
    ]


def chart(usage: Usage) -> Chart | None:
    """Draw seats in use, the capacity, and who was refused."""
    points = usage.points
    if not points:
        return None
    most = max([1, *(p.peak for p in points), *(seats or 0 for _, seats in usage.capacities)])
    refused = max([1, *(p.denied for p in points)])
    step = WIDE / len(points)

    def y(value: float) -> float:
        return round(HIGH - value * (HIGH - 20) / most, 1)

    def stairs(values: Sequence[int]) -> str:
        parts = [f"M0 {y(values[0])}"]
        for i, value in enumerate(values):
            parts.append(f"V{y(value)}H{round((i + 1) * step, 1)}")
        return "".join(parts)

    def capacity() -> str:
        """Draw each change where it happened, which may be within an hour or a day."""
        begin, end = points[0].at, points[-1].at + usage.span
        parts = [f"M0 {y(usage.capacities[0][1] or 0)}"]
        for at, seats in usage.capacities:
            x = round(WIDE * (max(at, begin) - begin) / (end - begin), 1)
            parts.append(f"H{x}V{y(seats or 0)}")
        return "".join(parts) + f"H{WIDE}"

    line = stairs([p.peak for p in points])
    bars = [
        (round(i * step, 1), round(HIGH - height, 1), round(height, 1))
        for i, p in enumerate(points)
        if p.denied and (height := 4 + 36 * p.denied / refused)
    ]
    return Chart(
        line=line,
        fill=f"{line}V{HIGH}H0Z",
        capacity=capacity(),
        denied=bars,
        most=f"{most:,}",
        begins=_minute(points[0].at),
        ends=_minute(usage.until),
        about=f"Seats in use by {'hour' if usage.span == HOUR else 'day'}: at most {usage.peak:,} at once. "
        "The table below has every figure.",
    )


def point_rows(usage: Usage) -> list[PointRow]:
    return [
        PointRow(
            at=p.at // 1_000,
            iso=_iso(p.at),
            said=_minute(p.at),
            point=p,
            full=exact(p.full) if p.full else "",
        )
        for p in usage.points
    ]


def heat(cells: Sequence[Cell]) -> list[tuple[str, list[Shade]]]:
    """Return the hours of the week in rows of days, each with how dark it is."""
    most = max((cell.mean for cell in cells), default=0.0)
    rows = []
    for day, name in enumerate(WEEKDAYS):
        shades = []
        for cell in cells[24 * day : 24 * day + 24]:
            level = 0 if not most else max(1, round(SHADES * cell.mean / most)) if cell.mean else 0
            known = f"{cell.mean:,.1f} on the mean, at most {cell.peak:,}"
            said = f"{name} {cell.hour % 24:02}:00: " + (known if cell.hours else "not measured")
            figure = f"{cell.mean:,.0f}" if cell.hours else "–"
            shades.append(Shade(level=level, said=said, figure=figure))
        rows.append((name, shades))
    return rows


def reasons(counts: Counts) -> list[Row]:
    whole = sum(counts.ended.values())
    ended = sorted(counts.ended.items(), key=lambda each: -each[1])
    return [
        Row(
            name=ENDS.get(name, name.replace("_", " ")).capitalize(),
            value=f"{number:,}",
            share=round(100 * number / whole, 1),
        )
        for name, number in ended
    ]


def lengths(told: Lengths) -> list[Row]:
    whole = max(told.groups.values(), default=1)
    return [
        Row(name=_group(place), value=f"{number:,}", share=round(100 * number / whole, 1))
        for place, number in sorted(told.groups.items())
    ]


def _group(place: int) -> str:
    if place == 0:
        return f"less than {_short(EDGES[0])}"
    if place == len(EDGES):
        return f"{_short(EDGES[-1])} or longer"
    return f"{_short(EDGES[place - 1])} to {_short(EDGES[place])}"


def _short(ms: int) -> str:
    for size, unit in ((DAY, "d"), (HOUR, "h"), (60_000, "min")):
        if ms >= size and ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms // 1_000} s"


def shares(found: Shares, *, people: bool) -> list[Row]:
    """Return who held seats, each with the share of the whole; in the end all others together."""
    whole = found.whole.held or 1
    named = found.items[:NAMED]
    rest = Shares.of(named, found.whole).others
    rows = [
        Row(
            name=each.name,
            value=exact(each.held),
            share=round(100 * each.held / whole, 1),
            under=_counts(each.granted, each.denied),
            link=person_link(each.name) if people else "",
        )
        for each in named
    ]
    if rest.held or rest.granted or rest.denied:
        share = round(100 * rest.held / whole, 1)
        under = _counts(rest.granted, rest.denied)
        rows.append(Row(name="All others", value=exact(rest.held), share=share, under=under))
    return rows


def _counts(granted: int, denied: int) -> str:
    return f"{count(granted, 'grant')}, {count(denied, 'refusal')}"


def incident_rows(found: Sequence[Refusals], now: int) -> list[IncidentRow]:
    return [
        IncidentRow(
            at=when(each.ended_at, now),
            said=f"{count(each.times, 'refusal')}, {each.in_use:,} of {each.limit:,} seats in use",
            users=tuple((user, person_link(user)) for user in list(each.users)[:5]),
            more=max(0, len(each.users) - 5),
        )
        for each in found
    ]


def replayed(told: Replay, scenario: Scenario) -> str:
    """Say what would have been."""
    seats, wait = scenario.seats, scenario.wait
    seen = f"{count(abs(seats), 'seat')} {'more' if seats > 0 else 'fewer'}" if seats else ""
    lost, linger = scenario.lost_after, scenario.linger
    silent = "" if lost is None else f"leases that run out after {exact(lost)} of silence"
    closed = "" if linger is None else f"{exact(linger)} to come back after a goodbye"
    line = f"a line in which people wait for {exact(wait)}" if wait else ""
    wish = " and ".join(filter(None, (seen, silent, closed, line))) or "the policy as it was"
    refused = count(len(told.denied), "request")
    if not told.denied:
        said = f"With {wish}, nobody would have been refused ({told.recorded:,} were)."
    else:
        said = f"With {wish}, {refused} would have been refused instead of {told.recorded:,}."
    if told.waits:
        mean = sum(told.waits) // len(told.waits)
        said += f" {len(told.waits):,} would have waited, {exact(mean)} on the mean."
    return f"{said} At most {told.peak:,} seats would have been in use."


def forecast_words(told: Forecast) -> str:
    if not told.days:
        return f"Three whole weeks are needed; {told.weeks:,} of {WEEKS_MIN} are known."
    top = max(told.days, key=lambda day: day.high)
    return (
        f"At most {top.high:,.0f} seats at once in the next {len(told.days) // 7} weeks, as far as they "
        f"are like those before. The same forecast for {told.tried:,} days that have passed was off by "
        f"{told.error:,.1f} seats on the mean, and {told.covered:.0%} of them lay within its interval."
    )


def forecast_rows(told: Forecast) -> list[Day]:
    return [
        Day(
            day=_day(day.at),
            expected=f"{day.expected:,.1f}",
            low=f"{day.low:,.1f}",
            high=f"{day.high:,.1f}",
        )
        for day in told.days
    ]


def page_link(license_id: str, feature: str, range_: str, **more: str) -> str:
    return urlencode({"license": license_id, "feature": feature, "range": range_} | more)


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1_000, UTC)


def _iso(at: int) -> str:
    return _instant(at).isoformat(timespec="seconds")


def _minute(at: int) -> str:
    return _instant(at).strftime("%a %d %b %H:%M UTC")


def _day(at: int) -> str:
    return _instant(at).strftime("%a %d %b %Y")
