"""A server's time as one process tells it, whatever the server's clock is set to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import pytest

from sojourn.clock import HOUR, MINUTE, SECOND, STORE_CLOCK, uptime
from sojourn.stores import open as stores
from sojourn.stores.sql import steady
from sojourn.stores.sql.database import Again, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.steady import SteadyClock
from sojourn.stores.sql.store import SqlStore

BEGAN = 1_800_000_000_000
SLEEP = {Backend.POSTGRES: "pg_sleep(1.5)", Backend.MYSQL: "sleep(1.5)"}


class World:
    """A server's clock, this host's uptime, and what stands in `marks`."""

    def __init__(self) -> None:
        self.uptime = 5 * MINUTE
        self.clock = BEGAN
        self.pulse: int | None = None
        self.shift: int | None = None
        self.on_the_way = (0, 0)  # ms that a look takes to get there, and its answer to come back

    def go_on(self, milliseconds: int) -> None:
        self.uptime += milliseconds
        self.clock += milliseconds


class Told:
    """What `SteadyClock` asks of a transaction, answered by a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def rows(self, template: str, _: Any) -> Any:
        if template == steady.LOOK:
            there, back = self._world.on_the_way
            self._world.go_on(there)
            told = (self._world.clock, self._world.pulse, self._world.shift)
            self._world.go_on(back)
            return [told]
        assert template == steady.LOCK
        return [(self._world.pulse,)]

    def do(self, template: str, params: Any) -> int:
        if template == steady.SET and self._world.shift is None:
            return 0
        self._world.shift = params["shift"]
        return 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(steady, "uptime", lambda: world.uptime)
    return world


@pytest.fixture
def tx(world: World) -> Tx:
    return cast("Tx", Told(world))


def now(clock: SteadyClock, world: World) -> int:
    instant = clock.told[0]
    return world.clock if instant is None else instant


def test_nothing_happens(world: World, tx: Tx) -> None:
    """A clock that nobody sets is what statements read, for days, with a little drift."""
    clock = SteadyClock()
    for _ in range(48):
        clock.look(tx)
        world.go_on(HOUR)
        world.clock += 500  # of an hour: less than a thousandth
        assert clock.told[0] is None
    world.clock -= 700  # keeping time does this
    clock.look(tx)
    assert clock.told[0] is None
    assert world.shift is None


def test_set_back_and_right_again(world: World, tx: Tx) -> None:
    """Time goes on from what was; when the clock is right again it decides again."""
    clock = SteadyClock()
    clock.look(tx)
    world.clock -= HOUR
    clock.look(tx)
    assert (now(clock, world), world.shift) == (BEGAN, HOUR)
    world.go_on(MINUTE)
    assert now(clock, world) == BEGAN + MINUTE
    world.clock += HOUR
    clock.look(tx)
    assert clock.told[0] is None
    assert world.shift == 0
    assert world.clock == BEGAN + MINUTE


def test_set_right_but_for_a_part(world: World, tx: Tx) -> None:
    """Of an hour that it lay behind, half is put right: time goes on, by the other half."""
    clock = SteadyClock()
    clock.look(tx)
    world.pulse = BEGAN
    world.clock -= HOUR
    clock.look(tx)
    world.clock += HOUR // 2
    clock.look(tx)
    assert clock.told[0] == BEGAN
    assert world.shift == HOUR // 2


def test_caught_up(world: World, tx: Tx) -> None:
    """After so long without us the clock has passed the last pulse: it decides again."""
    clock = SteadyClock()
    clock.look(tx)
    world.clock -= HOUR
    clock.look(tx)
    world.pulse = now(clock, world)
    world.go_on(HOUR + MINUTE)
    later = SteadyClock()  # of a server that was started again
    later.look(tx)
    assert (later.told[0], world.shift) == (None, 0)
    assert world.clock > world.pulse


def test_others_learn_of_it(world: World, tx: Tx) -> None:
    """From the shift that one process has noted, or from a pulse that lies ahead."""
    world.pulse = BEGAN
    world.clock -= HOUR
    first, second = SteadyClock(), SteadyClock()
    first.look(tx)
    second.look(tx)
    assert first.told[0] == second.told[0] == BEGAN
    world.go_on(10 * SECOND)
    second.look(tx)
    assert first.told[0] == second.told[0] == BEGAN + 10 * SECOND


def test_transaction_that_was_told_an_instant_of_before(world: World, tx: Tx) -> None:
    clock = SteadyClock()
    clock.look(tx)
    clock.judge(BEGAN, None, 0)
    clock.judge(BEGAN, BEGAN + steady.TOLERANCE, 0)
    for told, pulse in ((BEGAN - HOUR, None), (BEGAN, BEGAN + HOUR)):
        with pytest.raises(Again):
            clock.judge(told, pulse, 0)
        assert clock.due
        clock.look(tx)
    world.go_on(10 * SECOND)
    clock.judge(BEGAN, None, 10 * SECOND)  # it waited for a lock all the while


def test_set_ahead_and_right_again(world: World, tx: Tx) -> None:
    """Under a pulse that goes on, a clock that is set ahead changes nothing either."""
    clock = SteadyClock()
    clock.look(tx)
    world.pulse = BEGAN
    world.go_on(SECOND)
    world.clock += HOUR
    with pytest.raises(Again):
        clock.judge(world.clock, world.pulse, 0)
    clock.look(tx)
    assert (now(clock, world), world.shift) == (BEGAN + SECOND, -HOUR)
    newcomer = SteadyClock()
    newcomer.look(tx)
    assert now(newcomer, world) == BEGAN + SECOND
    world.clock -= HOUR
    for each in (clock, newcomer):
        each.look(tx)
        assert (now(each, world), world.shift) == (BEGAN + SECOND, 0)


def test_set_ahead_for_good(world: World, tx: Tx) -> None:
    """Once nobody has served for a minute, time is what the clock says."""
    clock = SteadyClock()
    clock.look(tx)
    world.pulse = BEGAN
    world.clock += HOUR
    clock.look(tx)
    assert now(clock, world) == BEGAN
    world.go_on(2 * steady.GAP)
    later = SteadyClock()
    later.look(tx)
    assert (later.told[0], world.shift) == (None, 0)


def test_halted_while_others_served(world: World, tx: Tx) -> None:
    """A machine of ours that was halted for an hour takes nobody else back in time."""
    clock = SteadyClock()
    clock.look(tx)
    world.clock += HOUR
    world.pulse = world.clock
    clock.look(tx)
    assert (clock.told[0], world.shift) == (None, None)


def test_nobody_pulses(world: World, tx: Tx) -> None:
    """Where no server serves, nothing tells a clock that was set ahead from a machine that was halted:
    it is believed, and goes on when it is set back."""
    clock = SteadyClock()
    clock.look(tx)
    world.clock += HOUR
    clock.look(tx)
    assert (now(clock, world), world.shift) == (BEGAN + HOUR, None)
    world.clock -= HOUR
    clock.look(tx)
    assert (now(clock, world), world.shift) == (BEGAN + HOUR, HOUR)


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "back"])
def test_step_that_a_slow_look_finds(world: World, tx: Tx, step: int) -> None:
    """Verbs go on after a clock that was set is believed, or told of, by a look that took longer than the
    one before."""
    clock = SteadyClock()
    clock.look(tx)
    world.clock += step
    world.on_the_way = (20, 20)
    with pytest.raises(Again):
        clock.judge(world.clock, world.pulse, 0)
    clock.look(tx)
    clock.judge(now(clock, world), world.pulse, 0)


@pytest.mark.parametrize("url", ["empty_postgres", "empty_mariadb"])
def test_statement_that_took_long(url: str, request: pytest.FixtureRequest) -> None:
    """What a server told when a statement began is no clock set back, however long that took."""
    with closing(stores.open_store(request.getfixturevalue(url))) as store:
        assert isinstance(store, SqlStore)
        runs = []

        def work(tx: Tx) -> int:
            runs.append(1)
            sql = f"SELECT {{now}}, {SLEEP[tx.dialect.backend]}"
            told = int(tx.rows(sql, {"now": tx.instant})[0][0])
            tx.judge(told)
            return told

        assert store._db.transaction(work)
        assert len(runs) == 1


CUT = [(3 * SECOND, 0), (0, 3 * SECOND)]


@pytest.mark.parametrize("cut", CUT)
@pytest.mark.parametrize("first", [True, False], ids=["first look", "later look"])
def test_look_that_was_cut_off(world: World, tx: Tx, cut: tuple[int, int], *, first: bool) -> None:
    """A look through a network that was cut tells the time badly, which is no clock that was set."""
    clock = SteadyClock()
    if not first:
        clock.look(tx)
    world.on_the_way = cut
    clock.look(tx)
    world.on_the_way = (0, 0)
    for _ in range(3):
        clock.judge(world.clock, world.pulse, 0)
        clock.look(tx)
        assert (clock.told[0], world.shift) == (None, None)
        world.go_on(SECOND)


@pytest.mark.parametrize("cut", CUT)
def test_newcomer_that_was_cut_off_while_a_shift_is_in_force(
    world: World, tx: Tx, cut: tuple[int, int]
) -> None:
    """It looks again before it tells an instant by what it saw then."""
    clock = SteadyClock()
    clock.look(tx)
    world.pulse = BEGAN
    world.clock -= HOUR
    clock.look(tx)
    newcomer = SteadyClock()
    world.on_the_way = cut
    newcomer.look(tx)
    world.on_the_way = (0, 0)
    assert world.uptime >= newcomer._due
    newcomer.look(tx)
    assert not newcomer.due
    assert now(newcomer, world) == now(clock, world) == BEGAN + 3 * SECOND


def test_database_without_our_tables(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for again and again where there is nothing yet."""
    clock = SteadyClock()
    with closing(stores._connected(mariadb_url, clock=STORE_CLOCK, durable=True)) as db:
        with db.writing() as tx:
            clock.look(tx)
        at = uptime()
        monkeypatch.setattr(steady, "uptime", lambda: at + 2 * steady.LOOK_EVERY)
        assert not clock.due
        monkeypatch.setattr(steady, "uptime", lambda: at + 2 * steady.MISSING_WAIT)
        assert clock.due
