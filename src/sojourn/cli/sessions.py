"""`sojourn sessions`: who is signed in, where, and how to sign them out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, Wide, Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Column, Output, count, figure, span, when
from sojourn.cli.server import Server, segment

app = group("See who is signed in, and where; sign them out.")

SESSIONS = "/api/sessions"
REASON = "revoked"

User = Annotated[
    str | None,
    typer.Option("--user", "-u", metavar="USER", help="Of this user.", show_default=False),
]

COLUMNS = [
    Column("User"),
    Column("Device", drop=3),
    Column("IP", drop=4),
    Column("Signed in", whole=True, drop=2),
    Column("Last used (min)", figure=True),
    Column("Left (h)", figure=True, drop=1),
    Column("Session", whole=True, drop=9),
]


def row(session: dict[str, Any]) -> tuple[Any, ...]:
    device = session.get("device") or {}
    return (
        whose(session),
        device_name(device),
        plain(device.get("ip")),
        when(session["authenticatedAt"]),
        figure(unused_for(session) / 60),
        figure(min(session["expiresIn"], session["idleIn"]) / 3_600),
        session["id"],
    )


def whose(session: dict[str, Any]) -> str:
    """Name the user, and who really acts if that is somebody else."""
    user = plain(session.get("userId")) or "(visitor)"
    really = plain(session.get("impersonator"))
    return f"{user} (really {really})" if really else user


def device_name(device: dict[str, Any]) -> str | None:
    named = device.get("name") or " on ".join(
        device[key] for key in ("browser", "os") if device.get(key)
    )
    return plain(named or device.get("userAgent"))


def plain(text: str | None) -> str | None:
    """Leave out what would steer a terminal: a device says of itself whatever it likes."""
    return "".join(c for c in text if c.isprintable()) or None if text else None


def unused_for(session: dict[str, Any]) -> float:
    """Say for how many seconds a session has not been used, by the server's clock."""
    from datetime import datetime

    since = datetime.fromisoformat(session["at"]) - datetime.fromisoformat(session["lastUsedAt"])
    return max(0.0, since.total_seconds())


@command(app, "list")
def list_(
    server: Server, out: Output, user: User = None, limit: Limit = 1_000, wide: Wide = False
) -> None:
    """List the sessions that are live, with their devices.

    Their tokens are known to nobody but the browsers that hold them.
    """
    found = list(server.pages(SESSIONS, limit=limit, userId=user))
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("Nobody is signed in." if user is None else f"{user} is not signed in anywhere.")
        return
    users = {session["userId"] for session in found} - {None}
    out.say(f"{count(len(found), 'session')} of {count(len(users), 'user')}.")
    out.table(COLUMNS, [row(session) for session in found], wide=wide)


@command(app, "show")
def show(
    server: Server,
    out: Output,
    session_id: Annotated[
        str, typer.Argument(metavar="SESSION", help="Id of a session, such as ses_5kQ….")
    ],
) -> None:
    """Show a session that is live."""
    session = find(server, session_id)
    if out.as_json:
        out.json(session)
        return
    device = session.get("device") or {}
    out.facts(
        [
            ("id", session["id"]),
            ("user", whose(session)),
            ("device", device_name(device)),
            ("IP", plain(device.get("ip"))),
            ("user agent", plain(device.get("userAgent"))),
            ("place", plain(device.get("place"))),
            ("began", when(session["createdAt"])),
            ("signed in", f"{when(session['authenticatedAt'])}, level {session['level']}"),
            ("last used", f"{when(session['lastUsedAt'])}, {span(unused_for(session))} ago"),
            ("goes idle in", span(session["idleIn"])),
            ("expires in", span(session["expiresIn"])),
        ]
    )


def find(server: Server, session_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"{SESSIONS}/{segment(session_id)}")["session"]
    return found


@command(app, "end")
def end(
    server: Server,
    out: Output,
    session_id: Annotated[
        str | None,
        typer.Argument(metavar="[SESSION]", help="Id of one session, such as ses_5kQ…."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", "-u", metavar="USER", help="All sessions of this user.", show_default=False
        ),
    ] = None,
    others: Annotated[
        bool, typer.Option("--others", help="All other sessions of SESSION's user; keeps SESSION.")
    ] = False,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="All sessions there are. Takes an admin's key.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Sign people out, and give back the seats that they hold.

    One session by its id; with --others all but that one; with --user or --everybody all that began up
    to now, however many, in one step. It cannot be undone: they have to sign in again.
    """
    if sum([session_id is not None, user is not None, everybody]) != 1 or (
        others and session_id is None
    ):
        raise Failure(
            "Which sessions to end was not said.",
            why="It takes one of SESSION, --user and --everybody; --others goes with SESSION.",
            todo="Find it with `sojourn sessions list`, or run `sojourn sessions end --user U`.",
            exit_code=ExitCode.USAGE,
        )
    if everybody:
        confirm("Sign everybody out, on every device?", yes=yes)
        reply = server.ask("POST", f"{SESSIONS}/cutoff", body={"userId": None})
    elif user is not None:
        confirm(f"Sign {user} out on every device?", yes=yes)
        reply = server.ask("DELETE", SESSIONS, query={"userId": user})
    elif session_id is not None and others:
        _end_others(server, out, session_id, yes=yes)
        return
    else:
        reply = server.ask("DELETE", f"{SESSIONS}/{segment(str(session_id))}")
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)


def _end_others(server: Server, out: Output, session_id: str, *, yes: bool) -> None:
    user = find(server, session_id)["userId"]
    if user is None:
        raise Failure(
            "This session has no others.",
            why="It is a visitor's, who has not signed in.",
            todo="End it by its id alone.",
            exit_code=ExitCode.USAGE,
        )
    confirm(f"Sign {user} out everywhere but in {session_id}?", yes=yes)
    body = {"userId": user, "keep": [session_id], "reason": REASON}
    data = server.post(f"{SESSIONS}/end", body)
    if out.as_json:
        out.json(data)
        return
    out.say(f"Ended {count(data['ended'], 'other session')} of {user}.")
