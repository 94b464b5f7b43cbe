"""`sojourn`, where it may not be installed whole: the library alone has no command line."""

from __future__ import annotations

import sys

from sojourn.errors import SettingsError
from sojourn.extras import need

STANDS_ON = ("typer", "rich")


def main() -> int:
    """Run a command; return its exit code."""
    try:
        for package in STANDS_ON:
            need(package, "server", "The command `sojourn`")
    except SettingsError as missing:
        print(f"{missing.message} {missing.hint}", file=sys.stderr)  # noqa: T201  # there is no Rich
        return 1
    from sojourn.cli.main import main as run  # only if it can be

    return run()
