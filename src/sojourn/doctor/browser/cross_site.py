"""Requests of pages of other sites (CORS): may they use the cookie, and may everybody?"""

from __future__ import annotations

from sojourn.doctor.browser.probe import Probe, ProbeAnswer
from sojourn.finding import Finding, Fix, failure, ok, warning

STRANGER = "https://doctor.invalid"


def judge(probe: Probe, page: str, origin: str | None) -> Finding:
    """Ask as a page of another site would. `origin`: one that is meant to be let in."""
    stranger = probe.ask("GET", page, headers={"Origin": STRANGER})
    allowed, credentials = _said(stranger)
    if allowed == STRANGER and credentials:
        return failure(
            "Pages of any site may read what people see here, with their session.",
            evidence=_told(stranger),
            means="Whoever lures somebody to a page of theirs reads this application in their name.",
            fix=Fix(
                text="List the origins that may ask with credentials; do not repeat what came."
            ),
        )
    if origin is None:
        if allowed == "*" and credentials:
            return _star(stranger)
        return ok("Pages of other sites may not use the session.")
    answer = probe.ask("GET", page, headers={"Origin": origin})
    allowed, credentials = _said(answer)
    if allowed == "*":
        return _star(answer)
    if allowed != origin:
        return failure(
            f"Pages of {origin} may not read what the application answers.",
            evidence=_told(answer),
            means="Their requests fail in the browser, whatever the server did.",
            fix=Fix(text=f"Answer with Access-Control-Allow-Origin: {origin} and Vary: Origin."),
        )
    if not credentials:
        return failure(
            f"Browsers send no cookie along with requests of pages of {origin}.",
            evidence=_told(answer),
            means="The person is signed in, and those pages do not know it.",
            fix=Fix(
                text="Answer with Access-Control-Allow-Credentials: true, and ask with credentials: "
                "'include'."
            ),
        )
    if "origin" not in (answer.get("vary") or "").lower():
        return warning(
            "A cache may answer one site with what another may read.",
            evidence=_told(answer),
            fix=Fix(text="Answer with Vary: Origin."),
        )
    return ok(f"Pages of {origin} may use the session, others may not.")


def _star(answer: ProbeAnswer) -> Finding:
    return failure(
        "Access-Control-Allow-Origin is *, which browsers take for requests without cookies only.",
        evidence=_told(answer),
        means="Requests of other sites' pages with the session fail in the browser.",
        fix=Fix(
            text="Answer with the one origin that asked, if it is on your list, and Vary: Origin."
        ),
    )


def _said(answer: ProbeAnswer) -> tuple[str | None, bool]:
    credentials = answer.get("access-control-allow-credentials") == "true"
    return answer.get("access-control-allow-origin"), credentials


def _told(answer: ProbeAnswer) -> list[str]:
    found = [f"{k}: {v}" for k, v in answer.headers if k.lower().startswith("access-control-")]
    return found or ["There is no Access-Control header in its answer."]
