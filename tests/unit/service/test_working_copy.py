"""Two servers change one license: whichever reaches the store last, it ends up as the ledger has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

import pytest

from sojourn.clock import ManualClock
from sojourn.ledger import Ledger
from sojourn.license import License, Policy, Pool
from sojourn.service.licenses import Licenses
from sojourn.service.operations import Operations
from sojourn.service.seats import Seats
from sojourn.service.working_copy import TRIES
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.testing.builders import beat, take
from sojourn.token import Keyring

ACTOR = "test"


class Slow(MemoryStore):
    """Something else happens while this server is about to write."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.meanwhile: Callable[[], object] | None = None
        self.defined = 0

    def define(self, pools: Sequence[Pool]) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.defined += 1
        super().define(pools)


@pytest.fixture
def store() -> Slow:
    return Slow()


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with closing(open_ledger("memory:", clock=ManualClock())) as ledger:
        yield ledger


@pytest.fixture
def licenses(store: Slow, ledger: Ledger) -> Licenses:
    return Licenses(store, ledger)


def capacity(store: Slow, pool_id: str) -> int | None:
    (usage,) = store.usage([pool_id])
    return None if usage is None else usage.capacity


def test_the_later_change_stays(store: Slow, licenses: Licenses) -> None:
    made, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    store.meanwhile = lambda: licenses.set_feature(
        made.id, "editor", Policy(capacity=3), actor=ACTOR
    )
    licenses.set_feature(made.id, "editor", Policy(capacity=2), actor=ACTOR)
    assert capacity(store, f"{made.id}:editor") == 3


def test_what_was_removed_meanwhile_stays_removed(store: Slow, licenses: Licenses) -> None:
    made, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    store.meanwhile = lambda: licenses.remove_feature(made.id, "editor", actor=ACTOR)
    licenses.set_feature(made.id, "reader", Policy(capacity=2), actor=ACTOR)
    assert capacity(store, f"{made.id}:editor") is None
    assert capacity(store, f"{made.id}:reader") == 2


def test_it_holds_for_what_a_start_writes(store: Slow, licenses: Licenses) -> None:
    made, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    store.meanwhile = lambda: licenses.delete(made.id, actor=ACTOR)
    assert licenses.reconcile() == 0
    assert capacity(store, f"{made.id}:editor") is None


def test_a_pool_that_moved_to_the_next_page_stays(
    store: Slow, ledger: Ledger, licenses: Licenses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A license that is made while a start writes a full page pushes the page's last pool off it."""
    made = sorted(
        licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)[0].id for _ in range(3)
    )
    lease = take(store, pool_id=f"{made[1]}:editor")
    pools = ledger.pools
    monkeypatch.setattr(ledger, "pools", partial(pools, limit=2))
    store.meanwhile = lambda: ledger.create_license(
        License(id="lic_0", name="First"), {"editor": Policy(capacity=1)}, b"h" * 32, actor=ACTOR
    )
    assert licenses.reconcile() == 4
    assert beat(store, lease) is not None


@pytest.mark.parametrize("way", ["seats", "operations"])
def test_it_holds_for_what_is_put_back(
    store: Slow, ledger: Ledger, licenses: Licenses, way: str
) -> None:
    """A store that was emptied gets its pools back by whoever asks first."""
    made, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    pool_id = f"{made.id}:editor"
    emptied = Slow()
    emptied.meanwhile = lambda: Licenses(emptied, ledger).set_feature(
        made.id, "editor", Policy(capacity=3), actor=ACTOR
    )
    if way == "seats":
        Seats(emptied, ledger, Keyring([b"k" * 32]))._define_missing({pool_id})
    else:
        Operations(emptied, ledger).stats(made.id)
    assert capacity(emptied, pool_id) == 3


def test_a_license_that_never_stands_still_is_left_to_those_who_change_it(
    store: Slow, licenses: Licenses
) -> None:
    made, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    store.defined = 0
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        licenses._ledger.set_feature(made.id, "editor", Policy(capacity=changes + 1), actor=ACTOR)
        store.meanwhile = change

    store.meanwhile = change
    licenses._define(made.id)
    assert store.defined == TRIES
