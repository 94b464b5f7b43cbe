"""`sojourn settings`: each value and where it came from."""

from __future__ import annotations

from typing import Any

from sojourn.cli import source
from sojourn.cli.command import Json
from sojourn.cli.output import Column, Output
from sojourn.cli.source import Config, with_settings
from sojourn.service.effective import as_text, effective
from sojourn.settings import Loaded


@with_settings
def settings(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Print each setting, its value, and where it came from.

    Takes the flags of `sojourn serve`, so that a command line can be tried before it is used. Secrets
    are masked.
    """
    loaded = source.read(flags, config)
    out = Output(as_json=as_json)
    if as_json:
        out.json({n: {"value": v, "from": o, "variable": x} for n, v, o, x in rows(loaded)})
        return
    out.table(
        [Column("Setting", whole=True), Column("Value", whole=True), Column("From", whole=True)],
        [
            (name, as_text(value) if value not in (None, "", (), []) else None, origin)
            for name, value, origin, _ in rows(loaded)
        ],
    )


def rows(loaded: Loaded) -> list[tuple[str, Any, str, str]]:
    """List name, masked value, origin and variable, in the order of `Settings`."""
    return [
        (each.name, each.value, each.origin, each.variable)
        for each in effective(loaded.settings, loaded.origins)
    ]
