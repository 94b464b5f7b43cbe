"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import Clock
from sojourn.errors import Conflict
from sojourn.event import Event, EventKind
from sojourn.session import Gone, GoneReason, NewSession, Save, Session
from sojourn.stores.memory.stream import MemoryStream, bounded, copy_json


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
        return Gone(reason=GoneReason.IDLE if idle else GoneReason.EXPIRED, at=self.session.idle_at)

    def answers_to(self, token_hash: bytes, now: int) -> bool:
        return token_hash == self.token_hash or now < self.previous_until


class MemorySessions(MemoryStream):
    def __init__(self, clock: Clock, **options: int) -> None:
        super().__init__(clock, **options)
        self._sessions: dict[str, _Row] = {}
        self._hashes: dict[bytes, str] = {}  # present and previous ones: the session they open

    def create(self, sessions: Sequence[NewSession]) -> list[Session | None]:
        with self._lock:
            now = self.now()
            return [self._create(new, now) for new in sessions]

    def _create(self, new: NewSession, now: int) -> Session | None:
        if new.id in self._sessions or new.token_hash in self._hashes:
            return None
        session = Session(
            id=new.id,
            user_id=new.user_id,
            data=copy_json(new.data),
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
        self._hashes[new.token_hash] = new.id
        self._append([_event(EventKind.SESSION_CREATED, session)], now)
        return _shown(session)

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        with self._lock:
            now = self.now()
            return [self._load(token_hash, now) for token_hash in token_hashes]

    def _load(self, token_hash: bytes, now: int) -> Session | Gone:
        session_id = self._hashes.get(token_hash)
        row = None if session_id is None else self._sessions[session_id]
        if row is None or not row.answers_to(token_hash, now):
            return Gone(reason=GoneReason.ABSENT)
        return row.gone(now) or _shown(row.session)

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        with self._lock:
            now = self.now()
            return [self._save(save, now) for save in saves]

    def _save(self, save: Save, now: int) -> int | None:
        row = self._live_session(save.id, now)
        if row is None:
            return None
        old = row.session
        kept = {key: value for key, value in old.data.items() if key not in save.unset}
        row.session = replace(old, data=kept | copy_json(save.set), revision=old.revision + 1)
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
            self._append([_event(EventKind.SESSION_ROTATED, row.session)], now)
            return _shown(row.session)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        with self._lock:
            now = self.now()
            live = [
                row.session
                for row in self._sessions.values()
                if row.session.user_id == user_id and row.gone(now) is None
            ]
            live.sort(key=lambda session: (-session.created_at, session.id))
            return [_shown(session) for session in live[: bounded(limit)]]

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
            and row.gone(now) is None
        ]
        for row in ended:
            row.ended_at, row.ended_by, row.end_reason = now, actor, reason
            event = _event(EventKind.SESSION_ENDED, row.session)
            self._append([replace(event, actor=actor, data={"reason": reason})], now)
        return [row.session.id for row in ended]

    def _forget_sessions(self, until: int, limit: int) -> int:
        dead = [
            (gone.at or 0, session_id)
            for session_id, row in self._sessions.items()
            if (gone := row.gone(until)) is not None and (gone.at or 0) <= until
        ]
        forgotten = sorted(dead)[:limit]
        for _, session_id in forgotten:
            row = self._sessions.pop(session_id)
            del self._hashes[row.token_hash]
            if row.previous_hash is not None:
                del self._hashes[row.previous_hash]
        return len(forgotten)

    def _live_session(self, session_id: str, now: int) -> _Row | None:
        row = self._sessions.get(session_id)
        return row if row is not None and row.gone(now) is None else None


def _event(kind: EventKind, session: Session) -> Event:
    return Event(kind=kind, subject=session.id, user_id=session.user_id)


def _shown(session: Session) -> Session:
    return replace(session, data=copy_json(session.data))
