"""A sign-in of a user on a device.

    begin ──► live ──(idle_timeout without a touch)──► idle
               │ ├──(expires_at)──► expired
               │ └──(a cutoff: all that began before it)──► ended
               ├──► rotated: same session, new token; the old one works for a short grace
               └──► ended by its user, another device, an operator or a policy; a tombstone stays for a day

A session without a user is a visitor's who has not signed in: it is there only because the application
put something into its `data`. Signing in begins a new session that replaces it and keeps the data, so
that no token from before the sign-in is worth anything after it (ASVS 5.0 7.2.4).

Only the SHA-256 of the token is ever stored. `data` belongs to the application: JSON values under
top-level keys, merged key by key so that parallel requests lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import force_setattr, replace

from sojourn.clock import DAY, HOUR, MINUTE, SECOND
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.idempotency import IdempotencyKey
from sojourn.text import ID_MAX, check_id, check_words
from sojourn.token import mask

LIFETIME = 7 * DAY
IDLE_TIMEOUT = 24 * HOUR
TOMBSTONE = DAY
"""How long ended sessions and leases are remembered, so that what ended is known from what never was."""
TOUCH_EVERY = 60 * SECOND
"""A session's use is written down at most this often, or ten times per idle timeout if that is oftener."""
ROTATION_GRACE = 20 * SECOND
"""How long a rotated token still works, for tabs whose requests were under way."""
GRACE_MAX = 30 * SECOND
"""The longest such grace."""
IMPERSONATION_MAX = HOUR
"""The longest that anybody may act as somebody else."""
DATA_MAX = 1_048_576
"""Bytes of JSON that one session may hold, however it came together."""


class Timeouts(Struct, frozen=True):
    """How long a session lives at most, and how long without being used; in ms."""

    lifetime: int = LIFETIME
    idle_timeout: int = IDLE_TIMEOUT


PRESETS: Mapping[str, Timeouts] = MappingProxyType(
    {
        "default": Timeouts(),
        # NIST SP 800-63B-4, 2.1.3, 2.2.3, 2.3.3: reauthenticate after so long, and so long a silence.
        "aal1": Timeouts(30 * DAY, 30 * DAY),
        "aal2": Timeouts(24 * HOUR, HOUR),
        "aal3": Timeouts(12 * HOUR, 15 * MINUTE),
        # OWASP Session Management Cheat Sheet, "Session Expiration".
        "owasp-high": Timeouts(4 * HOUR, 5 * MINUTE),
        "office-day": Timeouts(8 * HOUR, 30 * MINUTE),
    }
)
"""Timeouts by the names of those who ask for them."""


class GoneReason(StrEnum):
    ABSENT = "absent"
    IDLE = "idle"
    EXPIRED = "expired"
    ENDED = "ended"
    FORGED = (
        "forged"  # nobody asked a store: the cookie's signature, or the token's checksum, is wrong
    )


class Gone(Struct, frozen=True, kw_only=True):
    """Why there is no session for a token."""

    reason: GoneReason
    ended_by: str | None = None  # actor, if it was ended
    end_reason: str | None = None
    at: int | None = None


class AtLimit(StrEnum):
    """What happens when a user who signs in has as many sessions as allowed."""

    DENY = "deny"
    END_OLDEST = "end_oldest"
    ASK = "ask"  # denied too, but with the sessions to choose from; then begin again with `ending`


class NewSession(Struct, frozen=True, kw_only=True):
    """A session to create. In the same step it may take the place of others.

    Attributes:
        replaces: a session to end. If it is live, and a visitor's or of the same user, its data is kept
            under the new session's own.
        ending: sessions of this user to end first, to make room.
        limit: how many live sessions the user may have, this one included.
    """

    id: str
    token_hash: bytes
    user_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    lifetime: int = LIFETIME
    idle_timeout: int = IDLE_TIMEOUT
    device: Device | None = None
    level: int = 1  # of authentication
    impersonator: str | None = None  # who really acts here
    replaces: str | None = None
    ending: tuple[str, ...] = ()
    limit: int | None = None
    at_limit: AtLimit = AtLimit.END_OLDEST
    idempotency: IdempotencyKey | None = None

    def __post_init__(self) -> None:
        check_id("id", self.id)
        _check_who(self.user_id, self.impersonator, self.device)


def check_cutoff(user_id: str | None, reason: str, actor: str | None) -> None:
    """Raise InvalidInput unless a store may note this cutoff. A user's id may be from before the rule of
    what is in one: their sessions can be ended."""
    if user_id == "":
        raise InvalidInput("Whose sessions? The user's id is empty.")
    check_ending(reason, actor)


def check_ending(reason: str, actor: str | None) -> None:
    """Raise InvalidInput unless a store may note why sessions ended, and who ended them."""
    check_words("reason", reason, most=ID_MAX)
    check_words("actor", actor, most=ID_MAX)


def _check_who(user_id: str | None, impersonator: str | None, device: Device | None) -> None:
    """Hold whoever begins a session, at whichever store and adapter, to one rule: see `text`."""
    check_id("userId", user_id)
    check_id("impersonator", impersonator)
    if device is not None:
        device.check()


class Session(Struct, frozen=True, kw_only=True):
    id: str
    user_id: str | None
    data: dict[str, Any]
    revision: int
    created_at: int
    authenticated_at: int
    last_used_at: int
    idle_timeout: int
    idle_at: int  # when it goes idle, unless touched; never after expires_at
    expires_at: int
    device: Device | None = None
    level: int = 1
    impersonator: str | None = None
    label: str | None = None  # what its user calls the device
    last_device: Device | None = None  # what it was last used from, where that is not `device`
    at: int = 0  # the store's now when this was read

    @property
    def touch_due(self) -> bool:
        """Tell whether its use, at `at`, is worth writing down."""
        return self.at - self.last_used_at >= min(TOUCH_EVERY, self.idle_timeout // 10)


def without_ips(session: Session, until: int) -> Session | None:
    """Return a session without the addresses that were noted up to then: the device's when it began, the
    last one with its last use. None if it holds none of those."""
    device, last = session.device, session.last_device
    if device is not None and device.ip is not None and session.created_at <= until:
        device = replace(device, ip=None)
    if last is not None and last.ip is not None and session.last_used_at <= until:
        last = replace(last, ip=None)
    if device is session.device and last is session.last_device:
        return None
    return replace(session, device=device, last_device=last)


def check_size(encoded: bytes) -> bytes:
    """Return a session's data as JSON. Raises InvalidInput if that is longer than `DATA_MAX`."""
    if len(encoded) > DATA_MAX:
        raise InvalidInput(
            f"A session holds {DATA_MAX} bytes of JSON at most, and this would be {len(encoded)}.",
            hint="Keep large things elsewhere, and their names in the session.",
        )
    return encoded


def user_text(user_id: object) -> str:
    """Return a user's id as text: an int or a UUID, as most databases have, as they are written. Raises
    InvalidInput for anything else, and for an empty one."""
    if isinstance(user_id, str):
        text = str.__str__(user_id)
    elif isinstance(user_id, UUID) or (isinstance(user_id, int) and not isinstance(user_id, bool)):
        text = str(user_id) if isinstance(user_id, UUID) else int.__repr__(user_id)
    else:
        raise InvalidInput(
            f"A user's id is text, an int or a UUID; this one is a {type(user_id).__name__}.",
            hint="Write begin(str(user.id)).",
        )
    if not text:
        raise InvalidInput("Whose session is it? The user's id is empty.")
    return text


class TooMany(Struct, frozen=True, kw_only=True):
    """Nothing was begun: the user has as many sessions as allowed. These are live, newest first."""

    limit: int
    sessions: tuple[Session, ...]


class SessionPage(Struct, frozen=True, kw_only=True):
    """Some of a user's live sessions, without their data, and how many there are in all."""

    sessions: tuple[Session, ...]
    total: int


class Save(Struct, frozen=True, kw_only=True):
    """Changes to top-level keys of `data`; keys named by neither stay as they are."""

    id: str
    set: dict[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    idempotency: IdempotencyKey | None = None


class _Secretive(Struct, frozen=True):
    """Shows its token masked: a repr ends up in tracebacks and logs (ASVS 5.0 16.2.5)."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(n, mask(v) if n == "token" and v is not None else v) for n, v in shown]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class Check(_Secretive, frozen=True):
    """A token to look up. `touch` marks the session as used, if that is due.

    `adopted`: it is the token of a system that was here before us, so it has no checksum of ours; only
    a session that was taken over from there can answer to it.
    `signed`: it came under a signature of ours that was verified, so its checksum tells nothing more.
    `describe`: says what the request comes from; asked when its use is written down.
    """

    token: str
    touch: bool = True
    adopted: bool = False
    signed: bool = False
    describe: Callable[[], Device] | None = None


class Begin(Struct, frozen=True, kw_only=True):
    """A session to begin; see `NewSession`. Without a user: a visitor's, for its data alone."""

    user_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    device: Device | None = None
    level: int = 1
    impersonator: str | None = None
    replaces: str | None = None
    ending: tuple[str, ...] = ()
    limit: int | None = None
    at_limit: AtLimit = AtLimit.END_OLDEST
    idempotency: IdempotencyKey | None = None

    def __post_init__(self) -> None:
        if self.device is not None:
            force_setattr(self, "device", self.device.tidy())
        _check_who(self.user_id, self.impersonator, self.device)


class Begun(_Secretive, frozen=True, kw_only=True):
    """A session and its token, which is not to be had again."""

    token: str
    session: Session


class Rotate(_Secretive, frozen=True, kw_only=True):
    """A token to replace. With `level`, the user has just proved who they are again (step-up).

    `token`: the new one, where it was not left to chance. Requests in parallel that all bring the same
    adopted token agree on one successor, and the browser may keep whichever answer comes last.
    """

    id: str
    grace: int = ROTATION_GRACE
    level: int | None = None
    token: str | None = None
    idempotency: IdempotencyKey | None = None


class Rename(Struct, frozen=True, kw_only=True):
    """What a user calls the device of one of their sessions; None: as it says itself."""

    id: str
    user_id: str
    label: str | None


class End(Struct, frozen=True, kw_only=True):
    """Sessions to end: those named, or all of a user's but `keep`; with both, those named that are the
    user's."""

    ids: tuple[str, ...] | None = None
    user_id: str | None = None
    keep: tuple[str, ...] = ()
    reason: str = "ended"
    actor: str | None = None
    idempotency: IdempotencyKey | None = None

    def __post_init__(self) -> None:
        check_words("reason", self.reason, most=ID_MAX)
        check_words("actor", self.actor, most=ID_MAX)


class Sessions(Protocol):
    """What adapters stand on: the service over a store, a server over HTTP, or the table of an Express
    application.

    Hot verbs take a batch and answer in its order. An answer that is an exception concerns that
    request alone. Verbs raise StoreUnavailable and StoreBroken.
    """

    parallel: int
    """How many batches it takes at once to keep busy what answers them."""

    def check(self, checks: Sequence[Check]) -> Sequence[Session | Gone]:
        """Look tokens up, and mark as used what is due."""

    def begin(self, begins: Sequence[Begin]) -> Sequence[Begun | TooMany]:
        """Begin sessions, each under a token of its own."""

    def save(self, saves: Sequence[Save]) -> Sequence[int | None]:
        """Merge top-level keys; see `Store.save`. None: the session is gone, and stays gone."""

    def rotate(self, rotations: Sequence[Rotate]) -> Sequence[Begun | None]:
        """Replace tokens. None: the session is gone."""

    def end(self, ends: Sequence[End]) -> Sequence[list[str]]:
        """End sessions, and say which. Idempotent."""

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        """Return a user's live sessions, newest first."""

    def rename(self, named: Rename) -> bool:
        """Call the device of a user's session so; see `Store.rename`."""

    def close(self) -> None:
        """Give back what is held. Idempotent."""
