"""The chart of the overview: how many seats are in use today, beside the same day last week.

Means of hours can be added up over pools, exactly; peaks cannot, since no two pools need peak at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from msgspec import Struct

from sojourn.analytics.answers import Usage
from sojourn.clock import DAY, HOUR
from sojourn.console.words import count

POOLS_CHARTED = 50
"""Pools that are added up, the tightest ones; more would make a look take too long."""
CHARTED_FOR = 60.0
"""Seconds for which what was read of the measures is shown again."""
LOOKED_BACK = 8 * DAY + 2 * HOUR
CAPACITY_SHOWN = 4
"""The line of the capacity is drawn where it is no more than so many times as high as the highest use."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Hour(Struct, frozen=True):
    """Mean seats in use, and refusals, in an hour."""

    used: float
    denied: int


class Hours(Struct, frozen=True, kw_only=True):
    """The last days, by the instants at which hours begin. Hours before `known_since` are not there."""

    hours: Mapping[int, Hour]
    known_since: int | None
    pools: int  # that were added up
    left_out: int  # that were not


class Measured(Protocol):
    def usage(self, pool: str, *, since: int, until: int, span: int | None = None) -> Usage: ...

    def now(self) -> int: ...


class Hourly:
    """Reads what was measured, once a minute for all pages. Synchronous; safe from several threads."""

    def __init__(
        self, measured: Measured, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._measured = measured
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: Hours | None = None
        self._until = 0.0

    def get(self, pools: Sequence[str]) -> Hours:
        """Add up the first POOLS_CHARTED pools. While somebody does, others get what was found last."""
        found = self._found
        if not self._lock.acquire(blocking=found is None) and found is not None:
            return found
        try:
            if self._found is None or self._monotonic() >= self._until:
                self._found = self._read(pools)
                self._until = self._monotonic() + CHARTED_FOR
            return self._found
        finally:
            self._lock.release()

    def _read(self, pools: Sequence[str]) -> Hours:
        now, charted = self._measured.now(), pools[:POOLS_CHARTED]
        used: dict[int, float] = {}
        denied: dict[int, int] = {}
        known: list[int] = []
        for pool in charted:
            found = self._measured.usage(
                pool, since=max(0, now - LOOKED_BACK), until=now, span=HOUR
            )
            if found.known_since is not None:
                known.append(found.known_since)
            for point in found.points:
                used[point.at] = used.get(point.at, 0.0) + point.mean
                denied[point.at] = denied.get(point.at, 0) + point.denied
        return Hours(
            hours={at: Hour(used[at], denied[at]) for at in used},
            known_since=min(known, default=None),
            pools=len(charted),
            left_out=len(pools) - len(charted),
        )


class Slot(Struct, frozen=True, kw_only=True):
    """An hour of the chart, in words."""

    name: str  # "10:00"
    used: str
    before: str
    denied: int
    said: str


class Mark(Struct, frozen=True, kw_only=True):
    at: float
    text: str


class Drawing(Struct, frozen=True, kw_only=True):
    """The chart in one size: what to draw where, in its own units."""

    wide: int
    high: int
    left: float
    right: float
    floor: float
    line: str
    fill: str
    before: str
    before_at: float | None  # where last week's line ends, for its label
    capacity: float | None
    ticks: tuple[Mark, ...]
    times: tuple[Mark, ...]
    denied: tuple[tuple[float, float, float], ...]  # left, top, height
    point: tuple[float, float] | None  # now
    slots: tuple[float, ...]  # where hours begin
    slot: float  # how wide each is


class Today(Struct, frozen=True, kw_only=True):
    """What the overview shows of the day. `denied_more`: than in the same whole hours of last week; None
    where those are not known."""

    title: str
    about: str
    note: str
    weekday: str
    zone: str
    in_use: str
    capacity: str
    wide: Drawing
    thin: Drawing
    slots: tuple[Slot, ...]
    denied: int
    denied_more: int | None


class _Day(Struct, frozen=True, kw_only=True):
    starts: tuple[int, ...]  # of its hours
    now: int
    today: tuple[float | None, ...]
    before: tuple[float | None, ...]
    denied: tuple[int, ...]
    denied_before: tuple[int, ...]


def today(found: Hours, zone: ZoneInfo, now: int, *, in_use: int, capacity: int) -> Today | None:
    """Draw the day that it is in a zone; None where nothing was measured of it. `in_use` and `capacity` are
    those of all pools."""
    day = _day_of(found, zone, now)
    if not any(each is not None for each in day.today):
        return None
    here = datetime.fromtimestamp(now / 1_000, UTC).astimezone(zone)
    weekday = f"last {WEEKDAYS[here.weekday()]}"
    whole = not found.left_out
    drawn = (in_use if whole else None, capacity if whole else 0)
    past = [i for i, at in enumerate(day.starts) if at + HOUR <= now]
    known = found.known_since is not None and found.known_since <= now - 7 * DAY
    denied = sum(day.denied)
    more = None
    if known and past:
        more = sum(day.denied[i] for i in past) - sum(day.denied_before[i] for i in past)
    return Today(
        title="Seats in use, today",
        about=_about(day, zone, in_use, capacity, denied),
        note=_note(found, weekday, zone),
        weekday=weekday.replace("last", "Last") if any(x is not None for x in day.before) else "",
        zone=zone.key,
        in_use=f"{in_use:,}" if whole else "",
        capacity=count(capacity, "seat"),
        wide=_draw(day, *drawn, zone, wide=720, high=400, apart=4),
        thin=_draw(day, *drawn, zone, wide=358, high=240, apart=6),
        slots=_slots(day, zone, weekday),
        denied=denied,
        denied_more=more,
    )


def _day_of(found: Hours, zone: ZoneInfo, now: int) -> _Day:
    here = datetime.fromtimestamp(now / 1_000, UTC).astimezone(zone)
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = _ms(midnight) // HOUR * HOUR
    ends = _ms((midnight + timedelta(days=1)).replace(tzinfo=zone))
    # The same wall clock a week ago, also where daylight saving has changed since.
    earlier = _ms((midnight - timedelta(days=7)).replace(tzinfo=zone)) // HOUR * HOUR
    starts = tuple(range(begins, ends, HOUR))
    lately = [found.hours.get(at) if at <= now else None for at in starts]
    before = [found.hours.get(earlier + at - begins) for at in starts]
    return _Day(
        starts=starts,
        now=now,
        today=tuple(each.used if each else None for each in lately),
        before=tuple(each.used if each else None for each in before),
        denied=tuple(each.denied if each else 0 for each in lately),
        denied_before=tuple(each.denied if each else 0 for each in before),
    )


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000)


def _about(day: _Day, zone: ZoneInfo, in_use: int, capacity: int, denied: int) -> str:
    most = max(
        (each, at) for each, at in zip(day.today, day.starts, strict=True) if each is not None
    )
    said = f"Seats in use today: {in_use:,} now, of {capacity:,}. The busiest hour began at "
    said += f"{_clock(most[1], zone)}, with {most[0]:,.1f} on average. "
    return said + (f"{count(denied, 'refusal')}." if denied else "Nobody was refused.")


def _note(found: Hours, weekday: str, zone: ZoneInfo) -> str:
    said = f"The mean of each hour, {zone.key}."
    if found.left_out:
        said += f" The {found.pools:,} tightest pools of {found.pools + found.left_out:,}."
    if found.known_since is not None:
        begun = datetime.fromtimestamp(found.known_since / 1_000, UTC).astimezone(zone)
        oldest = min(found.hours, default=0)
        if found.known_since > oldest + HOUR:
            said += f" Measured since {begun:%Y-%m-%d %H:%M}: {weekday} is not known as a whole."
    return said


def _slots(day: _Day, zone: ZoneInfo, weekday: str) -> tuple[Slot, ...]:
    slots = []
    rows = zip(day.starts, day.today, day.before, day.denied, strict=True)
    for at, used, before, denied in rows:
        name = _clock(at, zone)
        said = f"{name}: " + (f"{used:,.1f} in use" if used is not None else "not yet")
        if denied:
            said += f", {count(denied, 'refusal')}"
        if before is not None:
            said += f"; {weekday} {before:,.1f}"
        slots.append(
            Slot(
                name=name,
                used="" if used is None else f"{used:,.1f}",
                before="" if before is None else f"{before:,.1f}",
                denied=denied,
                said=said,
            )
        )
    return tuple(slots)


def _clock(at: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(at / 1_000, UTC).astimezone(zone):%H:%M}"


def _draw(
    day: _Day,
    in_use: int | None,
    capacity: int,
    zone: ZoneInfo,
    *,
    wide: int,
    high: int,
    apart: int,
) -> Drawing:
    left, right, top, floor = 40.0, wide - 66.0, 18.0, high - 30.0
    known = [each for each in (*day.today, *day.before) if each is not None]
    most = max([*known, float(in_use or 0), 1.0])
    shown = 0 < capacity <= CAPACITY_SHOWN * most
    step = _step(max(most, capacity if shown else 0))
    highest = max(most, capacity if shown else 0) * 1.06
    slot = (right - left) / len(day.starts)

    def x(index: float) -> float:
        return round(left + index * slot, 1)

    def y(seats: float) -> float:
        return round(floor - seats / highest * (floor - top), 1)

    place = (day.now - day.starts[0]) / HOUR
    middles = [
        (x(min(i + 0.5, (i + min(i + 1, place)) / 2)), y(each))
        for i, each in enumerate(day.today)
        if each is not None
    ]
    point = (x(place), y(in_use)) if in_use is not None else None
    line = [*middles, *([point] if point and point[0] >= middles[-1][0] else [])]
    before = [(x(i + 0.5), y(each)) for i, each in enumerate(day.before) if each is not None]
    worst = max(day.denied, default=0)
    top_tick = int(highest // step)
    return Drawing(
        wide=wide,
        high=high,
        left=left,
        right=right,
        floor=floor,
        line=_path(line),
        fill=f"{_path(line)}L{line[-1][0]},{floor}L{line[0][0]},{floor}Z",
        before=_path(before),
        before_at=before[-1][1] if before else None,
        capacity=y(capacity) if shown else None,
        ticks=tuple(Mark(at=y(i * step), text=f"{i * step:,}") for i in range(top_tick + 1)),
        times=tuple(
            Mark(at=x(i), text=_clock(at, zone))
            for i, at in enumerate(day.starts)
            if i % apart == 0
        ),
        denied=tuple(
            (
                x(i + 0.5) - 2,
                round(floor - 4 - 36 * each / worst, 1),
                round(4 + 36 * each / worst, 1),
            )
            for i, each in enumerate(day.denied)
            if each
        ),
        point=point,
        slots=tuple(x(i) for i in range(len(day.starts))),
        slot=round(slot, 2),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{at},{high}" for i, (at, high) in enumerate(points))


def _step(most: float) -> int:
    """Return between which whole numbers lines are drawn: four or five of them."""
    size = 1
    while True:
        for each in (1, 2, 5):
            if each * size * 4.5 >= most:
                return each * size
        size *= 10
