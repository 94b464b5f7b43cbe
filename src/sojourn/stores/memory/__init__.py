"""A store in this process's memory: the reference model that every other store is held to.

One lock, plain dicts, nothing clever: read it to learn what a verb means. Everything is gone when the
process ends, so it serves tests, demonstrations and single-process development.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sojourn.clock import CLOCK_TOLERANCE, STORE_CLOCK, Clock
from sojourn.errors import InvalidInput
from sojourn.finding import Finding, Fix, clock_set_back, warning
from sojourn.idempotency import ANSWERS_KEPT, IdempotencyKey, Repeated
from sojourn.lease import EndReason, LeaseFilter
from sojourn.session import TOMBSTONE, check_ending
from sojourn.store import Swept, bounded
from sojourn.stores.memory.seats import MAX_PAUSE, MemorySeats
from sojourn.stores.memory.sessions import MemorySessions
from sojourn.stores.memory.stream import EVENT_RETENTION


class MemoryStore(MemorySessions, MemorySeats):
    """Implements `sojourn.store.Store`; here are the verbs that concern sessions and seats alike."""

    parallel = 1

    def __init__(
        self,
        clock: Clock = STORE_CLOCK,
        *,
        max_pause: int = MAX_PAUSE,
        event_retention: int = EVENT_RETENTION,
        ip_retention: int | None = None,
    ) -> None:
        super().__init__(clock, max_pause=max_pause)
        self._event_retention = event_retention
        self._ip_retention = ip_retention
        self._ips_in_events = ip_retention is None or ip_retention >= event_retention

    def end(
        self,
        *,
        ids: Sequence[str] | None = None,
        user_id: str | None = None,
        keep: Sequence[str] = (),
        reason: str = "ended",
        actor: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> list[str] | Repeated:
        if ids is None and user_id is None:
            raise InvalidInput("Name sessions by their ids, or by their user.")
        check_ending(reason, actor)
        with self._lock:
            now = self.now()

            def decide(_: list[int]) -> list[list[str]]:
                return [self._end_sessions(ids, user_id, keep, reason=reason, actor=actor, now=now)]

            answer: list[str] | Repeated = self._once([idempotency], decide, now)[0]
            return answer

    def _in_session(self, session_id: str, now: int) -> bool:
        return self._live_session(session_id, now) is not None

    def _release_leases(self, session_id: str, actor: str | None, now: int) -> None:
        its = self._matching(LeaseFilter(session_id=session_id, include_ended=True), now)
        over = any(x.ended_at is None and not self._live(x, now) for x in its)
        if over and self._pulse_is_stale(now):
            self._give_grace(now)  # or a lease that is owed grace would outlive its session
        for lease in self._matching(LeaseFilter(session_id=session_id), now):
            self._end_lease(lease, EndReason.SESSION_ENDED, actor, now)

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        if (ids is None) == (user_id is None):
            raise InvalidInput("Name sessions by their ids or by their user: one of the two.")
        with self._lock:
            now = self.now()
            if user_id is not None:
                ids = [session.id for session in self._live_of(user_id, now)]
            wanted = set(ids or ())
            counted = Counter(x.session_id for x in self._matching(LeaseFilter(), now))
            return {i: n for i, n in counted.items() if i is not None and i in wanted}

    def sweep(
        self, *, limit: int = 500, which: LeaseFilter | None = None, cutoffs_only: bool = False
    ) -> Swept:
        """With a filter, only the leases it means are swept; the limit holds for each kind of row."""
        with self._lock:
            now = self.now()
            limit = max(1, bounded(limit))
            if self._pulse_is_stale(now):
                self._give_grace(now)  # or a lease that is owed grace would be noted as expired
            if cutoffs_only:
                cut = self._end_behind(now, limit)
                return Swept(sessions_cut=cut, more=cut == limit)
            silent = self._note_silent(which, now, limit)
            forgotten = self._forget_leases(which, now - TOMBSTONE, limit)
            cut = sessions = events = ips = answers = waiting = 0
            if which is None:
                cut = self._end_behind(now, limit)
                if cut < limit:  # what a cutoff has ended is told of before it is forgotten
                    sessions = self._forget_sessions(now - TOMBSTONE, limit)
                events = self._forget_events(now - self._event_retention, limit)
                answers = self._forget_answers(now - ANSWERS_KEPT, limit)
                waiting = self._forget_waiting(now, limit)
                if self._ip_retention is not None:
                    ips = self._forget_ips(now - self._ip_retention, limit)
            return Swept(
                leases_expired=silent,
                leases_removed=forgotten,
                sessions_cut=cut,
                sessions_removed=sessions,
                events_removed=events,
                ips_forgotten=ips,
                more=limit in (silent, forgotten, cut, sessions, events, ips, answers, waiting),
            )

    def forget(self, user_id: str, *, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
        with self._lock:
            for session_id in session_ids:
                row = self._sessions.get(session_id)
                if row is not None and row.session.user_id == user_id:
                    self._remove(session_id)
            for pool_id in pool_ids:
                self._pools.pop(pool_id, None)
                self._fences.pop(pool_id, None)
                self._leases.pop(pool_id, None)
                self._lines.pop(pool_id, None)
                self._full.pop(pool_id, None)
                self._forget_allotments(pool_id)

    def check(self) -> list[Finding]:
        behind = self._host.set_back() if self._clock.now() is None else 0
        if behind > CLOCK_TOLERANCE:
            return [volatile(), clock_set_back("This host's", behind)]
        return [volatile()]

    def close(self) -> None:
        """Nothing to give back."""


def volatile() -> Finding:
    """Say what is to be known of every store in memory."""
    return warning(
        "Sessions and seats live in this process's memory.",
        means="They are lost when it ends, and no other process sees them.",
        fix=Fix(
            text="Keep them in a database.", setting='store = "sqlite:///sojourn-data/sojourn.db"'
        ),
    )


__all__ = ["EVENT_RETENTION", "MAX_PAUSE", "MemoryStore"]
