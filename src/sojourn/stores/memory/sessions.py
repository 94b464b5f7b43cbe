"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import Clock
from sojourn.device import NO_DEVICES, Device, check_label, new_device_data
from sojourn.errors import Conflict, InvalidInput
from sojourn.event import Event, EventKind
from sojourn.idempotency import IdempotencyKey, Repeated
from sojourn.session import (
    Gone,
    GoneReason,
    NewSession,
    Save,
    Session,
    SessionPage,
    TooMany,
    check_cutoff,
    check_size,
    without_ips,
)
from sojourn.signing_in import (
    Cut,
    Full,
    created_at,
    ended,
    inherits,
    keeps_label,
    leaving,
    newest_first,
    why_gone,
)
from sojourn.store import bounded
from sojourn.stores.memory.repeats import MemoryRepeats
from sojourn.stores.memory.stream import copy_json


class _Row(Struct, kw_only=True):
    """A session with what is never shown: its token hashes, and how it ended."""

    session: Session
    token_hash: bytes
    previous_hash: bytes | None = None
    previous_until: int = 0  # the previous token works before this instant
    ended_at: int | None = None
    ended_by: str | None = None
    end_reason: str | None = None

    def answers_to(self, token_hash: bytes, now: int) -> bool:
        return token_hash == self.token_hash or now < self.previous_until


class MemorySessions(MemoryRepeats):
    _ips_in_events = True

    def __init__(self, clock: Clock, **options: int) -> None:
        super().__init__(clock, **options)
        self._sessions: dict[str, _Row] = {}
        self._hashes: dict[bytes, str] = {}  # present and previous ones: the session they open
        self._cuts: dict[str | None, Cut] = {}  # by user; None: of everybody

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        if any(new.limit is not None and new.limit < 1 for new in sessions):
            raise InvalidInput("A user needs room for one session at least.")
        with self._lock:
            now = self.now()

            def decide(some: list[int]) -> list[Session | TooMany | None]:
                for i in some:  # all of them first: it is all or nothing
                    check_size(msgspec.json.encode(self._data(sessions[i], now)))
                return [self._create(sessions[i], now) for i in some]

            return self._once([new.idempotency for new in sessions], decide, now)

    def _data(self, new: NewSession, now: int) -> dict[str, Any]:
        """Return what a session begins with: its own, over that of the session it replaces."""
        replaced = None if new.replaces is None else self._live_session(new.replaces, now)
        if replaced is not None and inherits(new, replaced.session):
            return copy_json(replaced.session.data) | copy_json(new.data)
        return copy_json(new.data)

    def _create(self, new: NewSession, now: int) -> Session | TooMany | None:
        if new.id in self._sessions or new.token_hash in self._hashes:
            return None
        data = self._data(new, now)
        label = self._label(new, now)

        def live(session_id: str) -> Session | None:
            row = self._live_session(session_id, now)
            return None if row is None else row.session

        own = [] if new.user_id is None else self._live_of(new.user_id, now)
        going = leaving(new, live, own)
        if isinstance(going, Full):
            shown = [self._sessions[session_id].session for session_id in going.shown]
            return TooMany(limit=going.limit, sessions=tuple(_shown(x, now) for x in shown))
        for each in going:
            row = self._sessions[each.id]
            self._end(row, now, reason=each.reason, actor=each.actor, now=now)
        return self._begin(new, data, label, now)

    def _label(self, new: NewSession, now: int) -> str | None:
        """Return what the device is called already, where its session is replaced."""
        replaced = None if new.replaces is None else self._live_session(new.replaces, now)
        if replaced is None or not keeps_label(new, replaced.session):
            return None
        return replaced.session.label

    def _begin(self, new: NewSession, data: dict[str, Any], label: str | None, now: int) -> Session:
        session = Session(
            id=new.id,
            user_id=new.user_id,
            data=data,
            revision=1,
            created_at=created_at(now, self._cuts_of(new.user_id)),
            authenticated_at=now,
            last_used_at=now,
            idle_timeout=new.idle_timeout,
            idle_at=now + min(new.idle_timeout, new.lifetime),
            expires_at=now + new.lifetime,
            device=new.device,
            level=new.level,
            impersonator=new.impersonator,
            label=label,
        )
        self._sessions[new.id] = _Row(session=session, token_hash=new.token_hash)
        self._hashes[new.token_hash] = new.id
        happened = [_event(EventKind.SESSION_CREATED, session)]
        if (told := self._told_device(session)) is not None:
            event = _event(EventKind.SESSION_NEW_DEVICE, session)
            happened.append(replace(event, data=told))
        self._append(happened, now)
        return _shown(session, now)

    def _told_device(self, new: Session) -> dict[str, Any] | None:
        """Describe the device of a session that was just created, if its user was never seen on one of
        its name and kind."""
        if new.user_id is None or new.impersonator is not None or new.device is None:
            return None
        known = [
            row.session.device
            for row in self._sessions.values()
            if row.session.user_id == new.user_id
            and row.session.impersonator is None
            and row.session.id != new.id
        ]
        if any(x is not None and x.known_by == new.device.known_by for x in known):
            return None
        return new_device_data(new.device, first=not known, ip=self._ips_in_events)

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        with self._lock:
            now = self.now()
            return [self._load(token_hash, now) for token_hash in token_hashes]

    def _load(self, token_hash: bytes, now: int) -> Session | Gone:
        session_id = self._hashes.get(token_hash)
        row = None if session_id is None else self._sessions[session_id]
        if row is None or not row.answers_to(token_hash, now):
            return Gone(reason=GoneReason.ABSENT)
        return self._gone(row, now) or _shown(row.session, now)

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        with self._lock:
            now = self.now()

            def decide(some: list[int]) -> list[int | None]:
                self._check_sizes([saves[i] for i in some], now)
                return [self._save(saves[i], now) for i in some]

            return self._once([save.idempotency for save in saves], decide, now)

    def _save(self, save: Save, now: int) -> int | None:
        row = self._live_session(save.id, now)
        if row is None:
            return None
        old = row.session
        row.session = replace(old, data=_merged(old.data, save), revision=old.revision + 1)
        return row.session.revision

    def _check_sizes(self, saves: Sequence[Save], now: int) -> None:
        """See that no session would hold too much afterwards: it is all or nothing."""
        data: dict[str, dict[str, Any]] = {}
        for save in saves:
            row = self._live_session(save.id, now)
            if row is not None:
                data[save.id] = _merged(data.get(save.id, row.session.data), save)
        for merged in data.values():
            check_size(msgspec.json.encode(merged))

    def touch(
        self, ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES
    ) -> list[bool]:
        with self._lock:
            now = self.now()
            return [self._touch(each, last_devices.get(each), now) for each in ids]

    def _touch(self, session_id: str, device: Device | None, now: int) -> bool:
        row = self._live_session(session_id, now)
        if row is None:
            return False
        old = row.session
        row.session = replace(
            old,
            last_used_at=max(old.last_used_at, now),
            idle_at=max(old.idle_at, min(now + old.idle_timeout, old.expires_at)),
            last_device=device or old.last_device,
        )
        return True

    def rename(self, session_id: str, *, user_id: str, label: str | None) -> bool:
        check_label(label)
        with self._lock:
            row = self._live_session(session_id, self.now())
            if row is None or row.session.user_id != user_id:
                return False
            row.session = replace(row.session, label=label)
            return True

    def rotate(
        self,
        session_id: str,
        new_token_hash: bytes,
        *,
        grace: int = 0,
        level: int | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session | Repeated | None:
        with self._lock:
            now = self.now()

            def decide(_: list[int]) -> list[Session | None]:
                return [self._rotate(session_id, new_token_hash, grace, level, now)]

            answer: Session | Repeated | None = self._once([idempotency], decide, now)[0]
            return answer

    def _rotate(
        self, session_id: str, new_token_hash: bytes, grace: int, level: int | None, now: int
    ) -> Session | None:
        row = self._live_session(session_id, now)
        if row is None:
            return None
        if new_token_hash in self._hashes:
            raise Conflict("The new token's hash is in use already.")
        if row.previous_hash is not None:
            del self._hashes[row.previous_hash]
        if grace <= 0:  # forgotten, so that no clock that is set back revives it
            del self._hashes[row.token_hash]
        row.previous_hash = row.token_hash if grace > 0 else None
        row.previous_until = now + grace
        row.token_hash = new_token_hash
        self._hashes[new_token_hash] = session_id
        if level is not None:
            row.session = replace(row.session, level=level, authenticated_at=now)
        self._append([_event(EventKind.SESSION_ROTATED, row.session)], now)
        return _shown(row.session, now)

    def _shown(self, ids: Iterable[str], now: int) -> dict[str, Session]:
        rows = {session_id: self._sessions.get(session_id) for session_id in ids}
        return {i: _shown(row.session, now) for i, row in rows.items() if row is not None}

    def cut_off(
        self, user_id: str | None, *, reason: str = "cut_off", actor: str | None = None
    ) -> int:
        """Set a cutoff, after every earlier one that may have put off a creation: S6 of `signing_in`."""
        check_cutoff(user_id, reason, actor)
        with self._lock:
            cuts = [
                cut
                for user, cut in self._cuts.items()
                if user_id is None or user in (user_id, None)
            ]
            at = max([self.now(), *(cut.at + 1 for cut in cuts)])
            self._cuts[user_id] = Cut(at, actor, reason)
            return at

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        with self._lock:
            now = self.now()
            live = sorted(self._live_of(user_id, now), key=newest_first)
            return [_shown(session, now) for session in live[: bounded(limit)]]

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        with self._lock:
            now = self.now()
            live = sorted(self._live_of(user_id, now), key=newest_first)
            rest = [x for x in live if after is None or newest_first(x) > (-after[0], after[1])]
            shown = (replace(x, data={}, at=now) for x in rest[: bounded(limit)])
            return SessionPage(sessions=tuple(shown), total=len(live))

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        with self._lock:
            now = self.now()
            absent = Gone(reason=GoneReason.ABSENT)
            rows = [self._sessions.get(session_id) for session_id in ids]
            return [absent if row is None else self._gone(row, now) for row in rows]

    def sessions(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        with self._lock:
            now = self.now()
            found = [
                row.session
                for _, row in sorted(self._sessions.items())
                if (after is None or row.session.id > after)
                and user_id in (None, row.session.user_id)
                and self._gone(row, now) is None
            ]
            return [_shown(session, now) for session in found[: bounded(limit)]]

    def _end_sessions(
        self,
        ids: Sequence[str] | None,
        user_id: str | None,
        keep: Sequence[str],
        *,
        reason: str,
        actor: str | None,
        now: int,
    ) -> list[str]:
        named: Iterable[_Row] = self._sessions.values()
        if ids is not None:
            named = [self._sessions[i] for i in dict.fromkeys(ids) if i in self._sessions]
        ended = [
            row
            for row in named
            if (user_id is None or row.session.user_id == user_id)
            and row.session.id not in keep
            and self._gone(row, now) is None
        ]
        for row in ended:
            self._end(row, now, reason=reason, actor=actor, now=now)
        return [row.session.id for row in ended]

    def _end(self, row: _Row, at: int, *, reason: str, actor: str | None, now: int) -> None:
        """Put a tombstone, and release the leases that belong to the session."""
        row.ended_at, row.ended_by, row.end_reason = at, actor, reason
        event = _event(EventKind.SESSION_ENDED, row.session)
        self._append([replace(event, actor=actor, data={"reason": reason})], now)
        self._release_leases(row.session.id, actor, now)

    def _release_leases(self, session_id: str, actor: str | None, now: int) -> None:
        """Release what belongs to a session. The store, which has leases too, says how."""
        raise NotImplementedError

    def _end_behind(self, now: int, limit: int) -> int:
        """Write tombstones for sessions that a cutoff has ended, oldest first."""
        behind = [
            (row.session.created_at, session_id, row, gone)
            for session_id, row in self._sessions.items()
            if row.ended_at is None
            and (gone := self._gone(row, now)) is not None
            and gone.reason is GoneReason.ENDED
        ]
        due = sorted(behind, key=lambda x: x[:2])[:limit]
        for _, _, row, gone in due:
            assert gone.at is not None  # a cutoff has its instant
            reason = gone.end_reason or ""
            self._end(row, gone.at, reason=reason, actor=gone.ended_by, now=now)
        return len(due)

    def _forget_sessions(self, until: int, limit: int) -> int:
        dead = [
            (at, session_id)
            for session_id, row in self._sessions.items()
            if (at := row.session.idle_at if row.ended_at is None else row.ended_at) <= until
        ]
        forgotten = sorted(dead)[:limit]
        for _, session_id in forgotten:
            self._remove(session_id)
        return len(forgotten)

    def _remove(self, session_id: str) -> None:
        row = self._sessions.pop(session_id)
        del self._hashes[row.token_hash]
        if row.previous_hash is not None:
            del self._hashes[row.previous_hash]

    def _forget_ips(self, until: int, limit: int) -> int:
        known = [row for row in self._sessions.values() if without_ips(row.session, until)]
        forgotten = sorted(known, key=lambda row: row.session.created_at)[:limit]
        for row in forgotten:
            row.session = without_ips(row.session, until) or row.session
        return len(forgotten)

    def _live_session(self, session_id: str, now: int) -> _Row | None:
        row = self._sessions.get(session_id)
        return row if row is not None and self._gone(row, now) is None else None

    def _live_of(self, user_id: str, now: int) -> list[Session]:
        return [
            row.session
            for row in self._sessions.values()
            if row.session.user_id == user_id and self._gone(row, now) is None
        ]

    def _gone(self, row: _Row, now: int) -> Gone | None:
        """Return why a session is gone, by what came first; None while it is live."""
        session, tombstone = row.session, None
        if row.ended_at is not None:
            tombstone = ended(row.ended_at, row.ended_by, row.end_reason)
        return why_gone(
            now=now,
            created=session.created_at,
            idle_at=session.idle_at,
            expires_at=session.expires_at,
            tombstone=tombstone,
            cuts=self._cuts_of(session.user_id),
        )

    def _cuts_of(self, user_id: str | None) -> list[Cut | None]:
        """Return a user's cutoff, and everybody's."""
        return [None if user_id is None else self._cuts.get(user_id), self._cuts.get(None)]


def _merged(data: dict[str, Any], save: Save) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in save.unset}
    return kept | copy_json(save.set)


def _event(kind: EventKind, session: Session) -> Event:
    return Event(kind=kind, subject=session.id, user_id=session.user_id)


def _shown(session: Session, now: int) -> Session:
    return replace(session, data=copy_json(session.data), at=now)
