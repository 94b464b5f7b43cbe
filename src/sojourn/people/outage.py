"""What a person or a program reads while there are no sessions to be had: the store is down or broken.

Answering 503 is the point: to take everybody for signed out would send them to a login that cannot work
either, and overwrite cookies that will be good again in a minute.
"""

from __future__ import annotations

import math

import msgspec

from sojourn.errors import Overloaded, SojournError, StoreBroken
from sojourn.people.notice import notice
from sojourn.wire.statuses import problem_type

STATUS = 503
RETRY_AFTER = 5  # seconds

TITLE = "Back in a moment"


def outage(fault: SojournError, accept: str = "") -> tuple[int, list[tuple[str, str]], bytes]:
    """Return (status, headers, body): HTML for a browser, an RFC 9457 problem for anything else.

    What exactly is wrong is for the log: neither form names a host, a table or a driver.
    """
    wait = fault.retry_after / 1000 if isinstance(fault, Overloaded) else RETRY_AFTER
    broken = isinstance(fault, StoreBroken)
    advice = "the site's operators must mend it." if broken else "please try again in a moment."
    headers = [
        ("Retry-After", str(max(1, math.ceil(wait)))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept"),
    ]
    if "text/html" in accept:
        words = f"We cannot look up your sign-in right now. You are not signed out: {advice}"
        more, page = notice(TITLE, words, icon="wait", retry=True)
        return STATUS, headers + more, page
    problem = {
        "type": problem_type(fault.code),
        "title": "Sessions are not available",
        "status": STATUS,
        "code": fault.code,
        "error": "Sessions cannot be looked up right now; nobody is signed out by it.",
        "details": "Run `sojourn migrate`, then look at the log." if broken else "Try again soon.",
    }
    headers.append(("Content-Type", "application/problem+json"))
    return STATUS, headers, msgspec.json.encode(problem)
