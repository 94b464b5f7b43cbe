"""How features and their policies are written on a command line."""

from __future__ import annotations

import contextlib
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.policy import (
    camel,
    merge,
    parse_duration,
    parse_feature,
    parse_features,
    parse_reservations,
)
from sojourn.license import POLICY, CountBy, WhenFull
from sojourn.wire.bodies import PolicyBody


@pytest.mark.parametrize(
    ("text", "name", "body"),
    [
        ("editor=5", "editor", {"capacity": 5}),
        (" viz = 10 , lost_after = 30 ", "viz", {"capacity": 10, "lostAfter": 30.0}),
        ("a.b-c_d=0,lost-after=500ms", "a.b-c_d", {"capacity": 0, "lostAfter": 0.5}),
        (
            "x=1,when_full=evict_idle,idle_after=15m,max_lease=none",
            "x",
            {"capacity": 1, "whenFull": "evict_idle", "idleAfter": 900.0, "maxLease": None},
        ),
    ],
)
def test_features(text: str, name: str, body: dict[str, object]) -> None:
    assert parse_feature(text) == (name, body)


@pytest.mark.parametrize(
    "text",
    [
        "editor",
        "=5",
        "editor=",
        "editor=many",
        "editor=-1",
        "editor=5.5",
        "editor=\N{ARABIC-INDIC DIGIT FIVE}",
        "editor=5,",
        "editor=5,linger",
        "editor=5,lost_aftr=30",
        "editor=5,lost_after=soon",
        "editor=5,lost_after=-1",
        "editor=5,lost_after=1y",
        "editor=5,count_by=seat",
        "editor=5,lost_after=none",
    ],
)
def test_what_is_no_feature_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_feature(text)
    assert refused.value.exit_code is ExitCode.USAGE
    assert "editor=5" in refused.value.todo


def test_a_feature_given_twice_is_a_slip() -> None:
    assert set(parse_features(["a=1", "b=2"])) == {"a", "b"}
    with pytest.raises(Failure, match="given twice"):
        parse_features(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("2 min", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.text(max_size=12))
def test_no_text_breaks_the_reader(text: str) -> None:
    """It is a duration, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("texts", "bodies"),
    [
        (["none"], []),
        (["support=2:user=ann"], [{"name": "support", "seats": 2, "users": ["ann"]}]),
        (
            ["a=1:user=ann,user=bob|kind=desktop", " b = 3 : group = the staff "],
            [
                {"name": "a", "seats": 1, "users": ["ann", "bob"], "kinds": ["desktop"]},
                {"name": "b", "seats": 3, "groups": ["the staff"]},
            ],
        ),
    ],
)
def test_reservations(texts: list[str], bodies: list[dict[str, object]]) -> None:
    """What is read is a body that the API takes."""
    assert parse_reservations(texts) == bodies
    policy = msgspec.convert({"capacity": 9, "reservations": bodies}, PolicyBody).policy()
    assert [each.seats for each in policy.reservations] == [each["seats"] for each in bodies]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("support", "support=2:user=ann"),
        ("support=2", "support=2:user=ann"),
        ("=2:user=ann", "support=2:user=ann"),
        ("support=two:user=ann", "how many seats"),
        ("support=2:", "user=NAME"),
        ("support=2:ann", "user=NAME"),
        ("support=2:user=ann,", "user=NAME"),
        ("support=2:user=", "user=NAME"),
        ("support=2:role=ann", "user=NAME"),
    ],
)
def test_what_is_no_reservation_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_reservations([text])


def test_every_field_of_a_policy_can_be_written() -> None:
    """And what is read is a body that the API takes."""
    assert set(POLICY) == set(PolicyBody.__struct_fields__)
    values = {
        "heartbeat_interval": "1",
        "lost_after": "3",
        "suspect_after": "2",
        "linger": "1",
        "resume_window": "1h",
        "count_by": CountBy.USER.value,
        "when_full": WhenFull.EVICT_IDLE.value,
        "idle_after": "5m",
        "max_lease": "8h",
        "overdraft": "2",
    }
    assert set(values) | {"capacity", "reservations"} == set(POLICY)
    _, body = parse_feature("all=3," + ",".join(f"{k}={v}" for k, v in values.items()))
    policy = msgspec.convert(body, PolicyBody).policy()
    assert (policy.capacity, policy.max_lease, policy.suspect_after) == (3, 28_800_000, 2_000)


CURRENT = {
    "feature": "editor",
    "capacity": 5,
    "heartbeatInterval": 10.0,
    "lostAfter": 30.0,
    "suspectAfter": 20.0,
    "linger": 10.0,
    "idleAfter": None,
}


def test_what_is_left_out_stays() -> None:
    """Raising a capacity resets nothing."""
    merged = merge(CURRENT, {"capacity": 9})
    assert merged == {"capacity": 9, "heartbeatInterval": 10.0, "lostAfter": 30.0, "linger": 10.0}
    assert merge(None, {"capacity": 9}) == {"capacity": 9}


def test_a_suspicion_of_ones_own_stays_too() -> None:
    """One that is the default keeps following the heartbeat instead."""
    assert "suspectAfter" not in merge(CURRENT, {"heartbeatInterval": 5.0})
    assert merge({**CURRENT, "suspectAfter": 15.0}, {})["suspectAfter"] == 15.0


def test_names_on_the_wire() -> None:
    assert [camel(n) for n in ("capacity", "count_by", "max_lease")] == [
        "capacity",
        "countBy",
        "maxLease",
    ]
