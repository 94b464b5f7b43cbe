"""Sessions in the table of connect-pg-simple, beside an Express application that knows nothing of us.

Every change is a transaction of its own that locks Express's rows first, in the order of their sids,
and ours after them, as Express's own statements do with the triggers of `schema.py`. Nothing here is
an upsert: what is gone stays gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sojourn import signing_in
from sojourn.adapters.express import payload
from sojourn.adapters.express.options import Options
from sojourn.adapters.express.payload import SessionFacts, new_sid, public_id, seconds, touched
from sojourn.adapters.express.schema import Names, adopt
from sojourn.adapters.express.zone import ZONE_HINT
from sojourn.device import Device, check_label
from sojourn.errors import InvalidInput, StoreBroken, StoreError
from sojourn.log import get_logger
from sojourn.service.sessions import GRACE_MAX, Complete
from sojourn.session import (
    TOMBSTONE,
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rename,
    Rotate,
    Save,
    Session,
    TooMany,
)
from sojourn.signing_in import Full, Leaving, inherits, is_limited, leaving, named_to_end
from sojourn.store import bounded
from sojourn.stores.sql.database import Database, Tx

log = get_logger(__name__)

FORGET = 1_000
"""Tombstones that are forgotten at once, when they are a day old."""
FORGET_EVERY = 60.0  # seconds, in each process
COUNTED_MAX = 10_000
"""Sessions of a user that are looked at by a sign-in, the newest. Express sets no bound."""

SHOWN = """
    s.id, e.sid, e.sess::text, ceil(extract(epoch FROM e.expire::timestamptz) * 1000)::bigint,
    s.created_at, s.authenticated_at, s.expires_at, s.level, s.device, s.impersonator,
    CASE WHEN s.label_user = s.user_ref THEN s.label END, s.last_device
"""
LIVE = "e.expire > to_timestamp({now} / 1000.0) AND coalesce(s.expires_at > {now}, true)"
CHECK = """
SELECT t.id, {now}, o.ended_at, o.ended_by, o.end_reason,
    s.zone IS NULL OR now() AT TIME ZONE s.zone = localtimestamp, {shown}
FROM unnest(:ids::text[], :sids::text[]) AS t (id, sid)
LEFT JOIN {side} AS o ON o.id = t.id
LEFT JOIN {side} AS s ON s.id = CASE WHEN o.grace_until > {now} THEN o.successor ELSE t.id END
LEFT JOIN {express} AS e
    ON e.sid = CASE WHEN s.id IS NULL AND o.id IS NULL THEN t.sid ELSE s.sid END
"""
LIVE_ONES = """
SELECT {now}, {shown} FROM {side} AS s JOIN {express} AS e ON e.sid = s.sid
WHERE s.ended_at IS NULL AND {live}
"""
LOCK = LIVE_ONES + " AND s.id = ANY(:ids) ORDER BY e.sid FOR UPDATE OF e"
LOCK_USERS = LIVE_ONES + " AND s.user_ref = :user ORDER BY e.sid FOR UPDATE OF e"
OF_USER = (
    f"{LIVE_ONES} AND s.user_ref = :user ORDER BY s.created_at DESC NULLS LAST, s.id LIMIT :limit"
)
TOUCH = """
UPDATE {express} AS e SET expire = to_timestamp(t.expire)
FROM (
    SELECT l.sid, t.expire FROM unnest(:sids::text[], :expires::bigint[]) AS t (sid, expire)
    JOIN {express} AS l ON l.sid = t.sid ORDER BY l.sid FOR UPDATE OF l
) AS t
WHERE e.sid = t.sid AND e.expire < to_timestamp(t.expire)
"""
SAVE = """
UPDATE {express} AS e SET sess = t.sess::json
FROM unnest(:sids::text[], :texts::text[]) AS t (sid, sess) WHERE e.sid = t.sid
"""
INSERT = (
    "INSERT INTO {express} (sid, sess, expire) VALUES (:sid, :text::json, to_timestamp(:expire))"
)
COPY = """
INSERT INTO {express} (sid, sess, expire) SELECT :new, sess, expire FROM {express} WHERE sid = :old
"""
NOTE = """
UPDATE {side} SET created_at = :created_at, authenticated_at = :authenticated_at,
    expires_at = :expires_at, level = :level, device = :device, impersonator = :impersonator,
    label = :label, label_user = CASE WHEN :label::text IS NOT NULL THEN user_ref END,
    last_device = :last_device, zone = NULL
WHERE id = :id
"""
USED = """
UPDATE {side} AS s SET device = coalesce(s.device, t.device),
    last_device = CASE WHEN s.device IS NULL THEN s.last_device ELSE t.device END
FROM (
    SELECT l.id, t.device FROM unnest(:ids::text[], :devices::text[]) AS t (id, device)
    JOIN {side} AS l ON l.id = t.id WHERE l.ended_at IS NULL ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
) AS t
WHERE s.id = t.id
"""
"""What somebody else is writing is left to the next use: this waits for no lock, and so ends no deadlock."""
RENAME = """
UPDATE {side} AS s SET label = :label, label_user = s.user_ref FROM {express} AS e
WHERE s.id = :id AND s.user_ref = :user AND s.ended_at IS NULL AND e.sid = s.sid AND {live}
"""
DELETE = "DELETE FROM {express} WHERE sid = ANY(:sids)"
ENDED = """
UPDATE {side} SET ended_at = :at, ended_by = :actor, end_reason = :reason, sid = NULL,
    successor = :successor, grace_until = :grace_until
WHERE id = ANY(:ids)
"""
FORGOTTEN = """
DELETE FROM {side} WHERE id IN (SELECT id FROM {side} WHERE ended_at < {now} - :age::bigint
    ORDER BY ended_at LIMIT :limit FOR UPDATE SKIP LOCKED)
"""


class PostgresSessions:
    """Implements `session.Sessions`. Safe from several threads."""

    parallel = 3

    def __init__(self, db: Database, names: Names, options: Options, complete: Complete) -> None:
        self._db = db
        self._names = names
        self._options = options
        self._complete = complete
        self._sql = {
            template: names.fill(template, shown=SHOWN, live=LIVE) for template in _TEMPLATES
        }
        self._warned = False
        self._forgot = 0.0

    def close(self) -> None:
        self._db.close()

    # Looking up

    def check(self, checks: Sequence[Check]) -> list[Session | Gone]:
        """Look sids up in one statement; touch what is due in one more, and note in one what has moved."""
        sids = {public_id(x.token): x.token for x in checks if not x.adopted}
        if not sids:
            return [_ABSENT] * len(checks)
        wanted = {"ids": list(sids), "sids": list(sids.values())}
        rows = self._db.read(lambda tx: tx.rows(self._sql[CHECK], {"now": tx.instant, **wanted}))
        answers: dict[str, Session | Gone] = {}
        missed: dict[str, str] = {}
        broken: list[str] = []
        touching = {public_id(each.token): each for each in checks if each.touch}
        due: dict[str, int] = {}
        moved: dict[str, Device] = {}
        for row in rows:
            answer = answers[row[0]] = self._answer(row)
            if isinstance(answer, Gone):
                continue
            self._mind_zone(row[5])
            sid, text = row[7], row[8]
            if row[6] is None:
                missed[sid] = text
            if not payload.has_cookie(payload.read(text) or {}):
                broken.append(answer.id)
            if row[0] not in touching:
                continue
            device = payload.used_from(answer, touching[row[0]], self._complete)
            if device is not None:
                moved[answer.id] = device
                answer = answers[row[0]] = payload.seen_on(answer, device)
            if answer.touch_due:
                ahead = min(answer.at + answer.idle_timeout, _cap(row[6:]))
                due[sid] = seconds(ahead)
                answers[row[0]] = touched(answer, ahead)
        try:
            self._repair(missed, broken)
            self._note_use(due, moved)
        except StoreError as fault:  # read-only for a while: nobody is signed out by it
            log.warning("use_not_noted", code=fault.code, error=fault.message, sessions=len(due))
        return [_ABSENT if x.adopted else answers[public_id(x.token)] for x in checks]

    def _answer(self, row: Sequence[Any]) -> Session | Gone:
        public, now, ended_at, ended_by, reason = row[:5]
        if row[7] is None:
            if ended_at is None:
                return _ABSENT
            return signing_in.ended(ended_at, ended_by, reason)
        shown = self._show(row[6:], now, public)
        if shown is None:
            return _ABSENT
        why = signing_in.why_gone(
            now=now, created=shown.created_at, idle_at=shown.idle_at, expires_at=_cap(row[6:])
        )
        return shown if why is None else why

    def _show(self, row: Sequence[Any], now: int, public: str | None = None) -> Session | None:
        """Read SHOWN."""
        known = SessionFacts(
            created_at=row[4],
            authenticated_at=row[5],
            expires_at=row[6],
            level=1 if row[7] is None else row[7],
            device=row[8],
            impersonator=row[9],
            label=row[10],
            last_device=row[11],
        )
        return payload.session_of(
            str(row[0] or public),
            row[2],
            expire=row[3],
            at=int(now),
            known=known,
            options=self._options,
        )

    def _mind_zone(self, same: bool) -> None:
        if not same and not self._warned:
            self._warned = True
            log.error("express_time_zone", table=self._names.express, hint=ZONE_HINT)

    def _repair(self, missed: Mapping[str, str], broken: list[str]) -> None:
        if missed:
            self._db.write(lambda tx: adopt(tx, self._names, self._options, missed))
        if broken:
            self.save([Save(id=each) for each in broken])

    def _note_use(self, due: Mapping[str, int], moved: Mapping[str, Device]) -> None:
        if moved:
            devices = {"ids": list(moved), "devices": [*map(payload.device_json, moved.values())]}
            self._db.write(lambda tx: tx.do(self._sql[USED], devices))
        if due:
            params = {"sids": list(due), "expires": list(due.values())}
            self._db.write(lambda tx: tx.do(self._sql[TOUCH], params))
            if time.monotonic() - self._forgot >= FORGET_EVERY:
                self._forget()

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        def work(tx: Tx) -> Sequence[Sequence[Any]]:
            params = {"now": tx.instant, "user": user_id, "limit": bounded(limit)}
            return tx.rows(self._sql[OF_USER], params)

        return sorted(self._shown(self._db.read(work)), key=signing_in.newest_first)

    def _shown(self, rows: Sequence[Sequence[Any]]) -> list[Session]:
        found = [self._show(row[1:], row[0]) for row in rows]
        return [each for each in found if each is not None]

    # Changing

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        """Merge top-level keys under a lock of the row; see `Store.save`."""
        changes = [payload.encoded(each.set) for each in saves]
        if not saves:
            return []
        return self._db.transaction(lambda tx: self._save(tx, saves, changes))

    def _save(
        self, tx: Tx, saves: Sequence[Save], changes: Sequence[payload.Parts]
    ) -> list[int | None]:
        rows = self._lock(tx, [each.id for each in saves])
        texts = {row[1]: row[3] for row in rows}
        by_id = {row[1]: row for row in rows}
        answers: list[int | None] = []
        for each, change in zip(saves, changes, strict=True):
            row = by_id.get(each.id)
            shown = None if row is None else self._show(row[1:], row[0])
            if row is None or shown is None:
                answers.append(None)
                continue
            cookie = self._options.cookie(shown.idle_timeout, row[4])
            texts[each.id] = payload.merged(texts[each.id], each, change, cookie)
            answers.append(payload.revision(texts[each.id]))
        if texts:
            sids = [by_id[each][2] for each in texts]
            tx.do(self._sql[SAVE], {"sids": sids, "texts": list(texts.values())})
        return answers

    def _lock(self, tx: Tx, ids: Sequence[str]) -> Sequence[Sequence[Any]]:
        return tx.rows(self._sql[LOCK], {"now": tx.instant, "ids": list(ids)})

    def begin(self, begins: Sequence[Begin]) -> list[Begun | TooMany]:
        return [
            self._db.transaction(lambda tx, begin=each: self._begin(tx, begin))  # type: ignore[misc]  # mypy does not infer defaults
            for each in begins
        ]

    def _begin(self, tx: Tx, begin: Begin) -> Begun | TooMany:
        lifetime, idle = payload.bounds(begin)
        going = self._leaving(tx, begin)
        if isinstance(going, TooMany):
            return going
        rows = {row[1]: row for row in self._lock(tx, [each.id for each in going])}
        now = tx.now()
        row = None if begin.replaces is None else rows.get(begin.replaces)
        old = None if row is None else self._show(row[1:], now)
        carried = row[3] if row is not None and old is not None and inherits(begin, old) else None
        cookie = self._options.cookie(idle, now + idle)
        text = payload.begun(begin, carried, self._options, cookie=cookie)
        for each in going:
            self._end(tx, [rows[each.id]] if each.id in rows else [], each.reason, each.actor)
        sid = new_sid()
        tx.do(self._sql[INSERT], {"sid": sid, "text": text, "expire": seconds(now + idle)})
        known = payload.known_of(begin, old, self._complete, now=now, lifetime=lifetime)
        return self._noted(tx, sid, text, known, expire=now + idle, now=now)

    def _noted(
        self, tx: Tx, sid: str, text: str, known: SessionFacts, *, expire: int, now: int
    ) -> Begun:
        public = public_id(sid)
        facts = {name: getattr(known, name) for name in SessionFacts.__struct_fields__}
        if not tx.do(self._sql[NOTE], {"id": public, **facts}):
            raise StoreBroken(
                f"The triggers on {self._names.express} are gone.",
                hint="Run `sojourn express install` again.",
            )
        shown = payload.session_of(
            public, text, expire=expire, at=now, known=known, options=self._options
        )
        assert shown is not None
        return Begun(token=sid, session=shown)

    def _leaving(self, tx: Tx, begin: Begin) -> list[Leaving] | TooMany:
        """Choose what a sign-in ends. Those of one user wait for one another, where it matters what the
        user has; what has ended by the time it is locked needs no end."""
        own: dict[str, Session] = {}
        if is_limited(begin) or named_to_end(begin):
            turn = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(:user, 0))"
            tx.rows(turn, {"user": f"{self._names.express} {begin.user_id}"})
            params = {"now": tx.instant, "user": begin.user_id, "limit": COUNTED_MAX}
            own = {x.id: x for x in self._shown(tx.rows(self._sql[OF_USER], params))}

        def live(session_id: str) -> Session | Begin | None:  # what is replaced: see when locked
            return own.get(session_id) or (begin if session_id == begin.replaces else None)

        going = leaving(begin, live, own.values())
        if isinstance(going, Full):
            return TooMany(limit=going.limit, sessions=tuple(own[each] for each in going.shown))
        return going

    def rotate(self, rotations: Sequence[Rotate]) -> list[Begun | None]:
        for each in rotations:
            if not 0 <= each.grace <= GRACE_MAX:
                raise InvalidInput(f"A rotated token is good for {GRACE_MAX // 1000} s at most.")
        return [
            self._db.transaction(lambda tx, rotation=each: self._rotate(tx, rotation))  # type: ignore[misc]  # mypy does not infer defaults
            for each in rotations
        ]

    def _rotate(self, tx: Tx, rotation: Rotate) -> Begun | None:
        """Move the session to a new sid. For the grace, ours is the only table that knows the old one."""
        rows = self._lock(tx, [rotation.id])
        if not rows:
            return None
        row, now, sid = rows[0], tx.now(), rotation.token or new_sid()
        tx.do(self._sql[COPY], {"new": sid, "old": row[2]})
        proved = rotation.level is not None
        known = SessionFacts(
            created_at=row[5],
            authenticated_at=now if proved else row[6],
            expires_at=row[7],
            level=row[8] if rotation.level is None else rotation.level,
            device=row[9],
            impersonator=row[10],
            label=row[11],
            last_device=row[12],
        )
        begun = self._noted(tx, sid, row[3], known, expire=row[4], now=now)
        until = now + rotation.grace if rotation.grace else None
        heir = begun.session.id if rotation.grace else None
        self._end(tx, [row], "rotated", None, successor=heir, grace_until=until)
        return begun

    def rename(self, named: Rename) -> bool:
        check_label(named.label)

        def work(tx: Tx) -> int:
            who = {"id": named.id, "user": named.user_id, "label": named.label}
            return tx.do(self._sql[RENAME], {"now": tx.instant, **who})

        return self._db.write(work) > 0

    def end(self, ends: Sequence[End]) -> list[list[str]]:
        answers = [
            self._db.transaction(lambda tx, end=each: self._ended(tx, end))  # type: ignore[misc]  # mypy does not infer defaults
            for each in ends
        ]
        if any(answers):
            self._forget()
        return answers

    def _ended(self, tx: Tx, end: End) -> list[str]:
        if end.ids is not None:
            rows = self._lock(tx, end.ids)
            if end.user_id is not None:
                rows = [row for row in rows if self._user(row) == end.user_id]
        elif end.user_id is not None:
            rows = tx.rows(self._sql[LOCK_USERS], {"now": tx.instant, "user": end.user_id})
        else:
            raise InvalidInput("Whose sessions are to end? Name a user, or sessions.")
        rows = [row for row in rows if row[1] not in end.keep]
        self._end(tx, rows, end.reason, end.actor)
        return [row[1] for row in rows]

    def _user(self, row: Sequence[Any]) -> str | None:
        return payload.user_of(payload.read(row[3]) or {}, self._options.user_path)

    def _end(
        self,
        tx: Tx,
        rows: Sequence[Sequence[Any]],
        reason: str,
        actor: str | None,
        *,
        successor: str | None = None,
        grace_until: int | None = None,
    ) -> None:
        """Delete rows of LOCK. The trigger leaves tombstones, and these lines say why."""
        if not rows:
            return
        tx.do(self._sql[DELETE], {"sids": [row[2] for row in rows]})
        params = {
            "ids": [row[1] for row in rows],
            "at": tx.now(),
            "reason": reason,
            "actor": actor,
            "successor": successor,
            "grace_until": grace_until,
        }
        if tx.do(self._sql[ENDED], params) != len(rows):
            raise StoreBroken(
                f"Some tombstones could not be written beside {self._names.express}.",
                hint="Run `sojourn express install` again.",
            )

    def _forget(self) -> None:
        """Drop tombstones, Express's too; its own clean-up knows nothing of them."""
        self._forgot = time.monotonic()

        def work(tx: Tx) -> int:
            params = {"now": tx.instant, "age": TOMBSTONE, "limit": FORGET}
            return tx.do(self._sql[FORGOTTEN], params)

        self._db.write(work)


_ABSENT = Gone(reason=GoneReason.ABSENT)
"""Also the answer for a token of another system's, `Check.adopted`: it is no sid of Express's."""
_TEMPLATES = (
    *(CHECK, LOCK, LOCK_USERS, OF_USER, TOUCH, SAVE, INSERT, COPY, NOTE, DELETE, ENDED, FORGOTTEN),
    *(USED, RENAME),
)


def _cap(row: Sequence[Any]) -> int:
    """Read from SHOWN the end that no use puts off."""
    return 2**62 if row[6] is None else int(row[6])
