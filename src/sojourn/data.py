"""The data of a session, as an application holds it during one request: a dict that knows what changed.

Changes are found by comparing, key by key and however deep, so that `session["cart"].append(1)` counts
and a value set to what it was does not. JSON's own types are taken, and what `json.dumps` makes of one
without a loss: subclasses of str, int and float, numbers as keys of dicts, tuples as lists. Anything else
would come back as something else with the next request, unless a framework has `Tags` for it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import msgspec

from sojourn import typed
from sojourn.errors import InvalidInput

_encode = msgspec.json.Encoder().encode
M = TypeVar("M")
_FLAT = (str, int, float, bool, type(None))
DEPTH_MAX = 64
NODES_MAX = 1_048_576
"""Values within one value: as many as a session's megabyte of JSON could hold at most."""


class Tags(Protocol):
    """How a framework writes what JSON has no word for, as JSON that nothing else looks like."""

    def pack(self, value: Any) -> Any:
        """Return a value as JSON, tagged; what it has no tag for stays as it is."""

    def unpack(self, value: Any) -> Any:
        """Return what was packed."""


class Delta(NamedTuple):
    """What has changed since the data was read."""

    set: dict[str, Any]
    unset: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.set or self.unset)


_NO_DELTA = Delta({}, ())


class SessionData(dict[str, Any]):
    """A dict of JSON values.

    Attributes:
        accessed: whether anybody looked inside.
        fault: raised to whoever does, if the data could not be read.
        late: the line of code that first set or removed a key after `close`.
        tags: how values that are not JSON's are kept; set it before `replace`.
    """

    fault: Exception | None = None
    late: str | None = None
    tags: Tags | None = None
    accessed = False
    _encoded: dict[str, bytes] | None = None
    _models: dict[str, typed.Bound] | None = None
    _assigned = False  # a key of ours was set or removed; what it holds may change without
    _closed = False

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        if values:
            super().__init__(values)
        self._before: dict[str, Any] = dict(values) if values else {}

    def model(self, kind: type[M], key: str | None = None) -> M:
        """Return the key's value as a model: a msgspec Struct, a dataclass or a pydantic model, whose changes
        are saved like any. `key`: the class's name in snake_case. What is not there is `kind()`, and stored
        once it differs from that. Raises InvalidInput if what is stored does not fit."""
        self.touch()
        name = key or typed.key_of(kind)
        raw = super().get(name)
        bound = (self._models or {}).get(name)
        if bound is not None and bound.raw is raw and type(bound.value) is kind:
            value: M = bound.value
            return value
        value = typed.read(kind, name, raw)
        self._models = {
            **(self._models or {}),
            name: typed.Bound(value, raw, typed.write(name, value)),
        }
        return value

    def _write_models(self) -> None:
        """Put models that have changed under their keys. One whose key was set since is forgotten."""
        for name, bound in list((self._models or {}).items()):
            assert self._models is not None
            if super().get(name) is not bound.raw:
                del self._models[name]
                continue
            written = typed.write(name, bound.value)
            if written != bound.plain:
                self._assign()
                super().__setitem__(name, written)
                self._models[name] = typed.Bound(bound.value, written, written)

    @property
    def stored(self) -> dict[str, Any]:
        """What is stored, as JSON."""
        return dict(self._before)

    def saved(self, delta: Delta) -> None:
        """Take these changes as stored, too, keeping what is here."""
        self._before.update(delta.set)
        for key in delta.unset:
            self._before.pop(key, None)
        if self._encoded is not None:
            for key in (*delta.set, *delta.unset):
                self._encoded.pop(key, None)
            self._encoded |= _snapshot(delta.set)

    def close(self) -> None:
        """Note that the response has started: what is changed from now on cannot be saved with it."""
        self._closed = True

    def replace(self, values: dict[str, Any]) -> None:
        """Start over with what is stored."""
        models, self._models = self._models or {}, None
        kept = {
            name: each
            for name, each in models.items()
            if dict.get(self, name) is each.raw and (each.raw is not None or _untouched(name, each))
        }
        super().clear()
        tags = self.tags
        super().update(values if tags is None else {k: tags.unpack(v) for k, v in values.items()})
        self._before = dict(values)
        self._assigned = False
        self._encoded = _snapshot(self._before) if self.accessed else None
        for (
            name,
            bound,
        ) in kept.items():  # those whose value is still theirs go on, as after a sign-in
            raw = super().get(name)
            if raw == bound.raw:
                self._models = {**(self._models or {}), name: bound._replace(raw=raw)}

    def forget(self) -> None:
        """Hold nothing, as after a sign-out; models that somebody still has are not saved any more."""
        self._models = None
        self.replace({})

    def clear(self) -> None:
        """Remove all keys, and forget models, though they have changed."""
        self._assign()
        self._models = None
        super().clear()

    def touch(self) -> None:
        """Note that somebody looks inside. From now on what they hold may change under our hands."""
        if self.fault is not None:
            self.accessed = True
            raise self.fault
        self.accessed = True
        if self._encoded is None:
            self._encoded = _snapshot(self._before)

    @property
    def modified(self) -> bool:
        return bool(self.delta())

    @property
    def looks_modified(self) -> bool:
        """As `modified`, but never raises: what cannot be stored is a change, too."""
        if not self._encoded and not self._assigned and not self._models:
            return False  # as `delta` does; most requests only read
        try:
            return self.modified
        except InvalidInput:
            return True

    def delta(self) -> Delta:
        """Say what has changed. Raises InvalidInput for what cannot be stored."""
        if self._models:
            self._write_models()
        if not self._encoded and not self._assigned:  # nobody looked, or at nothing that can change
            return _NO_DELTA
        changed, names = {}, set()
        for key, value in super().items():
            name = key if type(key) is str else key_text("session", key)
            names.add(name)
            if not self._same(name, value):
                packed = plain(name, value, self.tags)
                if not self._is_stored(name, packed):
                    changed[name] = packed
        return Delta(changed, tuple(key for key in self._before if key not in names))

    def _same(self, key: str, value: Any) -> bool:
        """Tell at little cost whether a value is what is stored; False if that is not certain."""
        if key not in self._before:
            return False
        encoded = (self._encoded or {}).get(key)
        if encoded is None:
            old = self._before[key]
            return type(old) is type(value) and bool(old == value)
        if self.tags is not None:
            return False
        try:
            return encoded == _encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            return False

    def _is_stored(self, key: str, packed: Any) -> bool:
        if key not in self._before:
            return False
        encoded = (self._encoded or {}).get(key)
        if encoded is None:
            old = self._before[key]
            return type(old) is type(packed) and bool(old == packed)
        return encoded == _encode(packed)

    def _assign(self) -> None:
        """Note that a key is set or removed."""
        self.touch()
        self._assigned = True
        if self._closed and self.late is None:
            self.late = _caller()

    def __getitem__(self, key: str) -> Any:
        if not self.accessed or self.fault is not None:
            self.touch()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._assign()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._assign()
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
        self._assign()
        super().update(other)
        return self


def _watched(name: str, *, assigns: bool) -> Callable[..., Any]:
    plain = getattr(dict, name)

    def method(self: SessionData, *args: Any, **kwargs: Any) -> Any:
        if assigns:
            self._assign()
        else:
            self.touch()
        return plain(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


for _name in ("get", "keys", "values", "items", "copy", "__or__", "__reversed__"):
    setattr(SessionData, _name, _watched(_name, assigns=False))
for _name in ("setdefault", "pop", "popitem", "update"):
    setattr(SessionData, _name, _watched(_name, assigns=True))


_WRAPPERS = ("_collections_abc.py", os.path.join("contrib", "sessions", "backends", "base.py"))  # noqa: PTH118  # a frame's
"""Ends of the names of files that set keys for others."""


def _caller() -> str:
    """Return the line of the application that is running, as `file:line`."""
    here, frame = os.path.dirname(__file__) + os.sep, sys._getframe(2)  # noqa: SLF001, PTH120  # as logging does
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith((here, "<frozen"))
        or frame.f_code.co_filename.endswith(_WRAPPERS)
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _untouched(name: str, bound: typed.Bound) -> bool:
    """Tell whether a model is as it was read, or last written."""
    try:
        return bool(typed.write(name, bound.value) == bound.plain)
    except InvalidInput:
        return False


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


def plain(key: str, value: Any, tags: Tags | None = None) -> Any:
    """Return a value of JSON's own types. Raises InvalidInput, naming the session's key, for what JSON
    cannot hold: other types, NaN, half characters, cycles, too many levels or values."""
    if tags is not None:
        try:
            value = tags.pack(value)
        except RecursionError:
            raise InvalidInput(f"session[{key!r}] holds itself.") from None
    return _Plain(key).of(value, 0)


class _Plain:
    """One walk over a value."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._left = NODES_MAX
        self._above: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise InvalidInput(f"session[{self._key!r}] holds more than {NODES_MAX} values.")
        if isinstance(value, str):
            _check_text(self._key, value)
            return str.__str__(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise InvalidInput(
                    f"session[{self._key!r}] holds {value!r}, which JSON has no word for."
                )
            return float.__float__(value)
        if isinstance(value, dict | list | tuple):
            return self._inside(value, depth)
        raise InvalidInput(
            f"session[{self._key!r}] holds a {type(value).__name__}, which JSON has no word for.",
            hint="Store text or numbers, such as a date's isoformat().",
        )

    def _inside(self, value: Any, depth: int) -> Any:
        if id(value) in self._above:
            raise InvalidInput(f"session[{self._key!r}] holds itself.")
        if depth >= DEPTH_MAX:
            raise InvalidInput(
                f"session[{self._key!r}] is nested more than {DEPTH_MAX} levels deep."
            )
        self._above.add(id(value))
        if isinstance(value, dict):
            made: Any = {
                key_text(self._key, k): self.of(each, depth + 1) for k, each in value.items()
            }
        else:
            made = [self.of(each, depth + 1) for each in value]
        self._above.discard(id(value))
        return made


def key_text(where: str, name: Any) -> str:
    """Return a dict's key as `json.dumps` writes it. Raises InvalidInput for what it refuses."""
    if isinstance(name, str):
        _check_text(where, name)
        return str.__str__(name)
    if name is None or isinstance(name, bool):
        return {None: "null", True: "true", False: "false"}[name]
    if isinstance(name, int):
        return int.__repr__(name)
    if isinstance(name, float) and math.isfinite(name):
        return float.__repr__(name)
    raise InvalidInput(f"{where!r} has the key {name!r}; JSON's keys are strings.")
