"""What the state machine tries of allotments, and what must hold of them after every step."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec import Struct

from sojourn.allotment import AllotmentWish, RelayBeat
from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.store import Store
from sojourn.testing.builders import OPERATOR
from sojourn.testing.line_rules import POOLS, LineRules

RELAYS = ("east", "west", "\N{GRINNING FACE}")
SENT_MAX = 5

wishes = st.lists(
    st.tuples(st.sampled_from(POOLS), st.integers(0, 4), st.sampled_from([None, None, 0, 1])),
    min_size=1,
    max_size=2,
    unique_by=lambda each: each[0],
)


class Believed(Struct):
    """Seats that a relay goes by: of what was answered last, from when it asked."""

    seats: int = 0
    fence: int = 0
    until: int = 0


class Relay(Struct):
    name: str
    life: int = 0
    number: int = 0
    epoch: int = 0


class AllotmentRules(LineRules):
    """Rules of a machine that takes seats, as `machine.StoreMachine` does."""

    def __init__(self) -> None:
        super().__init__()
        self.relays = [Relay(name) for name in RELAYS]
        self.believed: dict[tuple[str, str], Believed] = {}  # by relay and pool
        self.sent: list[RelayBeat] = []  # the latest last

    @rule(
        relay=st.integers(0, len(RELAYS) - 1),
        asked=wishes,
        ttl=st.sampled_from([MINUTE, HOUR, DAY]),
        lost=st.sampled_from([False, False, False, True]),
        times=st.integers(1, 2),
    )
    def beats(
        self,
        relay: int,
        asked: list[tuple[str, int, int | None]],
        *,
        ttl: int,
        lost: bool,
        times: int,
    ) -> None:
        """A relay asks for seats, and may give some back. Its answer may be lost, or come twice."""
        now, mine = self.clock.now(), self.relays[relay]
        mine.number += 1
        said = []
        for pool, want, keep in asked:
            known = self.believed.setdefault((mine.name, pool), Believed())
            if known.until <= now:
                known.seats = 0
            if keep is not None:
                known.seats = min(known.seats, keep)
            said.append(AllotmentWish(pool, known.seats, known.fence, 0, want))
        life = f"life-{mine.life}"
        beat = RelayBeat(mine.name, life, mine.number, mine.epoch, tuple(said))
        self.sent = [*self.sent, beat][-SENT_MAX:]
        for _ in range(times):
            [answer] = self.both(lambda store: store.allot([beat], ttl=ttl))
            self.follow(given=True)
        assert answer.refused is None
        if lost:
            return
        mine.epoch = answer.epoch
        for grant in answer.grants:
            known = self.believed[mine.name, grant.pool_id]
            assert grant.fence >= known.fence, "a fence was given twice"
            if grant.fence > known.fence:
                known.seats, known.fence = grant.seats, grant.fence
            known.until = max(known.until, now + grant.ttl)

    @rule(place=st.integers(0, SENT_MAX - 1))
    def beat_again(self, place: int) -> None:
        """An older beat comes once more, or late."""
        if self.sent:
            beat = self.sent[place % len(self.sent)]
            self.both(lambda store: store.allot([beat]))
            self.follow(given=True)

    @rule(relay=st.integers(0, len(RELAYS) - 1))
    def restart(self, relay: int) -> None:
        self.relays[relay].life += 1

    @rule(sure=st.sampled_from([False] * 5 + [True]), relay=st.sampled_from([None, *RELAYS]))
    def lose(self, *, sure: bool, relay: str | None) -> None:
        """The store is said to have lost something, or a relay is given up."""

        def act(store: Store) -> int | bool:
            if relay is None:
                return store.begin_epoch(OPERATOR)
            return store.forget_relay(relay, OPERATOR)

        if sure:
            self.both(act)
            self.follow()

    def follow(self, *, given: bool = False) -> None:
        """Read what both sides know of relays. Nothing was given that was not free."""
        self.oracle.read(self.news())
        now = self.clock.now()
        before = {pool: self.oracle.standing(pool, now) for pool in self.oracle.pools}
        self.oracle.authority, _ = self.both(lambda store: store.authority(POOLS))
        for pool, was in before.items() if given else ():
            after, policy = self.oracle.standing(pool, now), self.oracle.pools[pool].policy
            assert after.promised <= max(policy.capacity, was.promised), f"{pool}: {was}, {after}"

    def allotments_are_counted(self) -> None:
        """No relay believes in more than is counted for it."""
        self.follow()
        now = self.clock.now()
        for (relay, pool), known in self.believed.items():
            if known.seats and known.until > now:
                mine = self.oracle.authority.pools[pool].allotments[relay]
                assert known.seats <= mine.seats, f"{relay} may grant more than is counted"
                assert known.until <= mine.expires_at, f"{relay} may grant for longer"
