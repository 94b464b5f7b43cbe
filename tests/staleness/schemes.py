"""The ways of getting a ghost's seat back that are compared."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from tests.staleness.world import Client, World

from sojourn.lease import Lease
from sojourn.license import WhenFull
from sojourn.staleness.asking import FRESH, gone, whom_to_ask
from sojourn.staleness.scores import Score, order

PATIENCE = 1_500
"""ms for which an answer is waited for."""
ASKED_MAX = 200
PHI = 2.0


class Scheme(Struct, frozen=True, kw_only=True):
    """How a pool deals with those who wait. `make` returns what is done at each tick while somebody does."""

    name: str
    when_full: WhenFull
    make: Callable[[], Callable[[World], None]]
    doubts: bool = False  # whose socket drops is doubted in the store, as servers do


def nothing() -> Callable[[World], None]:
    """Wait for the policy and the contract."""
    return lambda _: None


def by_phi() -> Callable[[World], None]:
    """End who is doubted most, without asking."""

    def tick(world: World) -> None:
        clients = list(world.clients.values())
        rows, scores = _judged(world, clients)
        doubtful = order(rows, scores, at_least=PHI)
        world.reclaim(doubtful[: len(world.line)])

    return tick


class Asking:
    """Ask, wait for the answers, and give the seats of who did not answer to the line. One at a time."""

    def __init__(self, *, everybody: bool, weigh: bool) -> None:
        """`everybody`: also who does not seem to be gone is asked, as often as a server does."""
        self.everybody = everybody
        self.weigh = weigh
        self.asked: list[str] = []
        self.asked_at = 0
        self.all_asked_at = -FRESH
        self.doubtful: set[str] = set()
        self.heard_from: set[str] = set()

    def __call__(self, world: World) -> None:
        if not self.asked:
            self.ask(world)
        elif world.now() - self.asked_at >= PATIENCE:
            self.decide(world)

    def ask(self, world: World) -> None:
        now, late = world.now(), world.policy.heartbeat_interval
        sockets = [x for x in world.clients.values() if x.life.on_socket]
        doubtful = [x for x in sockets if x.dropped_at is not None or now - x.heard_at >= late]
        reached = doubtful
        if self.everybody and now - self.all_asked_at >= FRESH:
            reached, self.all_asked_at = sockets, now
        rows, scores = _judged(world, reached)
        asked = rows
        if self.weigh:
            asked = whom_to_ask(rows, world.rows(sockets), scores, limit=ASKED_MAX)
        self.heard_from = world.callers(since=self.asked_at)
        self.asked, self.asked_at = [x.id for x in asked], now
        self.doubtful = {x.lease.id for x in doubtful}
        world.seen.asked += len(asked)

    def decide(self, world: World) -> None:
        clients = [world.clients[x] for x in self.asked if x in world.clients]
        rows, scores = _judged(world, clients)
        answered = {x.lease.id for x in clients if self.answers(world, x)}
        for client in clients:
            if client.lease.id in answered:
                client.heard_at = world.now()
        self.asked = []
        if self.weigh:
            out = gone(
                rows,
                answered,
                scores,
                world.policy,
                waited=PATIENCE,
                doubtful=self.doubtful,
                heard_from=self.heard_from,
            )
        else:
            out = [x for x in rows if x.id not in answered]
        world.reclaim(out)

    def answers(self, world: World, client: Client) -> bool:
        """Tell whether a client was heard in time: it could be reached, and had 200 ms left."""
        began = self.asked_at - client.began
        return client.heard_at > self.asked_at or any(
            client.life.reachable(began + at) for at in range(0, PATIENCE - 200, 100)
        )


def _judged(world: World, clients: list[Client]) -> tuple[list[Lease], dict[str, Score]]:
    """Score these among all holders of the pool, as only a whole pool tells of an outage."""
    everybody = list(world.clients.values())
    scores = {x.lease_id: x for x in world.scores(everybody)}
    return world.rows(clients) if clients else [], scores


SCHEMES = (
    Scheme(name="fixed 90 s", when_full=WhenFull.DENY, make=nothing),
    Scheme(name="suspects at 70 s", when_full=WhenFull.RECLAIM_SUSPECT, make=nothing),
    Scheme(name="phi >= 2, unasked", when_full=WhenFull.DENY, make=by_phi),
    Scheme(
        name="ask the late, end the silent",
        when_full=WhenFull.DENY,
        make=lambda: Asking(everybody=False, weigh=False),
    ),
    Scheme(
        name="ask the late, weigh the silence",
        when_full=WhenFull.DENY,
        make=lambda: Asking(everybody=False, weigh=True),
    ),
    Scheme(
        name="ask all, weigh the silence",
        when_full=WhenFull.DENY,
        make=lambda: Asking(everybody=True, weigh=True),
    ),
    Scheme(
        name="the same, and the policy: as servers do",
        when_full=WhenFull.RECLAIM_SUSPECT,
        doubts=True,
        make=lambda: Asking(everybody=True, weigh=True),
    ),
)
