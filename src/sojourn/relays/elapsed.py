"""How much time has gone by, over restarts of a process and of its machine.

A relay may be switched off for days, and must know when it is back whether its allotments are over. Within
one boot the machine's own uptime tells, which nobody sets. Over a boot there is only the wall clock: it is
believed where it is at or after the latest that was ever seen, and where it is not, nothing that was granted
is believed. A wall clock that is ahead ends allotments early, which sells no seat twice.
"""

from __future__ import annotations

from msgspec import Struct


class Instant(Struct, frozen=True):
    """A look at a machine's clocks, in ms. `uptime` goes on while the machine sleeps (CLOCK_BOOTTIME)."""

    boot_id: str
    uptime: int
    wall: int


class Witness(Struct, frozen=True):
    """What was written last: a look, the relay's own time then, and the latest wall clock ever seen."""

    seen: Instant
    time: int = 0
    latest_wall: int = 0


def go_on(witness: Witness | None, now: Instant) -> tuple[Witness, bool]:
    """Return the relay's own time as it goes on, in `time`, and whether it can be believed: if it cannot,
    whatever was to last until some instant is over."""
    if witness is None:
        return Witness(now, 0, now.wall), False
    latest = max(witness.latest_wall, now.wall)
    if now.boot_id == witness.seen.boot_id and now.uptime >= witness.seen.uptime:
        return Witness(now, witness.time + now.uptime - witness.seen.uptime, latest), True
    since = now.wall - witness.latest_wall
    if since < 0:
        return Witness(now, witness.time, latest), False
    return Witness(now, witness.time + since, latest), True
