"""What can go wrong for a license client, and how a server's refusal becomes an error.

SojournError
├── SeatDenied          every seat is in use: when to come back, who holds them, which are yours
├── SeatLost            the seat is not held (any more): `reason` says why
├── ServerUnreachable   nobody who speaks for Sojourn answered
├── ClientClosed        the client was closed
└── …                   as in `sojourn.errors`, by the code the server sent
"""

from __future__ import annotations

from msgspec import Struct

from sojourn.decoding import prepared
from sojourn.device import Device
from sojourn.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidPolicy,
    InvalidToken,
    NotFound,
    Overloaded,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    Unauthenticated,
)

RETRY_AFTER_MAX = 999_999_999.0  # seconds that a refusal may tell to wait; more is no time
FINAL = frozenset({"taken_over", "moved", "revoked", "released", "session_ended", "forked"})
"""Losses somebody meant. Coming back by itself, a client would fight a person or its own twin."""

PASSING = frozenset({"internal", "request_timeout"})
"""Codes that may be gone in a moment, beside the errors that say so by their kind."""

WHY_LOST = {
    "new": ("The seat has not been acquired.", "Call acquire(), or use the seat in a with-block."),
    "released": ("The seat was released.", "Call acquire() to take it again."),
    "unreachable": (
        "The seat was lost: the server could not be reached in time.",
        "Check the network and the server. The client comes back to its seat by itself.",
    ),
    "expired": (
        "The seat was lost: its lease expired.",
        "The client tries to come back to it by itself; stop what needs the seat until then.",
    ),
    "evicted": (
        "The seat was lost: it went to somebody else while this client was silent.",
        "The client tries to get a seat again by itself.",
    ),
    "seat_limit": (
        "The seat was lost, and every seat is in use.",
        "The client keeps trying. Free a seat, or raise the feature's capacity.",
    ),
    "taken_over": (
        "The seat was taken over by another client that says it is the same one.",
        "Give each seat of one user in one process its own `instance=`, and each machine its own name.",
    ),
    "moved": (
        "The seat was lost: its user took it on another client.",
        "Call acquire(takeover=True) to take it back.",
    ),
    "revoked": ("The seat was taken back by an operator.", "Ask whoever manages the license."),
    "session_ended": ("The seat was lost: its session has ended.", "Sign in again."),
    "license_suspended": ("The license is suspended.", "Ask whoever manages the license."),
    "license_expired": ("The license has run out.", "Renew the license."),
    "license_not_yet_valid": (
        "The license is not valid yet.",
        "Ask whoever manages the license.",
    ),
    "forked": (
        "The seat belongs to the process that forked this one.",
        "Make another seat here: this process has a name of its own.",
    ),
}


class Holder(Struct, frozen=True, kw_only=True, rename="camel"):
    """Somebody who holds a seat, as far as this client may know. Durations in seconds."""

    user_id: str
    state: str
    held_for: float = 0.0
    last_beat_ago: float = 0.0
    expires_in: float = 0.0
    lease_id: str | None = None  # of the asking user's own leases only
    client_id: str | None = None
    device: Device | None = None


@prepared
class SeatProblem(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the client reads of an RFC 9457 problem document."""

    code: str
    error: str = ""
    details: str = ""
    limit: int = 0
    in_use: int = 0
    suspect: int = 0
    retry_after: float | None = None
    free_in: float | None = None
    position: int | None = None
    waiting: int | None = None
    estimate: float | None = None
    keep_place: float | None = None
    mine: tuple[Holder, ...] = ()
    holders: tuple[Holder, ...] = ()
    reason: str | None = None
    resumable: bool | None = None


class SeatDenied(SojournError):
    """Every seat is in use.

    Attributes:
        limit: how many seats there are.
        in_use: how many are held.
        suspect: how many of those are doubted.
        retry_after: seconds until it is worth asking again.
        free_in: seconds until a seat is as likely free as not; None if that is not known.
        position: the place in the line of who waits (`wait=`); the first is 1. None for who does not.
        waiting: how many are in the line; None if nobody is.
        estimate: seconds until one's turn, by the pace of late; None if that is not known.
        keep_place: seconds for which the place is kept. A seat that waits asks again within them.
        mine: the asking user's own leases; `acquire(takeover=True)` takes one of them.
        holders: the most silent holders, if the server tells.
    """

    code = "seat_limit"

    def __init__(self, problem: SeatProblem, *, retry_after: float) -> None:
        super().__init__(problem.error or "Maximum user limit reached", hint=problem.details)
        self.limit = problem.limit
        self.in_use = problem.in_use
        self.suspect = problem.suspect
        self.retry_after = retry_after
        self.free_in = problem.free_in
        self.position = problem.position
        self.waiting = problem.waiting
        self.estimate = problem.estimate
        self.keep_place = problem.keep_place
        self.mine = problem.mine
        self.holders = problem.holders


class SeatLost(SojournError):
    """The seat is not held (any more): do nothing that needs it.

    Attributes:
        reason: `new`, `released`, `unreachable`, `expired`, `evicted`, `taken_over`, `moved`, …
        resumable: whether the same lease may come back.
    """

    code = "lease_lost"

    def __init__(self, reason: str, *, resumable: bool = False) -> None:
        message, hint = WHY_LOST.get(
            reason, (f"The seat was lost: {reason.replace('_', ' ')}.", "Acquire it again.")
        )
        super().__init__(message, hint=hint)
        self.reason = reason
        self.resumable = resumable


class ServerUnreachable(SojournError):
    """Nobody who speaks for Sojourn answered.

    Attributes:
        sent: whether the request may have arrived, so that its outcome is unknown.
    """

    code = "server_unreachable"
    hint = "Check that the server is running (`sojourn serve`), the URL, and the network."

    def __init__(self, message: str, *, sent: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sent = sent


class ClientClosed(SojournError):
    """The client was closed, so it takes no more seats."""

    code = "client_closed"
    hint = "Make a new Client, or close it later."


class StoreAway(StoreUnavailable):
    """The server is up, its store is not. `retry_after` is in milliseconds, as `Overloaded`'s."""

    def __init__(self, message: str, *, retry_after: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


_BY_CODE: dict[str, type[SojournError]] = {
    "invalid_policy": InvalidPolicy,
    "token_malformed": InvalidToken,
    "token_wrong_kind": InvalidToken,
    "token_forged": InvalidToken,
    "token_expired": InvalidToken,
    "license_suspended": Forbidden,
    "license_expired": Forbidden,
    "license_not_yet_valid": Forbidden,
    "session_gone": Forbidden,
    "store_broken": StoreBroken,
    "internal": SojournError,
}
_BY_STATUS: dict[int, type[SojournError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: Overloaded,
    503: Overloaded,
}


def fault_of(problem: SeatProblem, status: int, retry_after: float | None) -> SojournError:
    """Return the error that a refusal stands for. `retry_after` is the header's, in seconds."""
    if problem.retry_after is not None:
        retry_after = min(max(0.0, problem.retry_after), RETRY_AFTER_MAX)
    if problem.code == "seat_limit":
        return SeatDenied(problem, retry_after=1.0 if retry_after is None else retry_after)
    if status == 410:
        return SeatLost(problem.reason or problem.code, resumable=bool(problem.resumable))
    hint = problem.details or None
    message = problem.error or problem.code
    wait = round(1000 * (1.0 if retry_after is None else retry_after))
    if problem.code == "store_unavailable":
        return StoreAway(message, retry_after=wait, hint=hint)
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(status)
    if kind is Overloaded:
        fault = Overloaded(message, retry_after=wait)
        fault.code, fault.hint = problem.code, hint or fault.hint
        return fault
    if kind is None:
        kind = InvalidInput if status < 500 else SojournError
    return kind(message, code=problem.code, hint=hint)


def passing(fault: SojournError) -> bool:
    """Tell whether the same request may succeed in a moment."""
    return (
        isinstance(fault, ServerUnreachable | StoreUnavailable | Overloaded)
        or fault.code in PASSING
    )


def told_to_wait(fault: SojournError) -> float:
    """Return how many seconds the server asked to wait, or 0."""
    return fault.retry_after / 1000 if isinstance(fault, Overloaded | StoreAway) else 0.0
