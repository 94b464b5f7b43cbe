"""What a person or a program reads who should sign in first, or again."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sojourn.errors import CookiesTooLarge, Forbidden, SojournError, Unauthenticated
from sojourn.people.notice import notice
from sojourn.people.outage import outage
from sojourn.wire.statuses import problem_type

STATUS = 401

TITLE = "Please sign in"


def sign_in_problem(
    fault: Unauthenticated,
    accept: str = "",
    *,
    challenge: str = 'Cookie realm="sessions"',
    more: Mapping[str, str] | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return (status, headers, body): HTML for a browser, an RFC 9457 problem for anything else, with
    `more` members."""
    headers = [
        ("WWW-Authenticate", challenge),  # a 401 must name a way (RFC 9110, 15.5.2)
        ("Cache-Control", "no-store"),
        ("Vary", "Accept, Cookie"),
    ]
    if "text/html" in accept:
        its_own, page = notice(TITLE, f"{fault.message} {fault.hint}".strip(), icon="lock")
        return STATUS, headers + its_own, page
    problem = {
        "type": problem_type(fault.code),
        "title": "Not signed in",
        "status": STATUS,
        "code": fault.code,
        "error": fault.message,
        "details": fault.hint,
        **(more or {}),
    }
    headers.append(("Content-Type", "application/problem+json"))
    return STATUS, headers, msgspec.json.encode(problem)


TITLES = {431: "Too many cookies", 403: "Too many sign-ins"}


def refusal(fault: SojournError, accept: str = "") -> tuple[int, list[tuple[str, str]], bytes]:
    """Return (status, headers, body) for a request whose session cannot be had: 503 while the store is
    down, 431 (RFC 6585, 5) where the browser sends more cookies than are read, 403 where a sign-in would
    be one too many."""
    if not isinstance(fault, CookiesTooLarge | Forbidden):
        return outage(fault, accept)
    status = 403 if isinstance(fault, Forbidden) else 431
    title = TITLES[status]
    headers = [("Cache-Control", "no-store"), ("Vary", "Accept, Cookie")]
    if "text/html" in accept:
        its_own, page = notice(title, f"{fault.message} {fault.hint}".strip(), icon="lock")
        return status, headers + its_own, page
    problem = {
        "type": problem_type(fault.code),
        "title": title,
        "status": status,
        "code": fault.code,
        "error": fault.message,
        "details": fault.hint,
    }
    headers.append(("Content-Type", "application/problem+json"))
    return status, headers, msgspec.json.encode(problem)
