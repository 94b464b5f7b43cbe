"""Refusals by incident: those of a pool that follow one another closely are one story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from sojourn.clock import MINUTE
from sojourn.event import Event

INCIDENT_GAP = 10 * MINUTE
"""Refusals of a pool that are no further apart are of one incident, in milliseconds."""
NAMED_MAX = 200
"""Users who are named in an incident; refusals of further ones are counted only."""


class Refusals(Struct, kw_only=True):
    """An incident: the refusals of a pool, from the first to the last."""

    pool_id: str
    started_at: int
    ended_at: int
    times: int = 0
    users: dict[str, int] = field(default_factory=dict)  # refusals of each
    unnamed: int = 0  # refusals of users beyond those
    reasons: dict[str, int] = field(default_factory=dict)
    limit: int = 0  # seats of the pool, when it refused last
    in_use: int = 0  # the most there were


def follow(latest: Mapping[str, Refusals], denials: Iterable[Event]) -> list[Refusals]:
    """Take in refusals, in order; return the incidents that began or went on, oldest first.

    `latest` are the pools' last incidents, which are changed where they go on.
    """
    going, changed = dict(latest), {}
    for event in denials:
        pool = event.pool_id or ""
        found = going.get(pool)
        if found is None or event.at - found.ended_at > INCIDENT_GAP:
            found = Refusals(pool_id=pool, started_at=event.at, ended_at=event.at)
            going[pool] = found
        _note(found, event)
        changed[pool, found.started_at] = found
    return list(changed.values())


def _note(incident: Refusals, event: Event) -> None:
    incident.ended_at = max(incident.ended_at, event.at)
    incident.times += 1
    user, reason = event.user_id or "", str(event.data.get("reason"))
    if user in incident.users or len(incident.users) < NAMED_MAX:
        incident.users[user] = incident.users.get(user, 0) + 1
    else:
        incident.unnamed += 1
    incident.reasons[reason] = incident.reasons.get(reason, 0) + 1
    incident.limit = int(event.data.get("limit", 0))
    incident.in_use = max(incident.in_use, int(event.data.get("inUse", 0)))
