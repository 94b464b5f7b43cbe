"""Seats of a pool that a relay may grant by itself, until a deadline. Pure.

An allotment is a lease of so many seats. In every state that is committed, the seats of all allotments of a
pool and those that the authority granted itself are at most the pool's capacity; only a lowered capacity, or
what comes back after a restore, may leave it exceeded, and then nothing is given until it holds again.

The fence orders what is said of one allotment. A relay that was told n seats under a fence may believe in n
until it says less under that fence, or until its deadline. So a larger number takes a new fence, always; a
smaller one counts when the relay says it, under the very fence; and what is said under an older fence, or
beaten with an older number, changes nothing.

`hear` is the decision: `Store.allot` carries it out under the locks of the pools, whose seats are `counted`
there. There is one beat of each relay in an interval, and its size grows with the pools that a relay serves,
never with its clients. Instants do not travel: each side judges time by its own clock. Durations are in
milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import DAY, MINUTE
from sojourn.decoding import prepared
from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind
from sojourn.lease import seat_key
from sojourn.license import CAPACITY_MAX, CountBy
from sojourn.line import Line
from sojourn.pool_reader import PoolReader
from sojourn.room import Room
from sojourn.seating import refusal
from sojourn.text import check_id

ALLOTMENT_TTL = DAY
"""How long an allotment lives after a beat, unless its license says otherwise."""
ALLOTMENT_TTL_MIN = MINUTE
ALLOTMENT_TTL_MAX = 30 * DAY
RELAYS_MAX = 500
"""Relays that an authority knows; and those that ever had seats of one pool."""
WISHES_MAX = 1_000
"""Pools in a beat."""
NUMBER_MAX = 2**53 - 1
"""The largest number of a beat, fence and epoch: every store keeps them exactly."""


class RelayRefusal(StrEnum):
    """Why a beat is answered with nothing. Each is a code of the API."""

    CLONED = "relay_cloned"
    """Another process beats with this relay's name, and has begun later."""
    LATE = "relay_late"
    """A later beat of this process was heard before: this one was delayed, or is repeated."""
    LIMIT = "relay_limit"
    """The authority knows as many relays as it can (`RELAYS_MAX`)."""


@prepared
class AllotmentWish(Struct, frozen=True):
    """A pool in a beat: what the relay holds of it, and what it would like to."""

    pool_id: str
    seats: int = 0  # that it may grant: at most as many as under this fence it was given
    fence: int = 0  # of the allotment that it goes by; 0: none
    held: int = 0  # seats that its clients hold
    want: int = 0  # seats that its region could use


@prepared
class RelayBeat(Struct, frozen=True):
    """From a relay. `life` is drawn anew by each process, `number` grows over all lives of a relay."""

    relay: str
    life: str
    number: int
    epoch: int = 0  # of the authority, as last heard; 0: never
    wishes: tuple[AllotmentWish, ...] = ()

    def check(self) -> None:
        """Raise InvalidInput if it says what no relay would."""
        check_id("relay", self.relay)
        check_id("life", self.life)
        if not 1 <= self.number <= NUMBER_MAX or not 0 <= self.epoch <= NUMBER_MAX:
            raise InvalidInput("A beat has a number from 1 on, and an epoch that is not negative.")
        if len(self.wishes) > WISHES_MAX:
            raise InvalidInput(f"A beat speaks of {WISHES_MAX} pools at most.")
        if len({wish.pool_id for wish in self.wishes}) < len(self.wishes):
            raise InvalidInput("A beat speaks of each pool once.")
        for wish in self.wishes:
            seats = (wish.seats, wish.held, wish.want)
            if not all(0 <= each <= CAPACITY_MAX for each in seats):
                raise InvalidInput(f"Numbers of seats are between 0 and {CAPACITY_MAX}.")
            if not 0 <= wish.fence <= NUMBER_MAX or (wish.seats and not wish.fence):
                raise InvalidInput("Seats are held under the fence that they were given with.")


@prepared
class AllotmentGrant(Struct, frozen=True):
    """A pool in an answer: what the relay may go by from now on."""

    pool_id: str
    seats: int
    fence: int
    ttl: int  # ms, from the instant before the beat left that is answered
    keep: int | None = None  # give back what is above, if nobody sits there


@prepared
class RelayAnswer(Struct, frozen=True):
    """To a relay: which of its beats is answered, and what holds for each pool that it spoke of."""

    epoch: int
    number: int
    grants: tuple[AllotmentGrant, ...] = ()
    refused: RelayRefusal | None = None


class Allotment(Struct, frozen=True):
    """Seats of one pool that a relay may grant. Over at `expires_at`, by the authority's clock, unless the
    relay is heard before. `held` and `want` are what it said last."""

    seats: int
    fence: int
    expires_at: int
    held: int = 0
    want: int = 0


class Known(Struct, frozen=True):
    """A relay as its authority knows it: the life that it is in, its latest beat, the authority's epoch that
    it had heard of by then, and when that was."""

    life: str = ""
    number: int = 0
    epoch: int = 0
    heard_at: int = 0


class Shares(Struct, frozen=True):
    """One pool at its authority.

    Attributes: own: seats granted by the authority itself; fences: the highest of each relay that ever was,
    for a fence is never given twice; kept: seats that are free, and belong to reservations or to who waits
    at the authority; overdraft: seats above the capacity that may be granted, but never given; closed:
    nothing of it is given, and idle seats are asked back, since its license is suspended or out of its dates.
    """

    capacity: int
    own: int = 0
    ttl: int = 0
    allotments: Mapping[str, Allotment] = {}
    fences: Mapping[str, int] = {}
    kept: int = 0
    overdraft: int = 0
    closed: bool = False

    @property
    def allotted(self) -> int:
        return sum(each.seats for each in self.allotments.values())

    @property
    def free(self) -> int:
        """Seats that nobody may grant but the authority: less than none where more are out than there are."""
        return self.capacity - self.own - self.kept - self.allotted

    @property
    def over(self) -> int:
        """Seats that are out, and should not be: of a lowered capacity, or come back after a restore."""
        return max(0, self.own + self.allotted - self.capacity - self.overdraft)

    def dropped(self) -> Shares:
        """Return it once there is no such pool: what is allotted is asked back, and lives no longer."""
        return replace(self, capacity=0, own=0, kept=0, overdraft=0, ttl=0, closed=True)

    def keep(self, seats: int) -> int | None:
        """Say how many of its seats a relay is to keep; None: all."""
        if self.closed:
            return 0
        return max(0, seats - self.over) if self.over else None


class Authority(Struct, frozen=True):
    """What an authority has committed.

    Attributes: epoch: one more each time that it may have lost what it had answered; doubt_until: until when
    relays may hold what it does not know of. Nothing is given until all have spoken, or that time has passed;
    longest: the longest ttl that it ever gave.
    """

    pools: Mapping[str, Shares] = {}
    relays: Mapping[str, Known] = {}
    epoch: int = 1
    doubt_until: int = 0
    longest: int = 0

    @property
    def unheard(self) -> frozenset[str]:
        """The relays that have not spoken in this epoch."""
        return frozenset(name for name, known in self.relays.items() if known.epoch < self.epoch)

    def doubts(self, now: int) -> bool:
        """Whether a relay may hold what is not known here."""
        return now < self.doubt_until and bool(self.unheard)


def check_ttl(ttl: int) -> int:
    """Return a ttl, or raise InvalidInput."""
    if not ALLOTMENT_TTL_MIN <= ttl <= ALLOTMENT_TTL_MAX:
        raise InvalidInput("An allotment lives for between a minute and 30 days.")
    return ttl


def plain(shares: Shares, beat: RelayBeat, wish: AllotmentWish) -> bool:
    """Tell whether a wish changes nothing but until when an allotment lives."""
    mine = shares.allotments.get(beat.relay)
    if mine is None:
        return wish.want == 0 and wish.seats == 0
    return wish.want <= wish.seats == mine.seats and wish.fence == mine.fence


def counted(reader: PoolReader, shares: Shares, ttl: int, *, renewed: bool = False) -> Shares:
    """Count what of a pool is not free to be given, under its lock.

    Seats that reservations keep are not given, nor those that belong to who waits here. Where an allotment is
    but `renewed` (see `plain`) and surely all seats that are out fit, nothing is counted.
    """
    policy = reader.pool.policy
    shares = replace(
        expire(shares, reader.now),
        capacity=policy.capacity,
        overdraft=policy.overdraft,
        ttl=ttl,
        closed=refusal(reader.pool, reader.now) is not None,
    )
    allotted = shares.allotted
    if renewed and reader.room(allotted):
        return shares
    in_use = reader.count().in_use
    members = reader.members() if policy.reservations else ()
    room = Room(policy, in_use, members, allotted)
    entries = list(Line(reader.waiting(), reader.now).claiming())
    keys = {seat_key(policy.count_by, *entry.holder) for entry in entries}
    seated = reader.seats_held(keys) if keys and policy.count_by is not CountBy.LEASE else set()
    for entry in entries:
        key, place = seat_key(policy.count_by, *entry.holder), policy.place_of(entry.reservation)
        if key not in seated and room.free(place) > 0:
            seated = {*seated, key}
            room.take(place)
    free = max(0, room.free(None))
    kept = max(0, policy.capacity - in_use - allotted) - free
    return replace(shares, own=in_use, kept=kept)


def told(before: Authority, after: Authority, now: int) -> list[Event]:
    """Say what the stream is told of a beat: allotments that are larger or smaller, and an epoch that begins.
    A plain renewal is no event."""
    events = []
    if after.epoch > before.epoch:
        data = {"epoch": after.epoch, "doubtFor": max(0, after.doubt_until - now)}
        events.append(Event(kind=EventKind.AUTHORITY_RESTORED, data=data))
    for pool_id, pool in sorted(after.pools.items()):
        old = before.pools[pool_id]
        for relay in sorted(pool.fences):
            was, mine = old.allotments.get(relay), pool.allotments.get(relay)
            seats, had = (0 if each is None else each.seats for each in (mine, was))
            if seats == had:
                continue
            data = {"seats": seats, "had": had, "fence": pool.fences[relay]}
            if mine is None:
                data["expired"] = True
            events.append(
                Event(kind=EventKind.ALLOTMENT_CHANGED, pool_id=pool_id, subject=relay, data=data)
            )
    return events


def expire(pool: Shares, now: int) -> Shares:
    """Take back what is over."""
    living = {name: x for name, x in pool.allotments.items() if now < x.expires_at}
    return pool if len(living) == len(pool.allotments) else replace(pool, allotments=living)


def hear(authority: Authority, beat: RelayBeat, now: int) -> tuple[Authority, RelayAnswer]:
    """Decide what a beat is answered. The new state must be committed before the answer leaves."""
    known = authority.relays.get(beat.relay, Known())
    refused = _refusal(authority, known, beat)
    if refused is not None:
        return authority, RelayAnswer(authority.epoch, known.number, refused=refused)
    again = beat.number == known.number
    if not again:
        authority = _notice(authority, beat, now)
    # Until a relay has heard of this epoch, what it said may be older than what it holds.
    unheard = now < authority.doubt_until and beat.epoch != authority.epoch
    unsure = unheard or authority.doubts(now)
    pools, grants = dict(authority.pools), []
    for wish in beat.wishes:
        pool = pools.get(wish.pool_id)
        if pool is None:
            continue
        pool = expire(pool, now)
        if not again:
            pool = _learn(pool, beat.relay, wish, now)
            pool = pool if unsure else _give(pool, beat.relay, wish, now)
        pools[wish.pool_id] = pool
        mine = pool.allotments.get(beat.relay)
        if mine is not None:
            keep = pool.keep(mine.seats)
            # A repeated beat renews nothing: it is promised what it was when it was heard.
            ttl = min(pool.ttl, mine.expires_at - known.heard_at) if again else pool.ttl
            grants.append(AllotmentGrant(wish.pool_id, mine.seats, mine.fence, ttl, keep))
    answer = RelayAnswer(authority.epoch, beat.number, tuple(grants))
    longest = max([authority.longest, *(pools[grant.pool_id].ttl for grant in grants)])
    return replace(authority, pools=pools, longest=longest), answer


def _refusal(authority: Authority, known: Known, beat: RelayBeat) -> RelayRefusal | None:
    if beat.number <= known.number and beat.life != known.life:
        return RelayRefusal.CLONED
    if beat.number < known.number:
        return RelayRefusal.LATE
    if beat.relay not in authority.relays and len(authority.relays) >= RELAYS_MAX:
        return RelayRefusal.LIMIT
    return None


def _notice(authority: Authority, beat: RelayBeat, now: int) -> Authority:
    """Notice who has spoken since this authority was put back to an earlier state, and that it was: a relay
    knows of an epoch, or of a fence in this one, that is not known here.

    A relay that is new, and has never heard of any epoch, keeps nobody waiting: it holds nothing.
    """
    new = beat.relay not in authority.relays and not beat.epoch
    new = new and not any(wish.fence for wish in beat.wishes)
    known = authority.relays.get(beat.relay, Known())
    awaited = authority.doubts(now) and known.epoch < authority.epoch
    if beat.epoch > authority.epoch or (
        beat.epoch == authority.epoch
        and not awaited
        and any(
            wish.seats > 0 and wish.fence > authority.pools[wish.pool_id].fences.get(beat.relay, 0)
            for wish in beat.wishes
            if wish.pool_id in authority.pools
        )
    ):
        authority = restored(authority, now, epoch=max(authority.epoch, beat.epoch) + 1)
    epoch = authority.epoch if new or beat.epoch == authority.epoch else known.epoch
    heard = Known(beat.life, beat.number, epoch, now)
    return replace(authority, relays={**authority.relays, beat.relay: heard})


def restored(authority: Authority, now: int, *, epoch: int | None = None) -> Authority:
    """Begin a new epoch: relays may hold what is not known here. They say so with their beats, each once it
    has heard of the epoch: what it said before may be older than what it holds.

    The new one is an instant where that is more: put back to the same state twice, an authority does not
    begin the same epoch twice.
    """
    pools = authority.pools.values()
    longest = max([authority.longest, *(pool.ttl for pool in pools)])
    return replace(
        authority,
        epoch=max(epoch or authority.epoch + 1, now),
        doubt_until=max(authority.doubt_until, now + longest),
    )


def _learn(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
    """Take over what a relay says that it holds: never more than it was given under that fence."""
    mine = pool.allotments.get(relay)
    highest = pool.fences.get(relay, 0)
    until = now + pool.ttl
    if wish.fence > highest:  # given before a restore: it is believed, and counted from now on
        until = until if mine is None else max(until, mine.expires_at)
        return _put(pool, relay, Allotment(wish.seats, wish.fence, until, wish.held, wish.want))
    if mine is None:
        return pool
    seats = min(mine.seats, wish.seats) if wish.fence == mine.fence else mine.seats
    # Where the ttl was shortened, the relay may believe for as long as it was told before.
    until = max(until, mine.expires_at)
    return _put(pool, relay, Allotment(max(0, seats), mine.fence, until, wish.held, wish.want))


def _give(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
    """Give a relay more where it wants more and there is more, under a new fence."""
    mine = pool.allotments.get(relay)
    seats = 0 if mine is None else mine.seats
    more = 0 if pool.closed else min(wish.want - seats, pool.free)
    if more <= 0 or (relay not in pool.fences and len(pool.fences) >= RELAYS_MAX):
        return pool
    fence = pool.fences.get(relay, 0) + 1
    until = now + pool.ttl if mine is None else max(now + pool.ttl, mine.expires_at)
    return _put(pool, relay, Allotment(seats + more, fence, until, wish.held, wish.want))


def _put(pool: Shares, relay: str, mine: Allotment) -> Shares:
    return replace(
        pool,
        allotments={**pool.allotments, relay: mine},
        fences={**pool.fences, relay: mine.fence},
    )
