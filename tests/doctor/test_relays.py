"""What doctor says of relays: which are late, and where more seats are out than there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest

from sojourn.allotment import AllotmentWish, RelayBeat
from sojourn.clock import MINUTE, ManualClock
from sojourn.doctor.doctor import Doctor
from sojourn.doctor.relays import RelayExaminer
from sojourn.ledger import Ledger, Role
from sojourn.license import Policy
from sojourn.service.keys import Keys
from sojourn.service.licenses import Licenses
from sojourn.store import Store
from sojourn.stores.open import open_ledger, open_store


class World:
    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store, self.ledger = store, ledger
        self.licenses = Licenses(store, ledger)
        license_, _ = self.licenses.create("Acme", {"editor": Policy(capacity=5)}, actor="test")
        self.license = license_.id
        self.pool = f"{license_.id}:editor"
        self.relay = Keys(ledger).create("oslo", Role.RELAY, actor="test")[0].id
        self.doctor = Doctor(
            [RelayExaminer(lambda: store, lambda: ledger, place="here")], nullcontext
        )

    def beat(self, number: int, want: int) -> None:
        wish = AllotmentWish(self.pool, want=want)
        (answer,) = self.store.allot([RelayBeat(self.relay, "life", number, wishes=(wish,))])
        assert answer.refused is None

    def wrong(self) -> dict[str, Any]:
        return {x.check.id: x.finding for x in self.doctor.examine() if x.finding.verdict.rank}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world(empty_sqlite: str, clock: ManualClock) -> Iterator[World]:
    with (
        closing(open_store(empty_sqlite, clock=clock)) as store,
        closing(open_ledger(empty_sqlite, clock=clock)) as ledger,
    ):
        yield World(store, ledger)


def test_nothing_is_said_of_relays_that_are_well(world: World) -> None:
    assert world.wrong() == {}
    world.beat(1, 3)
    assert world.wrong() == {}


def test_a_relay_that_is_late(world: World, clock: ManualClock) -> None:
    """It is named as its key is."""
    world.beat(1, 3)
    clock.advance(milliseconds=MINUTE + 1_000)
    found = world.wrong()
    assert set(found) == {"seats.relays"}
    assert found["seats.relays"].evidence == ("oslo: last heard 61 s ago",)
    world.beat(2, 3)
    assert world.wrong() == {}


def test_more_is_out_than_there_is(world: World) -> None:
    """A capacity that was lowered is told until its seats are back."""
    world.beat(1, 4)
    world.licenses.set_feature(world.license, "editor", Policy(capacity=2), actor="test")
    found = world.wrong()
    assert set(found) == {"seats.allotments"}
    assert found["seats.allotments"].evidence == (f"{world.pool}: 0 held here and 4 allotted of 2",)
