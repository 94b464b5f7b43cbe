"""`sojourn events`: what happened, as it was recorded with each change."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sojourn.cli.command import Limit, command
from sojourn.cli.output import STYLES, Output, count, span
from sojourn.cli.server import Server
from sojourn.text import isolated

if TYPE_CHECKING:
    from rich.text import Text

FOLLOW_INTERVAL = 0.5  # seconds
PAGE = 500

WORDS = {
    "lease.acquired": "acquired",
    "lease.resumed": "resumed",
    "lease.taken_over": "taken over",
    "lease.released": "released",
    "lease.evicted": "evicted",
    "lease.revoked": "revoked",
    "lease.expired": "expired",
    "lease.denied": "denied",
    "lease.asked": "asked who is there",
    "lease.waiting": "waiting",
    "lease.offered": "offered",
    "session.created": "session created",
    "session.new_device": "sign-in from a new device",
    "session.rotated": "session rotated",
    "session.ended": "session ended",
    "store.returned": "returned",
    "store.replaced": "replaced",
    "store.table_missing": "table missing",
    "store.table_back": "table back",
    "allotment.changed": "allotted",
    "authority.restored": "restored",
    "operator.acted": "operator",
}

Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="KIND", help="Only these, such as lease.denied. Repeat."),
]


def register(app: typer.Typer, panel: str) -> None:
    command(app, "events", panel=panel)(events)


def events(
    server: Server,
    out: Output,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until interrupted.")
    ] = False,
    kind: Kind = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="USER", help="Of this user.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """Show what happened, the latest last.

    With --json, one object a line while following, else one array.
    """
    query = {"kind": kind or None, "userId": user}
    latest = list(server.pages("/api/events", limit=limit, newestFirst=True, **query))[::-1]
    if not follow:
        if out.as_json:
            out.json(latest)
            return
        if not latest:
            out.say("Nothing has happened yet.")
        for event in latest:
            show(out, event)
        return
    _follow(server, out, latest, query)


def _follow(
    server: Server, out: Output, latest: list[dict[str, Any]], query: dict[str, Any]
) -> None:
    after = 0
    rows = latest
    while True:
        for event in rows:
            after = event["id"]
            if out.as_json:
                out.json(event, lines=True)
            else:
                show(out, event)
        data = server.get("/api/events", after=after, limit=PAGE, **query)
        rows = data["items"]
        if data.get("next") is None:
            time.sleep(FOLLOW_INTERVAL)


def show(out: Output, event: dict[str, Any]) -> None:
    """Print one event on one line; long lines are cut on a terminal, and whole in a pipe."""
    out.console.print(line(event), no_wrap=True, overflow="ellipsis", crop=True)


def line(event: dict[str, Any]) -> Text:
    """Write one event on one line."""
    from rich.text import Text

    at = datetime.fromisoformat(event["at"]).astimezone()
    word = WORDS.get(event["kind"], event["kind"])
    return Text.assemble(
        (f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", "dim"),
        "  ",
        (f"{word:<15}", STYLES.get(word, "")),
        "  ",
        (describe(event), ""),
    )


def describe(event: dict[str, Any]) -> str:
    """Say who, where and why, in a few words."""
    who = isolated(str(event.get("userId") or ""))
    if event.get("feature"):
        who += f" on {event['feature']}"
    text = ": ".join(part for part in (who.strip(), _detail(event)) if part)
    if event.get("actor"):
        text += f", by {isolated(event['actor'])}"
    return f"{text} ({event['subject']})" if event.get("subject") else text


def _detail(event: dict[str, Any]) -> str:
    kind, data = event["kind"], event.get("data") or {}
    if kind == "lease.denied":
        return _why_denied(data)
    if data.get("overdraft") and kind.startswith("lease."):
        return "a seat above the capacity"
    if kind == "lease.released":
        return f"held {span(data['heldFor'])}"
    if "silentFor" in data:
        return f"held {span(data['heldFor'])}, silent for {span(data['silentFor'])}"
    if kind == "allotment.changed":
        return f"{count(data.get('seats', 0), 'seat')}, before {data.get('had', 0)}"
    if kind == "store.returned":
        extended = count(data.get("extended", 0), "lease")
        return f"after {span(data.get('lasted', 0))} away; {extended} given the time back"
    if kind == "store.table_missing":
        return f"{', '.join(data.get('tables') or [])}; `sojourn migrate` makes what is missing"
    if kind == "store.table_back":
        return f"after {span(data.get('lasted', 0))}"
    return str(data.get("name") or data.get("action") or "").replace("_", " ")


def _why_denied(data: dict[str, Any]) -> str:
    if data.get("reason") != "seat_limit":
        return str(data.get("reason", "")).replace("_", " ")
    text = f"{data.get('inUse', 0)} of {data.get('limit', 0)} in use"
    if allotted := data.get("allotted"):
        text += f", {allotted} with relays"
    if kept := data.get("reservedFree"):
        text += f", {kept} reserved for others"
    for silent in (data.get("holders") or [])[:1]:
        text += f"; most silent: {silent['userId']}, {span(silent['lastBeatAgo'])}"
    return text
