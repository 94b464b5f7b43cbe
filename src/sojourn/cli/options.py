"""Options that several commands take, and how one is declared that stands for nothing if it is left out."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def given(flag: str, metavar: str, text: str) -> Any:
    """Declare an option with a value. `text`: its help."""
    return typer.Option(flag, metavar=metavar, help=text, show_default=False)


Ledger = Annotated[str | None, given("--ledger", "URL", "Ledger, if it is elsewhere.")]
Folder = Annotated[str | None, given("--data", "DIR", "Data folder of the server.")]
