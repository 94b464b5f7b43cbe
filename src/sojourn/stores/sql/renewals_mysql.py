"""Heartbeats on MariaDB and MySQL, whose UPDATE answers no rows and reads other tables under locks.

Leases are read first, with the policies of their pools, and their new times are worked out here; then
those whose new times are the same are written together. What ends a lease in between is seen by the
statement that writes: it only touches leases that are still live under the same fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec

from sojourn.lease import Beat, Renew, Renewal, beat_aims
from sojourn.license import Policy
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.rows import OPEN, renewal

# One row of JSON: PyMySQL takes longer for a row than the server does.
READ = """
SELECT {now}, min(l.pool_id) = max(l.pool_id), json_arrayagg(json_array(
    l.id, l.fence, l.suspect_at, l.expires_at, l.acquired_at, p.lost_after, p.suspect_after,
    p.heartbeat_interval, p.linger, p.max_lease))
FROM sojourn_leases AS l {force PRIMARY} STRAIGHT_JOIN sojourn_pools AS p ON p.id = l.pool_id
WHERE l.id {in ids} AND coalesce(l.ended_at, 0) = 0 AND NOT l.lapsed AND l.expires_at > {now}
  AND {open}
""".replace("{open}", OPEN.replace("{at}", "{now}"))
WRITE = """
UPDATE sojourn_leases SET last_beat_at = greatest(last_beat_at, {now}),
    suspect_at = {bound}(suspect_at, :suspect_at), expires_at = {bound}(expires_at, :expires_at),
    idle_since = coalesce(:now_read - {idle_for}, idle_since)
WHERE id {in ids} AND {held} AND ended_at IS NULL AND NOT lapsed AND expires_at > {now}
"""
HELD = "(id, fence) {in_held held}"
HELD_IN_POOL = "fence {in_held held}"
"""Where all are of one pool, a fence that any of them had when they were read is no other's later."""


class _Seen(msgspec.Struct, array_like=True, frozen=True):
    """A live lease of an open pool."""

    id: str
    fence: int
    suspect_at: int
    expires_at: int
    acquired_at: int
    lost_after: int
    suspect_after: int | None
    heartbeat_interval: int
    linger: int
    max_lease: int | None


_decode = msgspec.json.Decoder(tuple[_Seen, ...]).decode


def beat(tx: Tx, beats: Sequence[Renew]) -> dict[str, Renewal]:
    """Apply beats, at most one of each lease; return what became of those that counted."""
    now, alone, seen = _read(tx, beats)
    groups: dict[_Aims, list[Renew]] = {}
    for each in beats:
        lease = seen.get(each.lease_id)
        if lease is not None and lease.fence == each.fence:
            groups.setdefault(_aims(lease, each.beat, now), []).append(each)
    renewed: dict[str, Renewal] = {}
    whole = True
    for aims, group in groups.items():
        whole &= _write(tx, now, aims, group, alone=alone) == len(group)
        for each in group:
            lease = seen[each.lease_id]
            bound = min if aims.closing else max
            renewed[lease.id] = renewal(
                max(0, bound(lease.expires_at, aims.expires_at) - now),
                doubted=bound(lease.suspect_at, aims.suspect_at) <= now,
            )
    if whole:
        return renewed
    _, _, left = _read(tx, beats)  # some have ended since they were read
    fences = {each.lease_id: each.fence for each in beats}
    return {
        name: answer
        for name, answer in renewed.items()
        if name in left and left[name].fence == fences[name]
    }


def _read(tx: Tx, beats: Sequence[Renew]) -> tuple[int, bool, dict[str, _Seen]]:
    """Return now, whether all are of one pool, and those of these leases that are live."""
    ids = [each.lease_id for each in beats]
    now, alone, found = tx.rows(READ, {"now": tx.instant, "ids": ids})[0]
    tx.judge(now)
    return now, bool(alone), {lease.id: lease for lease in _decode(found)} if found else {}


class _Aims(NamedTuple):
    suspect_at: int
    expires_at: int
    closing: bool


def _aims(lease: _Seen, said: Beat, now: int) -> _Aims:
    policy = _policy(
        lease.lost_after,
        lease.suspect_after,
        lease.heartbeat_interval,
        lease.linger,
        lease.max_lease,
    )
    return _Aims(*beat_aims(policy, lease.acquired_at, said, now), said.closing)


@lru_cache(1024)
def _policy(
    lost_after: int,
    suspect_after: int | None,
    heartbeat_interval: int,
    linger: int,
    max_lease: int | None,
) -> Policy:
    """Return what beats need of a policy."""
    return Policy(
        capacity=0,
        lost_after=lost_after,
        suspect_after=suspect_after,
        heartbeat_interval=heartbeat_interval,
        linger=linger,
        max_lease=max_lease,
    )


def _write(tx: Tx, now: int, aims: _Aims, group: Sequence[Renew], *, alone: bool) -> int:
    """Return how many of these leases were still live."""
    idle = [(x.lease_id, x.beat.idle_for) for x in group if x.beat.idle_for is not None]
    params: dict[str, Any] = {
        "now": tx.instant,
        "now_read": now,
        "suspect_at": aims.suspect_at,
        "expires_at": aims.expires_at,
        "ids": [x.lease_id for x in group],
        "held": [x.fence if alone else (x.lease_id, x.fence) for x in group],
    }
    for number, (lease_id, idle_for) in enumerate(idle):
        params[f"id_{number}"], params[f"idle_{number}"] = lease_id, idle_for
    return tx.do(_statement(len(idle), closing=aims.closing, alone=alone), params)


@cache
def _statement(idle: int, *, closing: bool, alone: bool) -> str:
    """Return the statement with room for so many leases whose holder's idleness is known."""
    cases = "".join(f" WHEN :id_{number} THEN :idle_{number}" for number in range(idle))
    return (
        WRITE.replace("{bound}", "least" if closing else "greatest")
        .replace("{held}", HELD_IN_POOL if alone else HELD)
        .replace("{idle_for}", f"CASE id{cases} END" if idle else "NULL")
    )
