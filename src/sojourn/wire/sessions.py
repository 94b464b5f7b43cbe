"""What goes over the wire about sessions; see `wire` for the conventions.

A session's secret token is told once, beside the session, to the backend that begins or rotates it; a
`SessionBody` never holds it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sojourn.data import check_json
from sojourn.device import LABEL_MAX, Device
from sojourn.errors import InvalidInput, InvalidToken
from sojourn.service.sessions import GRACE_MAX, LIFETIME_MAX
from sojourn.session import (
    DATA_MAX,
    PRESETS,
    AtLimit,
    Begin,
    Begun,
    Gone,
    GoneReason,
    Session,
    Timeouts,
    TooMany,
)
from sojourn.token import TokenKind, check_token
from sojourn.wire.bodies import (
    STATUS,
    Answer,
    Name,
    Problem,
    Wire,
    problem_type,
    rfc3339,
    seconds,
    title,
)
from sojourn.wire.denials import ASK_AGAIN_MAX
from sojourn.wire.paging import within_bytes

IDS_MAX = 100
KEYS_MAX = 1_000
LIMIT_MAX = 10_000

Duration = Annotated[float, Meta(ge=0.001, le=LIFETIME_MAX / 1000)]
Grace = Annotated[float, Meta(ge=0, le=GRACE_MAX / 1000)]
Level = Annotated[int, Meta(ge=1, le=100)]
ShownText = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
Ids = Annotated[tuple[Name, ...], Meta(max_length=IDS_MAX)]
Keys = Annotated[tuple[str, ...], Meta(max_length=KEYS_MAX)]
Token = Annotated[str, Meta(pattern=r"\Asjs_[0-9A-Za-z]{49}\Z")]
Preset = Literal["default", "aal1", "aal2", "aal3", "owasp-high", "office-day"]


class SessionDevice(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """The person's device, as the application's backend saw it."""

    name: ShownText | None = None
    browser: ShownText | None = None
    os: ShownText | None = None
    kind: ShownText | None = None
    ip: ShownText | None = None
    user_agent: ShownText | None = None
    place: ShownText | None = None


class TimeoutsBody(Wire, frozen=True, kw_only=True):
    """In seconds. What is left out takes its default."""

    lifetime: Duration | UnsetType = UNSET
    idle_timeout: Duration | UnsetType = UNSET


class BeginBody(Wire, frozen=True, kw_only=True):
    user_id: Name | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    timeouts: Preset | TimeoutsBody = "default"
    device: SessionDevice | None = None
    level: Level = 1
    impersonator: Name | None = None
    replaces: Name | None = None
    ending: Ids = ()
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] | None = None
    at_limit: AtLimit = AtLimit.END_OLDEST

    def begin(self) -> Begin:
        """Return the wish in the domain's units. Raises InvalidInput."""
        return Begin(
            user_id=self.user_id,
            data=storable(self.data),
            timeouts=_timeouts(self.timeouts),
            device=_device(self.device),
            level=self.level,
            impersonator=self.impersonator,
            replaces=self.replaces,
            ending=self.ending,
            limit=self.limit,
            at_limit=self.at_limit,
        )


class SaveBody(Wire, frozen=True, kw_only=True):
    """Top-level keys to set and to remove; keys named by neither stay as they are."""

    set: dict[str, Any] = msgspec.field(default_factory=dict)
    unset: Keys = ()


class RotateBody(Wire, frozen=True, kw_only=True):
    """`grace`: for how long the old token still works. `level`: the user has just proved who they are
    again, at that level. `token`: the new one."""

    grace: Grace | UnsetType = UNSET
    level: Level | None = None
    token: Token | None = None


class DeviceNameBody(Wire, frozen=True, kw_only=True):
    """What a user calls the device of a session of theirs. null: as it says itself."""

    user_id: Name
    name: Annotated[str, Meta(min_length=1, max_length=LABEL_MAX)] | None


class EndBody(Wire, frozen=True, kw_only=True):
    reason: Name | UnsetType = UNSET


ACTOR_MAX = 200
"""Characters that an application may use; the store has 256, and the application's name stands before it."""


class EndManyBody(Wire, frozen=True, kw_only=True):
    """`ids`, or all of `userId` but `keep`. `actor`: who did it, null for the holder itself; left out:
    the API key."""

    ids: Ids | None = None
    user_id: Name | None = None
    keep: Ids = ()
    reason: Name = "ended"
    actor: Name | None | UnsetType = UNSET  # of ACTOR_MAX characters at most


class CutoffBody(Wire, frozen=True, kw_only=True):
    user_id: Name | None  # null: everybody; never by leaving it out


class SessionBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A session. `at` is the store's now, which its durations count from.

    `name`: what its user calls the device, told to backends alone. `lastDevice`: what it was last used from,
    where that is not `device`."""

    id: str
    user_id: str | None
    revision: int
    created_at: str
    authenticated_at: str
    last_used_at: str
    at: str
    expires_in: float
    idle_in: float
    idle_timeout: float
    level: int
    data: dict[str, Any] | UnsetType = UNSET  # only for backends
    impersonator: str | None = None
    name: str | None = None
    device: SessionDevice | None = None
    last_device: SessionDevice | None = None


class SessionAnswer(Answer, frozen=True, kw_only=True):
    session: SessionBody


class BegunAnswer(Answer, frozen=True, kw_only=True):
    """`token` is told this once: only its hash is kept."""

    session: SessionBody
    token: str


class SavedAnswer(Answer, frozen=True, kw_only=True):
    revision: int


class EndedAnswer(Answer, frozen=True, kw_only=True):
    ended: int


class EndedIdsAnswer(Answer, frozen=True, kw_only=True):
    ended: int
    ids: list[str]


class DeviceNameAnswer(Answer, frozen=True, kw_only=True):
    id: str
    name: str | None


class LastDeviceAnswer(Answer, frozen=True, kw_only=True):
    """What is kept of the device: named, and with no more of its address than the settings allow."""

    last_device: SessionDevice


class CutoffAnswer(Answer, frozen=True, kw_only=True):
    """Every session begun up to `at` is over."""

    at: str


class SessionProblem(Problem, frozen=True, kw_only=True, omit_defaults=True):
    """A problem that concerns a session; `reason` is the code's last word."""

    ended_at: str | None = None  # or when it went idle, or expired
    ended_by: str | None = None  # absent: its holder
    end_reason: str | None = None
    sessions: list[SessionBody] | None = None  # to choose from, newest first


def session_body(session: Session, *, data: bool) -> SessionBody:
    """Show a session; `data`, and what is its user's alone, only where an application asks."""
    return SessionBody(
        id=session.id,
        user_id=session.user_id,
        revision=session.revision,
        created_at=rfc3339(session.created_at),
        authenticated_at=rfc3339(session.authenticated_at),
        last_used_at=rfc3339(session.last_used_at),
        at=rfc3339(session.at),
        expires_in=seconds(session.expires_at - session.at),
        idle_in=seconds(session.idle_at - session.at),
        idle_timeout=seconds(session.idle_timeout),
        level=session.level,
        data=session.data if data else UNSET,
        impersonator=session.impersonator,
        name=session.label if data else None,
        device=_shown(session.device),
        last_device=_shown(session.last_device),
    )


def begun_answer(begun: Begun) -> BegunAnswer:
    return BegunAnswer(session=session_body(begun.session, data=True), token=begun.token)


def storable(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be kept in a session. Raises InvalidInput for what cannot be, or is too large."""
    for key, value in values.items():
        check_json(key, value)
    try:
        size = len(msgspec.json.encode(values))
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidInput("The data holds a number that no store can keep.") from None
    if size > DATA_MAX:
        raise InvalidInput(
            f"A session holds {DATA_MAX} bytes of JSON at most.",
            code="data_too_large",
            hint="Keep large things in a database of your own, and their ids in the session.",
        )
    return values


def whole(token: str | None) -> str | None:
    """Return a token to be given to a session. Raises InvalidInput: it is not a proof that is no good."""
    if token is None:
        return None
    try:
        return check_token(token, TokenKind.SESSION)
    except InvalidToken:
        raise InvalidInput("token: its checksum is wrong.") from None


def gone_problem(gone: Gone) -> SessionProblem:
    """Say why there is no session for a token."""
    code = f"session_{gone.reason.value}"
    error, details = _GONE[gone.reason]
    return SessionProblem(
        type=problem_type(code),
        title=title(code),
        status=STATUS[code],
        code=code,
        error=error,
        details=details,
        reason=gone.reason.value,
        ended_at=None if gone.at is None else rfc3339(gone.at),
        ended_by=gone.ended_by,
        end_reason=gone.end_reason,
    )


def limit_problem(denied: TooMany) -> SessionProblem:
    """Say that a user has as many sessions as allowed, and which."""
    return SessionProblem(
        type=problem_type("session_limit"),
        title=title("session_limit"),
        status=STATUS["session_limit"],
        code="session_limit",
        error="The user has as many sessions as allowed.",
        details="Begin again with some of them in `ending`, or with `atLimit` end_oldest.",
        limit=denied.limit,
        sessions=within_bytes(
            denied.sessions,
            lambda each: session_body(each, data=True),
            lambda each: session_body(each, data=False),
        ),
    )


def room_in(denied: TooMany) -> int:
    """Say in how many ms to ask again. The first may be over by then; but any may be ended at any time."""
    return min([ASK_AGAIN_MAX, *(each.idle_at - each.at for each in denied.sessions)])


def _timeouts(said: Preset | TimeoutsBody) -> Timeouts:
    if isinstance(said, str):
        return PRESETS[said]
    default = Timeouts()
    return Timeouts(
        lifetime=default.lifetime
        if isinstance(said.lifetime, UnsetType)
        else round(said.lifetime * 1000),
        idle_timeout=default.idle_timeout
        if isinstance(said.idle_timeout, UnsetType)
        else round(said.idle_timeout * 1000),
    )


def _device(said: SessionDevice | None) -> Device | None:
    return None if said is None else Device(**msgspec.structs.asdict(said))


def _shown(device: Device | None) -> SessionDevice | None:
    return None if device is None else SessionDevice(**msgspec.structs.asdict(device))


_GONE = {
    GoneReason.ABSENT: (
        "There is no session for this token.",
        "Send the person's token in X-Session-Token, and let them sign in if it is not known.",
    ),
    GoneReason.IDLE: ("The session went unused for too long.", "Let the person sign in again."),
    GoneReason.EXPIRED: ("The session has reached its end.", "Let the person sign in again."),
    GoneReason.ENDED: (
        "The session was ended.",
        "Let the person sign in again, and tell them who ended it.",
    ),
    GoneReason.FORGED: (
        "This is not a session token, or not a whole one.",
        "Take the cookie back, and let the person sign in.",
    ),
}
