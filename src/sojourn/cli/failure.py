"""How a command fails: three lines on stderr (what, why, what to do) and an exit code. Never a traceback.

Every exception that reaches `main` becomes a `Failure` here, so the words and the codes have one place.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator
from enum import IntEnum

import typer

from sojourn.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    Overloaded,
    SettingsError,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    Unauthenticated,
)
from sojourn.log import MASK, mask_text

_UNKNOWN = re.compile(r"No such command '([^']{1,80})'")
MARGIN = len("error: ")
CHAIN_MAX = 20
"""Errors behind an error that are looked at."""
ENDS = [signal.SIGTERM, signal.SIGINT]
"""Signals by which somebody ends a command that goes on: kill, Ctrl-C, a terminal that is closed."""
if hasattr(signal, "SIGHUP"):  # not on Windows
    ENDS.append(signal.SIGHUP)


SECRET_FLAGS = ("--secret", "--admin-key", "--metrics-key", "--key", "--license-key")
"""Flags whose values are secrets. Each can be given in the environment instead (SOJOURN_SECRET and so on),
where other users of the machine do not see it: they can read a command line."""
SECRET_MIN = 8
"""Characters of a value that is searched for in what is printed: a shorter one is part of many words."""


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    NOT_FOUND = 4
    NOT_ALLOWED = 5
    UNAVAILABLE = 6
    WARNED = 7
    UNWELL = 8
    INTERRUPTED = 130  # as shells count Ctrl-C


EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "wrong usage, or a setting that cannot be",
    ExitCode.DENIED: "no seat: denied, or lost while held",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.NOT_ALLOWED: "the key is missing, unknown, or lacks the role",
    ExitCode.UNAVAILABLE: "the server or its store is away; try again",
    ExitCode.WARNED: "doctor found what may become a fault, and no fault",
    ExitCode.UNWELL: "doctor found a fault",
    ExitCode.INTERRUPTED: "interrupted",
}
"""Documented in `sojourn --help`. Stable: scripts may switch on them."""

_BY_KIND: tuple[tuple[type[SojournError], ExitCode], ...] = (
    (SettingsError, ExitCode.USAGE),
    (InvalidInput, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (Unauthenticated, ExitCode.NOT_ALLOWED),
    (Forbidden, ExitCode.NOT_ALLOWED),
    (StoreUnavailable, ExitCode.UNAVAILABLE),
    (Overloaded, ExitCode.UNAVAILABLE),
)
_BY_CODE = {
    "server_unreachable": ExitCode.UNAVAILABLE,
    "seat_limit": ExitCode.DENIED,
    "lease_lost": ExitCode.DENIED,
}
"""Of the client library's errors, by code: to import them would load an HTTP client."""


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
        return hide(one_line(self.what)), hide(one_line(self.why)), hide(one_line(self.todo))


def one_line(text: str) -> str:
    """Fold whitespace, so that an error stays three lines whatever a driver put into its message."""
    return " ".join(text.split())


def hide(text: str) -> str:
    """Take secrets out of a text: by their look, and those that this process was started with by value."""
    for value in _given(sys.argv):
        text = text.replace(value, MASK)
    return mask_text(text)


def _given(line: list[str]) -> Iterator[str]:
    """Return the secrets of the environment and of a command line, long ones alone."""
    for flag in SECRET_FLAGS:
        variable = "SOJOURN_" + flag[2:].replace("-", "_").upper()
        found = os.environ.get(variable, "").split(",")
        found += [after for each, after in itertools.pairwise(line) if each == flag]
        found += [x.partition("=")[2] for x in line if x.startswith(f"{flag}=")]
        yield from (x.strip() for x in found if len(x.strip()) >= SECRET_MIN)


def by_interrupt(error: BaseException) -> bool:
    """Tell whether Ctrl-C is behind an error: a driver that is interrupted may fail once more while it
    gives its connection back."""
    behind: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if behind is None or isinstance(behind, KeyboardInterrupt):
            break
        behind = behind.__context__ or behind.__cause__
    return isinstance(behind, KeyboardInterrupt)


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
        return fault(error)
    if isinstance(error, OSError):
        return Failure(
            "The system refused something this command needs.",
            why=reason(error),
            todo="Check the path and its permissions, and that the disk is not full.",
        )
    return _bug(error)


def reason(error: OSError) -> str:
    """Say why the system refused, without its number."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."


def _usage(error: typer.TyperException, command: str) -> Failure:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None) or command
    given = _UNKNOWN.search(error.format_message())
    return Failure(
        f"`{path}{' ' + given[1] if given else ''}` was not understood.",
        why=error.format_message(),
        todo=f"See `{path} --help`.",
        exit_code=ExitCode.USAGE,
    )


def fault(error: SojournError, what: str = "") -> Failure:
    """Put a fault in three lines; `what` says what did not happen because of it."""
    if not what and isinstance(error, StoreUnavailable):
        what = "The store cannot be reached."
    elif not what and isinstance(error, StoreBroken):
        what = "The store cannot be used as it is."
    code = _BY_CODE.get(error.code) or next(
        (code for kind, code in _BY_KIND if isinstance(error, kind)), ExitCode.FAILED
    )
    return Failure(
        what or "This could not be done.",
        why=error.message,
        todo=error.hint or "See the server's log.",
        exit_code=code,
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
    """Print the three lines on stderr.

    On a terminal the first two are wrapped between words. The last one is left to the terminal, so
    that a command in it is copied whole.
    """
    from rich.text import Text

    from sojourn.cli.output import terminal

    what, why, todo = failure.lines
    console = terminal(stderr=True, soft_wrap=True)
    if console.is_terminal:
        what, why = (_hung(text, console.width) for text in (what, why))
    with contextlib.suppress(OSError):  # nobody reads stderr any more
        console.print(Text.assemble(("error: ", "bold red"), (what, "bold")))
        console.print(Text.assemble(("  why: ", "dim"), why))
        console.print(Text.assemble(("   do: ", "dim"), todo))


def _hung(text: str, width: int) -> str:
    """Wrap between words, and hang what follows below the first line's text."""
    room = max(20, width - MARGIN)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * MARGIN).join(lines)
