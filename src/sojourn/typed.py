"""Typed session data: a key of a session as a msgspec Struct, a dataclass or a pydantic model.

cart = session.model(Cart)        Cart(), unless there is one
cart.items.append(item)           saved with the response, as any change
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from sojourn.errors import InvalidInput

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Bound(NamedTuple):
    """A model that stands for a key. `raw`: the value under the key, as it was when `plain` was written."""

    value: Any
    raw: Any
    plain: Any


def key_of(kind: type) -> str:
    """Return the key under which a model is kept unless one is given: `ShoppingCart` is `shopping_cart`."""
    return _WORD.sub("_", kind.__name__).lower()


def read(kind: type, key: str, raw: Any) -> Any:
    """Make a model of what is stored; of nothing, one with its defaults. Raises InvalidInput, naming the key,
    if the stored value does not fit, or a field has no default."""
    parse = getattr(kind, "model_validate_json", None)  # pydantic's
    try:
        if raw is None:
            return kind()
        if parse is not None:
            # By alias, too: what an application has put there itself may have them.
            names = {"by_alias": True, "by_name": True} if _takes_names(kind) else {}
            return parse(msgspec.json.encode(raw), **names)
        return msgspec.convert(raw, kind, str_keys=True)
    except (TypeError, ValueError, msgspec.ValidationError) as fault:
        raise InvalidInput(
            f"session[{key!r}] is no {kind.__name__}: {_reason(fault)}",
            hint="Give each field a default, also for sessions from before it was added; or remove the key.",
        ) from None


def _takes_names(kind: type) -> bool:
    """Tell whether pydantic can read a model by its fields' names: from 2.11 on."""
    parse = getattr(kind, "model_validate_json", None)
    return "by_name" in (getattr(parse, "__kwdefaults__", None) or {})


def _reason(fault: Exception) -> str:
    """Say what is wrong without the value, which may be private."""
    errors = getattr(fault, "errors", None)  # pydantic's
    if errors is None:
        return str(fault)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors())


def write(key: str, value: Any) -> Any:
    """Return a model as JSON's own types. Raises InvalidInput, naming the key."""
    dump = getattr(value, "model_dump", None)  # pydantic's
    try:
        if dump is None:
            return msgspec.to_builtins(value, str_keys=True)
        # As `read` takes it: what is computed is left out, and a field may have one alias for each way.
        return dump(mode="json", by_alias=not _takes_names(type(value)), round_trip=True)
    except (TypeError, ValueError) as fault:
        raise InvalidInput(f"session[{key!r}] cannot be kept: {fault}") from None


__all__ = ["Bound", "key_of", "read", "write"]
