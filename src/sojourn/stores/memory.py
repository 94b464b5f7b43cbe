"""A store in this process's memory: the reference model that every other store is held to.

One lock, plain dicts, nothing clever: read it to learn what a verb means. Everything is gone when the
process ends, so it serves tests, demonstrations and single-process development.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import DAY, STORE_CLOCK, Clock, host_now
from sojourn.errors import Conflict, InvalidInput
from sojourn.event import Event, EventKind
from sojourn.lease import (
    Acquire,
    Denied,
    EndReason,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Usage,
    beat_times,
)
from sojourn.license import Policy, Pool, WhenFull, pool_id, split_pool_id
from sojourn.seating import SeatCount, denial_event, end_event, refusal, seat
from sojourn.session import TOMBSTONE, Gone, GoneReason, NewSession, Save, Session
from sojourn.store import LIST_MAX, Action, Finding, Outage, Severity, Swept

EVENT_RETENTION = 30 * DAY
MAX_PAUSE = 10_000

Holder = tuple[str, str]


class _Row(Struct, kw_only=True):
    """A session with what is never shown: its token hashes, and how it ended."""

    session: Session
    token_hash: bytes
    previous_hash: bytes | None = None
    previous_until: int = 0  # the previous token works before this instant
    ended_at: int | None = None
    ended_by: str | None = None
    end_reason: str | None = None

    def gone(self, now: int) -> Gone | None:
        """Say why this session is no more, by whatever came first; None while it is live."""
        if self.ended_at is not None:
            return Gone(
                reason=GoneReason.ENDED,
                ended_by=self.ended_by,
                end_reason=self.end_reason,
                at=self.ended_at,
            )
        if self.session.idle_at > now:  # never after expires_at
            return None
        idle = self.session.idle_at < self.session.expires_at
        return Gone(
            reason=GoneReason.IDLE if idle else GoneReason.EXPIRED, at=self.session.idle_at
        )

    def answers_to(self, token_hash: bytes, now: int) -> bool:
        if token_hash == self.token_hash:
            return True
        return token_hash == self.previous_hash and now < self.previous_until


class _PoolView:
    """What `seat` reads of one pool: see `seating.PoolReader`."""

    def __init__(self, pool: Pool, fence: int, rows: dict[Holder, Lease], now: int) -> None:
        self.pool = pool
        self.fence = fence
        self.now = now
        self._rows = rows
        self._live = [lease for lease in rows.values() if lease.live(now)]

    def holders(self, holders: Iterable[Holder]) -> dict[Holder, Lease]:
        return {holder: self._rows[holder] for holder in holders if holder in self._rows}

    def seats_held(self, keys: set[str]) -> set[str]:
        return keys & self._seats().keys()

    def count(self) -> SeatCount:
        seats = self._seats()
        return SeatCount(
            in_use=len(seats),
            suspect=sum(all(x.suspect_at <= self.now for x in seat) for seat in seats.values()),
            next_free_in=max(0, min(map(self._free_at, self._live), default=self.now) - self.now),
        )

    def room(self, wanted: int) -> bool:
        return len(self._live) + wanted <= self.pool.policy.capacity

    def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
        seats = sorted(self._seats().values(), key=_silence)
        suspects = [seat for seat in seats if all(map(self._past_linger, seat))]
        idle: list[list[Lease]] = []
        if self.pool.policy.when_full is WhenFull.EVICT_IDLE:
            idle = [
                seat
                for seat in seats
                if not all(map(self._past_linger, seat)) and all(map(self._idle, seat))
            ]
            idle.sort(key=lambda seat: (max(x.idle_since or 0 for x in seat), seat[0].id))
        return (suspects + idle)[:limit]

    def live_of(self, user_ids: set[str]) -> dict[str, Sequence[Lease]]:
        return {
            user_id: _most_silent_first(x for x in self._live if x.user_id == user_id)
            for user_id in user_ids
        }

    def most_silent(self, limit: int) -> Sequence[Lease]:
        return _most_silent_first(self._live)[:limit]

    def _seats(self) -> dict[str, list[Lease]]:
        """Group the live leases by the seat they share, each group in order of id."""
        seats: dict[str, list[Lease]] = {}
        for lease in sorted(self._live, key=lambda x: x.id):
            seats.setdefault(lease.seat_key(self.pool.policy.count_by), []).append(lease)
        return seats

    def _past_linger(self, lease: Lease) -> bool:
        return lease.suspect_at + self.pool.policy.linger <= self.now

    def _idle(self, lease: Lease) -> bool:
        idle_after = self.pool.policy.idle_after
        if idle_after is None or lease.idle_since is None:
            return False
        return lease.idle_since + idle_after <= self.now

    def _free_at(self, lease: Lease) -> int:
        if self.pool.policy.when_full is WhenFull.DENY:
            return lease.expires_at
        return min(lease.expires_at, lease.suspect_at + self.pool.policy.linger)


class MemoryStore:
    """Implements `sojourn.store.Store`."""

    def __init__(
        self,
        clock: Clock = STORE_CLOCK,
        *,
        max_pause: int = MAX_PAUSE,
        event_retention: int = EVENT_RETENTION,
    ) -> None:
        self._clock = clock
        self._max_pause = max_pause
        self._event_retention = event_retention
        self._lock = threading.RLock()
        self._host_now = 0
        self._sessions: dict[str, _Row] = {}
        self._pools: dict[str, Pool] = {}
        self._fences: dict[str, int] = {}  # outlive their pool, so that they only ever grow
        self._leases: dict[str, dict[Holder, Lease]] = {}  # by pool, then by holder
        self._places: dict[str, tuple[str, Holder]] = {}  # lease id: where its row is
        self._events: list[Event] = []
        self._last_event_id = 0
        self._last_pulse: int | None = None

    # Sessions

    def create(self, sessions: Sequence[NewSession]) -> list[Session | None]:
        with self._lock:
            now = self.now()
            return [self._create(new, now) for new in sessions]

    def _create(self, new: NewSession, now: int) -> Session | None:
        if new.id in self._sessions or self._hash_in_use(new.token_hash):
            return None
        session = Session(
            id=new.id,
            user_id=new.user_id,
            data=_copy(new.data),
            revision=1,
            created_at=now,
            authenticated_at=now,
            last_used_at=now,
            idle_timeout=new.idle_timeout,
            idle_at=now + min(new.idle_timeout, new.lifetime),
            expires_at=now + new.lifetime,
            device=new.device,
            level=new.level,
        )
        self._sessions[new.id] = _Row(session=session, token_hash=new.token_hash)
        self._append([_session_event(EventKind.SESSION_CREATED, session)], now)
        return _shown(session)

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        with self._lock:
            now = self.now()
            return [self._load(token_hash, now) for token_hash in token_hashes]

    def _load(self, token_hash: bytes, now: int) -> Session | Gone:
        for row in self._sessions.values():
            if row.answers_to(token_hash, now):
                return row.gone(now) or _shown(row.session)
        return Gone(reason=GoneReason.ABSENT)

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        with self._lock:
            now = self.now()
            return [self._save(save, now) for save in saves]

    def _save(self, save: Save, now: int) -> int | None:
        row = self._live_session(save.id, now)
        if row is None:
            return None
        kept = {key: value for key, value in row.session.data.items() if key not in save.unset}
        row.session = replace(
            row.session, data=kept | _copy(save.set), revision=row.session.revision + 1
        )
        return row.session.revision

    def touch(self, ids: Sequence[str]) -> list[bool]:
        with self._lock:
            now = self.now()
            return [self._touch(session_id, now) for session_id in ids]

    def _touch(self, session_id: str, now: int) -> bool:
        row = self._live_session(session_id, now)
        if row is None:
            return False
        old = row.session
        row.session = replace(
            old,
            last_used_at=max(old.last_used_at, now),
            idle_at=max(old.idle_at, min(now + old.idle_timeout, old.expires_at)),
        )
        return True

    def rotate(self, session_id: str, new_token_hash: bytes, *, grace: int = 0) -> Session | None:
        with self._lock:
            now = self.now()
            row = self._live_session(session_id, now)
            if row is None:
                return None
            if self._hash_in_use(new_token_hash):
                raise Conflict("The new token's hash is in use already.")
            row.previous_hash, row.token_hash = row.token_hash, new_token_hash
            row.previous_until = now + grace
            self._append([_session_event(EventKind.SESSION_ROTATED, row.session)], now)
            return _shown(row.session)

    def end(
        self,
        *,
        ids: Sequence[str] | None = None,
        user_id: str | None = None,
        keep: Sequence[str] = (),
        reason: str = "ended",
        actor: str | None = None,
    ) -> list[str]:
        if (ids is None) == (user_id is None):
            raise InvalidInput("Name sessions by their ids or by their user: one of the two.")
        with self._lock:
            now = self.now()
            named = self._sessions.values() if ids is None else self._rows_of(ids)
            ended = [
                row
                for row in named
                if (user_id is None or row.session.user_id == user_id)
                and row.session.id not in keep
                and row.gone(now) is None
            ]
            for row in ended:
                row.ended_at, row.ended_by, row.end_reason = now, actor, reason
                gone = _session_event(EventKind.SESSION_ENDED, row.session, actor, reason=reason)
                self._append([gone], now)
                which = LeaseFilter(session_id=row.session.id)
                for lease in self._matching(which, now):
                    self._end_lease(lease, EndReason.SESSION_ENDED, actor, now)
            return [row.session.id for row in ended]

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        with self._lock:
            now = self.now()
            live = [
                row.session
                for row in self._sessions.values()
                if row.session.user_id == user_id and row.gone(now) is None
            ]
            live.sort(key=lambda session: (-session.created_at, session.id))
            return [_shown(session) for session in live[: _bounded(limit)]]

    def _live_session(self, session_id: str, now: int) -> _Row | None:
        row = self._sessions.get(session_id)
        return row if row is not None and row.gone(now) is None else None

    def _rows_of(self, ids: Sequence[str]) -> list[_Row]:
        return [self._sessions[i] for i in dict.fromkeys(ids) if i in self._sessions]

    def _hash_in_use(self, token_hash: bytes) -> bool:
        return any(
            token_hash in (row.token_hash, row.previous_hash) for row in self._sessions.values()
        )

    # Seats

    def define(self, pools: Sequence[Pool]) -> None:
        with self._lock:
            for pool in pools:
                self._pools[pool.id] = pool
                self._fences.setdefault(pool.id, 0)
                self._leases.setdefault(pool.id, {})

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        with self._lock:
            now = self.now()
            live = [
                lease
                for pool in dict.fromkeys(pool_ids)
                if pool in self._pools
                for lease in self._leases[pool].values()
                if lease.live(now)
            ]
            for lease in live:
                self._end_lease(lease, EndReason.REVOKED, action.actor, now)
            for pool in pool_ids:
                self._pools.pop(pool, None)
            self._append([_action_event(action, pools=list(pool_ids), ended=len(live))], now)
            return len(live)

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        with self._lock:
            return [self._pools.get(pool) for pool in pool_ids]

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        with self._lock:
            now = self.now()
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
        view = _PoolView(pool, self._fences[pool_id], self._leases[pool_id], now)
        seating = seat(view, requests)
        self._fences[pool_id] = seating.fence
        for lease in seating.writes:
            self._write(lease)
        self._append(seating.events, now)
        return seating.answers

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
        if lease is None or not lease.live(now) or lease.fence != renew.fence:
            return None
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
            return [self._release(release, now) for release in releases]

    def _release(self, release: Release, now: int) -> bool:
        lease = self._lease(release.lease_id)
        if lease is None or not lease.live(now) or lease.fence != release.fence:
            return False
        self._end_lease(lease, EndReason.RELEASED, None, now)
        return True

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        with self._lock:
            now = self.now()
            live = self._matching(replace(which, include_ended=False), now)
            if suspects_only:
                live = [lease for lease in live if lease.suspect_at <= now]
            ended = [
                self._end_lease(lease, EndReason.REVOKED, action.actor, now)
                for lease in live[:LIST_MAX]
            ]
            stated = {k: v for k, v in msgspec.to_builtins(which).items() if v not in (None, False)}
            event = _action_event(action, filter=stated, ended=len(ended))
            self._append([replace(event, user_id=which.user_id)], now)
            return ended

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        with self._lock:
            now = self.now()
            found = self._matching(which, now)
            return [x for x in found if after is None or x.id > after][: _bounded(limit)], now

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        with self._lock:
            now = self.now()
            return [self._usage(pool, now) for pool in pool_ids]

    def _usage(self, pool_id: str, now: int) -> Usage | None:
        pool = self._pools.get(pool_id)
        if pool is None:
            return None
        rows = self._leases[pool_id]
        count = _PoolView(pool, self._fences[pool_id], rows, now).count()
        return Usage(
            pool_id=pool_id,
            capacity=pool.policy.capacity,
            in_use=count.in_use,
            suspect=count.suspect,
            leases=sum(lease.live(now) for lease in rows.values()),
            at=now,
        )

    def _lease(self, lease_id: str) -> Lease | None:
        place = self._places.get(lease_id)
        return None if place is None else self._leases[place[0]][place[1]]

    def _all_leases(self) -> list[Lease]:
        return [lease for rows in self._leases.values() for lease in rows.values()]

    def _matching(self, which: LeaseFilter, now: int) -> list[Lease]:
        """List the leases that a filter means, in order of id."""
        found = [
            lease
            for lease in self._all_leases()
            if (which.include_ended or lease.live(now)) and _matches(which, lease)
        ]
        return sorted(found, key=lambda lease: lease.id)

    def _write(self, lease: Lease) -> None:
        """Put a row in its place: one per holder of a pool."""
        rows = self._leases[lease.pool_id]
        replaced = rows.get(lease.holder)
        if replaced is not None:
            del self._places[replaced.id]
        rows[lease.holder] = lease
        self._places[lease.id] = (lease.pool_id, lease.holder)

    def _end_lease(self, lease: Lease, reason: EndReason, actor: str | None, now: int) -> Lease:
        ended = replace(lease, ended_at=now, end_reason=reason)
        self._write(ended)
        self._append([end_event(lease, reason, actor, now)], now)
        return ended

    # Both

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        kinds: Sequence[str] = (),
        pool_id: str | None = None,
        user_id: str | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        with self._lock:
            found = [
                event
                for event in self._events
                if (not kinds or event.kind in kinds)
                and (pool_id is None or event.pool_id == pool_id)
                and (user_id is None or event.user_id == user_id)
                and (event.id > after or (newest_first and (after == 0 or event.id < after)))
                and not (newest_first and 0 < after <= event.id)
            ]
            if newest_first:
                found.reverse()
            return [replace(event, data=_copy(event.data)) for event in found[: _bounded(limit)]]

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
            and (lease.graced_at is None or lease.last_beat_at > lease.graced_at)
        ]
        for lease in surviving:
            policy = self._pools[lease.pool_id].policy
            self._write(_graced(lease, policy, lasted, now))
        self._last_pulse = now
        returned = {"lasted": lasted, "extended": len(surviving)}
        self._append([Event(kind=EventKind.STORE_RETURNED, data=returned)], now)
        return Outage(lasted=lasted, extended=len(surviving))

    def sweep(self, *, limit: int = 500, which: LeaseFilter | None = None) -> Swept:
        """With a filter, only the leases it means are swept; the limit holds for each kind of row."""
        with self._lock:
            now = self.now()
            if self._pulse_is_stale(now):
                self._give_grace(now)  # or a lease that is owed grace would be noted as expired
            wanted = replace(which or LeaseFilter(), include_ended=True)
            silent = self._oldest(
                lambda x: x.expires_at if x.ended_at is None else None, wanted, now, limit
            )
            for lease in silent:
                self._write(
                    replace(lease, ended_at=lease.expires_at, end_reason=EndReason.EXPIRED)
                )
                event = end_event(lease, EndReason.EXPIRED, "system:sweep", now)
                self._append([event], now)
            forgotten = self._oldest(lambda x: x.ended_at, wanted, now - TOMBSTONE, limit)
            for lease in forgotten:
                del self._leases[lease.pool_id][lease.holder]
                del self._places[lease.id]
            sessions = events = 0
            if which is None:
                sessions = self._forget_sessions(now - TOMBSTONE, limit)
                events = self._forget_events(now - self._event_retention, limit)
            return Swept(
                leases_expired=len(silent),
                leases_removed=len(forgotten),
                sessions_removed=sessions,
                events_removed=events,
                more=limit in (len(silent), len(forgotten), sessions, events),
            )

    def _oldest(
        self, instant: Callable[[Lease], int | None], which: LeaseFilter, until: int, limit: int
    ) -> list[Lease]:
        """List the leases whose instant has come by `until`, oldest first."""
        due = [
            (at, lease.id, lease)
            for lease in self._matching(which, until)
            if (at := instant(lease)) is not None and at <= until
        ]
        return [lease for _, _, lease in sorted(due, key=lambda x: x[:2])[:limit]]

    def _forget_sessions(self, until: int, limit: int) -> int:
        gone = [
            (gone.at, session_id)
            for session_id, row in self._sessions.items()
            if (gone := row.gone(until)) is not None and (gone.at or 0) <= until
        ]
        for _, session_id in sorted(gone)[:limit]:
            del self._sessions[session_id]
        return min(len(gone), limit)

    def _forget_events(self, until: int, limit: int) -> int:
        old = [event for event in self._events if event.at <= until][:limit]
        self._events = [event for event in self._events if event not in old] if old else self._events
        return len(old)

    def check(self) -> list[Finding]:
        return [
            Finding(
                code="memory_volatile",
                severity=Severity.WARNING,
                title="Sessions and seats live in this process's memory.",
                detail="They are lost when it ends, and no other process sees them.",
                fix="Set SOJOURN_STORE to a database, such as sqlite:///sojourn.db.",
            )
        ]

    def now(self) -> int:
        now = self._clock.now()
        if now is not None:
            return now
        with self._lock:  # a wall clock that is set back must not revive what has expired
            self._host_now = max(self._host_now, host_now())
            return self._host_now

    def close(self) -> None:
        """Nothing to give back."""

    def _append(self, events: Iterable[Event], now: int) -> None:
        for event in events:
            self._last_event_id += 1
            self._events.append(
                replace(event, id=self._last_event_id, at=now, data=_copy(event.data))
            )


def _graced(lease: Lease, policy: Policy, lasted: int, now: int) -> Lease:
    """Let a lease live on as if the clock had stood still, at most its lost_after from now."""
    given_back = min(lease.expires_at + lasted, now + policy.lost_after)
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
    return named and all(want is None or want == have for want, have in wanted)


def _most_silent_first(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: (lease.last_beat_at, lease.id))


def _silence(seat: Sequence[Lease]) -> tuple[int, str]:
    return max(lease.last_beat_at for lease in seat), seat[0].id


def _session_event(
    kind: EventKind, session: Session, actor: str | None = None, **data: str
) -> Event:
    return Event(kind=kind, subject=session.id, user_id=session.user_id, actor=actor, data=data)


def _action_event(action: Action, **data: Any) -> Event:
    """Record what an operator did; what the caller adds to the audit never hides what was done."""
    return Event(
        kind=EventKind.OPERATOR_ACTED,
        actor=action.actor,
        data={**action.data, "name": action.name, **data},
    )


def _shown(session: Session) -> Session:
    return replace(session, data=_copy(session.data))


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    """Copy as JSON does, so that no caller shares an object with the store."""
    try:
        copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(data))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error
    return copied


def _bounded(limit: int) -> int:
    return max(0, min(limit, LIST_MAX))
