"""Seats in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from sojourn.clock import Clock
from sojourn.event import OWN_LICENSES, Event, EventKind, asked_event
from sojourn.idempotency import Repeated
from sojourn.lease import (
    Acquire,
    Denied,
    Doubt,
    EndReason,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Shortening,
    Usage,
    Waiting,
    beat_times,
)
from sojourn.license import Policy, Pool, split_pool_id
from sojourn.seat_events import denial_event, end_event
from sojourn.seating import refusal, seat
from sojourn.store import LIST_MAX, Action, Outage, bounded
from sojourn.stores.memory.allotments import MemoryAllotments
from sojourn.stores.memory.fullness import FULL_FROM, Fullness, frees
from sojourn.stores.memory.pool import PoolView
from sojourn.stores.memory.rows import Holder, LeaseRows
from sojourn.stores.memory.stream import action_event

T = TypeVar("T")

MAX_PAUSE = 10_000


class MemorySeats(MemoryAllotments):
    full_from = FULL_FROM
    """Leases of a pool that is not counted again for each who is refused: see `fullness`."""

    def __init__(self, clock: Clock, *, max_pause: int) -> None:
        super().__init__(clock)
        self._max_pause = max_pause
        self._pools: dict[str, Pool] = {}
        self._fences: dict[str, int] = {}  # outlive their pool, so that they only ever grow
        self._leases: dict[str, LeaseRows] = {}  # by pool
        self._full: dict[str, Fullness] = {}  # by pool, as long as it is
        self._places: dict[str, tuple[str, Holder]] = {}  # lease id: where its row is
        self._lines: dict[str, dict[Holder, Waiting]] = {}  # who waits for a seat, by pool
        self._decided_at: dict[str, int] = {}  # when seats of a pool were last granted or denied
        self._last_pulse: int | None = None

    def define(self, pools: Sequence[Pool]) -> None:
        with self._lock:
            for pool in {pool.id: pool for pool in pools}.values():
                if (before := self._pools.get(pool.id)) is not None:
                    self._shorten(before, pool)
                    if before.policy != pool.policy:
                        self._full.pop(pool.id, None)
                self._pools[pool.id] = pool
                self._fences.setdefault(pool.id, 0)
                self._leases.setdefault(pool.id, LeaseRows())

    def _shorten(self, before: Pool, pool: Pool) -> None:
        shorter = Shortening.between(before.policy, pool.policy)
        if shorter is None:
            return
        now = self._pool_now(pool.id, self.now())
        for lease in [each for each in self._leases[pool.id].values() if each.live(now)]:
            suspect_at, expires_at = shorter.times(lease, now)
            self._write(replace(lease, suspect_at=suspect_at, expires_at=expires_at))

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        with self._lock:
            now = self.now()
            if self._pulse_is_stale(now):
                self._give_grace(now)  # as in `revoke`
            live = [
                lease
                for pool in dict.fromkeys(pool_ids)
                if pool in self._pools
                for lease in self._leases[pool].values()
                if self._live(lease, now)
            ]
            for lease in live:
                self._end_lease(lease, EndReason.REVOKED, action.actor, now)
            for pool in pool_ids:
                self._pools.pop(pool, None)
                self._full.pop(pool, None)
            self._append([action_event(action, pools=list(pool_ids), ended=len(live))], now)
            return len(live)

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        with self._lock:
            return [self._pools.get(pool) for pool in pool_ids]

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        with self._lock:
            now = self.now()
            keys = [request.idempotency for request in requests]
            return self._once(
                keys, lambda some: self._acquire([requests[i] for i in some], now), now
            )

    def _acquire(self, requests: Sequence[Acquire], now: int) -> list[Lease | Denied]:
        if requests and self._pulse_is_stale(now):
            self._give_grace(now)
        by_pool: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            by_pool.setdefault(request.pool_id, []).append(i)
        answers: dict[int, Lease | Denied] = {}
        for pool, indexes in by_pool.items():
            decided = self._acquire_in(pool, [requests[i] for i in indexes], now)
            answers.update(zip(indexes, decided, strict=True))
        return [answers[i] for i in range(len(requests))]

    def _acquire_in(
        self, pool_id: str, requests: list[Acquire], now: int
    ) -> Sequence[Lease | Denied]:
        pool = self._pools.get(pool_id)
        reason = refusal(pool, now)
        if pool is None and reason is not None:
            denied = Denied(reason=reason, at=now)
            self._append([denial_event(request, denied) for request in requests], now)
            return [denied] * len(requests)
        assert pool is not None  # an unknown pool is refused above
        named = {each.session_id for each in requests if each.session_id is not None}
        gone = {session_id for session_id in named if not self._in_session(session_id, now)}
        now = self._decided_at[pool_id] = self._pool_now(pool_id, now)
        view = self._view(pool, now)
        seating = seat(view, requests, gone=gone)
        self._fences[pool_id] = seating.fence
        for lease in seating.writes:
            self._write(lease)
        if view.found_full is not None and not seating.writes:
            self._full[pool_id] = view.found_full
        line = self._lines.setdefault(pool_id, {})
        for entry in seating.left:
            line.pop(entry.holder, None)
        line.update({entry.holder: entry for entry in seating.entered})
        self._append(seating.events, now)
        return seating.answers

    def _in_session(self, session_id: str, now: int) -> bool:
        raise NotImplementedError  # the store knows, which holds sessions and seats alike

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        """Acquire in a copy that is thrown away."""
        with self._lock:
            trial = copy(self)
            vars(trial).update(
                _events=[],
                _fences=dict(self._fences),
                _leases={pool: rows.copy() for pool, rows in self._leases.items()},
                _full=dict(self._full),
                _places=dict(self._places),
                _lines={pool: dict(line) for pool, line in self._lines.items()},
                _decided_at=dict(self._decided_at),
            )
            return trial._acquire(requests, self.now())  # noqa: SLF001  # a copy of ourselves

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        """Decide first, and give grace only if somebody would be turned away: see `Store.pulse`."""
        with self._lock:
            now = self.now()
            answers = [self._renew(renew, now) for renew in renews]
            if None in answers and self._pulse_is_stale(now):
                self._give_grace(now)
                answers = [
                    answer or self._renew(renew, now)
                    for answer, renew in zip(answers, renews, strict=True)
                ]
            return answers

    def _renew(self, renew: Renew, now: int) -> Renewal | None:
        lease = self._lease(renew.lease_id)
        if lease is None or not self._live(lease, now) or lease.fence != renew.fence:
            return None
        now = self._pool_now(lease.pool_id, now)
        pool = self._pools.get(lease.pool_id)
        if pool is None or refusal(pool, now) is not None:
            return None
        beat = renew.beat
        suspect_at, expires_at = beat_times(pool.policy, lease, beat, now)
        lease = replace(
            lease,
            last_beat_at=max(lease.last_beat_at, now),
            suspect_at=suspect_at,
            expires_at=expires_at,
            # A beat that says nothing of its person leaves what is known.
            idle_since=lease.idle_since if beat.idle_for is None else now - beat.idle_for,
        )
        self._write(lease)
        return Renewal(expires_in=lease.expires_at - now, state=lease.state(now))

    def release(self, releases: Sequence[Release]) -> list[bool]:
        with self._lock:
            now = self.now()
            return self._healed(now, lambda each: self._release(each, now), releases)

    def _healed(self, now: int, done: Callable[[T], bool], named: Sequence[T]) -> list[bool]:
        """Do something to leases. Those that are over once more after an outage that nobody has noticed yet:
        they are owed time, and would come back."""
        answers = [done(each) for each in named]
        if not all(answers) and self._pulse_is_stale(now):
            self._give_grace(now)
            answers = [answer or done(each) for answer, each in zip(answers, named, strict=True)]
        return answers

    def _release(self, release: Release, now: int) -> bool:
        lease = self._lease(release.lease_id)
        if lease is None or not self._live(lease, now) or lease.fence != release.fence:
            return False
        self._end_lease(lease, EndReason.RELEASED, None, now)
        return True

    def doubt(self, doubts: Sequence[Doubt], *, at_once: bool = False) -> list[bool]:
        with self._lock:
            now = self.now()
            return self._healed(now, lambda each: self._doubt(each, now, at_once=at_once), doubts)

    def _doubt(self, doubt: Doubt, now: int, *, at_once: bool) -> bool:
        lease = self._lease(doubt.lease_id)
        if lease is None or not self._live(lease, now) or lease.fence != doubt.fence:
            return False
        pool = self._pools.get(lease.pool_id)
        now = self._pool_now(lease.pool_id, now)
        if pool is None or now - lease.last_beat_at < doubt.silent_for:
            return False
        since = now - pool.policy.linger if at_once else now
        self._write(replace(lease, suspect_at=min(lease.suspect_at, since)))
        return True

    def ask(self, pool_id: str, actor: str | None, data: dict[str, Any] | None = None) -> None:
        with self._lock:
            self._append([asked_event(pool_id, actor, data)], self.now())

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        with self._lock:
            now = self.now()
            if self._pulse_is_stale(now):
                self._give_grace(now)  # or a lease that is owed grace would come back
            live = self._matching(replace(which, include_ended=False), now)
            if suspects_only:
                live = [x for x in live if x.suspect_at <= self._pool_now(x.pool_id, now)]
            ended = [
                self._end_lease(lease, EndReason.REVOKED, action.actor, now)
                for lease in live[:LIST_MAX]
            ]
            stated = {k: v for k, v in msgspec.to_builtins(which).items() if v not in (None, False)}
            event = action_event(action, filter=stated, ended=len(ended))
            self._append([replace(event, user_id=which.user_id)], now)
            return ended

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        with self._lock:
            now = self.now()
            found = self._matching(which, now)
            return [x for x in found if after is None or x.id > after][: bounded(limit)], now

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        with self._lock:
            now = self.now()
            return [self._usage(pool, now) for pool in pool_ids]

    def _usage(self, pool_id: str, now: int) -> Usage | None:
        pool = self._pools.get(pool_id)
        if pool is None:
            return None
        return self._view(pool, self._pool_now(pool_id, now)).usage()

    def _view(self, pool: Pool, now: int) -> PoolView:
        rows, full = self._leases[pool.id], self._full.get(pool.id)
        line = self._lines.get(pool.id, {}).values()
        fence = self._fences[pool.id]
        return PoolView(
            pool,
            fence,
            rows,
            now,
            full=full,
            full_from=self.full_from,
            line=line,
            allotted=self._allotted(pool.id, now),
            doubtful=self._doubtful(pool.id, now),
        )

    def waiting(self, pool_id: str, *, limit: int = LIST_MAX) -> tuple[list[Waiting], int]:
        with self._lock:
            now = self._pool_now(pool_id, self.now())
            line = self._lines.get(pool_id, {}).values()
            found = sorted((x for x in line if x.live(now)), key=lambda entry: entry.order(now))
            return found[: bounded(limit)], now

    def _forget_waiting(self, now: int, limit: int) -> int:
        dead = [
            (pool, entry.holder)
            for pool, line in self._lines.items()
            for entry in line.values()
            if not entry.live(now)
        ][:limit]
        for pool, holder in dead:
            del self._lines[pool][holder]
        return len(dead)

    def _pool_now(self, pool_id: str, now: int) -> int:
        """Never let a pool's time go back: a seat that was given away stays given away."""
        return max(now, self._decided_at.get(pool_id, now))

    def _live(self, lease: Lease, now: int) -> bool:
        return lease.live(self._pool_now(lease.pool_id, now))

    def _lease(self, lease_id: str) -> Lease | None:
        place = self._places.get(lease_id)
        return None if place is None else self._leases[place[0]].get(place[1])

    def _all_leases(self) -> list[Lease]:
        return [lease for rows in self._leases.values() for lease in rows.values()]

    def _matching(self, which: LeaseFilter, now: int) -> list[Lease]:
        """List the leases that a filter means, in order of id."""
        found = [
            lease
            for lease in self._all_leases()
            if (which.include_ended or self._live(lease, now)) and _matches(which, lease)
        ]
        return sorted(found, key=lambda lease: lease.id)

    def _write(self, lease: Lease) -> None:
        """Put a row in its place: one per holder of a pool."""
        replaced = self._leases[lease.pool_id].put(lease)
        if replaced is not None:
            del self._places[replaced.id]
        if frees(replaced, lease):
            self._full.pop(lease.pool_id, None)
        self._places[lease.id] = (lease.pool_id, lease.holder)

    def _end_lease(self, lease: Lease, reason: EndReason, actor: str | None, now: int) -> Lease:
        ended = replace(lease, ended_at=now, end_reason=reason)
        self._write(ended)
        self._append([end_event(lease, reason, actor, now)], now)
        return ended

    def pulse(self) -> Outage | None:
        with self._lock:
            now = self.now()
            outage = self._give_grace(now) if self._pulse_is_stale(now) else None
            self._last_pulse = now
            return outage

    def _pulse_is_stale(self, now: int) -> bool:
        return self._last_pulse is not None and now - self._last_pulse > self._max_pause

    def _give_grace(self, now: int) -> Outage:
        """Give surviving leases back the time of an outage, once."""
        assert self._last_pulse is not None  # only a stale pulse leads here
        lasted = now - self._last_pulse
        # Until then the store may have served, and given away the seat of any lease that ran out.
        served_until = self._last_pulse + self._max_pause
        surviving = [
            lease
            for lease in self._all_leases()
            if lease.live(served_until)
            and lease.pool_id in self._pools
            and (lease.graced_at is None or lease.last_beat_at > lease.graced_at)
            and lease.expires_at > lease.last_beat_at  # else it ended by a goodbye of its own
        ]
        for lease in surviving:
            policy = self._pools[lease.pool_id].policy
            self._write(_graced(lease, policy, lasted, now))
        self._last_pulse = now
        returned = {"lasted": lasted, "extended": len(surviving)}
        self._append([Event(kind=EventKind.STORE_RETURNED, data=returned)], now)
        return Outage(lasted=lasted, extended=len(surviving))

    def _note_silent(self, which: LeaseFilter | None, now: int, limit: int) -> int:
        """End the leases that have expired, as of their expiry."""
        silent = self._oldest(
            lambda lease: lease.expires_at if lease.ended_at is None else None, which, now, limit
        )
        for lease in silent:
            self._write(replace(lease, ended_at=lease.expires_at, end_reason=EndReason.EXPIRED))
            self._append([end_event(lease, EndReason.EXPIRED, "system:sweep", now)], now)
        return len(silent)

    def _forget_leases(self, which: LeaseFilter | None, until: int, limit: int) -> int:
        forgotten = self._oldest(lambda lease: lease.ended_at, which, until, limit)
        for lease in forgotten:
            self._leases[lease.pool_id].remove(lease.holder)
            del self._places[lease.id]
        return len(forgotten)

    def _oldest(
        self,
        instant: Callable[[Lease], int | None],
        which: LeaseFilter | None,
        until: int,
        limit: int,
    ) -> list[Lease]:
        """List the leases whose instant has come by `until`, oldest first."""
        meant = self._all_leases()
        if which is not None:
            meant = self._matching(replace(which, include_ended=True), until)
        due = [
            (at, lease.id, lease)
            for lease in meant
            if (at := instant(lease)) is not None and at <= until
        ]
        return [lease for _, _, lease in sorted(due, key=lambda x: x[:2])[:limit]]


def _graced(lease: Lease, policy: Policy, lasted: int, now: int) -> Lease:
    """Let a lease live on as if the clock had stood still, at most its lost_after from now, and never
    past its max_lease."""
    given_back = min(lease.expires_at + lasted, now + policy.lost_after)
    if policy.max_lease is not None:
        given_back = min(given_back, lease.acquired_at + policy.max_lease)
    return replace(
        lease,
        expires_at=max(lease.expires_at, given_back),
        suspect_at=lease.suspect_at + lasted,
        graced_at=now,
    )


def _matches(which: LeaseFilter, lease: Lease) -> bool:
    license_id, feature = split_pool_id(lease.pool_id)
    wanted = (
        (which.license_id, license_id),
        (which.feature, feature),
        (which.user_id, lease.user_id),
        (which.client_id, lease.client_id),
        (which.session_id, lease.session_id),
    )
    named = which.ids is None or lease.id in which.ids
    named = named and (which.shows_own or license_id not in OWN_LICENSES)
    named = named and (which.silent_since is None or lease.last_beat_at <= which.silent_since)
    return named and all(want is None or want == have for want, have in wanted)
