"""Which leases a sweep means, on a command line: its options, and the body for the wire."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.policy import camel, parse_duration

PANEL = "Scope (durations: 30, 500ms, 30s, 15m, 2h)"
DURATIONS = ("older_than", "silent_for")
HELP: dict[str, tuple[Any, str, str]] = {
    "license": (str, "ID", "Of this license."),
    "feature": (str, "NAME", "Of this feature."),
    "user": (str, "ID", "Of this user."),
    "kind": (str, "KIND", "On devices of this kind, such as extension or phone."),
    "network": (str, "RANGE", "From addresses in this range, such as 10.1.0.0/16."),
    "client_version": (str, "TEXT", "Whose browser or User-Agent has this in it."),
    "older_than": (str, "TIME", "Held for longer than that."),
    "silent_for": (str, "TIME", "Silent for longer than that."),
    "suspicion": (float, "SHARE", "Silent for this share of what it is allowed, 0 to 1."),
}
SHORT = {"feature": ("-f",), "user": ("-u",)}
NAMES = {"license": "license_id", "user": "user_id"}


def _option(name: str) -> Any:
    kind, metavar, text = HELP[name]
    flag = "--" + name.replace("_", "-")
    option = typer.Option(
        flag,
        *SHORT.get(name, ()),
        metavar=metavar,
        help=text,
        rich_help_panel=PANEL,
        show_default=False,
    )
    return Annotated[(kind | None, option)]


OPTIONS: dict[str, Any] = {name: _option(name) for name in HELP}
Scope = Annotated[Any, OPTIONS]
"""What a command takes as `**scope`: see `command`."""


def scope_body(scope: dict[str, Any], *, living: bool) -> dict[str, Any]:
    """Return the body of what was given. Raises Failure for a duration that is none."""
    body: dict[str, Any] = {}
    for name, value in scope.items():
        if value is None:
            continue
        body[camel(NAMES.get(name, name))] = duration(name, value) if name in DURATIONS else value
    return body | ({"living": True} if living else {})


def duration(name: str, text: str) -> float:
    """Read seconds. Raises Failure."""
    try:
        return parse_duration(text)
    except ValueError as error:
        flag = "--" + name.replace("_", "-")
        raise Failure(
            f"{flag} was not understood.",
            why=str(error),
            todo=f"Write it like {flag} 15m.",
            exit_code=ExitCode.USAGE,
        ) from None


def told(scope: dict[str, Any]) -> str:
    """Say a scope in a cell of a table."""
    parts = [f"{name} {value}" for name, value in scope.items() if name != "living"]
    return ", ".join([*parts, *(["living too"] if scope.get("living") else [])]) or "everything"
