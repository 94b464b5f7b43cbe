"""The data of a session, as an application holds it during one request: a dict that knows what changed.

Changes are found by comparing, key by key and however deep, so that `session["cart"].append(1)` counts
and a value set to what it was does not. Only JSON's own types are taken: anything else would come back
as something else with the next request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import msgspec

from sojourn.errors import InvalidInput

_encode = msgspec.json.Encoder().encode
_FLAT = (str, int, float, bool, type(None))
DEPTH_MAX = 64


class Delta(NamedTuple):
    """What has changed since the data was read."""

    set: dict[str, Any]
    unset: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.set or self.unset)


_NO_DELTA = Delta({}, ())


class SessionData(dict[str, Any]):
    """A dict of JSON values. `accessed` tells whether anybody looked inside."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        if values:
            super().__init__(values)
        self._before: dict[str, Any] = dict(values) if values else {}
        self._encoded: dict[str, bytes] | None = None
        self.accessed = False
        self._assigned = False  # a key of ours was set or removed; what it holds may change without

    def rebase(self, values: dict[str, Any]) -> None:
        """Take these values as what is stored, keeping what is here."""
        self._before = dict(values)
        self._encoded = _snapshot(self._before)

    def replace(self, values: dict[str, Any]) -> None:
        """Start over with what is stored."""
        super().clear()
        super().update(values)
        self._before = dict(values)
        self._assigned = False
        self._encoded = _snapshot(self._before) if self.accessed else None

    def touch(self) -> None:
        """Note that somebody looks inside. From now on what they hold may change under our hands."""
        self.accessed = True
        if self._encoded is None:
            self._encoded = _snapshot(self._before)

    @property
    def modified(self) -> bool:
        return bool(self.delta())

    @property
    def looks_modified(self) -> bool:
        """As `modified`, but never raises: what cannot be stored is a change, too."""
        if not self._encoded and not self._assigned:
            return False  # as `delta` does; most requests only read
        try:
            return self.modified
        except InvalidInput:
            return True

    def delta(self) -> Delta:
        """Say what has changed. Raises InvalidInput for what cannot be stored."""
        if not self._encoded and not self._assigned:  # nobody looked, or at nothing that can change
            return _NO_DELTA
        changed = {}
        for key, value in super().items():
            if not isinstance(key, str):
                raise InvalidInput(f"A session's keys are strings; this one is {key!r}.")
            if not self._same(key, value):
                check_json(key, value)
                changed[key] = value
        return Delta(
            changed, tuple(key for key in self._before if not dict.__contains__(self, key))
        )

    def _same(self, key: str, value: Any) -> bool:
        if key not in self._before:
            return False
        encoded = (self._encoded or {}).get(key)
        if encoded is None:
            old = self._before[key]
            return type(old) is type(value) and bool(old == value)
        try:
            return encoded == _encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            return False

    def __getitem__(self, key: str) -> Any:
        if not self.accessed:
            self.touch()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.touch()
        self._assigned = True
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.touch()
        self._assigned = True
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        self.touch()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.touch()
        return super().__iter__()

    def __len__(self) -> int:
        self.touch()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self.touch()
        return super().__eq__(other)

    __hash__ = None  # as any dict

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]  # dict's overloads
        self.touch()
        self._assigned = True
        super().update(other)
        return self


def _watched(name: str, *, assigns: bool) -> Callable[..., Any]:
    plain = getattr(dict, name)

    def method(self: SessionData, *args: Any, **kwargs: Any) -> Any:
        self.touch()
        self._assigned |= assigns
        return plain(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


for _name in ("get", "keys", "values", "items", "copy", "__or__", "__reversed__"):
    setattr(SessionData, _name, _watched(_name, assigns=False))
for _name in ("setdefault", "pop", "popitem", "clear", "update"):
    setattr(SessionData, _name, _watched(_name, assigns=True))


def _snapshot(values: dict[str, Any]) -> dict[str, bytes]:
    """Encode what could be changed in place."""
    return {key: _encode(value) for key, value in values.items() if not isinstance(value, _FLAT)}


def check_json(key: str, value: Any) -> None:
    """Raise InvalidInput, naming the key, for what JSON cannot hold. Tuples count as lists."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        each, depth = stack.pop()
        if depth > DEPTH_MAX:
            raise InvalidInput(f"session[{key!r}] is nested more than {DEPTH_MAX} levels deep.")
        if isinstance(each, float) and not math.isfinite(each):
            raise InvalidInput(f"session[{key!r}] holds {each!r}, which JSON has no word for.")
        if isinstance(each, str):
            _check_text(key, each)
        elif isinstance(each, _FLAT):
            continue
        elif isinstance(each, dict):
            stack += [(inner, depth + 1) for inner in _members(key, each)]
        elif isinstance(each, list | tuple):
            stack += [(inner, depth + 1) for inner in each]
        else:
            raise InvalidInput(
                f"session[{key!r}] holds a {type(each).__name__}, which JSON has no word for.",
                hint="Store text or numbers, such as a date's isoformat().",
            )


def _check_text(key: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"session[{key!r}] holds half a character (a lone surrogate).") from None


def _members(key: str, mapping: dict[Any, Any]) -> Iterable[Any]:
    for name, value in mapping.items():
        if not isinstance(name, str):
            raise InvalidInput(f"session[{key!r}] has the key {name!r}; JSON's keys are strings.")
        yield name
        yield value
