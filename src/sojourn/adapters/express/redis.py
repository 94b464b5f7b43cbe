"""Sessions in the keys of connect-redis, beside an Express application that knows nothing of us.

Redis has no triggers. What Express does by itself is seen when a session is next looked up here, and a
late SET of Express's can bring an ended session back for Express alone: never for us, and only until
the next request here, whosever it is, deletes it again (`scripts.LOOK`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
from msgspec import Struct
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from sojourn import signing_in
from sojourn.adapters.express import payload, scripts
from sojourn.adapters.express.options import Options
from sojourn.adapters.express.payload import SessionFacts, new_sid, public_id, seconds, touched
from sojourn.clock import Clock
from sojourn.device import Device, check_label
from sojourn.errors import (
    InvalidInput,
    SettingsError,
    StoreBroken,
    StoreError,
    StoreUnavailable,
)
from sojourn.log import get_logger
from sojourn.service.sessions import GRACE_MAX, Complete
from sojourn.session import (
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

log = get_logger(__name__)

CONNECT_TIMEOUT = 4  # seconds
REPLY_TIMEOUT = 6
ATTEMPTS = 200
"""How often a save is tried again because others wrote in between: each time, one of them got through."""
SCAN_COUNT = 1_000
OURS = "sojourn:express:"
PASSING = (
    *(RedisConnectionError, RedisTimeoutError, BusyLoadingError, MasterDownError),
    *(OutOfMemoryError, ReadOnlyError),
)
"""What passes by itself, or when somebody has seen to the server."""
DENIED = (AuthenticationError,)


class FoundSession(Struct, frozen=True, kw_only=True):
    """A live key of Express's, and what we know beside it."""

    session: Session
    sid: str
    text: str
    stale: bool  # Express began it, or gave it to another user
    lasting: bool  # it has no time to live


class RedisSessions:
    """Implements `session.Sessions`. Safe from several threads."""

    parallel = 1

    def __init__(
        self, client: redis.Redis, options: Options, clock: Clock, complete: Complete
    ) -> None:
        self._client = client
        self._complete = complete
        self._options = options
        self._clock = clock
        self._base = OURS + options.prefix
        self._scripts = {text: client.register_script(text) for text in _SCRIPTS}

    def close(self) -> None:
        self._client.close()

    def _run(self, script: str, *arguments: Any) -> Any:
        now = self._clock.now()
        head = ("" if now is None else now, self._base, self._options.prefix)
        with translated():
            return self._scripts[script](keys=[], args=[*head, *arguments])

    # Looking up

    def check(self, checks: Sequence[Check]) -> list[Session | Gone]:
        """Look sids up in one round trip; one more where a touch is due, or Express did something."""
        sids = {public_id(x.token): x.token for x in checks if not x.adopted}
        if not sids:
            return [_ABSENT] * len(checks)
        found = self._look(sids)
        self._adopt([x for x in found.values() if isinstance(x, FoundSession) and x.stale])
        due: list[Any] = []
        touching = {public_id(each.token): each for each in checks if each.touch}
        answers: dict[str, Session | Gone] = {}
        moved: dict[str, Device] = {}
        for asked, each in found.items():
            if isinstance(each, Gone):
                answers[asked] = each
                continue
            session = answers[asked] = each.session
            if not payload.has_cookie(payload.read(each.text) or {}):
                self.save([Save(id=session.id)])
            if asked not in touching:
                continue
            device = payload.used_from(session, touching[asked], self._complete)
            if device is not None:
                moved[session.id] = device
                session = answers[asked] = payload.seen_on(session, device)
            if session.touch_due and not each.lasting:
                ahead = session.at + session.idle_timeout
                if session.expires_at > session.idle_at:  # it has an end that no use puts off
                    ahead = min(ahead, session.expires_at)
                due += [session.id, each.sid, seconds(ahead - session.at) * 1000]
                answers[asked] = touched(session, ahead)
        self._note_use(due, moved)
        return [_ABSENT if x.adopted else answers[public_id(x.token)] for x in checks]

    def _note_use(self, due: list[Any], moved: Mapping[str, Device]) -> None:
        devices = [x for each in moved.items() for x in (each[0], payload.device_json(each[1]))]
        try:
            if devices:
                self._run(scripts.USED, *devices)
            if due:
                self._run(scripts.TOUCH, *due)
        except StoreError as fault:  # read-only for a while: nobody is signed out by it
            log.warning("use_not_noted", code=fault.code, error=fault.message)

    def _look(self, sids: Mapping[str, str]) -> dict[str, FoundSession | Gone]:
        """Look up by public id, with the sid where that is known; by the id that was asked for."""
        if not sids:
            return {}
        flat = [part for pair in sids.items() for part in pair]
        now, *rows = self._run(scripts.LOOK, *flat)
        found = {asked: self._found(row, int(now)) for asked, row in zip(sids, rows, strict=True)}
        over = [
            x for x in found.items() if isinstance(x[1], Gone) and x[1].reason is GoneReason.EXPIRED
        ]
        if over:  # Express may have gone on using it; it knows of no such end
            self._run(scripts.END, "expired", "", *(asked for asked, _ in over))
        return found

    def _found(self, row: Sequence[Any], now: int) -> FoundSession | Gone:
        if row[0] == "ended":
            return signing_in.ended(int(row[2]), row[3] or None, row[4])
        if row[0] == "absent":
            return _ABSENT
        _, public, sid, text, left, meta = row
        parts = payload.read(text)
        if parts is None:
            return _ABSENT
        user = payload.user_of(parts, self._options.user_path)
        same = meta[0] is not None and (meta[1] or None) == user
        idle = payload.idle_timeout(parts, self._options)
        session = payload.session_of(
            public,
            text,
            expire=now + (idle if left < 0 else left),
            at=now,
            known=_known(meta, same=same),
            options=self._options,
        )
        assert session is not None
        why = signing_in.why_gone(
            now=now,
            created=session.created_at,
            idle_at=session.idle_at,
            expires_at=session.expires_at,
        )
        if why is not None:
            return why
        return FoundSession(session=session, sid=sid, text=text, stale=not same, lasting=left < 0)

    def _adopt(self, found: Sequence[FoundSession]) -> None:
        if found:
            flat = [(x.session.id, x.sid, x.session.user_id or "") for x in found]
            self._run(scripts.ADOPT, *(part for each in flat for part in each))

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        return list(self._of(user_id).values())[: bounded(limit)]

    def _of(self, user_id: str) -> dict[str, Session]:
        """Return everything that is live in a user's index as it is at one instant, newest first."""
        if self._options.scan:
            self._adopt(list(self._scanned(user_id)))
        with translated():
            ids: Any = self._client.zrange(f"{self._base}u:{user_id}", 0, -1)
        found = self._look(dict.fromkeys(ids, ""))
        gone = [asked for asked, x in found.items() if isinstance(x, Gone)]
        if gone:
            self._run(scripts.FORGET, user_id, *gone)
        live = [x for x in found.values() if isinstance(x, FoundSession)]
        self._adopt([x for x in live if x.stale])  # Express has given it to somebody else
        mine = [x.session for x in live if x.session.user_id == user_id]
        return {x.id: x for x in sorted(mine, key=signing_in.newest_first)}

    def _scanned(self, user_id: str) -> Iterator[FoundSession]:
        """Read every session, for those of a user that only Express has seen."""
        prefix = self._options.prefix
        needle = json.dumps(user_id, ensure_ascii=False)[1:-1]
        for names in self._keys():
            with translated():
                texts: Any = self._client.mget(names)
            sids = [
                name.removeprefix(prefix)
                for name, text in zip(names, texts, strict=True)
                if text and needle in text
            ]
            for each in self._look({public_id(sid): sid for sid in sids}).values():
                if (
                    isinstance(each, FoundSession)
                    and each.stale
                    and each.session.user_id == user_id
                ):
                    yield each

    def _keys(self) -> Iterator[list[str]]:
        pattern = "".join(f"\\{x}" if x in "*?[]\\^" else x for x in self._options.prefix) + "*"
        cursor: Any = 0
        while True:
            with translated():
                found: Any = self._client.scan(cursor, match=pattern, count=SCAN_COUNT)
            cursor = found[0]
            if names := [name for name in found[1] if not name.startswith(OURS)]:
                yield names
            if not int(cursor):
                return

    # Changing

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        """Merge top-level keys: read, and write unless somebody has written meanwhile."""
        changes = [payload.encoded(each.set) for each in saves]
        return [self._save(each, change) for each, change in zip(saves, changes, strict=True)]

    def _save(self, save: Save, changes: payload.Parts) -> int | None:
        for _ in range(ATTEMPTS):
            found = self._look({save.id: ""})[save.id]
            if isinstance(found, Gone):
                return None
            session = found.session
            cookie = self._options.cookie(session.idle_timeout, session.idle_at)
            text = payload.merged(found.text, save, changes, cookie)
            outcome = self._run(scripts.SWAP, save.id, found.sid, found.text, text)
            if outcome == 0:
                return None
            if outcome == 2:
                return payload.revision(text)
        raise StoreUnavailable("Too many write this session at once.")

    def begin(self, begins: Sequence[Begin]) -> list[Begun | TooMany]:
        return [self._begin(each) for each in begins]

    def _begin(self, begin: Begin) -> Begun | TooMany:
        lifetime, idle = payload.bounds(begin)
        for _ in range(ATTEMPTS):
            old = None
            if begin.replaces is not None:
                found = self._look({begin.replaces: ""})[begin.replaces]
                old = found if isinstance(found, FoundSession) else None
            seen, going = self._leaving(begin, old)
            if isinstance(going, TooMany):
                return going
            now = self._now()
            carried = old.text if old is not None and inherits(begin, old.session) else None
            cookie = self._options.cookie(idle, now + idle)
            text = payload.begun(begin, carried, self._options, cookie=cookie)
            sid = new_sid()
            replaced = None if old is None else old.session
            known = payload.known_of(begin, replaced, self._complete, now=now, lifetime=lifetime)
            facts = _facts(begin, known)
            begun = self._run(
                scripts.BEGIN,
                *(sid, public_id(sid), text, seconds(idle) * 1000, lifetime + scripts.SLACK),
                *(
                    begin.user_id or "",
                    seen,
                    len(facts),
                    *facts,
                    *(part for x in going for part in (x.id, x.reason, x.actor or "")),
                ),
            )
            if begun:
                session = payload.session_of(
                    public_id(sid),
                    text,
                    expire=now + idle,
                    at=now,
                    known=known,
                    options=self._options,
                )
                assert session is not None
                return Begun(token=sid, session=session)
        raise StoreUnavailable("Too many sign this user in at once.")

    def _now(self) -> int:
        return int(self._run(scripts.LOOK)[0])

    def _leaving(
        self, begin: Begin, old: FoundSession | None
    ) -> tuple[str, list[Leaving] | TooMany]:
        """Choose what a sign-in ends; and say what the user had then, for the script to compare."""
        own: dict[str, Session] = {}
        seen = "*"
        if is_limited(begin) or named_to_end(begin):
            assert begin.user_id is not None
            own = self._of(begin.user_id)
            seen = " ".join(own)

        def live(session_id: str) -> Session | None:
            replaced = old.session if old is not None and session_id == begin.replaces else None
            return own.get(session_id) or replaced

        going = leaving(begin, live, own.values())
        if isinstance(going, Full):
            return seen, TooMany(
                limit=going.limit, sessions=tuple(own[each] for each in going.shown)
            )
        return seen, going

    def rotate(self, rotations: Sequence[Rotate]) -> list[Begun | None]:
        for each in rotations:
            if not 0 <= each.grace <= GRACE_MAX:
                raise InvalidInput(f"A rotated token is good for {GRACE_MAX // 1000} s at most.")
        return [self._rotate(each) for each in rotations]

    def _rotate(self, rotation: Rotate) -> Begun | None:
        if isinstance(self._look({rotation.id: ""})[rotation.id], Gone):
            return None
        sid = rotation.token or new_sid()
        level = "" if rotation.level is None else rotation.level
        now, row = self._run(
            scripts.ROTATE, rotation.id, sid, public_id(sid), rotation.grace, level
        )
        found = self._found(row, int(now))
        return None if isinstance(found, Gone) else Begun(token=sid, session=found.session)

    def rename(self, named: Rename) -> bool:
        check_label(named.label)
        found = self._look({named.id: ""})[named.id]
        if isinstance(found, Gone):
            return False
        if found.stale:
            self._adopt([found])  # Express has given it to somebody else
        done = self._run(scripts.RENAME, named.id, named.user_id, named.label or "")
        return bool(done)

    def end(self, ends: Sequence[End]) -> list[list[str]]:
        return [self._end(each) for each in ends]

    def _end(self, end: End) -> list[str]:
        if end.ids is None and end.user_id is None:
            raise InvalidInput("Whose sessions are to end? Name a user, or sessions.")
        if end.ids is None:
            ids = list(self._of(end.user_id or ""))
        else:
            found = self._look(dict.fromkeys(end.ids, ""))
            live = [x.session for x in found.values() if isinstance(x, FoundSession)]
            ids = [x.id for x in live if end.user_id in (None, x.user_id)]
        ids = [each for each in ids if each not in end.keep]
        return list(self._run(scripts.END, end.reason, end.actor or "", *ids)) if ids else []


_ABSENT = Gone(reason=GoneReason.ABSENT)
"""Also the answer for a token of another system's, `Check.adopted`: it is no sid of Express's."""
_SCRIPTS = (
    *(scripts.LOOK, scripts.ADOPT, scripts.TOUCH, scripts.SWAP, scripts.BEGIN, scripts.ROTATE),
    *(scripts.END, scripts.FORGET, scripts.USED, scripts.RENAME),
)


def open_redis(url: str, options: Options, clock: Clock, complete: Complete) -> RedisSessions:
    """Connect. Raises StoreUnavailable, StoreBroken and SettingsError."""
    for ours, theirs in (("valkeys:", "rediss:"), ("valkey:", "redis:")):
        url = theirs + url.removeprefix(ours) if url.startswith(ours) else url
    try:
        client = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=REPLY_TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # a script that was run may not be run again
        )
    except ValueError as fault:
        raise SettingsError(f"The store's URL cannot be read: {fault}.") from None
    with translated():
        client.ping()
    return RedisSessions(client, options, clock, complete)


def _known(meta: Sequence[Any], *, same: bool) -> SessionFacts:
    """Read FACTS. What was true of another user of this session is not of this one."""
    created, authenticated, expires, level, device, impersonator, label, namer, last = meta[2:]
    if not same:
        authenticated = level = impersonator = None
    if not same or namer != meta[1]:
        label = None
    return SessionFacts(
        created_at=_int(created),
        authenticated_at=_int(authenticated),
        expires_at=_int(expires),
        level=1 if level is None else int(level),
        device=device or None,
        impersonator=impersonator or None,
        label=label or None,
        last_device=last or None,
    )


def _int(text: Any) -> int | None:
    return None if text is None else int(text)


def _facts(begin: Begin, known: SessionFacts) -> list[Any]:
    namer = None if known.label is None else begin.user_id
    facts = {"user": begin.user_id, "label_user": namer} | {
        x: getattr(known, x) for x in SessionFacts.__struct_fields__
    }
    return [part for pair in facts.items() if pair[1] is not None for part in pair]


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into a store's fault, by its class."""
    try:
        yield
    except DENIED as error:
        raise StoreBroken(
            f"Redis refuses us ({type(error).__name__}).", hint="Check the URL's user and password."
        ) from error
    except PASSING as error:
        raise StoreUnavailable(f"Redis is not available ({type(error).__name__}).") from error
    except RedisError as error:
        raise StoreBroken(
            f"Redis is not as it must be ({type(error).__name__}).",
            hint="connect-redis and Sojourn need strings and hashes at their keys, and Redis 6 or "
            "newer; a cluster does not do.",
        ) from error
