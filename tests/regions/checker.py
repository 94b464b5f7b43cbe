"""Judges what clients of several regions saw: no seat sold twice, nobody dropped, or turned away for nothing.

It imports nothing of the product. Instants are seconds of one clock that nobody sets, that of this machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

SHOWN = 20


class Belief(Struct, frozen=True):
    """A client believed from `start` to `end` that it holds a seat: from when it was told so, until it gave
    it back, was told that it is lost, or the time it was promised was over, whatever came first."""

    region: str
    user: str
    start: float
    end: float


class Dropped(Struct, frozen=True):
    """A holder that had beaten `silent` seconds before was told that its seat is lost."""

    region: str
    user: str
    at: float
    silent: float


class TurnedAway(Struct, frozen=True):
    """An acquire that was answered with something else than a seat or a full region. `cut`: the region could
    not reach its authority then."""

    region: str
    at: float
    why: str
    cut: bool


class History(Struct):
    """What clients wrote down."""

    beliefs: list[Belief] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    turned_away: list[TurnedAway] = field(default_factory=list)
    granted: int = 0
    denied: int = 0
    beats: int = 0
    granted_cut_off: int = 0
    heals: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)


def most_sold(beliefs: Iterable[Belief]) -> int:
    """Return the most seats that were believed in at one instant."""
    steps: list[tuple[float, int]] = []
    for each in beliefs:
        if each.end > each.start:
            steps += [(each.start, 1), (each.end, -1)]
    level = most = 0
    for _, step in sorted(steps):  # at one instant ends come before beginnings
        level += step
        most = max(most, level)
    return most


def twice(beliefs: Iterable[Belief]) -> list[tuple[Belief, Belief]]:
    """Return pairs of one user's beliefs in one region that overlap: a mistake of whoever wrote them down."""
    last: dict[tuple[str, str], Belief] = {}
    found = []
    for each in sorted(beliefs, key=lambda x: x.start):
        before = last.get((each.region, each.user))
        if before is not None and each.start < before.end:
            found.append((before, each))
        last[each.region, each.user] = each
    return found


def violations(history: History, capacity: int, *, living: float) -> list[str]:
    """Say what was wrong; nothing: the promises were kept. `living`: seconds within which who beats keeps a
    seat, whatever else happens."""
    found = []
    sold = most_sold(history.beliefs)
    if sold > capacity:
        found.append(f"{sold} seats of {capacity} were believed in at one instant")
    if wrong := twice(history.beliefs):
        found.append(f"the history is wrong: {wrong[0]}")
    dropped = [each for each in history.dropped if each.silent < living]
    found += [
        f"{x.user} in {x.region} lost a seat {x.silent:.1f} s after a beat" for x in dropped[:SHOWN]
    ]
    found += [
        f"somebody was turned away in {x.region}{', which was cut off' if x.cut else ''}: {x.why}"
        for x in history.turned_away[:SHOWN]
    ]
    return found
