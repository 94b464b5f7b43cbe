"""The command line: every command, and what becomes of every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from sojourn import __version__
from sojourn.cli import (
    adopt,
    analytics,
    backup,
    doctor,
    events,
    express,
    feature,
    health,
    hold,
    key,
    license,
    migrate,
    reconcile,
    relays,
    samples,
    seats,
    secret,
    serve,
    sessions,
    settings,
    sweep,
    sweeps,
    top,
    webhook,
)
from sojourn.cli.command import Json, add
from sojourn.cli.demo.command import demo
from sojourn.cli.failure import EXIT_CODES, ExitCode, as_failure, by_interrupt, show
from sojourn.cli.help import Group
from sojourn.cli.logs import guard
from sojourn.cli.output import Output

EPILOG = "\n".join(
    ["Exit codes:", *(f"  {int(code):<3}  {text}" for code, text in EXIT_CODES.items())]
)
RUN, OPERATE, TRY = "Run a server", "Operate one", "Try it"


ORDER = (
    *("demo", "hold", "sample-sessions"),
    *(
        "serve",
        "health",
        "doctor",
        "migrate",
        "backup",
        "restore",
        "adopt",
        "reconcile",
        "express",
        "settings",
        "secret",
        "version",
    ),
    *(
        "top",
        "license",
        "feature",
        "seats",
        "sessions",
        "events",
        "webhook",
        "sweep",
        "sweeps",
        "relays",
        "key",
    ),
    "analytics",
)


class Root(Group):
    """Lists commands in the order people meet them, whatever order they were declared in."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        Output().json({"version": __version__})
    else:
        Output().say(__version__)


def _tell_version(asked: bool) -> None:
    if asked:
        Output().say(__version__)
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        "-V",
        callback=_tell_version,
        is_eager=True,
        help="Print the version.",
        show_default=False,
    ),
]


def root(_version: Version = False) -> None:
    """Take the options of `sojourn` itself."""


app = typer.Typer(
    name="sojourn",
    cls=Root,
    help="Sessions and seats for the web: seats on licenses that ghosts cannot steal.",
    epilog=EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(help=app.info.help)(root)
app.add_typer(license.app, name="license", rich_help_panel=OPERATE)
app.add_typer(feature.app, name="feature", rich_help_panel=OPERATE)
app.add_typer(seats.app, name="seats", rich_help_panel=OPERATE)
app.add_typer(sessions.app, name="sessions", rich_help_panel=OPERATE)
app.add_typer(key.app, name="key", rich_help_panel=OPERATE)
app.add_typer(sweep.app, name="sweep", rich_help_panel=OPERATE)
app.add_typer(sweeps.app, name="sweeps", rich_help_panel=OPERATE)
app.add_typer(analytics.app, name="analytics", rich_help_panel=OPERATE)
app.add_typer(relays.app, name="relays", rich_help_panel=OPERATE)
app.add_typer(webhook.app, name="webhook", rich_help_panel=OPERATE)
top.register(app, OPERATE)
events.register(app, OPERATE)
add(app, "serve", serve.serve, panel=RUN)
add(app, "health", health.health, panel=RUN)
add(app, "doctor", doctor.doctor, panel=RUN)
add(app, "migrate", migrate.migrate, panel=RUN)
add(app, "backup", backup.backup, panel=RUN)
add(app, "restore", backup.restore, panel=RUN)
add(app, "adopt", adopt.adopt, panel=RUN)
add(app, "reconcile", reconcile.reconcile, panel=RUN)
add(app, "settings", settings.settings, panel=RUN)
app.add_typer(express.app, name="express", rich_help_panel=RUN)
app.add_typer(secret.app, name="secret", rich_help_panel=RUN)
add(app, "version", version, panel=RUN)
add(app, "demo", demo, panel=TRY)
add(app, "hold", hold.hold, panel=TRY)
samples.register(app, TRY)


@cache
def command_tree() -> Any:
    """Return the tree of all commands: made once a process, from the signatures of 60 functions."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. The entry point of `sojourn`."""
    if arguments is None:  # the process is ours
        guard()
    try:
        outcome = command_tree().main(args=arguments, prog_name="sojourn", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough. Nothing may be flushed into it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the last place: three lines instead of a traceback
        if by_interrupt(error):
            return ExitCode.INTERRUPTED
        failure = as_failure(error)
        show(failure)
        return failure.exit_code
    return outcome if isinstance(outcome, int) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
