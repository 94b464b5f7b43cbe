"""What a person or a program reads who should sign in first, or again."""

from __future__ import annotations

import html
from collections.abc import Mapping

import msgspec

from sojourn.errors import Unauthenticated

STATUS = 401

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Please sign in</title></head>
<body><h1>Please sign in</h1>
<p>{error} {details}</p>
</body></html>
"""


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
        headers.append(("Content-Type", "text/html; charset=utf-8"))
        page = PAGE.format(error=html.escape(fault.message), details=html.escape(fault.hint))
        return STATUS, headers, page.encode()
    problem = {
        "type": f"urn:sojourn:problem:{fault.code}",
        "title": "Not signed in",
        "status": STATUS,
        "code": fault.code,
        "error": fault.message,
        "details": fault.hint,
        **(more or {}),
    }
    headers.append(("Content-Type", "application/problem+json"))
    return STATUS, headers, msgspec.json.encode(problem)
