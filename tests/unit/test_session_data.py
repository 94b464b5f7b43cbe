"""A dict that knows what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.data import SessionData
from sojourn.errors import InvalidInput, StoreUnavailable

STORED = {"name": "Ann", "cart": ["a"], "deep": {"list": [{"n": 1}]}, "count": 1}


def stored() -> Any:
    return json.loads(json.dumps(STORED))


def nested(data: SessionData) -> None:
    data["deep"]["list"][0]["n"] = 2


@pytest.mark.parametrize(
    ("change", "set_", "unset"),
    [
        (lambda d: None, {}, ()),
        (lambda d: d["cart"], {}, ()),
        (lambda d: d.update(name="Ann"), {}, ()),
        (lambda d: d["cart"].append("b"), {"cart": ["a", "b"]}, ()),
        (nested, {"deep": {"list": [{"n": 2}]}}, ()),
        (lambda d: d.pop("name"), {}, ("name",)),
        (lambda d: d.clear(), {}, ("name", "cart", "deep", "count")),
        (lambda d: d.setdefault("new", 1), {"new": 1}, ()),
        (lambda d: d.update(count=True), {"count": True}, ()),
        (lambda d: d.update(count=1.0), {"count": 1.0}, ()),
        (lambda d: d.__setitem__("cart", ["a"]), {}, ()),
        (lambda d: d.__delitem__("cart"), {}, ("cart",)),
        (lambda d: d.__ior__({"x": None}), {"x": None}, ()),
        (lambda d: d.popitem(), {}, ("count",)),
        (lambda d: d.get("cart").clear(), {"cart": []}, ()),
        (lambda d: next(iter(d.values())) and d.update(cart=("a",)), {}, ()),
    ],
)
def test_changes(
    change: Callable[[SessionData], object], set_: dict[str, Any], unset: tuple[str, ...]
) -> None:
    data = SessionData(stored())
    change(data)
    assert data.delta() == (set_, unset)
    assert data.modified is bool(set_ or unset)
    data.saved(data.delta())
    assert not data.modified


@pytest.mark.parametrize(
    "look",
    [
        lambda d: d["name"],
        lambda d: d.get("name"),
        lambda d: "name" in d,
        len,
        list,
        bool,
        lambda d: d == {},
        lambda d: d.items(),
        dict,
        json.dumps,
    ],
)
def test_looking_inside_is_noted(look: Callable[[SessionData], object]) -> None:
    data = SessionData(stored())
    before = data.accessed
    look(data)
    assert (before, data.accessed, data.modified) == (False, True, False)


def test_nobody_looked() -> None:
    data = SessionData(stored())
    assert not data.delta()
    assert not data.accessed


@pytest.mark.parametrize(
    "value",
    [
        datetime.now(UTC),
        b"bytes",
        {1, 2},
        float("nan"),
        float("inf"),
        {(1, 2): "a pair for a key"},
        Decimal("1.5"),
        UUID(int=7),
        [{"deep": object()}],
        "half a \ud83d",
        {"\udc00": 1},
    ],
)
def test_what_json_cannot_hold_is_named(value: object) -> None:
    data = SessionData()
    data["offer"] = value
    with pytest.raises(InvalidInput, match="offer"):
        data.delta()
    assert data.looks_modified


class Size(IntEnum):
    LARGE = 3


class Tone(StrEnum):
    DARK = "dark"


class Safe(str):
    """As Django's SafeString and Markup."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Meters(float):
    """As of a library of units."""


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Safe("<b>"), "<b>"),
        ([Safe("x")], ["x"]),
        (Size.LARGE, 3),
        (Tone.DARK, "dark"),
        (Meters(1.5), 1.5),
        ((1, (2, "a")), [1, [2, "a"]]),
        ({7: "seven", None: 0, True: 1, 2.5: 2}, {"7": "seven", "null": 0, "true": 1, "2.5": 2}),
        ({Safe("k"): 1}, {"k": 1}),
        (2**80, 2**80),
    ],
)
def test_what_json_writes_without_a_loss_is_kept(value: Any, kept: Any) -> None:
    data = SessionData()
    data["x"] = value
    delta = data.delta()
    assert delta.set == {"x": kept}
    assert json.dumps(delta.set) == json.dumps({"x": kept})
    assert type(delta.set["x"]) is type(kept)
    data.saved(delta)
    assert not data.modified


def test_number_keys_at_the_top_come_back_as_text() -> None:
    data = SessionData({"7": "seven"})
    data[7] = "other"  # type: ignore[index]  # what an application may do all the same
    assert data.delta().set == {"7": "other"}


def test_what_holds_itself_is_named() -> None:
    data = SessionData()
    loop: list[Any] = []
    loop += [loop, loop]
    data["loop"] = loop
    with pytest.raises(InvalidInput, match=r"loop.*holds itself"):
        data.delta()


def test_what_unfolds_without_end_is_named() -> None:
    data = SessionData()
    value: list[Any] = ["x"]
    for _ in range(40):
        value = [value] * 10
    data["laughs"] = value
    with pytest.raises(InvalidInput, match=r"laughs.*more than"):
        data.delta()


def test_a_look_at_what_could_not_be_read_is_told() -> None:
    data = SessionData()
    data.fault = InvalidInput("not read")
    for look in (lambda: data["a"], lambda: data.get("a"), lambda: bool(data), lambda: list(data)):
        with pytest.raises(InvalidInput, match="not read"):
            look()
    with pytest.raises(InvalidInput, match="not read"):
        data["a"] = 1
    assert not data.delta()


def test_keys_are_strings() -> None:
    data = SessionData()
    data[(1, 2)] = "one"  # type: ignore[index]  # what an application may do all the same
    with pytest.raises(InvalidInput, match="strings"):
        data.delta()


def test_too_deep() -> None:
    data = SessionData()
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    data["deep"] = value
    with pytest.raises(InvalidInput, match="levels"):
        data.delta()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
mappings = st.dictionaries(st.sampled_from("abcdef"), values, max_size=5)


@given(mappings, mappings)
def test_a_delta_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    data = SessionData(json.loads(json.dumps(before)))
    data.clear()
    data.update(json.loads(json.dumps(after)))
    delta = data.delta()
    merged = {k: v for k, v in before.items() if k not in delta.unset} | delta.set
    assert merged == after
    assert json.dumps(merged, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert not any(
        json.dumps(before.get(k, ...), default=repr) == json.dumps(v) for k, v in delta.set.items()
    )


def test_each_look_at_data_that_cannot_be_had_says_so() -> None:
    data = SessionData()
    data.fault = StoreUnavailable("down")
    looks: list[Callable[[], object]] = [
        lambda: data["x"],
        lambda: data.get("x"),
        lambda: "x" in data,
        lambda: data.model(dict),
        lambda: data.pop("x"),
        lambda: list(data),
    ]
    for look in (*looks, *looks):
        with pytest.raises(StoreUnavailable):
            look()
    assert data.accessed
