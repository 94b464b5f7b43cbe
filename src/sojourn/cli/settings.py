"""`sojourn settings`: each value and where it came from."""

from __future__ import annotations

from typing import Any

import msgspec

from sojourn.cli import source
from sojourn.cli.command import Json
from sojourn.cli.output import Column, Output
from sojourn.cli.source import Config, with_settings
from sojourn.log import MASK, mask_text
from sojourn.settings import Loaded, Settings


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
        [Column("Setting", whole=True), Column("Value"), Column("From", whole=True)],
        [
            (name, _text(value) if value not in (None, "", (), []) else None, origin)
            for name, value, origin, _ in rows(loaded)
        ],
    )


def rows(loaded: Loaded) -> list[tuple[str, Any, str, str]]:
    """List name, masked value, origin and variable, in the order of `Settings`."""
    return [
        (n, _shown(n, loaded.settings), loaded.origins[n], f"SOJOURN_{n.upper()}")
        for n in Settings.__struct_fields__
    ]


def _shown(name: str, settings: Settings) -> Any:
    value = getattr(settings, name)
    if name in source.SECRETS:
        return (MASK if isinstance(value, str) else [MASK] * len(value)) if value else None
    if name in ("store", "ledger"):
        return mask_text(getattr(settings, f"{name}_url"))  # what an empty one stands for
    return _masked(msgspec.to_builtins(value))


def _masked(value: Any) -> Any:
    """Take the passwords of URLs out, at any depth."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
