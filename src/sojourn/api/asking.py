"""Asked before somebody is denied: are you there?

A store refuses tentatively while a seat is held by somebody who seems to be gone. Then those whose sockets
have been silent, or have dropped, get `ANSWER_WITHIN` to show life: on the sockets of this process at once,
on those of other servers by an event on the stream. Whoever did not is doubted at once, and it is decided
once more. One asking of a pool is under way at a time, for all who wait for it; they wait in tasks, with no
thread and no place in the batcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from sojourn.api.limits import Blocking
from sojourn.api.seat_messages import ASK
from sojourn.errors import SojournError
from sojourn.event import Event
from sojourn.lease import Asked, Denied
from sojourn.log import get_logger
from sojourn.service.presence import Attendant, Presence
from sojourn.service.services import Services
from sojourn.settings import Settings

log = get_logger(__name__)

ANSWER_WITHIN = 1.5
"""Seconds for an answer; and on another server, which first has to hear of it:"""
ANSWER_WITHIN_ELSEWHERE = 1.2
RESULT_WITHIN = 2.0
"""Seconds after which other servers have done what they could."""
LOOK = 0.05
"""Seconds between two looks whether all have answered."""
LATE = 0.2
"""Seconds after which an asking has long begun."""
WAITING_MAX = 5_000
"""Requests that may wait for an asking. More are refused without."""
SILENT_KEPT = 1_000
"""Of those who did not answer, so many are held against a later refusal."""
NOBODY_ELSEWHERE = 60.0
"""Seconds for which other servers are not asked about a pool after none said that it has sockets of it."""
REPLY_WITHIN = 2.0
"""Seconds, after they have had their time, until they are taken for having none."""
POOLS_MAX = 10_000


class Sockets(Protocol):
    """What is done with sockets: see `SeatSockets`."""

    def watch(self) -> None: ...

    async def renew_all(self, attendants: Sequence[Attendant]) -> bool: ...

    async def doubt(
        self, attendants: Sequence[Attendant], *, at_once: bool
    ) -> list[bool | None]: ...


class _Asking:
    """One asking of a pool."""

    def __init__(self) -> None:
        self.elsewhere: list[Asked] = []  # what other servers said
        self.heard = False  # whether any did


class Askings:
    """Asks holders. Belongs to one event loop, but for `may_ask`."""

    def __init__(
        self,
        services: Services,
        settings: Settings,
        looks: Blocking,
        presence: Presence,
        sockets: Sockets,
    ) -> None:
        self._services = services
        self._settings = settings
        self._looks = looks
        self._presence = presence
        self._sockets = sockets
        self._under_way: dict[str, tuple[float, asyncio.Task[Asked]]] = {}  # since when
        self._replies: dict[str, _Asking] = {}
        self._local: dict[str, asyncio.Task[Asked]] = {}
        self._nobody: dict[str, float] = {}  # pools that no other server has sockets of, until when
        self._waiting = 0
        self.asked = 0
        self.answered = 0
        self.denials_with_ghost = 0

    @property
    def under_way(self) -> bool:
        return bool(self._under_way or self._replies)

    def may_ask(self, pool_id: str) -> bool:
        """Tell whether anybody could be asked about a pool: on our sockets, or on another server's. May be
        called from any thread."""
        return pool_id in self._presence.pools or self._elsewhere(pool_id)

    def _elsewhere(self, pool_id: str) -> bool:
        if not self._services.presence.others:
            return False
        return self._nobody.get(pool_id, 0.0) <= time.monotonic()

    async def ask(self, denied: Denied, *, once_more: bool) -> Asked | None:
        """Ask about the pool of a tentative refusal; return what came back. Never raises a SojournError.

        Who comes when an asking has long begun waits for that one. Others may have fallen silent since, who
        were not asked: so with `once_more` the answer is None, and a second refusal is tentative, too.
        """
        if self._waiting >= WAITING_MAX or not denied.evidence:
            return Asked(complete=False)
        pool_id = denied.evidence[0].pool_id  # a suspect holds a seat, so somebody is named
        loop = asyncio.get_running_loop()
        began, under_way = self._under_way.get(pool_id, (loop.time(), None))
        late = loop.time() - began > LATE
        if under_way is None:
            under_way = loop.create_task(self._ask(pool_id))
            self._under_way[pool_id] = (began, under_way)
            under_way.add_done_callback(lambda _: self._under_way.pop(pool_id, None))
        self._waiting += 1
        try:
            found = await asyncio.shield(under_way)  # who hangs up takes it from nobody else
        finally:
            self._waiting -= 1
        return None if late and once_more else found

    async def _ask(self, pool_id: str) -> Asked:
        loop = asyncio.get_running_loop()
        began = loop.time()
        elsewhere = self._elsewhere(pool_id)
        reply = _Asking()
        if elsewhere:
            self._replies[pool_id] = reply
            elsewhere = await self._tell_others(pool_id)
            if not elsewhere:
                del self._replies[pool_id]  # who was not told is not taken for having nobody
        try:
            found = await self.ask_here(pool_id, ANSWER_WITHIN)
            if elsewhere:
                await asyncio.sleep(max(0.0, began + RESULT_WITHIN - loop.time()))
        except Exception as fault:  # noqa: BLE001 - who waits is told, whatever it was
            log.warning("asking_failed", error=str(fault), kind=type(fault).__name__)
            return Asked(complete=False)
        finally:
            loop.call_later(REPLY_WITHIN, self._settle, pool_id, reply)
        return _sum([found, *reply.elsewhere])

    async def _tell_others(self, pool_id: str) -> bool:
        """Let other servers ask, too; return whether they could be told."""
        self._sockets.watch()
        with contextlib.suppress(SojournError):
            await self._say(pool_id, None)
            return True
        return False

    async def _say(self, pool_id: str, result: Asked | None) -> None:
        data = None
        if result is not None:
            data = {
                "asked": result.asked,
                "answered": result.answered,
                "silent": len(result.silent),
            }
        tell, actor = self._services.store.ask, self._services.presence.actor
        await self._looks.run(self._settings.request_timeout, tell, pool_id, actor, data)

    def _settle(self, pool_id: str, reply: _Asking) -> None:
        """Note that nobody else has sockets of a pool, if no other server has said so by now."""
        if self._replies.get(pool_id) is not reply:
            return
        del self._replies[pool_id]
        if reply.heard:
            return
        if len(self._nobody) >= POOLS_MAX:
            self._nobody.clear()
        self._nobody[pool_id] = time.monotonic() + NOBODY_ELSEWHERE

    def hear(self, event: Event) -> None:
        """Another server asks, or says what came back."""
        pool_id = str(event.pool_id)
        if event.actor == self._services.presence.actor:
            return
        if "asked" in event.data:
            self._nobody.pop(pool_id, None)
            reply = self._replies.get(pool_id)
            if reply is not None:
                reply.heard = True
                answered = int(event.data.get("answered", 0))
                reply.elsewhere.append(Asked(asked=int(event.data["asked"]), answered=answered))
        elif pool_id in self._presence.pools and pool_id not in self._local:
            self._nobody.pop(pool_id, None)
            task = asyncio.get_running_loop().create_task(self._ask_for_others(pool_id))
            self._local[pool_id] = task
            task.add_done_callback(lambda _: self._local.pop(pool_id, None))

    async def _ask_for_others(self, pool_id: str) -> Asked:
        found = await self.ask_here(pool_id, ANSWER_WITHIN_ELSEWHERE)
        with contextlib.suppress(SojournError):
            await self._say(pool_id, found)
        return found

    async def ask_here(self, pool_id: str, within: float) -> Asked:
        """Ask on the sockets of this process; doubt at once who does not answer."""
        loop = asyncio.get_running_loop()
        silent, dropped = self._presence.doubtful(pool_id, loop.time())
        if not silent and not dropped:
            return Asked()
        for each in silent:
            each.line.tell(ASK, ping=True)
        until, asked = loop.time() + within, [*silent, *dropped]
        # An event per socket would cost each of them memory, for what is rare.
        while loop.time() < until and self._presence.missing(pool_id, asked):  # noqa: ASYNC110 - see above
            await asyncio.sleep(LOOK)
        missing = set(self._presence.missing(pool_id, asked))
        kept = await self._sockets.renew_all([x for x in silent if x not in missing])
        # Who has beaten by another way meanwhile is not doubted, and was there.
        gone = [each for each in asked if each in missing]
        doubted = await self._sockets.doubt(gone, at_once=True)
        names = [
            each.claims.lease_id
            for each, said in zip(gone, doubted, strict=True)
            if said is not False
        ]
        self.asked += len(asked)
        self.answered += len(asked) - len(names)
        return Asked(
            asked=len(asked),
            answered=len(asked) - len(names),
            silent=tuple(names[:SILENT_KEPT]),
            complete=kept and None not in doubted,
        )

    def judge(self, denied: Denied) -> None:
        """Look at a refusal that is final: was a seat held by somebody who did not answer?"""
        asked = denied.asked
        if asked is None:
            return
        silent = set(asked.silent)
        ghost = any(each.id in silent and each.suspect_at <= denied.at for each in denied.evidence)
        if ghost or not asked.complete:
            self.denials_with_ghost += 1


def _sum(found: Sequence[Asked]) -> Asked:
    """Put together what came back from several servers."""
    return Asked(
        asked=sum(each.asked for each in found),
        answered=sum(each.answered for each in found),
        silent=found[0].silent,
        complete=all(each.complete for each in found),
    )
