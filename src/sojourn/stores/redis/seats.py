"""Pools and leases: what the scripts are asked, and what their answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sojourn.idempotency import KeyReused, Repeated, Replayed
from sojourn.lease import (
    Acquire,
    DenialReason,
    Denied,
    Doubt,
    Lease,
    LeaseFilter,
    LeaseState,
    Release,
    Renew,
    Renewal,
    Usage,
    Waiting,
)
from sojourn.license import Pool
from sojourn.store import LIST_MAX, Action, Outage, bounded
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import (
    lease_of,
    leases_of,
    pool_of,
    pool_row,
    request_row,
    to_json,
    unpack,
    waiting_of,
)
from sojourn.stores.redis.connection import Connection, Verbs

READ_MAX = 5_000
"""Rows that one script reads of a long list: others wait meanwhile."""
FULL_FROM = 500
"""Leases: what was counted of a smaller pool is not kept."""
DENIED, GRANTED, BEFORE, OTHERS = range(4)
"""How acquire.lua answers: now, or as before; or that the key was another request's."""
_STATES = (LeaseState.ACTIVE, LeaseState.ACTIVE, LeaseState.SUSPECT, LeaseState.EXPIRED)
_DENIALS = {reason.value: reason for reason in DenialReason}


class SeatVerbs(Verbs):
    """Verbs of pools and leases."""

    def define(self, pools: Sequence[Pool]) -> None:
        if pools:
            last = {pool.id: pool for pool in pools}.values()
            self._db.run(scripts.POOLS, ["define", [*map(pool_row, last)]])

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        if not pool_ids:
            return []
        found = self._db.run(scripts.POOLS, ["pools", [*pool_ids]])
        return [
            None if raw is None else pool_of(pool_id, raw)
            for pool_id, raw in zip(pool_ids, found, strict=True)
        ]

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        return self._decide(requests, dry=False)

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return self._decide(requests, dry=True)

    def _decide(self, requests: Sequence[Acquire], *, dry: bool) -> list[Any]:
        if not requests:
            return []
        rows = [request_row(each) for each in requests]
        packed, flat, now = self._db.run(scripts.ACQUIRE, [dry, rows, self._db.strict, FULL_FROM])
        leases = leases_of(flat)
        return [_answer(answer, leases, now) for answer in unpack(packed)]

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        if not renews:
            return []
        asked = [
            (x.lease_id, x.fence, x.beat.idle_for, x.beat.next_in, x.beat.closing, x.pool_id)
            for x in renews
        ]
        return [
            Renewal(expires_in=said >> 2, state=_STATES[said & 3]) if said else None
            for said in self._db.run(scripts.RENEW, asked)
        ]

    def release(self, releases: Sequence[Release]) -> list[bool]:
        if not releases:
            return []
        asked = [(x.lease_id, x.fence, x.pool_id) for x in releases]
        return [bool(said) for said in self._db.run(scripts.ENDS, ["release", [*asked]])]

    def doubt(self, doubts: Sequence[Doubt], *, at_once: bool = False) -> list[bool]:
        if not doubts:
            return []
        asked = [(x.lease_id, x.fence, x.pool_id, x.silent_for) for x in doubts]
        return [bool(said) for said in self._db.run(scripts.ENDS, ["doubt", [at_once, asked]])]

    def ask(self, pool_id: str, actor: str | None, data: dict[str, Any] | None = None) -> None:
        self._db.run(scripts.ENDS, ["ask", [pool_id, actor, data or False]])

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        data = {**action.data, "name": action.name, "pools": list(pool_ids)}
        asked = [action.actor, to_json(data).decode(), list(dict.fromkeys(pool_ids))]
        return int(self._db.run(scripts.ENDS, ["drop", asked]))

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        """Look for what matches, in pieces; then end in one step what of that still does."""
        which = replace(which, include_ended=False)
        stated = {k: v for k, v in msgspec.to_builtins(which).items() if v not in (None, False)}
        named: list[tuple[str, str]] = []
        after: str | None = None
        self._db.run(scripts.ENDS, ["heal", []])  # or a lease that is owed time would come back
        while len(named) < LIST_MAX:
            page, _ = self.leases(which, after=after, limit=LIST_MAX)
            named += [(x.pool_id, x.id) for x in page]
            if not suspects_only or len(page) < LIST_MAX:
                break
            after = page[-1].id
        data = {**action.data, "name": action.name, "filter": stated}
        asked = [
            action.actor,
            to_json(data).decode(),
            which.user_id,
            suspects_only,
            which.session_id,
        ]
        return leases_of(
            self._db.run(scripts.ENDS, ["revoke", [*asked, named, which.silent_since]])
        )

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        limit = bounded(limit)
        found: dict[bytes, tuple[bytes, bytes]] = {}
        place: Any = None
        while True:
            asked = [*filter_row(which), which.include_ended, after, limit, _named(which), place]
            now, more, flat = self._db.run(
                scripts.LIST,
                [*asked, READ_MAX, which.silent_since],
                now_in=lambda said: int(said[0]),
            )
            found |= {
                lease_id: (pool_id, raw)
                for lease_id, pool_id, raw in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
            }
            if len(found) > limit:
                found = dict(sorted(found.items())[:limit])
            if not more:
                return [lease_of(each, *found[each]) for each in sorted(found)], int(now)
            place = unpack(more)

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        if not pool_ids:
            return []
        found = self._db.run(scripts.POOLS, ["usage", [*pool_ids]])
        return [
            None
            if said is None
            else Usage(
                pool_id=pool_id,
                capacity=said[0],
                in_use=said[1],
                suspect=said[2],
                leases=said[3],
                at=said[4],
                overdraft=said[5],
                overdrawn=said[6],
                reserved=tuple(said[7]),
                allotted=said[8],
            )
            for pool_id, said in zip(pool_ids, found, strict=True)
        ]

    def waiting(self, pool_id: str, *, limit: int = LIST_MAX) -> tuple[list[Waiting], int]:
        now, packed = self._db.run(scripts.POOLS, ["waiting", [pool_id]])
        found = [waiting_of(row) for row in unpack(packed)]
        return found[: bounded(limit)], int(now)

    def pulse(self) -> Outage | None:
        _, shift, *outage = self._db.run(
            scripts.POOLS, ["pulse", []], now_in=lambda said: int(said[0])
        )
        self._db.shifted(int(shift))
        return Outage(lasted=outage[0], extended=outage[1]) if outage else None


def _answer(said: Sequence[Any], rows: Sequence[Lease], now: int) -> Lease | Denied | Repeated:
    if said[0] == GRANTED:
        return rows[said[1] - 1]
    if said[0] == DENIED:
        return _denied(said[1:], rows)
    if said[0] == OTHERS:
        return KeyReused()
    return Replayed(answer=_answer(said[2], rows, now), at=now, note=said[1])


def _denied(said: Sequence[Any], rows: Sequence[Lease]) -> Denied:
    reason, at, limit, in_use, suspect, retry_after, mine, evidence, *more = said
    # Fewer: an answer of before, or one that was kept.
    tentative, overdraft, reserved, reserved_free = [*more, 0, 0, 0, 0][:4]
    waiting, position, full, entry, allotted = (more[4:] or [0, 0, False, None, 0])[:5]
    return Denied(
        reason=_DENIALS[reason],
        at=at,
        limit=limit,
        in_use=in_use,
        suspect=suspect,
        retry_after=retry_after,
        mine=tuple(rows[place - 1] for place in mine),
        evidence=tuple(rows[place - 1] for place in evidence),
        tentative=bool(tentative),
        overdraft=overdraft,
        reserved=reserved,
        reserved_free=reserved_free,
        waiting=waiting,
        position=position,
        line_full=full,
        entry=waiting_of(entry) if entry else None,
        allotted=allotted,
    )


def filter_row(which: LeaseFilter) -> list[Any]:
    prefix = None if which.license_id is None else f"{which.license_id}:"
    ids = None if which.ids is None else list(which.ids)
    return [prefix, which.feature, which.user_id, which.client_id, which.session_id, ids]


def _named(which: LeaseFilter) -> list[str] | None:
    """Name the one pool that a filter can mean, where it says so much."""
    if which.license_id is None or which.feature is None:
        return None
    return [f"{which.license_id}:{which.feature}"]


def now(db: Connection) -> tuple[int, int]:
    """Read the clock that decides, and how far it is ahead of the server's own."""
    at, shift = db.run(scripts.POOLS, ["now", []], now_in=lambda said: int(said[0]))
    return int(at), int(shift)
