"""The settings that a server runs with, as they may be shown: no secret, and no password of a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.log import MASK, mask_text
from sojourn.settings import PREFIX, SECRETS, Settings

DEFAULT = "default"
SET = "set"


class Effective(Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        value: a secret's is only MASK, or one of them for each of a list.
        fingerprints: of a secret, where whoever asks can make some: the same on servers that share it.
        origin: the flag, the variable or the file it came from, or DEFAULT; "set" where that is not known.
    """

    name: str
    value: Any
    origin: str
    fingerprints: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def changed(self) -> bool:
        """Tell whether somebody has set it."""
        return self.origin != DEFAULT

    @property
    def given(self) -> bool:
        """Tell whether there is a value at all."""
        return self.value not in (None, "", (), [])


COMPARED = "secret"
"""The setting that must be the same on all servers. Of it alone fingerprints are shown: what people choose
themselves, such as a password, could be guessed by one."""


def effective(
    settings: Settings,
    origins: Mapping[str, str],
    fingerprint: Callable[[str], str] | None = None,
) -> list[Effective]:
    """List the settings in the order of `Settings`. `origins`: where each came from, by name."""
    usual = Settings()
    return [
        Effective(
            name=name,
            value=_shown(name, settings),
            origin=origins.get(name)
            or (DEFAULT if getattr(settings, name) == getattr(usual, name) else SET),
            fingerprints=tuple(map(fingerprint, _secrets(name, settings)))
            if fingerprint and name == COMPARED
            else (),
        )
        for name in Settings.__struct_fields__
    ]


def _secrets(name: str, settings: Settings) -> tuple[str, ...]:
    value = getattr(settings, name) if name in SECRETS else ()
    return ((value,) if value else ()) if isinstance(value, str) else tuple(value)


def _shown(name: str, settings: Settings) -> Any:
    value = getattr(settings, name)
    if name in SECRETS:
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


def as_text(value: Any) -> str:
    """Write a value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(as_text(each) for each in value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
