"""A refused acquire, as a client is told of it."""

from __future__ import annotations

import math

from sojourn.lease import DenialReason, Denied
from sojourn.wire.bodies import (
    STATUS,
    Problem,
    holder_body,
    lease_body,
    problem_type,
    retry_after_header,
    seconds,
    title,
)

ASK_AGAIN_MAX = 15_000
"""ms; the most a refused client is told to wait."""


def ask_again(denied: Denied) -> int:
    """Say in how many ms a refused client should ask again.

    By then a silent holder's seat may be free; but a living one may give its seat back at any time,
    so nobody is told to stay away for long.
    """
    if not denied.in_use and not denied.retry_after:
        return ASK_AGAIN_MAX  # nobody is silent here: others give seats back when they like
    return min(denied.retry_after, ASK_AGAIN_MAX)


def denial_problem(denied: Denied, *, show_holders: bool) -> Problem:
    """Tell a client why it got no seat, and what to do."""
    if denied.reason is not DenialReason.SEAT_LIMIT:
        error, details = _REFUSALS[denied.reason]
        code = denied.reason.value
        return Problem(
            type=problem_type(code),
            title=title(code),
            status=STATUS[code],
            code=code,
            error=error,
            details=details,
            resumable=False if denied.reason is DenialReason.LEASE_ENDED else None,
        )
    again = ask_again(denied)
    free = None if denied.free_in is None else max(1, math.ceil(denied.free_in / 1000))
    return Problem(
        type=problem_type("seat_limit"),
        title=title("seat_limit"),
        status=409,
        code="seat_limit",
        error="Maximum user limit reached",
        details=(
            f"{seats_taken(denied)} Try again in {retry_after_header(again)} s"
            + (", or free one of your own." if denied.mine else ".")
            + ("" if free is None else f" A seat is likely free in about {free} s.")
        ),
        limit=denied.limit,
        in_use=denied.in_use,
        suspect=denied.suspect,
        overdraft=denied.overdraft or None,
        reserved=denied.reserved or None,
        reserved_free=denied.reserved_free if denied.reserved else None,
        retry_after=seconds(again),
        free_in=free,
        mine=[lease_body(x, denied.at) for x in denied.mine],
        holders=[holder_body(x, denied.at) for x in denied.evidence] if show_holders else None,
        asked=None if denied.asked is None else denied.asked.counts(),
    )


def seats_taken(denied: Denied) -> str:
    """Say which seats are in use, and which are kept for others."""
    above = f", and {denied.overdraft} above the limit," if denied.overdraft else ""
    if denied.allotted:
        return _beside_relays(denied, above)
    if not denied.limit + denied.overdraft:
        return "There is no seat at present."
    if denied.in_use + denied.reserved_free < denied.limit:
        # Else there would be one: they are the line's, or the store is in doubt (ADR 17).
        whose = (
            "those who wait longer"
            if denied.waiting
            else "those who may come back after a restart of the store"
        )
        return f"{denied.in_use} of {denied.limit} seats are in use, and the rest are kept for {whose}."
    if not denied.reserved_free:
        if denied.limit == 1 and not above:
            return "The one seat is in use."
        return f"All {denied.limit} seats{above} are in use."
    kept = f"{denied.reserved_free} of {denied.limit} seats"
    verb = "is" if denied.reserved_free == 1 else "are"
    return f"{kept} {verb} reserved for others, and the rest{above} are in use."


def _beside_relays(denied: Denied, above: str) -> str:
    given = "1 is with a regional server"
    if denied.allotted != 1:
        given = f"{denied.allotted} are with regional servers"
    if not denied.in_use:
        seats = "seat" if denied.limit == 1 else "seats"
        return f"Of {denied.limit} {seats}{above} {given}, and none is free here."
    verb = "is" if denied.in_use == 1 and not above else "are"
    here = f"{denied.in_use} of {denied.limit} seats{above} {verb} in use here"
    return f"{here}, and {given}."


_REFUSALS = {
    DenialReason.FEATURE_UNKNOWN: (
        "The license has no such feature.",
        "Check the spelling, or add the feature to the license.",
    ),
    DenialReason.LICENSE_SUSPENDED: (
        "The license is suspended.",
        "Ask whoever manages the license.",
    ),
    DenialReason.LICENSE_EXPIRED: ("The license has run out.", "Renew the license."),
    DenialReason.LICENSE_NOT_YET_VALID: (
        "The license is not valid yet.",
        "Wait for its first day, or correct validFrom.",
    ),
    DenialReason.SESSION_GONE: (
        "The session that the seat is to belong to is not live.",
        "Sign in again, or leave sessionId out.",
    ),
    DenialReason.LEASE_ENDED: (
        "The lease has ended and cannot be resumed.",
        "Acquire a new one with the license key.",
    ),
}
