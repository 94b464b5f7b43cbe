"""What still holds when somebody sets the clock that a store goes by.

A backend gives three fixtures: `wall`, which sets that clock (`wall_clock.WallClock`, or what shifts this
host's clock for a store in this process), `database_url`, an empty database that goes by it, and
`open_at(url)`, which opens a store there on its own clock.

Time itself goes on here: leases are short, and tests wait for what must come about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest

from sojourn.clock import SECOND
from sojourn.finding import Verdict
from sojourn.idempotency import Replayed
from sojourn.lease import Acquire, Denied, Lease
from sojourn.license import WhenFull
from sojourn.session import Session
from sojourn.store import Store
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    denied,
    granted,
    key,
    load,
    pool,
    sign_in,
    take,
    usage,
)

LOST_AFTER = 3 * SECOND
"""Far less than the pause after which a store takes its own silence for an outage."""
QUICK: dict[str, Any] = {
    "heartbeat_interval": SECOND // 4,
    "lost_after": LOST_AFTER,
    "suspect_after": LOST_AFTER,
    "linger": SECOND // 4,
    "when_full": WhenFull.DENY,
}
PATIENT = QUICK | {"lost_after": 60 * SECOND, "suspect_after": 60 * SECOND}
NEAR = 1.5  # seconds: how far apart two looks at one clock may be; far less than any shift here
BOUND = 20.0  # seconds within which what must happen in three does; far less than an hour
PAUSE = 0.05  # seconds between two looks

BACK = pytest.mark.parametrize("hours", [-1, -24], ids=["hour", "day"])
AHEAD = pytest.mark.parametrize("hours", [1, 24], ids=["hour", "day"])


class Wall(Protocol):
    """Sets a clock: see `wall_clock.WallClock`."""

    def shift(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None: ...


def go_on(
    store: Store, done: Callable[[], bool], *, holders: Iterable[Lease] = (), bound: float = BOUND
) -> float:
    """Serve, with a pulse, until something has come about: these holders beat, and none is turned
    away. Return how many seconds that took."""
    began = time.monotonic()
    while not done():
        store.pulse()
        for lease in holders:
            renewed = beat(store, lease)
            assert renewed is not None, f"{lease.user_id} has lost its seat"
            assert 0 < renewed.expires_in <= PATIENT["lost_after"]
        assert time.monotonic() < began + bound, f"nothing came of {bound} s"
        time.sleep(PAUSE)
    return time.monotonic() - began


def after(seconds: float) -> Callable[[], bool]:
    """Say whether so many seconds have gone by since this was called."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def seated(store: Store, user_id: str) -> Callable[[], bool]:
    """Ask for a seat each time; tell whether it was granted. No denial asks for a longer wait than
    the seat's holder may be silent."""

    def ask() -> bool:
        answer = store.acquire([acquire(user_id)])[0]
        if isinstance(answer, Denied):
            assert 0 < answer.retry_after <= LOST_AFTER
            return False
        assert 0 < answer.expires_at - answer.last_beat_at <= LOST_AFTER
        return True

    return ask


def tell_the_same(one: Store, other: Store) -> bool:
    """Whether two stores go by one time, however long it takes to ask them."""
    before, told, after_it = one.now(), other.now(), one.now()
    return before - NEAR * SECOND < told < after_it + NEAR * SECOND


class StoreClocks:
    @pytest.fixture
    def store(
        self, wall: Wall, database_url: str, open_at: Callable[[str], Store]
    ) -> Iterator[Store]:
        with closing(open_at(database_url)) as store:
            store.define([pool(1, **QUICK)])
            store.pulse()
            yield store
            wall.shift()

    @BACK
    def test_ghost_is_freed_in_time(self, store: Store, wall: Wall, hours: int) -> None:
        """A holder that dies before the clock is set back is lost when it would have been."""
        take(store, "ghost")
        wall.shift(hours=hours)
        assert go_on(store, seated(store, "bob")) > LOST_AFTER / SECOND - NEAR

    @BACK
    def test_ghost_that_came_afterwards(self, store: Store, wall: Wall, hours: int) -> None:
        """A holder that comes once the clock was set back is lost in time, too."""
        wall.shift(hours=hours)
        store.pulse()
        ghost = take(store, "ghost")
        assert 0 < ghost.expires_at - ghost.last_beat_at <= LOST_AFTER
        go_on(store, seated(store, "bob"))

    def test_first_to_come_notices(self, store: Store, wall: Wall) -> None:
        """Whoever asks first after the clock was set back is answered by the time that goes on: no
        pulse need have come before."""
        holder = take(store, "ann")
        wall.shift(hours=-1)
        refused = denied(store.acquire([acquire("bob")])[0])
        assert 0 < refused.retry_after <= LOST_AFTER
        renewed = beat(store, holder)
        assert renewed is not None
        assert 0 < renewed.expires_in <= LOST_AFTER
        go_on(store, seated(store, "bob"))

    def test_denial_tells_the_truth(self, store: Store, wall: Wall) -> None:
        """Who waits for as long as a denial says, and no longer, finds the seat free."""
        take(store, "ghost")
        wall.shift(hours=-1)
        refused = denied(store.acquire([acquire("bob")])[0])
        go_on(store, after(refused.retry_after / SECOND + PAUSE))
        assert seated(store, "bob")()

    @BACK
    def test_living_holders_stay(self, store: Store, wall: Wall, hours: int) -> None:
        """Whoever beats goes on holding its seat, for longer than a silent holder would."""
        store.define([pool(1, **QUICK), pool(1, feature="patient", **PATIENT)])
        holders = [take(store, "ann"), take(store, "ann", pool_id="lic_1:patient")]
        go_on(store, after(1), holders=holders)
        wall.shift(hours=hours)
        go_on(store, after(1.5 * LOST_AFTER / SECOND), holders=holders)
        assert usage(store).in_use == 1
        denied(store.acquire([acquire("bob")])[0])

    @AHEAD
    def test_clock_set_ahead(self, store: Store, wall: Wall, hours: int) -> None:
        """A clock that is set ahead is nobody's silence: holders that beat stay, however short a
        silence they are allowed, and nobody sits down beside them."""
        store.define([pool(1, **QUICK), pool(1, feature="patient", **PATIENT)])
        holders = [take(store, "ann"), take(store, "ann", pool_id="lic_1:patient")]
        sign_in(store, "idle")
        go_on(store, after(1), holders=holders)
        wall.shift(hours=hours)
        assert isinstance(load(store, "idle"), Session)
        denied(store.acquire([acquire("bob")])[0])
        go_on(store, after(1), holders=holders)
        assert usage(store).in_use == 1
        denied(store.acquire([acquire("bob")])[0])
        go_on(store, seated(store, "bob"))

    @pytest.mark.parametrize("hours", [-24, 24], ids=["back", "ahead"])
    def test_back_and_forth(self, store: Store, wall: Wall, hours: int) -> None:
        """A clock that is set wrong and then right loses nobody, and frees a ghost in time."""
        store.define([pool(2, **QUICK)])
        holder = take(store, "ann")
        for shift in (hours, 0, hours, 0):
            go_on(store, after(0.5), holders=[holder])
            wall.shift(hours=shift)
        go_on(store, after(0.5), holders=[holder])
        ghost = take(store, "ghost")
        assert beat(store, ghost) is not None
        go_on(store, seated(store, "bob"), holders=[holder])

    @BACK
    def test_sessions_live_as_long_as_they_may(self, store: Store, wall: Wall, hours: int) -> None:
        """A session under a clock set back ends when it was to end: neither earlier nor later."""
        sign_in(store, "left", idle_timeout=LOST_AFTER)
        sign_in(store, "brief", lifetime=LOST_AFTER)
        sign_in(store, "used", idle_timeout=LOST_AFTER)
        wall.shift(hours=hours)
        sign_in(store, "later", idle_timeout=LOST_AFTER)
        assert all(isinstance(load(store, name), Session) for name in ("left", "brief", "later"))

        def over() -> bool:
            assert store.touch(["used"]) == [True]
            return not any(
                isinstance(load(store, name), Session) for name in ("left", "brief", "later")
            )

        assert go_on(store, over) > LOST_AFTER / SECOND - NEAR
        assert isinstance(load(store, "used"), Session)

    def test_time_goes_on(self, store: Store, wall: Wall) -> None:
        """A store's time never goes back, nor faster or slower, when its clock is set back."""
        before, told, after_it = time.monotonic(), store.now(), time.monotonic()
        for hours in (-1, -25, -1, -24):
            wall.shift(hours=hours)
            store.pulse()
            at_least = time.monotonic() - after_it
            gone_by = (store.now() - told) / SECOND
            at_most = time.monotonic() - before
            assert at_least - NEAR < gone_by < at_most + NEAR

    def test_all_who_have_it_open_agree(
        self, store: Store, wall: Wall, database_url: str, open_at: Callable[[str], Store]
    ) -> None:
        """Who opened it before, and who opens it afterwards, go by the same time."""
        with closing(open_at(database_url)) as other:
            assert tell_the_same(store, other)
            wall.shift(hours=-1)
            store.pulse()
            other.pulse()
            with closing(open_at(database_url)) as newcomer:
                assert tell_the_same(store, other)
                assert tell_the_same(store, newcomer)
                take(newcomer, "ghost")
                go_on(other, seated(store, "bob"))

    def test_restart_under_a_clock_set_back(
        self, store: Store, wall: Wall, database_url: str, open_at: Callable[[str], Store]
    ) -> None:
        """Time goes on over a restart of all who have it open: what ran out stays so, and who died
        before is lost in time."""
        sign_in(store, "left", lifetime=SECOND)
        take(store, "ghost")
        go_on(store, lambda: not isinstance(load(store, "left"), Session))
        store.pulse()
        store.close()
        wall.shift(hours=-1)
        with closing(open_at(database_url)) as again:
            again.pulse()
            assert not isinstance(load(again, "left"), Session)
            go_on(again, seated(again, "bob"))

    @pytest.mark.parametrize("hours", [-24, -1, 1, 24])
    def test_first_answers_are_kept(self, store: Store, wall: Wall, hours: int) -> None:
        """A copy of a request is answered as it was, though the clock was wrong and is right again."""
        store.define([pool(9, **PATIENT)])
        asked: list[tuple[Acquire, Lease]] = []
        for shift in (0, hours, 0):
            wall.shift(hours=shift)
            wish = acquire(f"user-{len(asked)}", idempotency=key(f"{shift}-{len(asked)}"))
            asked.append((wish, granted(store.acquire([wish])[0])))
            for first, lease in asked:
                copy = store.acquire([first])[0]
                assert isinstance(copy, Replayed), (shift, copy)
                assert (copy.answer.id, copy.answer.fence) == (lease.id, lease.fence)

    @pytest.mark.parametrize("hours", [-24, -1, 1, 24])
    def test_who_waits_keeps_the_place(self, store: Store, wall: Wall, hours: int) -> None:
        """A line that was entered under a wrong clock is there when it is right, and in its order."""
        store.define([pool(1, **PATIENT)])
        holder, waiting = take(store, "holder"), list[str]()
        for shift in (0, hours, 0):
            wall.shift(hours=shift)
            assert beat(store, holder) is not None
            waiting.append(f"user-{len(waiting)}")
            for user in waiting:
                denied(store.acquire([acquire(user, wait=True)])[0])
            assert [entry.user_id for entry in store.waiting(POOL)[0]] == waiting

    @BACK
    def test_somebody_is_told(self, store: Store, wall: Wall, hours: int) -> None:
        """The store's own check says that its clock was set back."""

        def told() -> list[str]:
            found = store.check()
            return [x.title for x in found if x.verdict is not Verdict.OK and "clock" in x.title]

        assert told() == []
        wall.shift(hours=hours)
        store.pulse()
        assert len(told()) == 1
