"""Cutoffs: every session created up to an instant is gone, at the price of one row.

`sojourn_session_users` has a row for each user who was ever cut off, and one named '' for everybody. A
session is behind a cutoff if it was created at its instant or before; sweeps turn that into tombstones. The
same rows are what sign-ins of one user queue up at, where a user's sessions are counted.

Time may stand still between two calls, or go back: so a cutoff lies after every cutoff before it that
may have pushed a session (S6 of `signing_in`), and a session begun after a cutoff was created after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sojourn import signing_in
from sojourn.session import check_cutoff
from sojourn.signing_in import Cut
from sojourn.stores.sql.database import Tx, Verbs

EVERYBODY = ""

# Scalar look-ups by primary key, and not joins: no planner has another idea of how to do them, and
# that for everybody is done once per statement. "+ 0", or PostgreSQL would read the index of all users'
# sessions for what was created since. `idle_at` is never after `expires_at`.
LIVE = """s.ended_at IS NULL AND s.idle_at > {now}
AND s.created_at + 0 > coalesce(
    (SELECT c.cut_at FROM sojourn_session_users AS c WHERE c.user_id = s.user_id), -1)
AND s.created_at + 0 > coalesce((SELECT c.cut_at FROM sojourn_session_users AS c WHERE c.user_id = ''), -1)"""
"""Which sojourn_sessions AS s are live."""
STAYING = """
SELECT {now}, s.id FROM sojourn_sessions AS s WHERE s.id {in ids} AND {live_session} ORDER BY s.id {share}
""".replace("{live_session}", LIVE)
CUTS = "u.cut_at, u.cut_by, u.cut_reason, e.cut_at, e.cut_by, e.cut_reason"
"""What {join_cuts} adds to sojourn_sessions AS s."""

LOCK = (
    "SELECT user_id FROM sojourn_session_users WHERE user_id {in users} ORDER BY user_id {update}"
)
ADD = (
    "INSERT INTO sojourn_session_users (user_id) VALUES (:user_id) ON CONFLICT (user_id) DO NOTHING"
)
# Not INSERT IGNORE: that shares the lock of a row that exists, and two who share it then deadlock.
ADD_MYSQL = """
INSERT INTO sojourn_session_users (user_id) VALUES (:user_id)
ON DUPLICATE KEY UPDATE user_id = VALUES(user_id)
"""
NOW = """
SELECT n.now, c.user_id, c.cut_at, c.cut_by, c.cut_reason
FROM (SELECT {now} AS now) AS n
LEFT JOIN sojourn_session_users AS c ON c.user_id {in users} AND c.cut_at IS NOT NULL
"""
NEWEST = "SELECT max(cut_at) FROM sojourn_session_users"
CUT = """
UPDATE sojourn_session_users SET cut_at = :at, cut_by = :actor, cut_reason = :reason WHERE user_id = :user
"""
# From the few who were cut off to their sessions, by the index.
BEHIND_OWN = """
SELECT s.id FROM sojourn_session_users AS u
JOIN sojourn_sessions AS s ON s.user_id = u.user_id AND s.created_at <= u.cut_at
WHERE u.cut_at IS NOT NULL AND s.ended_at IS NULL AND s.idle_at > {least}(u.cut_at, :now)
ORDER BY s.created_at, s.id LIMIT :limit
"""
BEHIND_EVERYBODYS = """
SELECT s.id FROM sojourn_sessions AS s
WHERE s.created_at <= :cut AND s.ended_at IS NULL AND s.idle_at > :lived_until
ORDER BY s.created_at, s.id LIMIT :limit
"""


def cut_from(row: Sequence[object]) -> Cut | None:
    """Read cut_at, cut_by and cut_reason."""
    at, actor, reason = row
    if not isinstance(at, int):
        return None
    return Cut(at, None if actor is None else str(actor), str(reason))


def now_and_cuts(tx: Tx, users: Iterable[str]) -> tuple[int, dict[str, Cut]]:
    """Read the clock that decides, and the cutoffs of these users and of everybody."""
    names = tx.dialect.keys(sorted({*users, EVERYBODY}))
    rows = tx.rows(NOW, {"now": tx.instant, "users": names})
    found = {row[1]: cut for row in rows if (cut := cut_from(row[2:])) is not None}
    now = int(rows[0][0])
    tx.judge(now)
    return now, found


def cuts_of(cuts: Mapping[str, Cut], user_id: str | None) -> tuple[Cut | None, Cut | None]:
    """Return a user's cutoff, and everybody's."""
    return None if user_id is None else cuts.get(user_id), cuts.get(EVERYBODY)


def lock_users(tx: Tx, users: Iterable[str]) -> None:
    """Let nobody else count these users' sessions, or cut them off, until this is committed."""
    names = sorted(set(users))
    params = {"users": tx.dialect.keys(names)}
    missing = set(names) - {row[0] for row in tx.rows(LOCK, params)}
    if missing:
        add = tx.dialect.pick(sqlite=ADD, postgres=ADD, mysql=ADD_MYSQL)
        tx.many(add, [{"user_id": name} for name in sorted(missing)])
        tx.rows(LOCK, params)


class CutOffVerb(Verbs):
    """The verb that sets cutoffs."""

    def cut_off(
        self, user_id: str | None, *, reason: str = "cut_off", actor: str | None = None
    ) -> int:
        """End all that was created up to now; see `Store.cut_off`."""
        check_cutoff(user_id, reason, actor)
        name = EVERYBODY if user_id is None else user_id

        def work(tx: Tx) -> int:
            lock_users(tx, [name])
            now, cuts = now_and_cuts(tx, [name])
            at = signing_in.created_at(now, cuts_of(cuts, user_id))
            if user_id is None:  # a session may have been pushed by anybody's cutoff
                at = max(at, (tx.rows(NEWEST, {})[0][0] or 0) + 1)
            tx.do(CUT, {"user": name, "at": at, "actor": actor, "reason": reason})
            return at

        return self._db.transaction(work)


def not_live(tx: Tx, ids: Iterable[str]) -> set[str]:
    """Return which of these sessions are not live; nobody ends the others until this is committed."""
    named = set(ids)
    if not named:
        return named
    params = {"now": tx.instant, "ids": tx.dialect.keys(sorted(named))}
    return named - {row[1] for row in tx.judged(tx.rows(STAYING, params))}


def behind(tx: Tx, now: int, limit: int) -> list[str]:
    """List sessions that a cutoff has ended and that have no tombstone yet; oldest first."""
    found = [row[0] for row in tx.rows(BEHIND_OWN, {"now": now, "limit": limit})]
    _, cuts = now_and_cuts(tx, ())
    if (cut := cuts.get(EVERYBODY)) is not None:
        params = {"cut": cut.at, "lived_until": min(cut.at, now), "limit": limit}
        found += [row[0] for row in tx.rows(BEHIND_EVERYBODYS, params)]
    return list(dict.fromkeys(found))[:limit]
