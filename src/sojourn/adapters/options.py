"""Rules as applications write them into their framework's configuration.

    {"timeouts": "aal2", "cookie": {"name": "sid", "same_site": "strict"}, "limit": 5}

Names and bounds are those of `Rules`; durations are ms, `timeouts` and `visitors` may be a preset's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sojourn.cookie import CookieOptions
from sojourn.errors import SettingsError
from sojourn.service.request_session import Rules
from sojourn.session import PRESETS, Timeouts

NAMES = frozenset(Rules.__struct_fields__)


def make_rules(options: Mapping[str, Any] | Rules, **defaults: Any) -> Rules:
    """Build rules; `defaults` are taken where `options` say nothing. Raises SettingsError."""
    if isinstance(options, Rules):
        return options
    for name in options:
        if name not in NAMES:
            raise SettingsError(
                f"There is no rule {name!r}.", hint=f"Rules are {', '.join(sorted(NAMES))}."
            )
    values = {**defaults, **options}
    for name in ("timeouts", "visitors"):
        if name in values:
            values[name] = _timeouts(values[name])
    if "cookie" in values:
        values["cookie"] = _convert(values["cookie"], CookieOptions, "cookie")
    if "adopted" in values:
        values["adopted"] = tuple(values["adopted"])
    plain = {"timeouts", "visitors", "cookie", "adopted"}
    types = {each.name: each.type for each in msgspec.structs.fields(Rules)}
    rules = Rules(**{k: v if k in plain else _convert(v, types[k], k) for k, v in values.items()})
    return rules.validate()


def _timeouts(value: Any) -> Timeouts:
    if isinstance(value, str):
        if value not in PRESETS:
            raise SettingsError(
                f"There are no timeouts called {value!r}.",
                hint=f"They are called {', '.join(PRESETS)}.",
            )
        return PRESETS[value]
    timeouts: Timeouts = _convert(value, Timeouts, "timeouts")
    return timeouts


def _convert(value: Any, wanted: Any, name: str) -> Any:
    if isinstance(wanted, type) and isinstance(value, wanted):
        return value
    if (
        isinstance(value, Mapping)
        and isinstance(wanted, type)
        and issubclass(wanted, msgspec.Struct)
    ):
        unknown = set(value) - set(wanted.__struct_fields__)
        if unknown:
            raise SettingsError(f"{name}: there is no option {min(unknown)!r}.")
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as fault:
        raise SettingsError(f"{name}: {fault}.") from None
