"""An authority that was put back: what it may not give, what it tells of itself, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sojourn.allotment import (
    RELAYS_MAX,
    WISHES_MAX,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
)
from sojourn.clock import DAY, HOUR, SECOND, ManualClock
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.lease import Resume
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    denied,
    latest,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock
from sojourn.testing.regions import TTL, Region, crowd, shares


class EpochMeaning(OnManualClock):
    def test_nothing_is_given_until_everybody_has_spoken(self, store: Store) -> None:
        store.define([pool(6)])
        east, west = Region(store), Region(store, "west")
        for region in (east, west):
            region.ask(1)
            region.ask(1)
        began = store.begin_epoch(OPERATOR)
        assert began > east.epoch
        west.ask(6)  # in the epoch of before: it says what it held then
        assert (west.seats, west.epoch) == (1, began)
        west.ask(6)
        assert west.seats == 1
        assert crowd(store, 1) == 0
        east.ask(1)
        east.ask(1)
        west.ask(6)
        assert west.seats == 5

    def test_or_until_nobody_can_hold_what_is_not_known(
        self, store: Store, clock: ManualClock
    ) -> None:
        store.define([pool(3)])
        east, west = Region(store), Region(store, "west")
        east.ask(1, ttl=HOUR)
        store.begin_epoch(OPERATOR)
        clock.advance(milliseconds=HOUR - 1)
        west.ask(3, ttl=HOUR)
        west.ask(3, ttl=HOUR)
        assert (west.seats, crowd(store, 1)) == (0, 0)
        clock.advance(milliseconds=1)
        west.ask(2, ttl=HOUR)
        assert (west.seats, crowd(store, 2)) == (2, 1)

    def test_in_doubt_only_who_comes_back_gets_a_seat(
        self, store: Store, clock: ManualClock
    ) -> None:
        store.define([pool(6), pool(1, feature="viewer")])
        Region(store).ask(1)
        ann, bob = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=91)
        store.pulse()
        store.begin_epoch(OPERATOR)
        assert refused(store, "cid").in_use == 0
        assert take(store, "bob").id == bob.id  # within the resume window
        back = take(store, "ann", resume=Resume(lease_id=ann.id, fence=ann.fence))
        assert back.id == ann.id
        lost = take(store, "dan", resume=Resume(lease_id="lea_lost", fence=ann.fence + 50))
        assert lost.id == "lea_lost"
        assert take(store, "ann").id == ann.id  # a live one is taken over
        take(store, "cid", pool_id="lic_1:viewer")  # never allotted
        assert denied(store.preview([acquire("eve")])[0]).in_use == 3

    def test_new_relay_holds_nobody_up(self, store: Store) -> None:
        """It has never heard of any epoch, so it holds nothing; what it is given waits for its next beat."""
        store.define([pool(6)])
        east, west = Region(store), Region(store, "west")
        east.ask(1)
        store.begin_epoch(OPERATOR)
        east.ask(1)
        east.ask(1)
        assert west.ask(2) is None
        assert crowd(store, 1) == 1
        east.ask(2)
        assert east.seats == 2
        west.ask(2)
        assert west.seats == 2
        store.begin_epoch(OPERATOR)  # from now on it is waited for like any other
        assert refused(store, "late").in_use == 1

    def test_restore_that_nobody_told_of_is_noticed(self, store: Store) -> None:
        """A relay knows a fence that is not known here: what it holds is counted, be it too much."""
        store.define([pool(4)])
        east = Region(store)
        east.ask(1)
        east.ask(1)
        assert crowd(store, 3) == 3
        before, after = east.epoch, latest(store)
        east.seats, east.fence = 3, 7
        grant = east.ask(3)
        assert grant is not None
        assert (grant.seats, grant.fence, grant.keep) == (3, 7, 1)
        assert east.epoch > before
        assert (usage(store).allotted, usage(store).overdrawn) == (3, 2)
        kinds = [event.kind for event in news(store, after)]
        assert kinds == [EventKind.AUTHORITY_RESTORED, EventKind.ALLOTMENT_CHANGED]
        east.keep(1)
        assert usage(store).overdrawn == 0

    def test_epoch_that_is_not_known_is_passed(self, store: Store) -> None:
        """An emptied store goes on behind the epoch that its relays have heard of."""
        store.define([pool(4)])
        east = Region(store, epoch=50, seats=2, fence=9)
        east.ask(2)
        assert east.epoch > 50
        assert shares(store).fences == {"east": 9}
        assert shares(store).allotted == 2

    def test_relay_that_is_forgotten_is_not_waited_for(self, store: Store) -> None:
        store.define([pool(4)])
        east, west = Region(store), Region(store, "west")
        east.ask(1)
        west.ask(1)
        store.begin_epoch(OPERATOR)
        west.ask(4)
        west.ask(4)
        assert west.seats == 1
        assert store.forget_relay("east", OPERATOR)
        assert not store.forget_relay("east", OPERATOR)
        west.ask(4)
        assert west.seats == 3  # what east has is counted until it is over
        assert set(store.authority()[0].relays) == {"west"}

    def test_what_operators_do_is_recorded(self, store: Store) -> None:
        store.define([pool(4)])
        Region(store).ask(1)
        after = latest(store)
        epoch = store.begin_epoch(OPERATOR)
        store.forget_relay("east", OPERATOR)
        told = news(store, after)
        assert [event.kind for event in told] == [
            EventKind.AUTHORITY_RESTORED,
            EventKind.OPERATOR_ACTED,
            EventKind.OPERATOR_ACTED,
        ]
        assert told[0].data == {"epoch": epoch, "doubtFor": TTL}
        assert told[1].data["epoch"] == epoch
        assert (told[2].data["relay"], told[2].data["known"]) == ("east", True)
        assert {event.actor for event in told[1:]} == {OPERATOR.actor}

    # What is read, and what is refused

    def test_authority_tells_what_is_known(self, store: Store, clock: ManualClock) -> None:
        store.define([pool(6, overdraft=1), pool(2, feature="viewer")])
        take(store, "ann")
        east = Region(store)
        east.ask(2)
        east.ask(3, held=2)
        found, now = store.authority([POOL, "lic_1:viewer", "no:pool"])
        assert now == clock.now()
        assert set(found.pools) == {POOL, "lic_1:viewer"}
        here = found.pools[POOL]
        assert (here.capacity, here.own, here.overdraft, here.closed) == (6, 1, 1, False)
        mine = here.allotments["east"]
        assert (mine.seats, mine.fence, mine.expires_at) == (3, 2, now + TTL)
        assert (mine.held, mine.want) == (2, 3)
        known = found.relays["east"]
        assert (known.life, known.number, known.heard_at) == ("life-1", 2, now)
        assert (found.epoch, found.doubt_until) == (east.epoch, 0)
        assert set(store.authority()[0].pools) == {POOL}

    @pytest.mark.parametrize(
        "said",
        [
            RelayBeat("", "life", 1),
            RelayBeat("east", "", 1),
            RelayBeat("east", "life", 0),
            RelayBeat("east", "life", 1, -1),
            RelayBeat("east", "life", 2**53),
            RelayBeat("east", "life", 1, 0, (AllotmentWish(POOL, want=-1),)),
            RelayBeat("east", "life", 1, 0, (AllotmentWish(POOL, seats=1),)),
            RelayBeat("east", "life", 1, 0, (AllotmentWish(POOL, seats=10**9, fence=1),)),
            RelayBeat("east", "life", 1, 0, (AllotmentWish(POOL), AllotmentWish(POOL))),
            RelayBeat("e", "l", 1, 0, tuple(AllotmentWish(str(n)) for n in range(WISHES_MAX + 1))),
        ],
    )
    def test_beat_that_no_relay_sends_is_refused(self, store: Store, said: RelayBeat) -> None:
        store.define([pool(4)])
        good = Region(store, "west").next_beat(1)
        with pytest.raises(InvalidInput):
            store.allot([good, said])
        assert store.authority()[0].pools == {}

    @pytest.mark.parametrize("ttl", [SECOND, 31 * DAY])
    def test_ttl_has_bounds(self, store: Store, ttl: int) -> None:
        store.define([pool(4)])
        for said in ({"ttl": ttl}, {"ttls": {POOL: ttl}}):
            with pytest.raises(InvalidInput):
                Region(store).ask(1, **said)
        assert store.authority()[0].pools == {}

    def test_there_are_so_many_relays_at_most(self, store: Store) -> None:
        store.define([pool(4)])
        answers: Sequence[RelayAnswer] = store.allot(
            [RelayBeat(f"relay-{n}", "life", 1) for n in range(RELAYS_MAX + 1)]
        )
        assert {answer.refused for answer in answers[:-1]} == {None}
        assert answers[-1].refused is RelayRefusal.LIMIT
        assert store.allot([RelayBeat("relay-1", "life", 2)])[0].refused is None
