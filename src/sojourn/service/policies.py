"""What answers quote of pools' policies. Grants read the store; answers may be told from memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from sojourn.errors import NotFound, SojournError
from sojourn.lease import Renew, Renewal
from sojourn.license import Pool, split_pool_id
from sojourn.store import Store

POLICY_TTL = 5.0
"""Seconds for which an answer may quote a pool's heartbeat interval from memory. Decisions never do."""
POLICY_MAX = 10_000
"""Pools that are remembered; for one more, all are forgotten."""


class Policies:
    """Remembers pools for a moment. Safe from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Pool]] = {}  # by pool: until when, and which

    def pool(self, pool_id: str) -> Pool:
        """Return a pool as it was at most `POLICY_TTL` ago. Raises NotFound, StoreError."""
        found = self._look([pool_id]).get(pool_id)
        if found is None:
            raise NotFound("The license has no such feature.", code="feature_unknown")
        return found

    def forget(self, license_id: str) -> None:
        """Forget the pools of a license that has changed."""
        for pool_id in [x for x in list(self._known) if split_pool_id(x)[0] == license_id]:
            self._known.pop(pool_id, None)

    def bounded(
        self, beats: Sequence[Renew], renewals: list[Renewal | None]
    ) -> list[Renewal | None]:
        """Return what beats are told: never more than `lost_after`, also where that was lowered since a lease
        was granted, and the lease lives for longer (ADR 32). `beats` name their pools.

        As a rule a beat's answer is `lost_after` itself: then the store is not asked for the policy.
        """
        known = self._known
        unusual: dict[int, str] = {}
        for i, (beat, renewal) in enumerate(zip(beats, renewals, strict=True)):
            if renewal is None or beat.pool_id is None:
                continue
            quoted = known.get(beat.pool_id)
            as_usual = quoted is not None and quoted[1].policy.lost_after == renewal.expires_in
            if not as_usual and not beat.beat.closing:  # a linger is no longer than `lost_after`
                unusual[i] = beat.pool_id
        if not unusual:
            return renewals
        names = list(dict.fromkeys(unusual.values()))
        try:
            pools = self._look(names)
        except SojournError:  # the beats have counted all the same
            pools = {x: quoted[1] for x in names if (quoted := known.get(x)) is not None}
        for i, pool_id in unusual.items():
            renewal, pool = renewals[i], pools.get(pool_id)
            if renewal is not None and pool is not None:
                left = min(renewal.expires_in, pool.policy.lost_after)
                renewals[i] = replace(renewal, expires_in=left)
        return renewals

    def _look(self, pool_ids: Sequence[str]) -> dict[str, Pool]:
        """Return those of these pools that are there; read those that are not known, or were read too long
        ago."""
        now = time.monotonic()
        found: dict[str, Pool] = {}
        old: list[str] = []
        for pool_id in pool_ids:
            known = self._known.get(pool_id)
            if known is not None and known[0] > now:
                found[pool_id] = known[1]
            else:
                old.append(pool_id)
        read = self._store.pools(old) if old else []
        if len(self._known) + len(old) > POLICY_MAX:
            self._known.clear()
        until = time.monotonic() + POLICY_TTL
        for pool_id, pool in zip(old, read, strict=True):
            if pool is None:
                self._known.pop(pool_id, None)
            else:
                found[pool_id] = pool
                self._known[pool_id] = (until, pool)
        return found
