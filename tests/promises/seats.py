"""Clients that want seats: they contend, stay, crash, say goodbye, come back, and try what is stale."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from tests.promises.clients import Client, World
from tests.promises.history import Record
from tests.promises.wire import request

ACQUIRE = "/api/licenses/sessions"
RELEASE = "/api/licenses/sessions/current"
GHOSTS_MAX = 4


@dataclass(frozen=True, kw_only=True)
class Held:
    """A seat as its client knows it."""

    pool: str
    user: str
    client: str
    lease: str
    fence: int
    token: str

    @property
    def about(self) -> dict[str, Any]:
        return {"p": self.pool, "h": f"{self.user}/{self.client}", "l": self.lease, "f": self.fence}


class Seated(Client):
    """What a client can do with seats."""

    async def acquire(
        self,
        pool: str,
        user: str,
        client: str,
        *,
        session: str | None = None,
        key: str = "",
        hand: int = 0,
    ) -> Held | Record:
        """Ask for a seat with the license key: the seat, the record of an answer that is none, or None."""
        asked = {"feature": pool, "userId": user, "clientId": client}
        about: dict[str, Any] = {"p": pool, "h": f"{user}/{client}"}
        if session is not None:
            asked["sessionId"] = about["s"] = session
        if key:
            about["key"] = key
        wire = request(
            "POST", ACQUIRE, bearer=self.plan.key, body=json.dumps(asked).encode(), key=key
        )
        record, data = await self.ask("acquire", wire, about, hand=hand)
        return _held(record, data, pool, user, client)

    async def resume(self, held: Held) -> Held | Record:
        """Come back by the token of a lease."""
        about = {
            "p": held.pool,
            "h": f"{held.user}/{held.client}",
            "l": held.lease,
            "f": held.fence,
        }
        wire = request("POST", ACQUIRE, bearer=held.token, body=b"")
        record, data = await self.ask("acquire", wire, about)
        return _held(record, data, held.pool, held.user, held.client)

    async def beat(self, held: Held, *, closing: bool = False) -> Record:
        about = held.about | ({"bye": True} if closing else {})
        record, _ = await self.beat_call(held.token, about, closing=closing)
        return record

    async def release(self, held: Held) -> Record:
        wire = request("DELETE", RELEASE, bearer=held.token)
        record, _ = await self.ask("release", wire, held.about)
        return record

    async def release_surely(self, held: Held) -> None:
        """Give a seat back, asking again while there is no answer."""
        for _ in range(4):
            record = await self.release(held)
            if record.fine:
                return
            await self.rest(0.2)


def _held(record: Record, data: dict[str, Any], pool: str, user: str, client: str) -> Held | Record:
    if record.status != 201 or "token" not in data:
        return record
    return Held(
        pool=pool,
        user=user,
        client=client,
        lease=data["leaseId"],
        fence=data["fence"],
        token=data["token"],
    )


def contender(at: int, number: int) -> str:
    """Name the user of a contender, by the place of its pool and its number there."""
    return f"u{_contender(at, number)}"


def _contender(at: int, number: int) -> int:
    return 2_000 + at * 100 + number


class Contender(Seated):
    """Asks again and again for a seat in a pool that is full."""

    def __init__(self, world: World, number: int, pool: str) -> None:
        super().__init__(world, number)
        self.pool = pool
        self.generation = 0
        self.ghosts: deque[tuple[float, Held]] = deque(maxlen=GHOSTS_MAX)

    @property
    def client(self) -> str:
        return f"c{self.generation}"

    async def run(self) -> None:
        user = f"u{self.number}"
        while not self.world.over:
            if self.ghosts and self._time_to_haunt(self.ghosts[0][0]):
                await self._haunt()
            held = await self.acquire(self.pool, user, self.client)
            if isinstance(held, Held):
                await self._live(held)
            think = self.plan.think * (0.3 + 1.4 * self.random.random())
            unsent = isinstance(held, Record) and held.said.get("x") == "refused"
            await self.rest(0.05 if unsent else think)

    async def _live(self, held: Held) -> None:
        roll = self.random.random()
        if roll < 0.62:
            await self.rest(0.02 + 0.1 * self.random.random())
            if self.random.random() < 0.4:
                await self.beat(held)
            await self._give_back(held)
        elif roll < 0.70:
            await self._hold(held, 1 + 2 * self.random.random())
        elif roll < 0.74:
            self._vanish(held)
        elif roll < 0.80:
            await self._crash(held)
        elif roll < 0.86:
            await self._goodbye(held)
        elif roll < 0.93:
            await self._replay(held)
        else:
            await self._come_back(held)

    async def _give_back(self, held: Held) -> None:
        await self.release(held)
        if self.random.random() < 0.1:
            await self.beat(held)
            await self.resume_and_let_go(held)

    async def resume_and_let_go(self, held: Held) -> None:
        back = await self.resume(held)
        if isinstance(back, Held):
            await self.release_surely(back)

    async def _hold(self, held: Held, seconds: float) -> None:
        """Keep the seat for a while, as people do, and give it back."""
        pool = self.plan.pools[self.pool]
        until = self.world.age + seconds
        while self.world.age < until:
            await self.rest(pool.heartbeat * 0.5)
            record = await self.beat(held)
            if record.status == 410:
                return
        await self.release(held)

    def _vanish(self, held: Held) -> None:
        """Go silent for good: a ghost keeps the seat until it is lost."""
        self.ghosts.append((self.world.age, held))
        self.generation += 1

    async def _crash(self, held: Held) -> None:
        """Crash, and come back as the same client: one seat, never two; the old token is worth nothing."""
        await self.rest(0.3 * self.random.random())
        again = await self.acquire(self.pool, held.user, held.client)
        if isinstance(again, Held):
            await self.beat(held)
            await self.release_surely(again)

    async def _goodbye(self, held: Held) -> None:
        """Close a tab. Half of them are opened again before the linger is over."""
        await self.beat(held, closing=True)
        if self.random.random() < 0.5:
            await self.beat(held)
            await self.rest(0.05)
            await self._give_back(held)
        else:
            self.generation += 1

    async def _replay(self, held: Held) -> None:
        """Try a stale token in every way: none may do anything."""
        again = await self.acquire(self.pool, held.user, held.client)
        if not isinstance(again, Held):
            return
        await self.release(held)
        await self.beat(held)
        await self.beat(again)
        await self.resume(held)
        await self.beat(held, closing=True)
        await self.rest(0.05)
        await self.beat(again)
        await self.release_surely(again)

    async def _come_back(self, held: Held) -> None:
        """Resume a living lease by its token."""
        back = await self.resume(held)
        if isinstance(back, Held):
            await self.beat(held)
            await self.rest(0.05)
            await self._give_back(back)

    def _time_to_haunt(self, vanished: float) -> bool:
        """Tell whether a ghost returns: mostly once somebody else may have its seat."""
        gone = self.world.age - vanished > self.plan.pools[self.pool].patience + 0.5
        return self.random.random() < (0.1 if gone else 0.002)

    async def _haunt(self) -> None:
        """A ghost of long ago beats again, or asks to come back."""
        _, ghost = self.ghosts.popleft()
        if self.random.random() < 0.5:
            await self.beat(ghost)
        back = await self.resume(ghost)
        if isinstance(back, Held):
            await self.rest(0.1)
            await self.beat(back)
            await self.release_surely(back)


class Stayer(Seated):
    """Holds a seat for as long as it can, and beats on time: it must never lose it."""

    def __init__(self, world: World, number: int, pool: str) -> None:
        super().__init__(world, number)
        self.pool = pool

    async def run(self) -> None:
        held: Held | None = None
        interval = self.plan.pools[self.pool].heartbeat
        while not self.world.over:
            if held is None:
                got = await self.acquire(self.pool, f"stay{self.number}", "one")
                held = got if isinstance(got, Held) else None
                await self.rest(0.05)
                continue
            record = await self.beat(held)
            if record.done is None or record.status >= 500:
                await self.rest(0.05)  # and on to the other server
            elif record.status == 410:
                back = await self.resume(held) if record.said.get("resumable") else None
                held = back if isinstance(back, Held) else None
            else:
                await self.rest(interval * (0.6 + 0.4 * self.random.random()))
        if held is not None:
            await self.release(held)


class Twice(Seated):
    """Sends each acquire twice under one Idempotency-Key, as a proxy does that asks again by itself."""

    def __init__(self, world: World, number: int, pool: str) -> None:
        super().__init__(world, number, hands=2)
        self.pool = pool

    async def run(self) -> None:
        round_ = 0
        while not self.world.over:
            round_ += 1
            key = f"{self.number}-{round_}" if self.plan.idempotent else ""
            user, client = f"twice{self.number}", f"c{round_ % 5}"
            first, second = await self._both(user, client, key)
            seats = [held for held in (first, second) if isinstance(held, Held)]
            for held in sorted(seats, key=lambda held: held.fence):
                await self.beat(held)
            for held in sorted(seats, key=lambda held: held.fence):
                await self.release(held)
            await self.rest(0.1)

    async def _both(self, user: str, client: str, key: str) -> tuple[Held | Record, Held | Record]:
        if self.random.random() < 0.3:  # the copy comes late
            first = await self.acquire(self.pool, user, client, key=key)
            await self.rest(0.05 * self.random.random())
            return first, await self.acquire(self.pool, user, client, key=key, hand=1)
        one = asyncio.ensure_future(self.acquire(self.pool, user, client, key=key))
        two = asyncio.ensure_future(self.acquire(self.pool, user, client, key=key, hand=1))
        return await one, await two


class Rushing(Seated):
    """One of a storm: asks without a pause."""

    def __init__(self, world: World, number: int, pool: str, until: float) -> None:
        super().__init__(world, number)
        self.pool, self.until = pool, until

    async def run(self) -> None:
        while self.world.age < self.until and not self.world.over:
            held = await self.acquire(self.pool, f"rush{self.number}", "one")
            if isinstance(held, Held):
                await self.release_surely(held)
            elif held.status in (0, 503):
                await self.rest(0.02)
        for caller in self.callers:
            caller.close()


def crowd(world: World) -> list[Client]:
    """Make the clients of all hot pools. Those who stay come first, so that they find a seat."""
    plan, clients = world.plan, list[Client]()
    for at, pool in enumerate(plan.hot):
        clients += [Stayer(world, 1_000 + at * 20 + n, pool) for n in range(plan.stayers)]
    for at, pool in enumerate(plan.hot):
        clients += [Contender(world, _contender(at, n), pool) for n in range(plan.contenders)]
    clients += [Twice(world, 3_000 + n, "desk") for n in range(plan.copies)]
    return clients


def storms(world: World) -> list[Coroutine[Any, Any, None]]:
    return [_storm(world, number, *storm) for number, storm in enumerate(world.plan.storms)]


async def _storm(world: World, number: int, start: float, end: float, connections: int) -> None:
    watch = Client(world, 9_000 + number)
    await watch.rest(max(0.0, start - world.age))
    rushing = [Rushing(world, 10_000 + number * 2_000 + n, "rush", end) for n in range(connections)]
    await asyncio.gather(*(one.run() for one in rushing))


__all__ = ["Contender", "Held", "Seated", "Stayer", "contender", "crowd", "storms"]
