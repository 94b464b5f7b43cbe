"""The seat of Sojourn's own: who holds it carries out what is due, and nobody else does meanwhile.

It is a lease like any other, in a pool with one seat, through the store's own verbs. So a leader that
crashed is replaced once its lease has run out, and one that stood still finds its lease lost. No list, event
or figure shows it: see `event.OWN_LICENSES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sojourn.clock import SECOND
from sojourn.event import SWEEP_LICENSE
from sojourn.lease import Acquire, DenialReason, Denied, Lease, Release, Renew
from sojourn.license import Policy, Pool, WhenFull
from sojourn.store import Store
from sojourn.token import new_id

LOST_AFTER = 15 * SECOND
BEAT_EVERY = 2.0
"""Seconds between two beats, at least: steps of a sweep may be shorter."""
POOL = Pool(
    license_id=SWEEP_LICENSE,
    feature="leader",
    policy=Policy(
        capacity=1,
        heartbeat_interval=5 * SECOND,
        suspect_after=LOST_AFTER,
        lost_after=LOST_AFTER,
        linger=0,
        resume_window=0,
        when_full=WhenFull.DENY,
    ).validate(),
)
USER = "sojourn:sweeps"


class Leader:
    """One process that may lead. Used by one thread."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._name = new_id("srv_")
        self._lease: Lease | None = None
        self._beaten_at = 0.0

    def take(self) -> bool:
        """Take the seat, or keep it. False while another holds it."""
        answer = self._ask()
        if isinstance(answer, Denied) and answer.reason is DenialReason.FEATURE_UNKNOWN:
            self._store.define([POOL])  # a new store, or one that was emptied
            answer = self._ask()
        self._lease = answer if isinstance(answer, Lease) else None
        self._beaten_at = self._now()
        return self._lease is not None

    def _ask(self) -> object:
        request = Acquire(
            pool_id=POOL.id, user_id=USER, client_id=self._name, lease_id=new_id("lse_")
        )
        return self._store.acquire([request])[0]

    def beat(self) -> bool:
        """Keep the seat. False once it is lost: somebody else may lead."""
        if self._lease is None:
            return False
        if self._now() - self._beaten_at < BEAT_EVERY:
            return True
        renew = Renew(lease_id=self._lease.id, fence=self._lease.fence, pool_id=POOL.id)
        if self._store.renew([renew])[0] is None:
            self._lease = None
            return False
        self._beaten_at = self._now()
        return True

    def give_back(self) -> None:
        """Let another lead at once."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._store.release([Release(lease_id=lease.id, fence=lease.fence, pool_id=POOL.id)])
