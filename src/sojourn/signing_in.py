"""What a sign-in ends, why a session is gone, and in which order a list shows sessions: pure functions.

Every store decides by these rules within its atomic step, as it decides about seats by `seating`. The
scripts on Redis and Valkey say them again in Lua, and cite them by their names.

A sign-in:
S1. The live session that it replaces ends ("replaced"), whosever it is.
S2. The data of that session is kept under the new one's own, if it was a visitor's or the same user's,
    and no impersonator's.
S3. The live sessions named in `ending` end ("made_room"), if they are the same user's. A visitor or an
    impersonator ends none.
S4. A limit counts the user's live sessions, the new one included. Impersonators' sessions do not count,
    nor do those that end by S1 and S3. Visitors and impersonators are not limited.
S5. Past the limit, END_OLDEST ends those created first ("session_limit", by "system:limit"). Otherwise
    nothing begins and nothing ends, and the newest SHOWN_MAX are shown.
S6. A session is created after every cutoff of its user and of everybody, wherever the clock stands.
S7. The name that its user gave the device of that session (S1) stays with the new one, if it was the same
    user's, and neither is an impersonator's: the same browser goes on.

A session is gone:
G1. It was ended.
G2. A cutoff has ended it: it was created at that instant or before, and had not gone idle by then. The
    earliest cutoff counts; of two at once, its user's own.
G3. It went idle, or reached the end of its lifetime.

A list:
L1. Only live sessions, newest first: by created_at downwards, then by id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import Struct

from sojourn.session import AtLimit, Gone, GoneReason

SHOWN_MAX = 100
"""Sessions shown to somebody who has too many."""
REPLACED, MADE_ROOM, SESSION_LIMIT = "replaced", "made_room", "session_limit"
BY_LIMIT = "system:limit"


class SignIn(Protocol):
    """What a request to begin a session says of other sessions: `NewSession` and `Begin`."""

    @property
    def user_id(self) -> str | None: ...
    @property
    def impersonator(self) -> str | None: ...
    @property
    def replaces(self) -> str | None: ...
    @property
    def ending(self) -> tuple[str, ...]: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def at_limit(self) -> AtLimit: ...


class Owned(Protocol):
    """A live session, as far as it matters whose it is."""

    @property
    def user_id(self) -> str | None: ...
    @property
    def impersonator(self) -> str | None: ...


class Counted(Protocol):
    """A live session of the user who signs in."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> int: ...
    @property
    def impersonator(self) -> str | None: ...


class Leaving(Struct, frozen=True):
    """A session that a sign-in ends."""

    id: str
    reason: str
    actor: str | None = None


class Full(Struct, frozen=True):
    """The user has too many sessions. `shown`: ids of the newest, newest first."""

    limit: int
    shown: tuple[str, ...]


class Cut(Struct, frozen=True):
    """A cutoff, of a user or of everybody."""

    at: int
    actor: str | None
    reason: str


def named_to_end(new: SignIn) -> tuple[str, ...]:
    """Return the ids that S3 may end."""
    return () if new.user_id is None or new.impersonator is not None else new.ending


def is_limited(new: SignIn) -> bool:
    """Tell whether S4 counts for this sign-in."""
    return new.limit is not None and new.user_id is not None and new.impersonator is None


def inherits(new: SignIn, replaced: Owned) -> bool:
    """Tell whether S2 keeps the data of the session that is replaced."""
    return replaced.user_id in (None, new.user_id) and replaced.impersonator is None


def keeps_label(new: SignIn, replaced: Owned) -> bool:
    """Tell whether S7 keeps the name of the device of the session that is replaced."""
    mine = new.user_id is not None and replaced.user_id == new.user_id
    return mine and new.impersonator is None and replaced.impersonator is None


def leaving(
    new: SignIn, live: Callable[[str], Owned | None], own: Iterable[Counted]
) -> list[Leaving] | Full:
    """Return which sessions end with a sign-in, in order (S1, S3 to S5).

    `live` looks up a live session by its id. `own` are the user's live sessions; they are looked at only
    if the sign-in is limited.
    """
    going: dict[str, Leaving] = {}
    if new.replaces is not None and live(new.replaces) is not None:
        going[new.replaces] = Leaving(new.replaces, REPLACED)
    for session_id in named_to_end(new):
        held = live(session_id)
        if held is not None and held.user_id == new.user_id:
            going.setdefault(session_id, Leaving(session_id, MADE_ROOM))
    if is_limited(new):
        assert new.limit is not None
        counted = [each for each in own if each.impersonator is None and each.id not in going]
        over = max(0, len(counted) + 1 - new.limit)
        if over and new.at_limit is not AtLimit.END_OLDEST:
            newest = sorted(counted, key=newest_first)[:SHOWN_MAX]
            return Full(new.limit, tuple(each.id for each in newest))
        for each in sorted(counted, key=lambda each: (each.created_at, each.id))[:over]:
            going[each.id] = Leaving(each.id, SESSION_LIMIT, BY_LIMIT)
    return list(going.values())


def created_at(now: int, cuts: Iterable[Cut | None]) -> int:
    """Return when a session that begins now is created: S6."""
    return max([now, *(cut.at + 1 for cut in cuts if cut is not None)])


def cut_of(created: int, cuts: Iterable[Cut | None]) -> Cut | None:
    """Return the earliest cutoff that a session is behind. `cuts`: its user's first."""
    behind = [cut for cut in cuts if cut is not None and created <= cut.at]
    return min(behind, key=lambda cut: cut.at, default=None)


def has_cut(cut: Cut, idle_at: int, now: int) -> bool:
    """Tell whether a cutoff ended a session behind it, rather than idleness before (G2)."""
    return idle_at > min(cut.at, now)


def ended(at: int, actor: str | None, reason: str | None) -> Gone:
    """Say of a session that it was ended (G1)."""
    return Gone(reason=GoneReason.ENDED, ended_by=actor, end_reason=reason, at=at)


def why_gone(
    *,
    now: int,
    created: int,
    idle_at: int,
    expires_at: int,
    tombstone: Gone | None = None,
    cuts: Iterable[Cut | None] = (),
) -> Gone | None:
    """Say why a session is gone, by what came first; None while it is live. `idle_at` is never after
    `expires_at`. `cuts`: its user's cutoff first, then everybody's."""
    if tombstone is not None:
        return tombstone
    cut = cut_of(created, cuts)
    if cut is not None and has_cut(cut, idle_at, now):
        return ended(cut.at, cut.actor, cut.reason)
    if idle_at > now:
        return None
    reason = GoneReason.IDLE if idle_at < expires_at else GoneReason.EXPIRED
    return Gone(reason=reason, at=idle_at)


def newest_first(session: Any) -> tuple[int, str]:
    """Return by what a list is sorted: L1."""
    return -session.created_at, session.id
