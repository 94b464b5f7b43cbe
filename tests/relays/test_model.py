"""The relays' protocol in a bad world: nothing is sold twice, nothing is lost, and mistakes are found."""

from __future__ import annotations

import pytest
from tests.relays.model import (
    POOL,
    SEATS,
    Lost,
    Oversold,
    World,
    back_up,
    begun,
    deliver,
    explore,
    of_pool,
    restore,
    sold,
    speak,
    walk,
)
from tests.relays.planted import PLANTED, Patch, old_epoch_is_believed

WALKS = 700
STEPS = 80


def take_every_way() -> None:
    for seed in range(WALKS):
        walk(seed, STEPS)


def test_no_way_sells_a_seat_twice() -> None:
    take_every_way()


def test_every_short_way() -> None:
    assert (
        explore(4, restores=0, without=("backup", "restore", "fewer", "as before", "lags")) > 5_000
    )


@pytest.mark.parametrize("patch", PLANTED, ids=lambda patch: patch.__name__)
def test_planted_mistake_is_found(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    with pytest.raises((Oversold, Lost)):
        take_every_way()


def talk(world: World, i: int, want: int) -> World:
    for k in (None, -1, -1):
        world = speak(world, i, want) if k is None else deliver(world, len(world.flying) + k)
    return world


def answer_from_before_the_restore() -> World:
    """A relay that knows of the new epoch gets an answer of the old one, which gave it all seats."""
    world = talk(begun(), 0, 1)
    world = back_up(world) or world
    world = speak(world, 0, SEATS)
    world = deliver(world, len(world.flying) - 1)
    late, _ = world.flying[-1]
    world = restore(world) or world
    for i, want in ((0, 1), (1, 0), (0, 1), (1, SEATS)):
        world = talk(world, i, want)
    assert of_pool(world.relays[1]).seats == SEATS - 1
    return deliver(world, next(k for k, each in enumerate(world.flying) if each[0] is late))


def test_answer_from_before_a_restore_is_not_believed() -> None:
    world = answer_from_before_the_restore()
    assert (sold(world), world.relays[0].shares[POOL].seats) == (SEATS, 1)


def test_it_would_be_sold_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    old_epoch_is_believed(monkeypatch)
    assert sold(answer_from_before_the_restore()) > SEATS
