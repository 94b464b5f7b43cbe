"""Times and numbers in words, as the console's pages say them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import Struct


class When(Struct, frozen=True):
    iso: str
    exact: str
    ago: str


def when(at: int, now: int) -> When:
    instant = datetime.fromtimestamp(at / 1000, UTC)
    return When(
        instant.isoformat(timespec="seconds"),
        instant.strftime("%Y-%m-%d %H:%M:%S UTC"),
        ago(now - at),
    )


def ago(ms: int) -> str:
    """Say how long ago, as the pages' script does."""
    seconds = ms // 1000
    if seconds < 45:
        return "just now"
    if seconds < 3_600:
        return f"{count(max(1, seconds // 60), 'minute')} ago"
    if seconds < 86_400:
        return f"{count(seconds // 3_600, 'hour')} ago"
    return f"{count(seconds // 86_400, 'day')} ago"


def duration(ms: int) -> str:
    if ms < 1:
        return "less than 1 ms"
    return f"{ms} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s"


def count(number: int, one: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {one}s"


def exact(ms: int) -> str:
    """Say a duration as people do, with its two largest units: "1 h 5 min", "3 d", "19 s"."""
    seconds = max(0, ms) // 1_000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min" + (f" {seconds % 60:02} s" if seconds < 600 else "")
    if seconds < 86_400:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60:02} min"
    days, hours = seconds // 86_400, seconds % 86_400 // 3_600
    return f"{days} d" + (f" {hours} h" if hours else "")


def brief(ms: int) -> str:
    """Say a duration in one unit, for tables: "87 s", "12 min", "5 h", "3 d"."""
    seconds = max(0, ms) // 1_000
    for unit, length, until in (("s", 1, 100), ("min", 60, 6_000), ("h", 3_600, 172_800)):
        if seconds < until:
            return f"{seconds // length} {unit}"
    return f"{seconds // 86_400} d"


def span(ms: int) -> str:
    """Say a duration that somebody has set: "90 s", "15 min", "1 h 30 min"."""
    if ms % 1_000 > 0 and ms < 100_000:
        return f"{ms / 1_000:g} s"
    said = f"{ms // 1_000} s" if ms < 100_000 else exact(ms)
    return said.removesuffix(" 00 s").removesuffix(" 00 min")


def initials(name: str) -> str:
    """Return one or two letters that stand for a name: "ken" is K, "karen.s" is KS."""
    parts = [part for part in re.split(r"[^\w]+|_", name.partition("@")[0]) if part]
    return "".join(part[0] for part in parts[:2]).upper() or "?"
