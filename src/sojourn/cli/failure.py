"""How a command fails: three lines on stderr (what, why, what to do) and an exit code. Never a traceback.

Every exception that reaches `main` becomes a `Failure` here, so the words and the codes have one place.
"""

from __future__ import annotations

import contextlib
import traceback
from enum import IntEnum

import typer

from sojourn.errors import (
    Forbidden,
    NotFound,
    Overloaded,
    SettingsError,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    Unauthenticated,
)


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    NOT_FOUND = 4
    NOT_ALLOWED = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130  # as shells count Ctrl-C


EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "wrong usage, or a setting that cannot be",
    ExitCode.DENIED: "no seat: denied, or lost while held",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.NOT_ALLOWED: "the key is missing, unknown, or lacks the role",
    ExitCode.UNAVAILABLE: "the server or its store is away; try again",
    ExitCode.INTERRUPTED: "interrupted",
}
"""Documented in `sojourn --help`. Stable: scripts may switch on them."""

_BY_KIND: tuple[tuple[type[SojournError], ExitCode], ...] = (
    (SettingsError, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (Unauthenticated, ExitCode.NOT_ALLOWED),
    (Forbidden, ExitCode.NOT_ALLOWED),
    (StoreUnavailable, ExitCode.UNAVAILABLE),
    (Overloaded, ExitCode.UNAVAILABLE),
)


class Failure(Exception):
    """The end of a command, in three lines."""

    def __init__(
        self, what: str, *, why: str, todo: str, exit_code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.exit_code = exit_code

    @property
    def lines(self) -> tuple[str, str, str]:
        return one_line(self.what), one_line(self.why), one_line(self.todo)


def one_line(text: str) -> str:
    """Fold whitespace, so that an error stays three lines whatever a driver put into its message."""
    return " ".join(text.split())


def as_failure(error: BaseException, command: str = "sojourn") -> Failure:
    """Put any exception in three lines."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, typer.TyperException):
        return _usage(error, command)
    if isinstance(error, SettingsError):
        return Failure(
            "The settings do not hold, so nothing was started.",
            why=error.message,
            todo=error.hint or "See `sojourn settings`.",
            exit_code=ExitCode.USAGE,
        )
    if isinstance(error, SojournError):
        return _fault(error)
    if isinstance(error, OSError):
        return Failure(
            "The system refused something this command needs.",
            why=str(error),
            todo="Check the path and its permissions, and that the disk is not full.",
        )
    return _bug(error)


def _usage(error: typer.TyperException, command: str) -> Failure:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None) or command
    return Failure(
        f"`{path}` was not understood.",
        why=error.format_message(),
        todo=f"See `{path} --help`.",
        exit_code=ExitCode.USAGE,
    )


def _fault(error: SojournError) -> Failure:
    code = next((code for kind, code in _BY_KIND if isinstance(error, kind)), ExitCode.FAILED)
    what = "This could not be done."
    if isinstance(error, StoreUnavailable):
        what = "The store cannot be reached."
    elif isinstance(error, StoreBroken):
        what = "The store cannot be used as it is."
    return Failure(
        what, why=error.message, todo=error.hint or "See the server's log.", exit_code=code
    )


def _bug(error: BaseException) -> Failure:
    """Name the place, so that a report is useful without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "sojourn" in f.filename] or frames
    place = ""
    if ours:
        file = ours[-1].filename.rpartition("sojourn/")[2]
        place = f" ({file}:{ours[-1].lineno})"
    return Failure(
        "Something went wrong that should not have; this is a bug.",
        why=f"{type(error).__name__}: {error}{place}",
        todo="Report these three lines and the command you ran.",
    )


def show(failure: Failure) -> None:
    """Print the three lines on stderr."""
    what, why, todo = failure.lines
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with contextlib.suppress(BrokenPipeError):  # nobody reads stderr any more
        console.print(Text.assemble(("error: ", "bold red"), (what, "bold")))
        console.print(Text.assemble(("  why: ", "dim"), why))
        console.print(Text.assemble(("   do: ", "dim"), todo))
