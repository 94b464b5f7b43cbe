"""Policies that contradict themselves are refused, with a sentence that says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.clock import DAY, MINUTE, SECOND
from sojourn.errors import InvalidInput, InvalidPolicy
from sojourn.license import (
    CAPACITY_MAX,
    DURATION_MIN,
    MEMBER_LENGTH_MAX,
    MEMBERS_MAX,
    RESERVATIONS_MAX,
    Policy,
    Pool,
    Reservation,
    WhenFull,
    check_feature,
    pool_id,
    split_pool_id,
)

YEAR = 365 * DAY


def reservation(name: str = "one", **fields: Any) -> Reservation:
    plain = Reservation(name=name, seats=1, users=("ann",))
    return replace(plain, **fields)


def numbered(number: int) -> Reservation:
    return reservation(f"r{number}")


def test_defaults_are_valid() -> None:
    """A policy that only names its capacity is the one the README promises."""
    policy = Policy(capacity=5)
    assert policy.validate() is policy
    assert (policy.heartbeat_interval, policy.lost_after) == (30 * SECOND, 90 * SECOND)
    assert (policy.linger, policy.resume_window) == (10 * SECOND, 15 * MINUTE)
    assert policy.when_full is WhenFull.RECLAIM_SUSPECT


@pytest.mark.parametrize(
    ("fields", "suspect_after"),
    [
        ({}, 60 * SECOND),
        ({"lost_after": 45 * SECOND}, 45 * SECOND),
        ({"suspect_after": 31 * SECOND}, 31 * SECOND),
    ],
)
def test_suspicion(fields: dict[str, Any], suspect_after: int) -> None:
    """Unless set, suspicion comes after two intervals, or with the loss if that is earlier."""
    assert Policy(capacity=1, **fields).suspect_after_ms == suspect_after


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": 0},
        {"capacity": CAPACITY_MAX},
        {"heartbeat_interval": DURATION_MIN, "lost_after": DURATION_MIN + 1, "linger": 0},
        {"lost_after": YEAR},
        {"linger": 0, "resume_window": 0},
        {"linger": 90 * SECOND},
        {"resume_window": DAY},
        {"suspect_after": 30 * SECOND},
        {"suspect_after": 90 * SECOND},
        {"when_full": WhenFull.EVICT_IDLE, "idle_after": DURATION_MIN},
        {"max_lease": DURATION_MIN},
        {"overdraft": CAPACITY_MAX},
        {"reservations": (reservation(seats=1, users=("x" * MEMBER_LENGTH_MAX,) * MEMBERS_MAX),)},
        {"capacity": RESERVATIONS_MAX, "reservations": tuple(map(numbered, range(20)))},
    ],
)
def test_bounds_are_allowed(fields: dict[str, Any]) -> None:
    """Every bound is itself within the bounds."""
    Policy(**{"capacity": 1} | fields).validate()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"capacity": -1}, "capacity"),
        ({"capacity": CAPACITY_MAX + 1}, "capacity"),
        ({"overdraft": -1}, "overdraft"),
        ({"overdraft": CAPACITY_MAX + 1}, "overdraft"),
        ({"reservations": (reservation(seats=0),)}, "seats"),
        ({"reservations": (reservation(seats=2),)}, "capacity"),
        ({"reservations": (reservation("a b"),)}, "name"),
        ({"reservations": (reservation(users=()),)}, "users"),
        ({"reservations": (reservation(kinds=("",)),)}, "kinds"),
        ({"reservations": (reservation(groups=("x" * (MEMBER_LENGTH_MAX + 1),)),)}, "groups"),
        ({"capacity": 2, "reservations": (reservation(), reservation())}, "name"),
        ({"reservations": (reservation(users=("x",) * (MEMBERS_MAX + 1)),)}, "users"),
        ({"capacity": 99, "reservations": tuple(map(numbered, range(21)))}, "reservations"),
        ({"heartbeat_interval": DURATION_MIN - 1}, "heartbeat_interval"),
        ({"heartbeat_interval": -1}, "heartbeat_interval"),
        ({"lost_after": YEAR + 1}, "lost_after"),
        ({"suspect_after": 0}, "suspect_after"),
        ({"idle_after": 0}, "idle_after"),
        ({"max_lease": YEAR + 1}, "max_lease"),
        ({"linger": -1}, "linger"),
        ({"linger": YEAR + 1}, "linger"),
        ({"resume_window": -1}, "resume_window"),
        ({"resume_window": DAY + 1}, "resume_window"),
        ({"lost_after": 30 * SECOND}, "lost_after must be longer than heartbeat_interval"),
        ({"suspect_after": 30 * SECOND - 1}, "suspect_after must lie between"),
        ({"suspect_after": 90 * SECOND + 1}, "suspect_after must lie between"),
        ({"linger": 90 * SECOND + 1}, "linger must not be longer than lost_after"),
        ({"when_full": WhenFull.EVICT_IDLE}, "needs idle_after"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], named: str) -> None:
    """The first rule that is broken is named."""
    with pytest.raises(InvalidPolicy, match=named) as caught:
        Policy(**{"capacity": 1} | fields).validate()
    assert caught.value.code == "invalid_policy"


def test_pool_names_read_back() -> None:
    """A pool's id names its license and feature, unambiguously."""
    pool = Pool(license_id="lic_1", feature="editor", policy=Policy(capacity=1))
    assert pool.id == pool_id("lic_1", "editor") == "lic_1:editor"
    assert split_pool_id(pool.id) == ("lic_1", "editor")


@given(st.text(st.characters(exclude_characters=":")), st.text())
def test_pool_ids_round_trip(license_id: str, feature: str) -> None:
    """License ids never hold a colon, so any feature reads back."""
    assert split_pool_id(pool_id(license_id, feature)) == (license_id, feature)


@pytest.mark.parametrize("name", ["a", "9", "Editor", "a.b_c-d", "x" * 64])
def test_feature_names(name: str) -> None:
    """Letters, digits, dots, dashes and underscores make a feature's name."""
    assert check_feature(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a b", "a:b", "a/b", "é", "x" * 65, "a\n", " a", "a\x00"]
)
def test_other_feature_names_are_refused(name: str) -> None:
    """Anything else is refused, before it becomes part of an id or a path."""
    with pytest.raises(InvalidInput):
        check_feature(name)
