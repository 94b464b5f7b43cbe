"""Ending sessions: the tombstone, the event, and the leases that belong to them, in one step."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind
from sojourn.idempotency import IdempotencyKey, Repeated
from sojourn.lease import EndReason
from sojourn.seat_events import end_event
from sojourn.session import check_ending
from sojourn.signing_in import cut_of, has_cut
from sojourn.stores.sql import cutoffs, events, outages
from sojourn.stores.sql.cutoffs import LIVE
from sojourn.stores.sql.database import Tx, Verbs
from sojourn.stores.sql.requests import once
from sojourn.stores.sql.seats import end_leases, lock_live

OF_USER = """
SELECT {now}, s.id FROM sojourn_sessions AS s WHERE s.user_id = :user AND {live_session}
ORDER BY s.created_at, s.id
""".replace("{live_session}", LIVE)
LOCK = """
SELECT {now}, s.id, s.user_id FROM sojourn_sessions AS s WHERE s.id {in ids} AND {live_session}
ORDER BY s.id {update}
""".replace("{live_session}", LIVE)
LOCK_UNENDED = """
SELECT id, user_id, created_at, idle_at FROM sojourn_sessions WHERE id {in ids} AND ended_at IS NULL
ORDER BY id {update} {skip}
"""
END = """
UPDATE sojourn_sessions SET ended_at = :at, ended_by = :actor, end_reason = :reason WHERE id {in ids}
"""
LEASES_OF = """
SELECT id FROM sojourn_leases WHERE session_id {in ids} AND coalesce(ended_at, 0) = 0
"""


class Ending(Struct, frozen=True, kw_only=True):
    """A session to end, which this transaction has locked: since when, by whom and why."""

    id: str
    user_id: str | None
    at: int
    reason: str
    actor: str | None = None


class EndVerb(Verbs):
    """The verb that ends sessions."""

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
        """End sessions, and release the leases that belong to them; see `Store.end`."""
        if ids is None and user_id is None:
            raise InvalidInput("Name sessions by their ids, or by their user.")
        check_ending(reason, actor)

        def work(tx: Tx) -> list[str]:
            named = ids
            if named is None:
                rows = tx.judged(tx.rows(OF_USER, {"now": tx.instant, "user": user_id}))
                named = [row[1] for row in rows]
            wanted = set(named) - set(keep)
            if not wanted:
                return []
            params = {"now": tx.instant, "ids": tx.dialect.keys(sorted(wanted))}
            found = {row[1]: row for row in tx.judged(tx.rows(LOCK, params))}
            endings = [
                Ending(id=row[1], user_id=row[2], at=int(row[0]), reason=reason, actor=actor)
                for row in (found[i] for i in dict.fromkeys(named) if i in found)
                if user_id is None or row[2] == user_id
            ]
            if endings:
                now = endings[0].at
                happened = [ended_event(each) for each in endings]
                events.append(tx, happened + end_sessions(tx, endings, now, self._max_pause), now)
            return [each.id for each in endings]

        def first_of(tx: Tx) -> list[str] | Repeated:
            answer: list[str] | Repeated = once(tx, [idempotency], lambda _: [work(tx)])[0]
            return answer

        return self._db.transaction(first_of)


def end_sessions(tx: Tx, endings: Sequence[Ending], now: int, max_pause: int) -> list[Event]:
    """End sessions that this transaction has locked; return the events of their leases."""
    alike: dict[tuple[int, str, str | None], list[str]] = {}
    for each in endings:
        alike.setdefault((each.at, each.reason, each.actor), []).append(each.id)
    for (at, reason, actor), ids in alike.items():
        params = {"ids": tx.dialect.keys(ids), "at": at, "actor": actor, "reason": reason}
        tx.do(END, params)
    return _end_leases(tx, {each.id: each.actor for each in endings}, now, max_pause)


def ended_event(ending: Ending) -> Event:
    return Event(
        kind=EventKind.SESSION_ENDED,
        subject=ending.id,
        user_id=ending.user_id,
        actor=ending.actor,
        data={"reason": ending.reason},
    )


def _end_leases(tx: Tx, actors: dict[str, str | None], now: int, max_pause: int) -> list[Event]:
    """Release what belongs to these sessions, each ended by its actor; return the events."""
    if not actors:
        return []
    found = tx.rows(LEASES_OF, {"ids": tx.dialect.keys(sorted(actors))})
    live, _ = lock_live(tx, [row[0] for row in found], now)
    if len(live) < len(found):
        outages.notice(tx, max_pause)  # or a lease that is owed time would outlive its session
    order = {session_id: place for place, session_id in enumerate(actors)}
    live = [lease for lease in live if lease.session_id in order]  # as it is now, locked
    end_leases(tx, live, EndReason.SESSION_ENDED, now)
    live.sort(key=lambda lease: order[lease.session_id or ""])
    return [
        end_event(lease, EndReason.SESSION_ENDED, actors[lease.session_id or ""], now)
        for lease in live
    ]


def end_behind(tx: Tx, ids: Sequence[str], now: int, max_pause: int) -> int:
    """Write the tombstones of those of these sessions that a cutoff has ended; return how many."""
    rows = tx.rows(LOCK_UNENDED, {"ids": tx.dialect.keys(sorted(ids))})
    _, cuts = cutoffs.now_and_cuts(tx, {row[1] for row in rows if row[1] is not None})
    endings = []
    for session_id, user_id, created_at, idle_at in rows:
        cut = cut_of(created_at, cutoffs.cuts_of(cuts, user_id))
        if cut is not None and has_cut(cut, idle_at, now):
            endings.append(
                Ending(
                    id=session_id, user_id=user_id, at=cut.at, reason=cut.reason, actor=cut.actor
                )
            )
    happened = [ended_event(each) for each in endings]
    events.append(tx, happened + end_sessions(tx, endings, now, max_pause), now)
    return len(endings)
