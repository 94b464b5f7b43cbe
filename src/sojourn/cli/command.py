"""How a command is declared: what every operators' command takes is written once.

    @command(app, "show")
    def show(server: Server, out: Output, license_id: LicenseId) -> None:
        '''Show a license.'''

`server` and `out` are made from --url, --key, --data and --json, which the command gets with them.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.help import Command, Group
from sojourn.cli.output import Output
from sojourn.cli.server import Server, find
from sojourn.text import escaped

SERVER_PANEL = "Server"

Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, and nothing else, on stdout.", show_default=False),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Server to talk to. Default: SOJOURN_URL, or the one this data folder remembers.",
        rich_help_panel=SERVER_PANEL,
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="API key. Better in SOJOURN_KEY: others can read a command line.",
        rich_help_panel=SERVER_PANEL,
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder of a server on this host, which remembers its address and key.",
        rich_help_panel=SERVER_PANEL,
        show_default=False,
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide", "-w", help="Show all columns, however wide that is.", show_default=False
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=1_000_000, metavar="N", help="Rows at most.")
]


def group(help_text: str) -> typer.Typer:
    return typer.Typer(cls=Group, help=help_text, add_completion=False, rich_markup_mode=None)


def add(
    app: typer.Typer, name: str, function: Callable[..., object], *, panel: str | None = None
) -> None:
    """Declare a command as it stands. An integer that it returns is the exit code."""
    app.command(name, cls=Command, rich_help_panel=panel)(function)


def command(
    app: typer.Typer, name: str, *, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a command that talks to a server."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        hints = inspect.get_annotations(function, eval_str=True)
        given = inspect.signature(function).parameters.values()
        wants = [p.name for p in given if hints[p.name] in (Server, Output)]
        own = [
            p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY)
            for p in given
            if p.name not in wants and p.kind is not p.VAR_KEYWORD
        ]
        for p in given:
            if p.kind is p.VAR_KEYWORD:  # its type says which options those are
                own += [_option(*each) for each in hints[p.name].__metadata__[0].items()]

        def run(
            as_json: bool, url: str | None, key: str | None, data: str | None, **rest: Any
        ) -> None:
            with contextlib.closing(find(url, key, data)) as server:
                made = {"server": server, "out": Output(as_json=as_json)}
                function(**{n: made[n] for n in wants}, **rest)

        shared = [_option("as_json", Json, False), *(_option(n, a) for n, a in _SERVER)]
        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # how a signature is made up
        run.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
        run.__doc__ = function.__doc__
        add(app, name, run, panel=panel)
        return function

    return declare


_SERVER: tuple[tuple[str, Any], ...] = (("url", Url), ("key", Key), ("data", Data))


def _option(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def confirm(question: str, *, yes: bool) -> None:
    """Ask once before what cannot be undone. Raises Failure where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(
            "This needs a confirmation, and there is nobody to ask.",
            why=question,
            todo="Add --yes if that is what you want.",
            exit_code=ExitCode.USAGE,
        )
    if not typer.confirm(escaped(question), err=True):
        raise Failure(
            "Nothing was changed.", why="You did not confirm.", todo="Run it again to confirm."
        )
