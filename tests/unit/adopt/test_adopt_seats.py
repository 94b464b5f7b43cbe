"""Rows of an older license backend become leases: a dry run says what the move then does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sojourn.adopt.formats import Reason, Unreadable
from sojourn.adopt.seats import ALL, SeatTerms, read_seat
from sojourn.clock import DAY, SECOND, ManualClock
from sojourn.license import Pool
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.builders import pool

NOW = 20_000 * DAY
TERMS = SeatTerms(licenses={ALL: "lic_1"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    with closing(open_store("memory:", clock=clock)) as opened:
        yield opened


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"row {number}",
        "token": f"old-token-{number:08}",
        "user": f"user-{number}",
        "feature": "editor",
        "beat": NOW - 5 * SECOND,
    } | more


def read(pool_: Pool, **more: Any) -> str:
    return read_seat(row(1, **more), {("lic_1", "editor"): pool_}, TERMS, NOW).user_id


@pytest.mark.parametrize(
    "user", [{"id": 7}, True, False, 1.5, ["ann"], "a" * 257, "a\x00b", b"ann"]
)
def test_what_is_no_plain_id_is_no_user(user: Any) -> None:
    """A JSON value may be anything."""
    with pytest.raises(Unreadable) as refused:
        read(pool(3, license_id="lic_1"), user=user)
    assert refused.value.reason is Reason.BAD_USER


@pytest.mark.parametrize(("user", "is_"), [(7, "7"), (0, "0"), ("ann", "ann")])
def test_plain_ids(user: Any, is_: str) -> None:
    assert read(pool(3, license_id="lic_1"), user=user) == is_
