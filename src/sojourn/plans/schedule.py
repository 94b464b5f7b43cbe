"""The words of a schedule, and windows of local time.

A window is said in wall-clock time, so daylight saving stretches, shrinks, or takes it away:

    02:00-05:00 in Oslo, 28 March 2027      opens at 03:00, as 02:00 does not exist: two hours
    02:00-05:00 in Oslo, 31 October 2027    opens at the first 02:00: four hours, and one window
    02:15-02:45 in Oslo, 28 March 2027      does not occur that day
    02:15-02:45 in Oslo, 31 October 2027    occurs once, the first time that the clock shows it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from sojourn.clock import DAY, SECOND
from sojourn.errors import InvalidInput

EVERY_MIN = SECOND
EVERY_MAX = 366 * DAY
DAY_MINUTES = 1_440
DAYS_LOOKED = 8
"""Days ahead in which the next window is looked for. No zone skips so many."""
ZONE_MAX = 64
SPAN = re.compile(r"([01]\d|2[0-4]):([0-5]\d)\s*-\s*([01]\d|2[0-4]):([0-5]\d)(?:\s+(\S{1,64}))?")
EXAMPLES = (
    'Such as {"every": 900}, {"cron": "30 3 * * 1-5", "zone": "Europe/Oslo"}, '
    '{"window": "02:00-05:00 Europe/Oslo"} or {"quietest": true, "zone": "Europe/Oslo"}.'
)


class Schedule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a plan runs: by exactly one of `every`, `cron`, `quietest`, and `window`, which may also bound
    `every`. By a window alone, and in the quietest hour, it runs once a day, when that opens."""

    every: int | None = None  # ms
    cron: str | None = None  # five fields, in the zone's local time
    window: str | None = None  # "HH:MM-HH:MM", in the zone's local time
    quietest: bool = False
    zone: str = "UTC"


def wrong(message: str) -> InvalidInput:
    """Make the refusal of a schedule: it says why, and how schedules are written."""
    return InvalidInput(message, code="invalid_schedule", hint=EXAMPLES)


class Window(Struct, frozen=True):
    """Minutes after midnight, local time. One that closes no later than it opens does so the next day."""

    opens: int
    closes: int

    def holds(self, wall: datetime) -> bool:
        """Tell whether a wall clock that shows this is within it."""
        minute = wall.hour * 60 + wall.minute
        if self.opens < self.closes:
            return self.opens <= minute < self.closes
        return minute >= self.opens or minute < self.closes

    def on(self, day: date, zone: ZoneInfo) -> tuple[int, int] | None:
        """Return the instants at which the window of a day opens and closes. None: it does not occur, as
        the clock skips all of it."""
        opens_at = instant_of(day, self.opens, zone)
        later = DAY_MINUTES if self.closes <= self.opens else 0
        closes_at = instant_of(day, self.closes + later, zone)
        if opens_at >= closes_at or not self.holds(wall_clock(opens_at, zone)):
            return None
        return opens_at, closes_at

    def around(self, at: int, zone: ZoneInfo, days: int) -> Iterator[tuple[int, int]]:
        """Yield the windows from the day before an instant on, for so many days."""
        first = wall_clock(at, zone).date() - timedelta(days=1)
        for offset in range(days):
            found = self.on(first + timedelta(days=offset), zone)
            if found is not None:
                yield found

    def open_at(self, at: int, zone: ZoneInfo) -> tuple[int, int] | None:
        """Return the window that an instant lies in, or None."""
        if not self.holds(wall_clock(at, zone)):
            return None
        return next((x for x in self.around(at, zone, 3) if x[0] <= at < x[1]), None)

    def after(self, at: int, zone: ZoneInfo) -> tuple[int, int]:
        """Return the next window that opens after an instant. Raises InvalidInput if none does."""
        for found in self.around(at, zone, DAYS_LOOKED):
            if found[0] > at:
                return found
        raise wrong("This window never opens.")


def parse_window(text: str) -> tuple[Window, str | None]:
    """Read "02:00-05:00", or "02:00-05:00 Europe/Oslo": the window, and the zone if it names one."""
    found = SPAN.fullmatch(text.strip())
    if found is None:
        raise wrong(f"{text[:100]!r} is no window: two times of day with a dash between are.")
    hour, minute, last_hour, last_minute = map(int, found.groups()[:4])
    opens, closes = hour * 60 + minute, last_hour * 60 + last_minute
    if opens >= DAY_MINUTES or closes > DAY_MINUTES:
        raise wrong(f"The window {text[:100]!r} has a time that no clock shows.")
    if opens == closes:
        raise wrong(f"The window {text[:100]!r} is empty: it opens and closes at one time.")
    return Window(opens, closes), found.group(5)


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises InvalidInput where there is none of this name."""
    try:
        if 1 <= len(name) <= ZONE_MAX:
            return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, no path that may be
        pass
    raise wrong(f"There is no time zone {name[:ZONE_MAX]!r}.")


def wall_clock(at: int, zone: ZoneInfo) -> datetime:
    """Return what a wall clock in a zone shows at an instant, without the zone."""
    return datetime.fromtimestamp(at // 1_000, UTC).astimezone(zone).replace(tzinfo=None)


def instant_of(day: date, minute: int, zone: ZoneInfo) -> int:
    """Return the first instant at which a wall clock shows this time of a day, or, where daylight saving
    skips it, that at which the clock is put forward."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    at = _stamp(wall.replace(tzinfo=zone, fold=0))
    if wall_clock(at * 1_000, zone) == wall:
        return at * 1_000
    low, high = _stamp(wall.replace(tzinfo=zone, fold=1)), at  # on both sides of the gap
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high * 1_000


def _stamp(local: datetime) -> int:
    return round(local.timestamp())
