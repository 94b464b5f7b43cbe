"""Commands that one command prints for somebody to run: they must find what it was called for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sojourn.log import mask_text
from sojourn.settings import Settings

OPENERS = frozenset({"data", "store", "ledger", "config"})
TAKEN = {
    "doctor": OPENERS | {"express", "url", "login", "page", "origin", "via"},
    "migrate": OPENERS,
    "reconcile": OPENERS,
    "serve": OPENERS,
    "settings": OPENERS,
}
"""By command: the flags that say what it works on. All others find a server by its data folder."""
FOLDER = frozenset({"data"})


def of_server(settings: Settings) -> Called:
    """Return the flags that lead a command, from any folder of this host, to what a server serves."""
    flags: dict[str, object] = {"data": str(Path(settings.data).absolute())}
    flags |= {
        name: value for name in ("store", "ledger", "express") if (value := getattr(settings, name))
    }
    return Called(flags)


class Called(Struct, frozen=True):
    """The flags that a command was called with, by name; those left out are None."""

    flags: Mapping[str, object]

    def again(self, command: str) -> str:
        """Add to a Sojourn command the flags that lead it to the same store and server.

        What is not ours stays as it is. A flag whose value holds a secret is left out: masked, it would
        lead nowhere, and whoever set it has it in the environment or a settings file.
        """
        program, _, rest = command.partition(" ")
        if program != "sojourn":
            return command
        taken = TAKEN.get(rest.partition(" ")[0], FOLDER)
        said = [
            f"--{name} {shlex.quote(str(value))}"
            for name, value in self.flags.items()
            if value is not None
            and name in taken
            and f"--{name} " not in command
            and mask_text(str(value)) == str(value)
        ]
        return " ".join([command, *said])
