"""Sessions: begun, checked, saved by delta, rotated, ended. Plain, synchronous, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sojourn.cookie import LIFETIME_MAX as LIFETIME_MAX
from sojourn.device import Device, moved_to
from sojourn.errors import Conflict, InvalidInput, StoreBroken, StoreError
from sojourn.event import Event
from sojourn.idempotency import IdempotencyKey, KeyReused, Repeated, Replayed, reused
from sojourn.log import get_logger
from sojourn.session import GRACE_MAX as GRACE_MAX
from sojourn.session import (
    IMPERSONATION_MAX,
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    NewSession,
    Rename,
    Rotate,
    Save,
    Session,
    SessionPage,
    TooMany,
)
from sojourn.store import Store
from sojourn.token import (
    FOREIGN_MAX,
    Keyring,
    TokenKind,
    check_token,
    hash_token,
    is_whole,
    new_id,
    new_token,
)

log = get_logger(__name__)

SWEEP_BATCHES = 100
Complete = Callable[[Device], Device | None]


class SessionService:
    """Implements `session.Sessions` over a store.

    Attributes:
        ended: called whenever sessions were ended through this object, on whatever thread did it.
    """

    def __init__(
        self, store: Store, *, complete: Complete | None = None, keyring: Keyring | None = None
    ) -> None:
        self._store = store
        self._keyring = keyring  # to make a token again: without it, keys of requests mean nothing
        self.parallel = store.parallel
        self._complete = complete  # what is known of a device beyond what it says
        self.ended: list[Callable[[], None]] = []

    def check(self, checks: Sequence[Check]) -> list[Session | Gone]:
        """Look tokens up, and mark as used what is due: one statement, and one more when a touch is due.

        A token whose checksum is wrong is FORGED; the store is not asked. Neither is an adopted one
        that looks like one of ours: those come signed, or from a backend.
        """
        answers: list[Session | Gone] = [_FORGED] * len(checks)
        whole = [i for i, each in enumerate(checks) if _may_be_known(each)]
        if not whole:
            return answers
        due: set[str] = set()
        moved: dict[str, Device] = {}
        for i, found in zip(
            whole, self._store.load([hash_token(checks[i].token) for i in whole]), strict=True
        ):
            answers[i] = found
            if isinstance(found, Session) and checks[i].touch and found.touch_due:
                due.add(found.id)
                if (device := self._moved(found, checks[i].describe)) is not None:
                    moved[found.id] = device
        if due and self._note_use(sorted(due), moved):
            answers = [
                _touched(x, moved.get(x.id)) if isinstance(x, Session) and x.id in due else x
                for x in answers
            ]
        return answers

    def _moved(self, session: Session, describe: Callable[[], Device] | None) -> Device | None:
        """Return what a session is used from, if that is not what it was used from before."""
        if describe is None:
            return None
        device = describe().tidy()
        if self._complete is not None:
            device = self._complete(device) or device
        return moved_to(session.last_device or session.device, device)

    def _note_use(self, ids: list[str], moved: Mapping[str, Device]) -> bool:
        """Write the use of sessions down, if the store can: where it is read-only for a while, people
        stay signed in as long as their sessions live without it."""
        try:
            self._store.touch(ids, moved)
        except StoreError as fault:
            log.warning("use_not_noted", code=fault.code, error=fault.message, sessions=len(ids))
            return False
        return True

    def begin(
        self, begins: Sequence[Begin], *, prefix: str = "ses_"
    ) -> list[Begun | TooMany | Repeated]:
        """Begin sessions, each under a token of its own; their ids begin with `prefix`. Raises
        InvalidInput."""
        minted = [self._mint(begin.idempotency) for begin in begins]
        created = self._store.create(
            [
                _new(self._completed(begin), token, prefix, key)
                for begin, (token, key) in zip(begins, minted, strict=True)
            ]
        )
        if None in created:
            raise StoreBroken("The store already holds a session under an id that was just made.")
        return [
            self._begun(session, token, key)
            for session, (token, key) in zip(created, minted, strict=True)
        ]

    def _mint(self, key: IdempotencyKey | None) -> tuple[str, IdempotencyKey | None]:
        """Make a token; and if its request may come again, one that can be made again."""
        if key is None or self._keyring is None:
            return new_token(TokenKind.SESSION), None
        token, note = self._keyring.mint(key.seed)
        return token, replace(key, note=note)

    def _begun(self, found: Any, token: str | None, key: IdempotencyKey | None) -> Any:
        """Put the token beside the session of an answer. `token`: None if it must be made again."""
        if isinstance(found, Session) and token is not None:
            return Begun(token=token, session=found)
        if not isinstance(found, Replayed) or not isinstance(found.answer, Session):
            return _settled(found)
        if found.note and key is not None and self._keyring is not None:
            token = self._keyring.mint_again(key.seed, found.note)
            if token is None:
                return Conflict(
                    "This request was answered before, under a secret that the server no longer has.",
                    hint="Send it again under a new Idempotency-Key.",
                )
        return replace(found, answer=Begun(token=token or "", session=found.answer))

    def _completed(self, begin: Begin) -> Begin:
        if self._complete is None or begin.device is None:
            return begin
        return replace(begin, device=self._complete(begin.device))

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        return [_settled(each) for each in self._store.save(saves)]

    def touch(self, ids: Sequence[str]) -> list[bool]:
        return self._store.touch(ids)

    def rotate(self, rotations: Sequence[Rotate]) -> list[Begun | Repeated | None]:
        return [self._rotate(each) for each in rotations]

    def _rotate(self, rotation: Rotate) -> Begun | Repeated | None:
        if not 0 <= rotation.grace <= GRACE_MAX:
            raise InvalidInput(f"A rotated token is good for {GRACE_MAX // 1000} s at most.")
        token, key = rotation.token, rotation.idempotency
        if token is None:
            token, key = self._mint(key)
        token_hash = hash_token(check_token(token, TokenKind.SESSION))
        try:
            session = self._store.rotate(
                rotation.id,
                token_hash,
                grace=rotation.grace,
                level=rotation.level,
                idempotency=key,
            )
        except Conflict:
            # A request in parallel has just made it this session's token.
            found = self._store.load([token_hash])[0] if rotation.token else None
            if not isinstance(found, Session) or found.id != rotation.id:
                raise
            session = found
        return self._begun(session, token, key)

    def end(self, ends: Sequence[End]) -> list[list[str] | Repeated]:
        try:
            return [
                _settled(
                    self._store.end(
                        ids=each.ids,
                        user_id=each.user_id,
                        keep=each.keep,
                        reason=each.reason,
                        actor=each.actor,
                        idempotency=each.idempotency,
                    )
                )
                for each in ends
            ]
        finally:
            self._tell()

    def answered(self, asked: Sequence[tuple[IdempotencyKey, str | None]]) -> list[Repeated | None]:
        """Say what was answered first to requests that cannot be carried out any more; see
        `Store.answered`. Each comes with the token that it wished for, if it did."""
        found = self._store.answered([key for key, _ in asked])
        return [
            self._begun(each, token, key) for each, (key, token) in zip(found, asked, strict=True)
        ]

    def cut_off(self, user_id: str | None, *, reason: str, actor: str | None) -> int:
        """End everything begun up to now, of a user or of everybody; see `Store.cut_off`."""
        at = self._store.cut_off(user_id, reason=reason, actor=actor)
        self._tell()
        return at

    def _tell(self) -> None:
        for listener in tuple(self.ended):  # a listener may leave meanwhile
            listener()

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        return self._store.gone(ids)

    def events(self, **which: Any) -> list[Event]:
        """Read the stream of what has happened; see `Store.events`."""
        return self._store.events(**which)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        return self._store.of(user_id, limit=limit)

    def page(self, user_id: str, *, after: tuple[int, str] | None, limit: int) -> SessionPage:
        return self._store.page(user_id, after=after, limit=limit)

    def use_from(self, session_id: str, device: Device) -> Device | None:
        """Note what a session is used from, as a use of it; return what is kept of that. None: there is no
        such session. Raises InvalidInput."""
        device = device.tidy()
        if self._complete is not None:
            device = self._complete(device) or device
        device.check()
        (live,) = self._store.touch([session_id], {session_id: device})
        return device if live else None

    def rename(self, named: Rename) -> bool:
        """Call the device of a user's session so; see `Store.rename`."""
        return self._store.rename(named.id, user_id=named.user_id, label=named.label)

    def held(self, which: End) -> dict[str, int]:
        """Count the seats that sessions hold: of those named, or of a user's."""
        return self._store.held(ids=which.ids, user_id=which.user_id)

    def list(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        return self._store.sessions(after=after, limit=limit, user_id=user_id)

    def sweep(self) -> int:
        """Forget what ended long ago, in bounded batches; return how many sessions. For applications
        that run on a store without a server, which sweeps by itself."""
        removed = 0
        for _ in range(SWEEP_BATCHES):
            swept = self._store.sweep()
            removed += swept.sessions_removed
            if not swept.more:
                break
        return removed

    def close(self) -> None:
        self._store.close()


_FORGED = Gone(reason=GoneReason.FORGED)


_OURS = TokenKind.SESSION.value


def _may_be_known(check: Check) -> bool:
    if check.adopted:
        return is_foreign(check.token)
    if check.signed:
        return True
    return check.token[:4] == _OURS and is_whole(check.token)


def is_foreign(token: str) -> bool:
    """Tell whether another system may have made this token."""
    return 0 < len(token) <= FOREIGN_MAX and token.isprintable() and not token.startswith(_OURS)


def _touched(session: Session, device: Device | None) -> Session:
    """Show a session as the touch has left it."""
    return replace(
        session,
        last_used_at=max(session.last_used_at, session.at),
        idle_at=max(session.idle_at, min(session.at + session.idle_timeout, session.expires_at)),
        last_device=device or session.last_device,
    )


def _settled(found: Any) -> Any:
    """Turn a key that was used for another request into the fault of this one alone."""
    return reused() if isinstance(found, KeyReused) else found


def _new(begin: Begin, token: str, prefix: str, key: IdempotencyKey | None) -> NewSession:
    lifetime, idle_timeout = begin.timeouts.lifetime, begin.timeouts.idle_timeout
    if not (0 < lifetime <= LIFETIME_MAX and 0 < idle_timeout <= LIFETIME_MAX):
        raise InvalidInput("A session's timeouts lie between 1 ms and 400 days.")
    if begin.limit is not None and begin.limit < 1:
        raise InvalidInput("A user needs room for one session at least.")
    if begin.impersonator is not None:
        if begin.user_id is None:
            raise InvalidInput("Only a user can be impersonated.")
        lifetime = min(lifetime, IMPERSONATION_MAX)
    return NewSession(
        id=new_id(prefix),
        token_hash=hash_token(token),
        user_id=begin.user_id,
        data=begin.data,
        lifetime=lifetime,
        idle_timeout=min(idle_timeout, lifetime),
        device=begin.device,
        level=begin.level,
        impersonator=begin.impersonator,
        replaces=begin.replaces,
        ending=begin.ending,
        limit=begin.limit,
        at_limit=begin.at_limit,
        idempotency=key,
    )
