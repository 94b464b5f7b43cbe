"""Asked before somebody is denied: are you there?

A store refuses tentatively while a seat is held by somebody who can be asked, or seems to be gone. Then
holders get `ANSWER_WITHIN` to show life: on the sockets of this process at once, on those of other servers by
an event on the stream. `staleness.asking` says whom to ask, and who of the silent is gone: those are doubted
at once, and it is decided once more. One asking of a pool is under way at a time, for all who wait for it;
they wait in tasks, with no thread and no place in the batcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from sojourn.api.limits import Blocking
from sojourn.api.seat_messages import ASK
from sojourn.clock import SECOND
from sojourn.errors import SojournError
from sojourn.event import Event
from sojourn.lease import Asked, Denied, Lease, LeaseFilter
from sojourn.license import Policy
from sojourn.log import get_logger
from sojourn.service.presence import Attendant, Presence
from sojourn.service.services import Services
from sojourn.settings import Settings
from sojourn.staleness.asking import FRESH, gone, whom_to_ask
from sojourn.staleness.scores import Score, network_of

log = get_logger(__name__)

ANSWER_WITHIN = 1.5
"""Seconds for an answer; and on another server, which first has to hear of it:"""
ANSWER_WITHIN_ELSEWHERE = 1.2
RESULT_WITHIN = 2.0
"""Seconds after which other servers have done what they could."""
ANSWER_WITHIN_LEAST = 1.0
"""Seconds that who is asked has in any case, however late the store was with who that is."""
LOOK = 0.05
"""Seconds between two looks whether all have answered."""
STALLED = 0.25
"""Seconds by which a look is late when we stood still ourselves: nobody's time passes then."""
OTHERS_MAX = 200
"""Holders of a pool that are asked though they do not seem to be gone."""
JUDGED_MAX = 10_000
"""Holders of a pool that are judged in one asking, of those that seem to be gone."""
READ_AT_ONCE = 500
"""Leases read in one statement."""
MARKS_MAX = 100
"""Networks of those who want a seat on another server that are looked at."""
WAITERS_ELSEWHERE = 10.0
"""Seconds between two times that other servers are asked for those who wait in a line here."""
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

    def __init__(self, *, elsewhere: bool) -> None:
        self.asks_elsewhere = elsewhere
        self.elsewhere: list[Asked] = []  # what other servers said
        self.heard = False  # whether any did
        self.failed = False
        self.heard_from: set[str] = set()  # networks of those who want a seat


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
        self._under_way: dict[str, tuple[float, asyncio.Task[Asked], _Asking]] = {}  # since when
        self._replies: dict[str, _Asking] = {}
        self._local: dict[str, asyncio.Task[Asked]] = {}
        self._nobody: dict[str, float] = {}  # pools that no other server has sockets of, until when
        self._all_asked: dict[str, float] = {}  # pools, and when all of their holders were asked
        self._for_line: dict[str, float] = {}  # pools, and when others were asked for a line here
        self._waiting = 0
        self.asked = 0
        self.answered = 0
        self.spared = 0
        self.denials_with_ghost = 0

    @property
    def under_way(self) -> bool:
        return bool(self._under_way or self._replies)

    def may_ask(self, pool_id: str) -> bool:
        """Tell whether anybody could be asked about a pool: on our sockets, or on another server's. May be
        called from any thread."""
        return pool_id in self._presence.pools or self._elsewhere(pool_id)

    def may_ask_all(self, pool_id: str) -> bool:
        """Tell whether it is time to ask all holders of a pool, also those who do not seem to be gone. May be
        called from any thread."""
        return self._all_due(pool_id) and self.may_ask(pool_id)

    def _all_due(self, pool_id: str) -> bool:
        asked_at = self._all_asked.get(pool_id, float("-inf"))
        return time.monotonic() - asked_at >= FRESH / SECOND

    def _elsewhere(self, pool_id: str) -> bool:
        if not self._services.presence.others:
            return False
        return self._nobody.get(pool_id, 0.0) <= time.monotonic()

    async def ask(
        self, denied: Denied, *, once_more: bool, heard_from: str | None = None
    ) -> Asked | None:
        """Ask about the pool of a tentative refusal; return what came back. Never raises a SojournError.
        `heard_from`: the network of who wants a seat.

        Who comes when an asking has long begun waits for that one. Others may have fallen silent since, who
        were not asked: so with `once_more` the answer is None, and a second refusal is tentative, too.
        """
        if self._waiting >= WAITING_MAX or not denied.evidence:
            return Asked(complete=False)
        pool_id = denied.evidence[0].pool_id  # somebody holds a seat, and is named
        began, under_way, asking = self._begin(pool_id, elsewhere=True)
        late = asyncio.get_running_loop().time() - began > LATE
        late |= not asking.asks_elsewhere and self._elsewhere(pool_id)
        if heard_from is not None:
            asking.heard_from.add(heard_from)
        self._waiting += 1
        try:
            found = await asyncio.shield(under_way)  # who hangs up takes it from nobody else
        finally:
            self._waiting -= 1
        return None if late and once_more else found

    def ask_for_line(self, pool_id: str) -> None:
        """Ask for those who wait for a seat of a pool here: to be called again and again while they do."""
        now = time.monotonic()
        for_line = self._for_line.get(pool_id, float("-inf"))
        elsewhere = now - for_line >= WAITERS_ELSEWHERE and self._elsewhere(pool_id)
        if not self._all_due(pool_id) or not (elsewhere or self._presence.askable(pool_id)):
            return
        if elsewhere:
            _note(self._for_line, pool_id, now)
        self._begin(pool_id, elsewhere=elsewhere)[1].add_done_callback(
            lambda found: self._freed(pool_id, found)
        )

    def _freed(self, pool_id: str, found: asyncio.Task[Asked]) -> None:
        if not found.cancelled() and found.result().silent:
            self._services.waiting.freed({pool_id})

    def _begin(
        self, pool_id: str, *, elsewhere: bool
    ) -> tuple[float, asyncio.Task[Asked], _Asking]:
        """Return the asking of a pool that is under way; let one begin if there is none."""
        known = self._under_way.get(pool_id)
        if known is not None:
            return known
        loop = asyncio.get_running_loop()
        asking = _Asking(elsewhere=elsewhere and self._elsewhere(pool_id))
        task = loop.create_task(self._ask(pool_id, asking))
        task.add_done_callback(lambda _: self._under_way.pop(pool_id, None))
        begun = self._under_way[pool_id] = (loop.time(), task, asking)
        return begun

    async def _ask(self, pool_id: str, reply: _Asking) -> Asked:
        loop = asyncio.get_running_loop()
        began, elsewhere = loop.time(), reply.asks_elsewhere
        try:
            if elsewhere:
                self._replies[pool_id] = reply
                elsewhere = await self._tell_others(pool_id, reply.heard_from)
                if not elsewhere:
                    del self._replies[pool_id]  # who was not told is not taken for having nobody
            found = await self.ask_here(pool_id, ANSWER_WITHIN, reply.heard_from)
            if elsewhere:
                await asyncio.sleep(max(0.0, began + RESULT_WITHIN - loop.time()))
        except SojournError:  # the store is away: others tell of that, and not twice a second
            return Asked(complete=False)
        except Exception as fault:  # noqa: BLE001 - who waits is told, whatever it was
            log.warning("asking_failed", error=str(fault), kind=type(fault).__name__)
            reply.failed = True
            return Asked(complete=False)
        finally:
            loop.call_later(REPLY_WITHIN, self._settle, pool_id, reply)
        return _sum([found, *reply.elsewhere])

    async def _tell_others(self, pool_id: str, heard_from: Iterable[str]) -> bool:
        """Let other servers ask, too; return whether they could be told."""
        self._sockets.watch()
        marks = " ".join(sorted(map(_mark, heard_from)))
        with contextlib.suppress(SojournError):
            await self._say(pool_id, {"heardFrom": marks} if marks else None)
            return True
        return False

    async def _say(self, pool_id: str, data: dict[str, Any] | None) -> None:
        tell, actor = self._services.store.ask, self._services.presence.actor
        await self._looks.run(self._settings.request_timeout, tell, pool_id, actor, data)

    def _settle(self, pool_id: str, reply: _Asking) -> None:
        """Note that nobody else has sockets of a pool, if no other server has said so by now."""
        if self._replies.get(pool_id) is not reply:
            return
        del self._replies[pool_id]
        if reply.heard or reply.failed:
            return
        _note(self._nobody, pool_id, time.monotonic() + NOBODY_ELSEWHERE)

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
                said = [int(event.data.get(x, 0)) for x in ("asked", "answered", "spared")]
                reply.elsewhere.append(Asked(asked=said[0], answered=said[1], spared=said[2]))
        elif pool_id in self._presence.pools and pool_id not in self._local:
            self._nobody.pop(pool_id, None)
            marks = str(event.data.get("heardFrom", "")).split()[:MARKS_MAX]
            task = asyncio.get_running_loop().create_task(self._ask_for_others(pool_id, marks))
            self._local[pool_id] = task
            task.add_done_callback(lambda _: self._local.pop(pool_id, None))

    async def _ask_for_others(self, pool_id: str, marks: Sequence[str]) -> Asked:
        found = Asked(complete=False)
        with contextlib.suppress(SojournError):
            found = await self.ask_here(pool_id, ANSWER_WITHIN_ELSEWHERE, marks=marks)
            told = {"asked": found.asked, "answered": found.answered, "spared": found.spared}
            await self._say(pool_id, told | {"silent": len(found.silent)})
        return found

    async def ask_here(
        self,
        pool_id: str,
        within: float,
        heard_from: Iterable[str] = (),
        marks: Sequence[str] = (),
    ) -> Asked:
        """Ask on the sockets of this process; doubt at once who is taken for gone. Raises SojournError.
        `heard_from`: networks of those who want a seat here; `marks`: of those who do elsewhere."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        silent, dropped = self._presence.doubtful(pool_id, loop.time())
        doubtful = {x.claims.lease_id: x for x in [*silent, *dropped][:JUDGED_MAX]}
        others = {x.claims.lease_id: x for x in self._presence.others(pool_id, OTHERS_MAX)}
        all_due = self._all_due(pool_id)
        if all_due:
            _note(self._all_asked, pool_id, time.monotonic())
        if not doubtful and not (all_due and others):
            return Asked()
        holders, policy = doubtful | others, self._presence.pools[pool_id].pool.policy
        patience = self._settings.request_timeout
        rows, scores = await self._looks.run(patience, self._look, list(holders), policy)
        asked = whom_to_ask(
            rows if all_due else [x for x in rows if x.id in doubtful],
            rows,
            scores,
            limit=JUDGED_MAX,
        )
        attendants = [holders[x.id] for x in asked]
        for each in self._presence.ask(attendants):
            each.line.tell(ASK, ping=True)
        told = loop.time()
        deadline = max(until, told + ANSWER_WITHIN_LEAST)
        unheard = await self._hear_out(pool_id, attendants, deadline, within)
        dropped = [x for x in attendants if self._presence.has_dropped(x)]
        missing = {x.claims.lease_id for x in [*unheard, *dropped]}
        answered = [x for x in attendants if x.claims.lease_id not in missing]
        kept = await self._sockets.renew_all([x for x in answered if x.claims.lease_id in doubtful])
        waited = round((loop.time() - told) * SECOND)
        answers = {x.id for x in asked} - missing
        out = gone(
            asked,
            answers,
            scores,
            policy,
            waited=waited,
            doubtful=doubtful,
            heard_from={*heard_from, *_marked(asked, marks)},
        )
        return await self._doubt([holders[x.id] for x in out], attendants, missing, kept=kept)

    def _look(self, ids: list[str], policy: Policy) -> tuple[list[Lease], dict[str, Score]]:
        """Read leases that live, and score them. On a thread."""
        rows: list[Lease] = []
        now = 0
        for at in range(0, len(ids), READ_AT_ONCE):
            some = LeaseFilter(ids=tuple(ids[at : at + READ_AT_ONCE]))
            found, now = self._services.store.leases(some, limit=READ_AT_ONCE)
            rows += found
        scores = self._services.seats.suspicion.assess(rows, policy, now)
        return rows, {x.lease_id: x for x in scores}

    async def _hear_out(
        self, pool_id: str, asked: Sequence[Attendant], until: float, grace: float
    ) -> Sequence[Attendant]:
        """Wait until all have shown life, or their time is over; return who has not. Time for which we stood
        still ourselves is not theirs, up to `grace`. Whoever has answered once need not again, though another
        server's asking begins meanwhile."""
        loop = asyncio.get_running_loop()
        looked, unheard = loop.time(), asked
        # An event per socket would cost each of them memory, for what is rare.
        while (unheard := self._presence.missing(pool_id, unheard)) and looked < until:
            await asyncio.sleep(LOOK)
            late = min(loop.time() - looked - LOOK, grace)
            if late > STALLED:
                grace -= late
                until += late
            looked = loop.time()
        return unheard

    async def _doubt(
        self,
        out: Sequence[Attendant],
        asked: Sequence[Attendant],
        missing: set[str],
        *,
        kept: bool,
    ) -> Asked:
        """Doubt at once who is taken for gone, and sum up."""
        for each in out:  # what it had shown before it was asked is no reason to renew it now
            each.lived = each.owed = False
        # Who has beaten by another way meanwhile is not doubted, and was there.
        doubted = await self._sockets.doubt(out, at_once=True)
        names = [
            each.claims.lease_id
            for each, said in zip(out, doubted, strict=True)
            if said is not False
        ]
        spared = len(missing) - len(out)
        answered = len(asked) - len(names) - spared
        self.asked += len(asked)
        self.answered += answered
        self.spared += spared
        return Asked(
            asked=len(asked),
            answered=answered,
            spared=spared,
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
        spared=sum(each.spared for each in found),
        silent=found[0].silent,
        complete=all(each.complete for each in found),
    )


def _mark(network: str) -> str:
    """Tell a network from others without naming it: events are kept for longer than addresses."""
    return blake2b(network.encode(), digest_size=6).hexdigest()


def _marked(leases: Iterable[Lease], marks: Sequence[str]) -> set[str]:
    """Name the networks of these leases that other servers have heard from."""
    networks = {network_of(lease) for lease in leases} if marks else set()
    return {each for each in networks if each is not None and _mark(each) in marks}


def _note(times: dict[str, float], pool_id: str, at: float) -> None:
    """Keep an instant for a pool; of too many pools none is kept."""
    if len(times) >= POOLS_MAX:
        times.clear()
    times[pool_id] = at
