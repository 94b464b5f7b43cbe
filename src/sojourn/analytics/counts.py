"""What is counted of a pool in an hour: grants, ends by reason, refusals, how long things took.

All of it adds up: the sum over hours is that of the days and years they make.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable
from typing import TypeVar

from msgspec import Struct, field

from sojourn.clock import DAY, HOUR, MINUTE, SECOND

K = TypeVar("K", bound=Hashable)

EDGES = (
    *(1 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND),
    *(1 * MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE),
    *(1 * HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, 1 * DAY, 2 * DAY, 7 * DAY),
)
"""Durations in milliseconds that part the groups in which lengths are counted: the first group is what took
less than the first edge, the last one what took the last or longer."""


class Lengths(Struct):
    """Durations in milliseconds: how many fell into each group of EDGES, their sum, and the longest."""

    groups: dict[int, int] = field(default_factory=dict)  # by the group's place
    total: int = 0
    longest: int = 0

    def note(self, lasted: int) -> None:
        group = bisect_right(EDGES, lasted)
        self.groups[group] = self.groups.get(group, 0) + 1
        self.total += lasted
        self.longest = max(self.longest, lasted)

    def add(self, more: Lengths) -> None:
        _add(self.groups, more.groups)
        self.total += more.total
        self.longest = max(self.longest, more.longest)

    @property
    def number(self) -> int:
        return sum(self.groups.values())


class Counts(Struct, omit_defaults=True):
    """Of a pool, in a stretch of time."""

    granted: int = 0  # seats for holders that had none
    resumed: int = 0  # holders that came back to their own lease
    taken_over: int = 0  # holders that had their seat still
    waited: int = 0  # of those, who had stood in the line
    entered: int = 0  # the line
    denied: dict[str, int] = field(default_factory=dict)  # by reason
    ended: dict[str, int] = field(default_factory=dict)  # by reason; when the seat came free
    held: Lengths = field(default_factory=Lengths)  # seats that came free: for how long
    ghosts: Lengths = field(
        default_factory=Lengths
    )  # silent holders' seats: from the last beat to the end
    waits: Lengths = field(default_factory=Lengths)  # in the line, of those who got a seat

    def add(self, more: Counts) -> None:
        self.granted += more.granted
        self.resumed += more.resumed
        self.taken_over += more.taken_over
        self.waited += more.waited
        self.entered += more.entered
        _add(self.denied, more.denied)
        _add(self.ended, more.ended)
        self.held.add(more.held)
        self.ghosts.add(more.ghosts)
        self.waits.add(more.waits)

    @property
    def denials(self) -> int:
        return sum(self.denied.values())


class Share(Struct):
    """What a user, or a client, had of a pool in a stretch of time."""

    held: int = 0  # ms
    granted: int = 0
    denied: int = 0

    def add(self, more: Share) -> None:
        self.held += more.held
        self.granted += more.granted
        self.denied += more.denied


def counted(many: Iterable[Counts]) -> Counts:
    """Add counts up."""
    result = Counts()
    for each in many:
        result.add(each)
    return result


def _add(numbers: dict[K, int], more: dict[K, int]) -> None:
    for key, number in more.items():
        numbers[key] = numbers.get(key, 0) + number
