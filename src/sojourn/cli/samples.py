"""`sojourn sample-sessions`: something to see on the pages about sessions, and its end."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from sojourn.cli.command import command
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Output, count
from sojourn.cli.server import Server
from sojourn.cli.sessions import COLUMNS, row

SAMPLES = "/api/dev/sample-sessions"
COUNT, COUNT_MAX = 7, 500
SHOWN_MAX = 10
USER = "sample-user"

User = Annotated[
    str | None,
    typer.Option(
        "--user", "-u", metavar="USER", help=f"Whose. Default: {USER}.", show_default=False
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "--count",
        "-n",
        min=1,
        max=COUNT_MAX,
        metavar="N",
        help=f"How many. Default: {COUNT}.",
        show_default=False,
    ),
]
Remove = Annotated[
    bool,
    typer.Option("--remove", help="Take all of them away, and nothing else.", show_default=False),
]


def register(app: typer.Typer, panel: str) -> None:
    command(app, "sample-sessions", panel=panel)(sample_sessions)


def sample_sessions(
    server: Server, out: Output, user: User = None, number: Count = None, remove: Remove = False
) -> None:
    """Make sample sessions, to try a page out; only on a server with --dev.

    They look like a person's with a Mac, an iPhone, a PC, a phone with Android and a script, at
    addresses that nobody has. All begin now. They are labelled: their ids begin with ses_sample_, their
    places say (sample), their data says sojourn.sample. With --user they stand beside the sessions that
    this user has.

    --remove takes all of them away, of whichever user, also from a server without --dev.
    """
    if remove:
        _remove(server, out, alone=user is None and number is None)
        return
    made = server.post(SAMPLES, {"userId": user or USER, "count": number or COUNT})
    if out.as_json:
        out.json(made)
        return
    out.say(f"Made {count(len(made['sessions']), 'sample session')} of {made['userId']}.")
    if urlsplit(server.url).scheme == "http":  # by HTTPS the cookie is one that no script can set
        out.say(f"\nTo look at {server.url}/account/security as {made['userId']}, open it, and run")
        out.say("this in the console of the browser's developer tools:")
        out.console.print(f'document.cookie = "{made["cookie"]}; path=/"', soft_wrap=True)
    out.say("\nTake them away with `sojourn sample-sessions --remove`.\n")
    shown = made["sessions"][:SHOWN_MAX]
    out.table(COLUMNS, [row(session) for session in shown])
    if more := len(made["sessions"]) - len(shown):
        out.say(f"and {more:,} more: `sojourn sessions list --user {made['userId']}`", style="dim")


def _remove(server: Server, out: Output, *, alone: bool) -> None:
    if not alone:
        raise Failure(
            "--remove takes all sample sessions away.",
            why="It goes with neither --user nor --count.",
            todo="Run `sojourn sample-sessions --remove`, or `sojourn sessions end --user USER`.",
            exit_code=ExitCode.USAGE,
        )
    ended, after = 0, None
    with out.waiting("Removing"):
        while True:
            done: dict[str, Any] = server.ask("DELETE", SAMPLES, query={"after": after}).data
            ended, after = ended + done["ended"], done.get("next")
            if after is None:
                break
    if out.as_json:
        out.json({"ended": ended})
    elif ended:
        out.say(f"Removed {count(ended, 'sample session')}.")
    else:
        out.say("There are no sample sessions.")
