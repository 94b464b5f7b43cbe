"""Application backends for people: sessions begun, checked, saved in parallel, rotated and ended."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.promises.clients import Client, World
from tests.promises.history import Record
from tests.promises.seats import Held, Seated
from tests.promises.wire import request

BASE = "/api/sessions"
KEYS = ("k0", "k1", "k2", "k3")
LIVES = {"lifetime": 40 * 86_400, "idleTimeout": 20 * 86_400}
"""Longer than any clock is set forward."""
GRACE = 1.0  # seconds a rotated token still works
GIVEN_UP = 1.3  # seconds after which a request that was given up must do nothing any more
ENDED_MAX = 24


@dataclass(kw_only=True)
class Session:
    """A session as its backend knows it. `turn` counts its tokens."""

    id: str
    user: str
    token: str
    turn: int = 0
    saved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))

    @property
    def about(self) -> dict[str, Any]:
        return {"id": self.id, "u": self.user, "t": self.turn}


class Backend(Seated):
    """What a client can do with sessions."""

    async def begin(self, user: str) -> Session | None:
        body = {"userId": user, "data": dict.fromkeys(KEYS, 0), "timeouts": LIVES}
        wire = request("POST", BASE, bearer=self.plan.admin, body=json.dumps(body).encode())
        record, data = await self.ask("begin", wire, {"u": user, "d": body["data"]})
        if not record.fine or "token" not in data:
            return None
        return Session(id=data["session"]["id"], user=user, token=data["token"])

    async def check(self, session: Session, *, hand: int = 0) -> Record:
        wire = request("GET", BASE + "/current", bearer=self.plan.admin, session=session.token)
        record, _ = await self.ask("check", wire, session.about, hand=hand)
        return record

    async def save(
        self, session: Session, key: str, *, hand: int = 0, abandon: float | None = None
    ) -> Record:
        """Save the next value of a key: each has one writer, which waits for its answers."""
        value = session.saved[key] = session.saved[key] + 1
        wire = request(
            "PATCH",
            BASE + "/current",
            bearer=self.plan.admin,
            session=session.token,
            body=json.dumps({"set": {key: value}}).encode(),
        )
        about = session.about | {"k": key, "v": value}
        record, _ = await self.ask("save", wire, about, hand=hand, abandon=abandon)
        return record

    async def rotate(self, session: Session) -> Session | None:
        wire = request(
            "POST",
            BASE + "/current/rotate",
            bearer=self.plan.admin,
            session=session.token,
            body=json.dumps({"grace": GRACE}).encode(),
        )
        record, data = await self.ask("rotate", wire, session.about)
        if not record.fine or "token" not in data:
            return None
        return Session(
            id=session.id,
            user=session.user,
            token=data["token"],
            turn=session.turn + 1,
            saved=session.saved,
        )

    async def end(self, session: Session) -> Record:
        wire = request("DELETE", BASE + "/current", bearer=self.plan.admin, session=session.token)
        record, _ = await self.ask("end", wire, session.about)
        return record

    async def end_others(self, session: Session, abandon: float | None = None) -> Record:
        wire = request(
            "POST", BASE + "/current/end-others", bearer=self.plan.admin, session=session.token
        )
        record, _ = await self.ask("others", wire, session.about, abandon=abandon)
        return record

    async def cut_off(self, user: str) -> Record:
        wire = request("DELETE", f"{BASE}?userId={user}", bearer=self.plan.admin)
        record, _ = await self.ask("cutoff", wire, {"u": user})
        return record


class Person(Backend):
    """Signs in, works in several tabs at once, takes a seat, and signs out one way or another."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number, hands=len(KEYS))
        self.ended: deque[Session] = deque(maxlen=ENDED_MAX)
        self.lives = 0

    async def run(self) -> None:
        while not self.world.over:
            self.lives += 1
            session = await self.begin(f"p{self.number}-{self.lives}")
            if session is None:
                await self.rest(0.1)
                continue
            seat = await self._seat(session) if self.random.random() < 0.4 else None
            session = await self._work(session, seat)
            if session is not None:
                await self._leave(session, seat)
            if self.ended:
                await self.check(self.random.choice(self.ended))
            await self.rest(0.02)

    async def _seat(self, session: Session) -> Held | None:
        held = await self.acquire("desk", session.user, "one", session=session.id)
        return held if isinstance(held, Held) else None

    async def _work(self, session: Session, seat: Held | None) -> Session | None:
        for _ in range(self.random.randint(2, 6)):
            if self.world.over:
                break
            if self.random.random() < 0.15:
                old, rotated = session, await self.rotate(session)
                if rotated is None:
                    await self.check(old)
                    return None  # which of its tokens works now nobody can say
                session = rotated
                if self.random.random() < 0.3:
                    await self.rest(GRACE + 0.3)
                    await self.check(old)
                await self.check(session)
                continue
            keys = self.random.sample(KEYS, self.random.randint(1, len(KEYS)))
            await asyncio.gather(*(self.save(session, key, hand=n) for n, key in enumerate(keys)))
            await self.check(session)
            if seat is not None:
                await self.beat(seat)
            await self.rest(0.03 * self.random.random())
        return session

    async def _leave(self, session: Session, seat: Held | None) -> None:
        roll = self.random.random()
        if roll < 0.55:
            ended: Record | None = await self.end(session)
        elif roll < 0.80:
            ended = await self._leave_from_elsewhere(session)
        elif roll < 0.92 and self.plan.cutoffs:
            ended = await self.cut_off(session.user)
        else:
            return  # never seen again
        await self.check(session)
        if ended is None or not ended.fine:
            return
        self.ended.append(session)
        await self.save(session, KEYS[0])
        if seat is not None:
            await self.beat(seat)
            await self.acquire("desk", session.user, "two", session=session.id)
            if roll >= 0.80:
                await self.rest(5.5)  # seats of a cutoff may be given back a little later
                await self.beat(seat)

    async def _leave_from_elsewhere(self, session: Session) -> Record | None:
        other = await self.begin(session.user)
        if other is None:
            return None
        ended = await self.end_others(other)
        await self.check(other)
        await self.end(other)
        return ended


class Hasty(Backend):
    """Gives requests up right after they were sent. They must do nothing once it has gone on."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number, hands=2)
        self.lives = 0

    async def run(self) -> None:
        while not self.world.over:
            self.lives += 1
            session = await self.begin(f"hasty{self.number}-{self.lives}")
            if session is None:
                await self.rest(0.1)
            elif self.random.random() < 0.5:
                await self._saves(session)
            else:
                await self._signs_out(session)

    async def _saves(self, session: Session) -> None:
        for _ in range(4):
            if self.world.over:
                return
            await self.save(session, "k0", hand=1, abandon=0.01 * self.random.random())
            await self.rest(GIVEN_UP)
            await self.save(session, "k0")
            await self.check(session)
            await self.rest(0.3)
            await self.check(session)

    async def _signs_out(self, session: Session) -> None:
        await self.end_others(session, abandon=0.01 * self.random.random())
        await self.rest(GIVEN_UP)
        later = await self.begin(session.user)
        if later is None:
            return
        for _ in range(4):
            await self.check(later)
            await self.rest(0.4)


def crowd(world: World) -> list[Client]:
    plan = world.plan
    clients: list[Client] = [Person(world, 5_000 + n) for n in range(plan.people)]
    if plan.late:
        clients += [Hasty(world, 6_000 + n) for n in range(plan.lates)]
    return clients
