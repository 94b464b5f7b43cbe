"""Many silent at once: then the network is doubted, and not the people.

An office that loses its line silences all who work there within one interval. So does a server of ours that
dies, all who beat there. Chance does that to single holders, not to most of a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

GROUP_MIN = 3
"""Holders that must have fallen silent together: two people may well leave at once."""


class Member(Struct, frozen=True, kw_only=True):
    """A holder, as far as outages go. Milliseconds."""

    silent_for: float
    due: float  # from its last beat to when its next one was to be expected
    late: bool
    groups: tuple[str, ...]  # what it shares with others: its network, the server that it beats at


def outages(members: Sequence[Member]) -> dict[int, str]:
    """Return who is excused, by index, with the reason in words. Pure; n log n."""
    groups: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        for name in member.groups:
            groups.setdefault(name, []).append(index)
    excused: dict[int, str] = {}
    for name in sorted(groups, key=len):  # the smallest group says most; its words are kept
        for index, reason in _outage(name, groups[name], members):
            excused.setdefault(index, reason)
    return excused


def _outage(
    name: str, group: Sequence[int], members: Sequence[Member]
) -> Iterable[tuple[int, str]]:
    """Find the largest number of a group that fell silent within one interval of one another.

    Whoever has beaten since the first of them was due is proof that the group can be heard. Whoever has not
    is silent with them, due or not.
    """
    late = sorted((members[i].silent_for, members[i].due) for i in group if members[i].late)[::-1]
    if len(late) < GROUP_MIN:
        return
    interval = max(due for _, due in late)
    first, most, longest, began = 0, 0, 0.0, 0.0
    for last, (silence, _) in enumerate(late):
        while late[first][0] - silence > interval:
            first += 1
        if last - first + 1 > most:
            most, longest = last - first + 1, late[first][0]
            began = longest - late[first][1]
    heard = sum(1 for i in group if members[i].silent_for < began)
    if most < GROUP_MIN or most <= heard:
        return
    reason = (
        f"{most} of {most + heard} holders of {name} fell silent within {interval / 1000:.0f} s:"
        " the connection is doubted, not the people."
    )
    for index in group:
        if began <= members[index].silent_for <= longest:
            yield index, reason
