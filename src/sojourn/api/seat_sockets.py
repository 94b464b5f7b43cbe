"""A seat that is kept by an open socket: `WS /api/licenses/sessions/live`.

The proof is a lease token: `Authorization: Bearer sjl_…`, or where a client cannot set headers, the second
of `Sec-WebSocket-Protocol: sojourn.v1, sjl_…`. Messages are small JSON: see docs/guide/presence.md. What is
decided is in `service.presence`; here it is carried out, with one task for all rounds and one watch over
the stream.

A socket costs a task that waits for what its client says. What it is told is written from here (`LINE`): a
client that reads nothing is cut off by its socket's own bounds, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from sojourn.api import seat_messages as words
from sojourn.api.asking import Askings
from sojourn.api.files import sockets_max
from sojourn.api.limits import Blocking, Deadlines, carry
from sojourn.api.seat_handshake import check_page, page_of, proof_of
from sojourn.api.seat_messages import Said, Talk
from sojourn.api.sockets import KNOWN, LINE
from sojourn.errors import NotFound, Overloaded, SojournError
from sojourn.event import Event, EventKind
from sojourn.lease import RESUMABLE, Beat, EndReason, Renewal
from sojourn.license import Pool, split_pool_id
from sojourn.log import get_logger
from sojourn.people.live import reject
from sojourn.service.presence import Attendant, Attended, Presence
from sojourn.service.seats import BeatCall, DoubtCall, Lost
from sojourn.service.services import Services
from sojourn.service.watch import Turns, Watch
from sojourn.session import GoneReason
from sojourn.settings import Settings
from sojourn.token import LeaseClaims
from sojourn.wire.problems import refuse

log = get_logger(__name__)

BATCH = 512
"""Leases that are renewed or doubted at once: the next ones wait for these, and others find room between."""
SLICE = 256
"""Sockets that are written to before others have a turn."""
TELL_EVERY = 20.0
"""Seconds, at most, between two messages to a client: the worker of a browser's extension sleeps after 30. An
interval, where that is shorter: a client trusts its lease for as long as it was told last."""
TRY_AGAIN = 1.0
"""Seconds until renewals or doubts are tried again that the store did not take."""
DOUBTS_TRIED = 10
MISSED_EVERY = 5.0
"""Seconds, at least, between two times that all leases are renewed since more has happened than was read."""
HURRY, CROWD_MAX = 1.0, 4
"""Seconds in which one socket of a lease follows another, and how many of those are closed in good order."""
LOOKED_AT = 500
"""Pools, and sessions, that are looked at with each look at the stream; more take turns."""

ENDS = {
    EventKind.LEASE_RELEASED,
    EventKind.LEASE_EXPIRED,
    EventKind.LEASE_EVICTED,
    EventKind.LEASE_REVOKED,
}
GRANTS = {EventKind.LEASE_TAKEN_OVER, EventKind.LEASE_RESUMED, EventKind.LEASE_ACQUIRED}
BY_ITSELF = (GoneReason.IDLE, GoneReason.EXPIRED)
KINDS = tuple(sorted({*ENDS, *GRANTS, EventKind.LEASE_ASKED, EventKind.LEASE_DENIED}))

Dropped: TypeAlias = tuple[Attendant, int]  # how often its doubt was tried


class SeatSockets:
    """All sockets of license clients in this process. Belongs to one event loop."""

    def __init__(
        self,
        services: Services,
        settings: Settings,
        deadlines: Deadlines,
        looks: Blocking,
        draining: Callable[[], bool],
        *,
        strangers: Blocking,
    ) -> None:
        self._services = services
        self._settings = settings
        self._deadlines = deadlines
        self._looks = looks
        self._draining = draining
        self._strangers = strangers
        self.presence = Presence()
        self.doubted = 0
        self._entering = 0  # handshakes under way
        self._stopped = False
        self._rounds: asyncio.Task[None] | None = None
        self._owing: asyncio.Task[None] | None = None
        self._missed_at = float("-inf")
        self._planned = asyncio.Event()
        self._dropped: list[Dropped] = []
        self._doubting: asyncio.Task[None] | None = None
        self._turns = Turns(LOOKED_AT)
        self._told = 0  # the last event that a look was told of which then failed
        self.askings = Askings(services, settings, looks, self.presence, self)
        self._watch = Watch(
            services.store,
            self._look,
            kinds=KINDS,
            wanted=lambda: bool(self.presence.pools) or self.askings.under_way,
            on_thread=self._on_thread,
            troubled=lambda _: None,
        )

    @property
    def open(self) -> int:
        return self.presence.open

    def watch(self) -> None:
        """See that somebody reads the stream."""
        self._watch.begin()

    async def stop(self) -> None:
        """Tell every client that the server restarts. Nobody is doubted for it."""
        self._stopped = True
        for attended in list(self.presence.pools.values()):
            for each in list(attended.open.values()):
                each.line.hang_up(words.RESTART, "restart")
        await self._watch.stop()
        for task in (self._rounds, self._owing, self._doubting):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    # One socket

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket, from its handshake to its end."""
        await receive()  # websocket.connect
        try:
            claims, protocol = self._admit(scope)
        except SojournError as fault:
            await reject(send, refuse(fault))
            return
        extensions = scope.get("extensions") or {}
        extensions.get(KNOWN, lambda: None)()
        attendant = Attendant(claims, extensions[LINE])
        self._entering += 1
        try:
            pool, outcome = await self._begin(attendant, page_of(scope))
        except SojournError as fault:
            await reject(send, refuse(fault))
            return
        finally:
            self._entering -= 1
        accepted: dict[str, Any] = {"type": "websocket.accept", "subprotocol": protocol}
        if isinstance(outcome, Lost):
            attendant.line.forget()  # type: ignore[attr-defined]  # its token is signed for ever
            await send(accepted)
            self._lose(attendant, outcome.reason, resumable=outcome.resumable)
            return
        assert pool is not None  # renewed, so it is there
        await self._attend(attendant, pool, receive, send, accepted)

    def _admit(self, scope: Any) -> tuple[LeaseClaims, str | None]:
        """Return whose lease the token proves, and the protocol to answer with. Raises SojournError."""
        if self._stopped or self._draining():
            raise SojournError("The server stops.", code="shutting_down")
        token, protocol = proof_of(scope)
        claims = self._services.keyring.verify(token)
        if self.open + self._entering >= sockets_max():
            raise Overloaded("The server has as many sockets as it can keep. Send heartbeats.")
        return claims, protocol

    async def _begin(
        self, attendant: Attendant, page: str | None
    ) -> tuple[Pool | None, Renewal | Lost]:
        """Renew the lease: a socket that opens is a beat. `page`: the origin of one elsewhere. Raises
        SojournError."""
        if page is not None:
            license_id = split_pool_id(attendant.claims.pool_id)[0]
            allowed = self._services.origins.remembered(license_id)
            if allowed is None:  # a ledger that hangs must not hold up the looks of all sockets
                patience, of = self._settings.request_timeout, self._services.origins.of
                read = await self._strangers.run(patience, of, [license_id])
                allowed = read.get(license_id, ())
            check_page(page, allowed, self._settings)
        outcome = await self._renew(attendant)
        if isinstance(outcome, Lost):
            return None, outcome
        known = self.presence.pools.get(attendant.claims.pool_id)
        if known is not None:
            return known.pool, outcome
        seats = self._services.seats
        try:
            return await self._on_thread(seats.pool, attendant.claims.pool_id), outcome
        except NotFound:
            return None, Lost(reason="feature_unknown", resumable=False)

    async def _attend(
        self, attendant: Attendant, pool: Pool, receive: Any, send: Any, accepted: dict[str, Any]
    ) -> None:
        line, said_goodbye = attendant.line, False
        try:
            await send(accepted)
        except BaseException:
            self._miss(attendant, pool)
            raise
        other = self.presence.enter(attendant, pool, self._now())
        try:
            line.take_over()  # type: ignore[attr-defined]  # ours: see LINE
            if self._stopped:
                line.hang_up(words.RESTART, "restart")
                return
            if other is not None:
                hurried = self._now() - other.renewed_at < HURRY
                attendant.crowd = other.crowd + 1 if hurried else 0
                self._supersede(other)
                if other is attendant:
                    return
            line.tell(words.opened(pool, attendant.expires_at - self._now()), ping=True)
            self.watch()
            self._keep_rounds()
            said_goodbye = await self._listen(attendant, receive)
        finally:
            self._leave(attendant, said_goodbye=said_goodbye)

    def _leave(self, attendant: Attendant, *, said_goodbye: bool) -> None:
        dropped = not (said_goodbye or self._stopped or self._draining())
        if self.presence.leave(attendant, self._now(), dropped=dropped):
            self._doubt_soon(attendant)

    def _miss(self, attendant: Attendant, pool: Pool) -> None:
        """A handshake was given up: its lease was renewed, and another socket keeps it, or none does."""
        other = self.presence.of(attendant.claims.pool_id, attendant.claims.lease_id)
        if other is None:
            self.presence.enter(attendant, pool, self._now())
            self._leave(attendant, said_goodbye=False)
        else:
            other.renewed_at = max(other.renewed_at, attendant.renewed_at)

    async def _listen(self, attendant: Attendant, receive: Any) -> bool:
        """Hear what a client says, until it hangs up; return whether it said goodbye."""
        talk = Talk(self._now())
        while (message := await receive())["type"] != "websocket.disconnect":
            try:
                said = talk.read(message, self._now())
            except words.Unwanted as why:
                attendant.line.hang_up(why.code, why.reason)
                return False
            if said is Said.GOODBYE:
                attendant.beat = Beat(closing=True)
                with contextlib.suppress(SojournError):  # the store is away: silence tells the rest
                    await self._renew(attendant)
                attendant.line.hang_up(words.NORMAL, "goodbye")
                return True
            if isinstance(said, Beat):
                attendant.beat = said
                if said.idle_for is not None:
                    attendant.idle_at = self._now() - said.idle_for / 1000
        return False

    def _supersede(self, attendant: Attendant) -> None:
        attendant.line.tell(words.SUPERSEDED)
        attendant.line.hang_up(words.TAKEN, "superseded")
        if attendant.crowd > CROWD_MAX:  # nobody keeps so many: they are not waited for
            attendant.line.cut_off("socket_superseded")
        self.presence.leave(attendant, self._now(), dropped=False)

    def _lose(self, attendant: Attendant, reason: str, *, resumable: bool) -> None:
        """Tell a client that its lease is over."""
        if reason == "taken_over":
            self._supersede(attendant)
            return
        attendant.line.tell(words.lost(reason, resumable=resumable))
        attendant.line.hang_up(words.LOST, "lost")
        self.presence.leave(attendant, self._now(), dropped=False)

    # Renewals and doubts, in batches

    async def _renew(self, attendant: Attendant) -> Renewal | Lost:
        """Renew one lease. Raises SojournError."""
        call = BeatCall(claims=attendant.claims, beat=attendant.beat)
        began = self._now()
        asked = self._services.batcher.submit("renew", call)
        outcome: Renewal | Lost = await self._deadlines.wait(asked)
        self._note(attendant, call.beat, outcome, began)
        return outcome

    def _note(self, attendant: Attendant, sent: Beat, outcome: Any, began: float) -> None:
        attendant.owed = outcome is None
        if not isinstance(outcome, Renewal):
            return
        attendant.renewed_at = self._now()
        attendant.expires_at = began + outcome.expires_in / 1000  # no later: it was decided since
        if attendant.beat is sent and not sent.closing:  # else its client has said more since
            attendant.beat = Beat()
        if self.presence.has_dropped(attendant):
            self._doubt_soon(attendant)  # this very renewal may have taken its doubt back

    async def renew_all(self, attendants: Sequence[Attendant]) -> bool:
        """Renew the leases of these; tell those that have lost theirs. Return whether the store took all."""
        taken = True
        for at in range(0, len(attendants), BATCH):
            # Whoever has left since is no more to be renewed: that would take back a goodbye, or a doubt.
            some = [each for each in attendants[at : at + BATCH] if self.presence.is_open(each)]
            calls = [BeatCall(claims=each.claims, beat=each.beat) for each in some]
            began = self._now()
            outcomes = await self._carry("renew", calls)
            for each, call, outcome in zip(some, calls, outcomes, strict=True):
                self._note(each, call.beat, outcome, began)
                taken &= outcome is not None
                if isinstance(outcome, Lost):
                    self._lose(each, outcome.reason, resumable=outcome.resumable)
            if some and not any(outcomes):  # the store is away: rounds do not wait for more
                for each in attendants[at + BATCH :]:
                    each.owed = True
                return False
        return taken

    async def _carry(self, verb: str, requests: Sequence[Any]) -> list[Any]:
        return await carry(
            self._services.batcher, verb, requests, patience=self._settings.request_timeout
        )

    def _doubt_soon(self, attendant: Attendant) -> None:
        self._dropped.append((attendant, 0))
        if self._doubting is None or self._doubting.done():
            self._doubting = asyncio.get_running_loop().create_task(self._keep_doubting())

    async def _keep_doubting(self) -> None:
        """Doubt holders whose sockets have dropped, those of a moment together."""
        await asyncio.sleep(0)  # those of one moment together; and ahead of who then wants a seat
        while self._dropped and not self._stopped:
            some, self._dropped = self._dropped[:BATCH], self._dropped[BATCH:]
            some = [(x, n) for x, n in some if not self._is_back(x)]
            answers = await self.doubt([each for each, _ in some], at_once=False)
            again = [
                (each, tried + 1)
                for (each, tried), answer in zip(some, answers, strict=True)
                if answer is None and tried < DOUBTS_TRIED
            ]
            if again:  # past that they are as silent as any other
                self._dropped += again
                await asyncio.sleep(TRY_AGAIN)

    def _is_back(self, attendant: Attendant) -> bool:
        claims = attendant.claims
        return self.presence.of(claims.pool_id, claims.lease_id) is not None

    async def doubt(self, attendants: Sequence[Attendant], *, at_once: bool) -> list[bool | None]:
        """Doubt these holders; return of each whether it counts, or None where the store did not take it."""
        answers: list[bool | None] = []
        for at in range(0, len(attendants), BATCH):
            now, made_at = self._now(), time.monotonic()
            some = attendants[at : at + BATCH]
            doubts = [DoubtCall(each.doubt(now), at_once, made_at) for each in some]
            answers += await self._carry("doubt", doubts)
            if all(each is None for each in answers[at:]):  # as in `renew_all`
                answers += [None] * (len(attendants) - len(answers))
                break
        self.doubted += answers.count(True)
        return answers

    # Rounds

    def _keep_rounds(self) -> None:
        self._planned.set()
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.get_running_loop().create_task(self._go_round())

    async def _go_round(self) -> None:
        while self.open and not self._stopped:
            self._planned.clear()
            pause = self.presence.next_round() - self._now()
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._planned.wait()
                continue
            try:
                await self._round(self.presence.due(self._now()))
            except Exception as fault:  # noqa: BLE001 - rounds outlive every fault, and say so
                log.warning("seat_round_failed", error=str(fault), kind=type(fault).__name__)
                await asyncio.sleep(TRY_AGAIN)

    async def _round(self, due: Iterable[Attended]) -> None:
        """Ask everybody for more; have those renewed who have shown life, and give up who shows none."""
        now = self._now()
        self.presence.forget(now)
        renew: list[Attendant] = []
        written = 0
        for attended in due:
            found = self.presence.round(attended, now)
            renew += found.renew
            for each in found.give_up:
                each.line.hang_up(words.SILENT, "silent")
            pause = min(TELL_EVERY, attended.pool.policy.heartbeat_interval / 1000)
            loud = attended.rounds % max(1, int(pause // attended.period)) == 0
            for each in list(attended.open.values()):
                left = each.expires_at - self._now()
                each.line.tell(words.alive(attended.pool, left) if loud else None, ping=True)
                written += 1
                if written % SLICE == 0:
                    await asyncio.sleep(0)
        for each in renew:
            each.owed = True
        self._renew_owed()  # in a task: whoever is there hears of us also while the store hangs

    def _renew_owed(self) -> None:
        """Renew what is owed, at once and until the store has taken it. Nobody is judged by that."""
        if self._owing is None or self._owing.done():
            self._owing = asyncio.get_running_loop().create_task(self._keep_renewing())

    async def _keep_renewing(self) -> None:
        while (owed := self.presence.owed()) and not self._stopped:
            if not await self.renew_all(owed):
                await asyncio.sleep(TRY_AGAIN)

    # The stream

    async def _look(self, events: Sequence[Event], missed: bool) -> None:
        self.presence.forget(self._now())
        if missed and self._now() - self._missed_at > MISSED_EVERY:
            self._missed_at = self._now()  # what happened to whom is not known: a renewal tells
            for attended in self.presence.pools.values():
                for each in attended.open.values():
                    each.owed = True
            self._renew_owed()
        news = [event for event in events if event.id > self._told]  # the rest of a look may fail
        denied = {event.pool_id or "" for event in news if event.kind is EventKind.LEASE_DENIED}
        for pool_id in denied & self.presence.pools.keys():
            for each in self.presence.idle(pool_id, self._now()):
                each.line.tell(words.NEEDED)
        for event in news:
            self._told = event.id
            if event.kind is EventKind.LEASE_ASKED:
                self.askings.hear(event)
            elif (attendant := self.presence.of(event.pool_id, event.subject)) is not None:
                self._concern(attendant, event)
        await self._look_at_pools()
        await self._look_at_sessions()
        self._told = 0  # these are not read again

    def _concern(self, attendant: Attendant, event: Event) -> None:
        fence = int(event.data.get("fence", 0))
        if event.kind in ENDS and fence >= attendant.claims.fence:
            reason = str(event.data.get("reason", EndReason.REVOKED.value))
            self._lose(attendant, reason, resumable=reason in {x.value for x in RESUMABLE})
        elif event.kind in GRANTS and fence > attendant.claims.fence:
            self._supersede(attendant)

    async def _look_at_pools(self) -> None:
        """Tell clients of new policies; see at once what a suspended license means for them."""
        ids = self._turns.take("pools", list(self.presence.pools))
        found = await self._on_thread(self._services.store.pools, ids) if ids else []
        for name, pool in zip(ids, found, strict=True):
            attended = self.presence.pools.get(name)
            if pool is None or attended is None or pool == attended.pool:
                continue
            told = words.policy(pool) if pool.policy != attended.pool.policy else None
            open_here = self.presence.define(pool, self._now())
            for each in open_here:
                each.owed = True
                each.line.tell(told)
            self._renew_owed()
            self._keep_rounds()

    async def _look_at_sessions(self) -> None:
        """Tell those whose session is over by itself, and give their seats back: an end that somebody made
        ends leases, and is told as that."""
        held = [
            each
            for attended in self.presence.pools.values()
            for each in attended.open.values()
            if each.claims.session_id is not None
        ]
        some = self._turns.take("sessions", held)
        ids = sorted({str(each.claims.session_id) for each in some})
        gone = await self._on_thread(self._services.sessions.gone, ids) if ids else []
        over = {i for i, why in zip(ids, gone, strict=True) if why and why.reason in BY_ITSELF}
        for each in some:
            if each.claims.session_id in over:
                each.line.tell(words.SESSION_EXPIRED)
                self._lose(each, "session_ended", resumable=False)
                with contextlib.suppress(SojournError):
                    released = self._services.batcher.submit("release", each.claims)
                    released.add_done_callback(_look_away)

    async def _on_thread(self, work: Any, *args: Any) -> Any:
        return await self._looks.run(self._settings.request_timeout, work, *args)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _look_away(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # its lease ends by itself
