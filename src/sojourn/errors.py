"""Faults, as one tree.

    SojournError                      code: internal
    ├── StoreError
    │   ├── StoreUnavailable          store_unavailable    try again: down, timed out, overloaded
    │   └── StoreBroken               store_broken         do not: schema missing, wrong version, corrupt
    │       └── TableMissing          store_broken         nobody has made the table, or somebody dropped it
    ├── InvalidInput                  invalid_request      the caller's values are wrong
    │   │                             | idempotency_key_reused | invalid_schedule
    │   ├── InvalidPolicy             invalid_policy
    │   ├── InvalidToken              token_malformed | token_forged | token_expired | token_wrong_kind
    │   └── CookiesTooLarge           cookies_too_large    the Cookie header is longer than we look at
    ├── Unauthenticated               unauthenticated      no proof, or one that is not known
    ├── Forbidden                     forbidden | not_dev  known, but not allowed
    ├── NotFound                      not_found | license_unknown | feature_unknown | lease_unknown
    │                                 | key_unknown | check_unknown | plan_unknown
    ├── Conflict                      conflict | repair_busy
    ├── Overloaded                    overloaded           the queue is full: come back after `retry_after`
    └── SettingsError                 settings             the process must not start

Outcomes (a seat denied, a lease lost, a session gone) are values, not errors: see `lease` and `session`.
Codes are stable: clients may switch on them. `message` says what happened, `hint` what to do next.
Driver errors never leave a store: each store classifies them by error code.
"""

from __future__ import annotations


class SojournError(Exception):
    """Root of every fault Sojourn raises.

    Attributes:
        code: stable and machine-readable.
        message: what happened, for people.
        hint: what to do next, for people; may be empty.
    """

    code = "internal"
    hint = ""

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint


class StoreError(SojournError):
    """A store could not do what was asked."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """Try again: the store is down, unreachable, or too slow. The outcome may be unknown."""

    code = "store_unavailable"
    hint = "Try again in a few seconds. If it persists, check that the database is running."


class StoreBroken(StoreError):
    """Do not try again: the store answers, but not as it must."""

    code = "store_broken"
    hint = "Run `sojourn migrate`, then look at the server's log."


class TableMissing(StoreBroken):
    """A table is not there. Once it is, all is well again."""


class InvalidInput(SojournError):
    """The caller's values are wrong; nothing was changed."""

    code = "invalid_request"


class InvalidPolicy(InvalidInput):
    """A pool's policy contradicts itself or is out of bounds."""

    code = "invalid_policy"


class InvalidToken(InvalidInput):
    """A token is garbled, forged, out of date or of another kind."""

    code = "token_malformed"


class CookiesTooLarge(InvalidInput):
    """A request's cookies are longer than what is looked at, so nobody knows who sent it."""

    code = "cookies_too_large"
    hint = "Delete the cookies of this site in your browser, then sign in again."

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"The request has {size} characters of cookies; at most {most} are read.")


class Unauthenticated(SojournError):
    """No proof of who is calling, or one that nobody knows."""

    code = "unauthenticated"


class Forbidden(SojournError):
    """The caller is known, and not allowed to do this."""

    code = "forbidden"


class NotFound(SojournError):
    """What was named does not exist."""

    code = "not_found"


class Conflict(SojournError):
    """The change contradicts the present state."""

    code = "conflict"


class RepairBusy(Conflict):
    """Another doctor is repairing. Nothing was changed by this one."""

    code = "repair_busy"
    hint = "Wait until it is done, then look again."


class Overloaded(SojournError):
    """The queue is full. Nothing was done."""

    code = "overloaded"
    hint = "Wait as long as Retry-After says, then try again."

    def __init__(self, message: str, *, retry_after: int = 1_000) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SettingsError(SojournError):
    """A setting is missing, malformed or unsafe, so the process must not start."""

    code = "settings"
