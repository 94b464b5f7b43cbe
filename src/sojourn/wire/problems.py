"""Failures as RFC 9457 documents: one shape, a stable code, and words that say what to do.

A fault that is nobody's business outside is logged under a request id, and its document carries that
id instead of a trace.
"""

from __future__ import annotations

import re
import traceback
import uuid

import msgspec

from sojourn.errors import InvalidInput, Overloaded, SojournError
from sojourn.lease import DenialReason, Denied
from sojourn.license import Policy
from sojourn.log import get_logger
from sojourn.service.relays import BeatRefused
from sojourn.service.seats import Lost
from sojourn.wire.bodies import (
    STATUS,
    Problem,
    camel,
    problem_type,
    retry_after_header,
    title,
)
from sojourn.wire.denials import ask_again, denial_problem
from sojourn.wire.line import RETRY_AFTER, with_line
from sojourn.wire.reply import SECURITY, Headers, Reply, encode

log = get_logger(__name__)

_HEADERS: Headers = [(b"content-type", b"application/problem+json"), *SECURITY]
_CHALLENGE = (b"www-authenticate", b'Bearer realm="sojourn"')
_CHALLENGE_TOKEN = (b"www-authenticate", b'Bearer realm="sojourn", error="invalid_token"')
_RETRY: dict[str, int] = {
    "store_unavailable": 2_000,
    "store_broken": 60_000,
    "shutting_down": 2_000,
    "issuer_unavailable": 30_000,
    "authority_unreachable": 2_000,
    "too_many_requests": 1_000,
}
"""How long to wait, in ms, where the fault itself does not say."""

_LOST_DETAILS = {
    True: "Acquire again with the lease token to come back to the same lease, if a seat is free.",
    False: "Acquire a new lease with the license key.",
}
_LICENSE_REASONS = frozenset(
    {
        DenialReason.LICENSE_SUSPENDED.value,
        DenialReason.LICENSE_EXPIRED.value,
        DenialReason.LICENSE_NOT_YET_VALID.value,
    }
)


_FIELDS = [name for name in (*Policy.__struct_fields__, "valid_from", "valid_until") if "_" in name]
_FIELD = re.compile(rf"\b(?:{'|'.join(_FIELDS)})\b")
"""Fields whose rules the domain words in its own spelling."""


def answer_problem(problem: Problem, *extra: tuple[bytes, bytes]) -> Reply:
    return Reply(problem.status, [*_HEADERS, *extra], encode(problem), problem.code)


def problem(code: str, error: str, details: str = "", *, instance: str | None = None) -> Problem:
    return Problem(
        type=problem_type(code),
        title=title(code),
        status=STATUS[code],
        code=code,
        error=error,
        details=details,
        instance=instance,
    )


def refuse(fault: SojournError) -> Reply:
    """Answer a fault that we raised ourselves, and whose words are meant for the caller."""
    code = fault.code if fault.code in STATUS else "internal"
    if code == "internal":
        return crash(fault)
    error = (
        _FIELD.sub(lambda name: camel(name[0]), fault.message)
        if isinstance(fault, InvalidInput)
        else fault.message
    )
    document = problem(code, error, fault.hint)
    if isinstance(fault, BeatRefused):
        document = msgspec.structs.replace(document, number=fault.number)
    if document.status == 401:
        bare = code == "unauthenticated"
        return answer_problem(document, _CHALLENGE if bare else _CHALLENGE_TOKEN)
    if isinstance(fault, Overloaded):
        return answer_problem(document, _retry(fault.retry_after))
    if code in _RETRY:
        return answer_problem(document, _retry(_RETRY[code]))
    return answer_problem(document)


def crash(fault: BaseException) -> Reply:
    """Answer a fault nobody foresaw: the log gets the trace, the caller the id under which it stands."""
    instance = f"urn:uuid:{uuid.uuid4()}"
    # As text, and not as `exc_info`: a renderer may show the values of variables, tokens among them.
    trace = "".join(traceback.format_exception(fault))
    log.error("request_failed", request=instance, trace=trace)
    return answer_problem(
        problem(
            "internal",
            "The server failed to carry this out.",
            "The server's log tells more under the id in `instance`.",
            instance=instance,
        )
    )


def deny(denied: Denied, *, show_holders: bool) -> Reply:
    """Answer a refused acquire."""
    document = with_line(denial_problem(denied, show_holders=show_holders), denied)
    if denied.reason is DenialReason.SEAT_LIMIT:
        asked = None if denied.asked is None else denied.asked.counts()
        document = msgspec.structs.replace(document, asked=asked)
        again = ask_again(denied) if denied.entry is None else RETRY_AFTER
        return answer_problem(document, _retry(again))
    return answer_problem(document)


def lost(outcome: Lost) -> Reply:
    """Answer a beat for a lease its sender no longer has."""
    if outcome.reason in _LICENSE_REASONS:
        denied = Denied(reason=DenialReason(outcome.reason), at=0)
        return answer_problem(denial_problem(denied, show_holders=False))
    document = msgspec.structs.replace(
        problem("lease_lost", _why(outcome.reason), _LOST_DETAILS[outcome.resumable]),
        reason=outcome.reason,
        resumable=outcome.resumable,
    )
    return answer_problem(document)


def _why(reason: str) -> str:
    return {
        "absent": "The server has no memory of this lease.",
        "expired": "The lease expired: no beat came in time.",
        "evicted": "The seat went to somebody who needed it while this client was silent.",
        "moved": "The seat moved: its user took it on another client.",
        "taken_over": "The same client acquired the seat again; this token is the older one.",
        "released": "The lease was released.",
        "revoked": "The lease was ended by an operator.",
        "session_ended": "The session that this lease belonged to has ended.",
        "feature_unknown": "The license no longer has this feature.",
    }.get(reason, "The lease is no longer held.")


def invalid(fault: msgspec.ValidationError, what: str) -> InvalidInput:
    """Turn msgspec's words, `Expected … - at `$.userId``, into ours, which begin with the field."""
    text, _, place = str(fault).partition(" - at `")
    field = place.rstrip("`").removeprefix("$").removeprefix(".") or what
    return InvalidInput(f"{field}: {text}.", hint="See /openapi.json for what this call takes.")


def _retry(ms: int) -> tuple[bytes, bytes]:
    return (b"retry-after", retry_after_header(ms).encode())
