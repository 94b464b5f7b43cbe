"""Creating sessions, and in the same step ending those whose place they take.

Of a batch in which anybody replaces, chooses or counts: lock the users who are counted, in order of
name, so that their sign-ins queue up; read now; read which sessions they have; lock those that may
have to go, in order of id; decide request by request; write. Everything else is one look for ids that
are taken, and one INSERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy.exc import IntegrityError

from sojourn import signing_in
from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind
from sojourn.idempotency import Repeated
from sojourn.session import AtLimit, NewSession, Session, TooMany
from sojourn.signing_in import Cut, Full, inherits, is_limited, keeps_label, leaving, named_to_end
from sojourn.stores.sql import cutoffs, events
from sojourn.stores.sql.cutoffs import LIVE
from sojourn.stores.sql.database import Again, Tx, Verbs
from sojourn.stores.sql.ends import Ending, end_sessions, ended_event
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.new_devices import tell_new_devices
from sojourn.stores.sql.requests import once
from sojourn.stores.sql.rows import SESSION_COLUMNS, data_to_json, device_to_json, session_of
from sojourn.stores.sql.sessions import TAKEN

INSERT = """
INSERT INTO sojourn_sessions (id, token_hash, user_id, data, revision, created_at, authenticated_at,
    last_used_at, idle_timeout, idle_at, expires_at, device, level, impersonator,
    label, last_device, ended_at, ended_by, end_reason)
VALUES (:id, :token_hash, :user_id, :data, :revision, :created_at, :authenticated_at,
    :last_used_at, :idle_timeout, :idle_at, :expires_at, :device, :level, :impersonator,
    :label, NULL, :ended_at, :ended_by, :end_reason)
"""
COUNTED = """
SELECT s.user_id, s.id, s.created_at FROM sojourn_sessions AS s
WHERE s.user_id {in users} AND s.impersonator IS NULL AND {live_session}
""".replace("{live_session}", LIVE)
LOCK = """
SELECT s.id, s.user_id, s.data, s.impersonator, s.label FROM sojourn_sessions AS s
WHERE s.id {in ids} AND {live_session} ORDER BY s.id {update}
""".replace("{live_session}", LIVE)
SHOW = "SELECT {session} FROM sojourn_sessions AS s WHERE s.id {in ids} AND {live_session}".replace(
    "{live_session}", LIVE
)

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Held(Struct, frozen=True):
    """A live session that counts against its user's limit."""

    id: str
    created_at: int
    impersonator: None = None


class _Old(Struct):
    """A live session that this transaction has locked, and may end."""

    user_id: str | None
    data: str
    impersonator: str | None
    label: str | None = None


class CreateVerb(Verbs):
    """The verb that creates sessions."""

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        """Create sessions, overwriting none; see `Store.create`."""
        if not sessions:
            return []
        if any(each.limit is not None and each.limit < 1 for each in sessions):
            raise InvalidInput("A user needs room for one session at least.")
        texts = [data_to_json(each.data) for each in sessions]
        keys = [each.idempotency for each in sessions]

        def work(tx: Tx) -> list[Session | TooMany | Repeated | None]:
            def decide(some: list[int]) -> list[Session | TooMany | None]:
                return _create(
                    tx,
                    [sessions[i] for i in some],
                    [texts[i] for i in some],
                    ips_in_events=self._ips_in_events,
                    max_pause=self._max_pause,
                )

            return once(tx, keys, decide)

        return self._db.transaction(work)


def _create(
    tx: Tx,
    new: Sequence[NewSession],
    texts: Sequence[str],
    *,
    ips_in_events: bool,
    max_pause: int,
) -> list[Session | TooMany | None]:
    ids = tx.dialect.keys([each.id for each in new])
    hashes = tx.dialect.hashes([each.token_hash for each in new])
    taken: set[str | bytes | None] = set()
    for row in tx.rows(TAKEN, {"ids": ids, "hashes": hashes}):
        taken.update(row)
    counted = {x.user_id for x in new if x.user_id is not None and is_limited(x)}
    if counted and not tx.dialect.one_writer:
        cutoffs.lock_users(tx, counted)
    users = {each.user_id for each in new if each.user_id is not None}
    now, cuts = cutoffs.now_and_cuts(tx, users)
    batch = _Batch(now, cuts)
    batch.look(tx, new, counted)
    decided: list[Session | Full | None] = []
    for each, text in zip(new, texts, strict=True):
        if each.id in taken or each.token_hash in taken:
            decided.append(None)
            continue
        answer = batch.decide(each, text)
        if isinstance(answer, Session):
            taken |= {each.id, each.token_hash}
        decided.append(answer)
    answers = batch.show(tx, decided)
    began = [each for each in decided if isinstance(each, Session)]
    batch.happened = tell_new_devices(tx, began, batch.happened, ips=ips_in_events)
    _insert(tx, list(batch.rows.values()))
    ended = end_sessions(tx, batch.endings, now, max_pause)
    events.append(tx, [*batch.happened, *ended], now)
    return answers


def _insert(tx: Tx, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    tx.send()  # whatever fails of it is not that somebody was faster
    try:
        tx.many(INSERT, sorted(rows, key=lambda row: row["id"]))
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Again from error  # somebody was faster: look again
        raise


class _Batch:
    """The state of a batch: sessions read and locked, and decisions made so far.

    Attributes:
        rows: those to insert, by id. A later request of the batch may end one of them again.
        endings: of sessions that were there before, and of those.
        happened: in an order in which nobody has more sessions than allowed at any point.
    """

    def __init__(self, now: int, cuts: dict[str, Cut]) -> None:
        self.now = now
        self.cuts = cuts
        self.live: dict[str, _Old] = {}  # locked, or created by this batch
        self.counted: dict[
            str, dict[str, int]
        ] = {}  # user: the sessions that count, and since when
        self.rows: dict[str, dict[str, Any]] = {}
        self.endings: list[Ending] = []
        self.happened: list[Event] = []

    def look(self, tx: Tx, new: Sequence[NewSession], users: set[str]) -> None:
        """Read the sessions of these users, and lock those that may have to end."""
        self.counted = {user_id: {} for user_id in users}
        if users:
            params = {"now": self.now, "users": tx.dialect.keys(sorted(users))}
            for user_id, session_id, created_at in tx.rows(COUNTED, params):
                self.counted[user_id][session_id] = created_at
        ids = {each.replaces for each in new if each.replaces is not None}
        ids.update(session_id for each in new for session_id in named_to_end(each))
        for user_id in users:
            mine = [x for x in new if x.user_id == user_id and x.impersonator is None]
            limits = [
                x.limit for x in mine if x.limit is not None and x.at_limit is AtLimit.END_OLDEST
            ]
            if limits and len(self.counted[user_id]) + len(mine) > min(limits):
                ids.update(self.counted[user_id])
        if not ids:
            return
        params = {"now": self.now, "ids": tx.dialect.keys(sorted(ids))}
        self.live = {row[0]: _Old(*row[1:]) for row in tx.rows(LOCK, params)}
        for sessions in self.counted.values():  # some may have ended before they were locked
            for session_id in ids - self.live.keys():
                sessions.pop(session_id, None)

    def decide(self, new: NewSession, text: str) -> Session | Full:
        """Answer one request, and note what must be written."""
        counted = {} if new.user_id is None else self.counted.get(new.user_id, {})
        own = (_Held(session_id, at) for session_id, at in counted.items())
        going = leaving(new, self.live.get, own)
        if isinstance(going, Full):
            return going
        replaced = None if new.replaces is None else self.live.get(new.replaces)
        if replaced is not None and inherits(new, replaced):
            text = data_to_json(_parts.decode(replaced.data) | _parts.decode(text))
        label = None
        if replaced is not None and keeps_label(new, replaced):
            label = replaced.label
        for each in going:
            self._end(
                Ending(
                    id=each.id,
                    user_id=self.live[each.id].user_id,
                    at=self.now,
                    reason=each.reason,
                    actor=each.actor,
                )
            )
        return self._begin(new, text, label)

    def _end(self, ending: Ending) -> None:
        del self.live[ending.id]
        for sessions in self.counted.values():
            sessions.pop(ending.id, None)
        if (row := self.rows.get(ending.id)) is not None:
            row |= {
                "ended_at": ending.at,
                "ended_by": ending.actor,
                "end_reason": ending.reason,
            }
        self.endings.append(ending)
        self.happened.append(ended_event(ending))

    def _begin(self, new: NewSession, data: str, label: str | None) -> Session:
        created_at = signing_in.created_at(self.now, cutoffs.cuts_of(self.cuts, new.user_id))
        row = {
            "id": new.id,
            "token_hash": new.token_hash,
            "user_id": new.user_id,
            "data": data,
            "revision": 1,
            "created_at": created_at,
            "authenticated_at": self.now,
            "last_used_at": self.now,
            "idle_timeout": new.idle_timeout,
            "idle_at": self.now + min(new.idle_timeout, new.lifetime),
            "expires_at": self.now + new.lifetime,
            "device": device_to_json(new.device),
            "level": new.level,
            "impersonator": new.impersonator,
            "label": label,
            "last_device": None,
            "ended_at": None,
            "ended_by": None,
            "end_reason": None,
        }
        self.rows[new.id] = row
        if new.idle_timeout > 0 and new.lifetime > 0:
            self.live[new.id] = _Old(new.user_id, data, new.impersonator, label)
            if new.impersonator is None and new.user_id in self.counted:
                self.counted[new.user_id][new.id] = created_at
        self.happened.append(
            Event(kind=EventKind.SESSION_CREATED, subject=new.id, user_id=new.user_id)
        )
        return self._session(row)

    def _session(self, row: dict[str, Any]) -> Session:
        return session_of([row[name] for name in SESSION_COLUMNS], self.now)

    def show(
        self, tx: Tx, decided: Sequence[Session | Full | None]
    ) -> list[Session | TooMany | None]:
        """Read the sessions that are to be shown, and complete the answers."""
        ids = {i for each in decided if isinstance(each, Full) for i in each.shown}
        known = {i: self._session(self.rows[i]) for i in ids if i in self.rows}
        if unknown := sorted(ids - known.keys()):
            params = {"now": self.now, "ids": tx.dialect.keys(unknown)}
            known |= {row[0]: session_of(row, self.now) for row in tx.rows(SHOW, params)}
        return [
            TooMany(limit=x.limit, sessions=tuple(known[i] for i in x.shown if i in known))
            if isinstance(x, Full)
            else x
            for x in decided
        ]
