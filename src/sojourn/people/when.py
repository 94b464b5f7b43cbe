"""Instants as people read them, in English: how long ago, or in how long; and exactly, which is in UTC,
since a server does not know where its reader is."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from sojourn.wire.bodies import rfc3339

MINUTE, HOUR, DAY = 60, 3_600, 86_400
UNITS = (("month", 2_629_800), ("day", DAY), ("hour", HOUR), ("minute", MINUTE))
SPECIAL = {
    ("day", -1): "yesterday",
    ("day", 1): "tomorrow",
    ("month", -1): "last month",
    ("month", 1): "next month",
}


class Moment(Struct, frozen=True):
    """Attributes: iso: for programs; words: relative; exact: for whoever wants to know."""

    iso: str
    words: str
    exact: str


def moment(at: int, now: int) -> Moment:
    """Say when an instant is, in ms, seen from another."""
    there = datetime.fromtimestamp(at / 1000, UTC)
    exact = f"{there:%b} {there.day}, {there:%Y, %H:%M} UTC"
    return Moment(rfc3339(at), relative(at - now), exact)


def relative(ms: int) -> str:
    """Say how far away something is, as browsers do (`Intl.RelativeTimeFormat`, numeric: auto)."""
    seconds = abs(ms) / 1000
    unit, size = next((each for each in UNITS if seconds >= each[1]), ("", 1))
    if not unit:
        return "just now"
    count = round(seconds / size) if ms > 0 else -int(seconds // size)
    if (unit, count) in SPECIAL:
        return SPECIAL[unit, count]
    named = unit if abs(count) == 1 else f"{unit}s"
    return f"in {count} {named}" if count > 0 else f"{-count} {named} ago"
