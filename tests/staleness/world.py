"""A full pool on the real store, by a clock that is moved: traces beat, people wait, seats change hands.

What the traces know (who is gone) is kept from all that decides: it judges afterwards.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace
from tests.staleness.traces import MINUTE, SECOND, Away, Life, Sign, cut, next_life, outages

from sojourn.clock import ManualClock
from sojourn.event import EventKind
from sojourn.lease import Acquire, Beat, Denied, Doubt, Lease, LeaseFilter, Release, Renew
from sojourn.license import Policy, Pool, WhenFull
from sojourn.staleness.scores import Score, network_around
from sojourn.staleness.suspicion import Suspicion
from sojourn.store import Action
from sojourn.stores.memory import MemoryStore

POOL = "lic_1:editor"
TICK = 500
ARRIVALS = 17 * SECOND
"""How far apart those come who want one of forty seats, on average: a few more than can be served."""
PATIENCE = 2 * MINUTE
"""For how long somebody waits in line."""
NOTICED = 200
"""ms from when a socket drops to when its server has noticed."""
SNAPSHOT = 10 * SECOND


class Client(Struct):
    life: Life
    began: int
    lease: Lease
    expires_at: int
    heard_at: int
    dropped_at: int | None = None
    ghost_since: int | None = None
    contended: int = 0  # ms of its present time as a ghost for which somebody waited for a seat


class Hold(Struct, frozen=True):
    """A ghost that kept somebody waiting."""

    shape: str
    ms: int


class Loss(Struct, frozen=True):
    """A living holder that lost its seat. `how`: by the scheme, by the policy, or by the contract."""

    shape: str
    how: str


class Snapshot(Struct, frozen=True):
    phi: float
    excused: bool
    silent: bool  # later than expected
    ghost: bool


class Seen(Struct):
    """What the judge saw."""

    holds: list[Hold] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    surprises: list[tuple[str, float]] = field(default_factory=list)  # phi when a living one beat
    served: int = 0
    gave_up: int = 0
    asked: int = 0


class World:
    """One run. `scheme` is called at each tick while somebody waits and was denied."""

    def __init__(
        self,
        *,
        seed: int,
        capacity: int,
        when_full: WhenFull,
        scheme: Callable[[World], None],
        doubts: bool = False,
        measure: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.start = self.clock.now()
        self.policy = Policy(capacity=capacity, when_full=when_full)
        self.store = MemoryStore(clock=self.clock, max_pause=10**12)
        self.store.define([Pool(license_id="lic_1", feature="editor", policy=self.policy)])
        self.suspicion = Suspicion(now=self.clock.now)
        self.scheme = scheme
        self.doubts = doubts
        self.measure = measure
        self.seed = seed
        self.arrivals = random.Random(f"{seed}/arrivals")  # the same for all schemes
        self.every = ARRIVALS * 40 // capacity
        self.clients: dict[str, Client] = {}
        self.line: deque[tuple[int, int]] = deque()  # since when, number
        self.due: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.numbers = itertools.count()
        self.office: tuple[Away, ...] = ()
        self.events_read = 0
        self.seen = Seen()
        self.cause = "policy"

    def now(self) -> int:
        return self.clock.now()

    def run(self, ms: int) -> Seen:
        self.office = tuple(
            Away(begin=x.begin + self.start, end=x.end + self.start)
            for x in outages(random.Random(f"{self.seed}/outages"), ms)  # a trace
        )
        self.at(self.start, self.arrive)
        for tick in range(self.start, self.start + ms, TICK):
            while self.due and self.due[0][0] <= tick:
                at, _, do = heapq.heappop(self.due)
                self.clock.advance(milliseconds=at - self.now())
                do()
            self.clock.advance(milliseconds=tick - self.now())
            self.tick(tick - self.start)
        return self.seen

    def at(self, when: int, do: Callable[[], None]) -> None:
        heapq.heappush(self.due, (when, next(self.order), do))

    def arrive(self) -> None:
        self.line.append((self.now(), next(self.numbers)))
        wait = round(self.arrivals.expovariate(1 / self.every))
        self.at(self.now() + max(1, wait), self.arrive)

    def tick(self, since_start: int) -> None:
        self.suspicion.tick()
        while self.line and self.now() - self.line[0][0] > PATIENCE:
            self.line.popleft()
            self.seen.gave_up += 1
        self.serve()
        if self.line:
            self.scheme(self)
        self.judge()
        if self.measure and since_start % SNAPSHOT == 0:
            self.snapshot()
        if since_start % (10 * MINUTE) == 0:
            self.store.sweep(limit=500)

    def serve(self) -> None:
        """Let the line in, as far as there are seats."""
        while self.line and self.acquire(self.line[0][1]):
            self.line.popleft()

    def acquire(self, number: int) -> bool:
        r = random.Random(f"{self.seed}/{number}")  # a trace
        life = next_life(r, number)
        wish = Acquire(
            pool_id=POOL,
            user_id=f"user{number}",
            client_id="app",
            lease_id=f"lse_{number}",
            device=life.device,
        )
        answer = self.store.acquire([wish])[0]
        self.ended()
        if not isinstance(answer, Lease):
            assert isinstance(answer, Denied)
            return False
        if life.shape == "office":
            life = cut(life, self.office, self.now())
        self.seen.served += 1
        self.clients[answer.id] = client = Client(
            life=life,
            began=self.now(),
            lease=answer,
            expires_at=answer.expires_at,
            heard_at=self.now(),
        )
        self.suspicion.granted([answer])
        for sign in life.signs:
            if life.reachable(sign.at):
                self.at(client.began + sign.at, partial(self.beat, client, sign))
        for dropped, reopened in life.drops:
            self.at(client.began + dropped + NOTICED, lambda: self.drop(client))
            self.at(client.began + reopened, lambda: self.beat(client, Sign(at=0)))
        self.at(client.began + life.ends_at, lambda: self.end(client))
        return True

    def holds(self, client: Client) -> bool:
        return self.clients.get(client.lease.id) is client

    def beat(self, client: Client, sign: Sign) -> None:
        offset = self.now() - client.began
        if not self.holds(client) or not client.life.reachable(offset):
            return
        if self.measure and not sign.closing:
            self.surprised(client)
        beat = Beat(next_in=sign.next_in, closing=sign.closing)
        lease = client.lease
        renewal = self.store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=beat)])[0]
        if renewal is None:
            return  # `judge` has it
        self.suspicion.heard([(lease.id, sign.next_in)])
        client.expires_at = self.now() + renewal.expires_in
        client.heard_at, client.dropped_at = self.now(), None

    def surprised(self, client: Client) -> None:
        """Note how much a living client was doubted when it was heard again."""
        slept = any(
            x.asleep and client.heard_at - client.began < x.end <= self.now() - client.began
            for x in client.life.aways
        )
        if not slept:
            [score] = self.scores([client])
            self.seen.surprises.append((client.life.shape, score.phi))

    def drop(self, client: Client) -> None:
        if self.holds(client) and not client.life.reachable(self.now() - client.began):
            client.dropped_at = self.now()
            if self.doubts:
                self.store.doubt([Doubt(lease_id=client.lease.id, fence=client.lease.fence)])

    def callers(self, *, since: int) -> set[str]:
        """Name the networks of those who have come since then and stand in line: their call got through."""
        found = set()
        for at, number in self.line:
            life = next_life(random.Random(f"{self.seed}/{number}"), number)  # a trace
            cut_off = life.shape == "office" and any(x.begin <= at < x.end for x in self.office)
            network = network_around(life.device.ip)
            if at > since and not cut_off and network is not None:
                found.add(network)
        return found

    def end(self, client: Client) -> None:
        if not self.holds(client):
            return
        if client.life.released and not client.life.ghost(self.now() - client.began - 1):
            self.store.release([Release(lease_id=client.lease.id, fence=client.lease.fence)])
            self.over(client, living=False)
        elif client.life.seen_to_end:
            self.at(self.now() + NOTICED, lambda: self.drop(client))

    def rows(self, clients: list[Client]) -> list[Lease]:
        """Return the leases as the store shows them, with the doubt that a dropped socket raises."""
        found, _ = self.store.leases(
            LeaseFilter(ids=tuple(x.lease.id for x in clients)), limit=1_000
        )
        by_id = {x.lease.id: x.dropped_at for x in clients}
        return [
            x if (at := by_id[x.id]) is None else replace(x, suspect_at=min(x.suspect_at, at))
            for x in found
        ]

    def scores(self, clients: list[Client]) -> list[Score]:
        return self.suspicion.assess(self.rows(clients), self.policy, self.now())

    def snapshot(self) -> None:
        by_id = {score.lease_id: score for score in self.scores(list(self.clients.values()))}
        for client in self.clients.values():
            if (score := by_id.get(client.lease.id)) is not None:
                self.seen.snapshots.append(
                    Snapshot(
                        score.phi,
                        score.excused,
                        score.silent_for > score.due_in,
                        client.life.ghost(self.now() - client.began),
                    )
                )

    def reclaim(self, leases: list[Lease]) -> None:
        """End leases for the scheme, and give their seats to the line."""
        self.cause = "scheme"
        ids = tuple(x.id for x in leases)
        if ids:
            self.store.revoke(LeaseFilter(ids=ids), Action(actor="system:scheme"))
            self.ended()
        self.cause = "policy"
        self.serve()

    def ended(self) -> None:
        """See in the stream whose lease the store has ended."""
        kinds = (EventKind.LEASE_EVICTED, EventKind.LEASE_REVOKED)
        while events := self.store.events(after=self.events_read, limit=1_000):
            self.events_read = events[-1].id
            for event in events:
                client = self.clients.get(event.subject or "")
                if event.kind in kinds and client is not None:
                    self.over(client, living=True)

    def over(self, client: Client, *, living: bool, how: str | None = None) -> None:
        """A client holds no seat any more; `living`: it is a loss, if it did live."""
        del self.clients[client.lease.id]
        self.suspicion.forget([client.lease.id])
        if client.life.ghost(self.now() - client.began):
            self.held(client)
        elif living:
            self.seen.losses.append(Loss(client.life.shape, how or self.cause))

    def held(self, client: Client) -> None:
        if client.contended:
            self.seen.holds.append(Hold(client.life.shape, client.contended))
        client.ghost_since, client.contended = None, 0

    def judge(self) -> None:
        """Find who has expired, who has become a ghost or come back, and count who is waited for."""
        now = self.now()
        for client in list(self.clients.values()):
            if client.expires_at <= now:
                self.over(client, living=True, how="contract")
            elif not client.life.ghost(now - client.began):
                if client.ghost_since is not None:
                    self.held(client)
            else:
                client.ghost_since = client.ghost_since or now
                client.contended += TICK if self.line else 0
