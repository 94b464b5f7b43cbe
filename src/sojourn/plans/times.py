"""When a schedule is due."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from sojourn.plans import cron
from sojourn.plans.schedule import (
    EVERY_MAX,
    EVERY_MIN,
    Schedule,
    Window,
    instant_of,
    parse_window,
    wall_clock,
    wrong,
    zone_of,
)

QUIET_UNTIL_KNOWN = 3
"""The hour that is taken as the quietest while nothing is known."""


class Due(Struct, frozen=True):
    """A run that is to come. `closes_at`: past that it is too late; None: late is as good."""

    at: int
    closes_at: int | None = None


def checked(schedule: Schedule, now: int) -> Schedule:
    """Return a schedule as it is kept: its zone apart. Raises InvalidInput where it is impossible: with
    the reason, and examples."""
    given = [x for x in ("every", "cron", "window") if getattr(schedule, x) is not None]
    given += ["quietest"] if schedule.quietest else []
    if not given:
        raise wrong("A schedule needs one of every, cron, window and quietest.")
    if len(given) > 1 and given != ["every", "window"]:
        raise wrong(f"A schedule has {' and '.join(given)}: only every and window go together.")
    if schedule.every is not None and not EVERY_MIN <= schedule.every <= EVERY_MAX:
        raise wrong("every must lie between 1 second and 366 days.")
    if schedule.window is not None:
        _, zone = parse_window(schedule.window)
        if zone is not None and schedule.zone not in ("UTC", zone):
            raise wrong(f"The window names the zone {zone}, and zone {schedule.zone!r}.")
        text = schedule.window.strip().split()
        span = "".join(text[:-1] if zone is not None else text)
        schedule = replace(schedule, window=span, zone=zone or schedule.zone)
    next_due(schedule, now)
    return schedule


def next_due(
    schedule: Schedule, after: int, *, quiet_hour: int | None = None, last: int | None = None
) -> Due:
    """Return the first run after an instant. Within the window, where there is one.

    `quiet_hour`: the quietest hour of the zone's day. `last`: when the last run was due, from which
    `every` counts on, so that late runs do not move those that follow; and whose day has had its quietest
    hour, even if another is the quietest by now.
    """
    zone = zone_of(schedule.zone)
    if schedule.cron is not None:
        return Due(cron.next_tick(schedule.cron, zone, after))
    window = _window(schedule, quiet_hour)
    if schedule.every is not None:
        at = after + schedule.every
        if last is not None and last <= after:
            at = last + schedule.every * ((after - last) // schedule.every + 1)
        if window is None:
            return Due(at)
        if (found := window.open_at(at, zone)) is not None:
            return Due(at, found[1])
        after = max(after, at - 1)
    elif schedule.quietest and last is not None:
        tomorrow = wall_clock(last, zone).date() + timedelta(days=1)
        after = max(after, instant_of(tomorrow, 0, zone) - 1)
    assert window is not None  # `checked` has seen to it
    return Due(*window.after(after, zone))


def _window(schedule: Schedule, quiet_hour: int | None) -> Window | None:
    if schedule.quietest:
        hour = QUIET_UNTIL_KNOWN if quiet_hour is None else quiet_hour % 24
        return Window(hour * 60, (hour + 1) * 60)
    return None if schedule.window is None else parse_window(schedule.window)[0]
