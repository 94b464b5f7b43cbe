"""What every call may use: the services, the settings, and this process's bounds and counts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from sojourn.api.cross_origin import CrossOrigin
from sojourn.api.jwt import Issuers
from sojourn.api.limits import Blocking, Deadlines
from sojourn.api.memory import GIVE_BACK_INTERVAL, give_back
from sojourn.api.metrics import Metrics
from sojourn.api.outbound import Outbound
from sojourn.api.proofs import Proofs
from sojourn.api.readiness import Readiness
from sojourn.api.seat_sockets import SeatSockets
from sojourn.api.shared_metrics import SharedMetrics
from sojourn.api.traces import tracer
from sojourn.clock import SECOND
from sojourn.console.feed import Feed
from sojourn.cookie import CookieOptions, SignedTokens
from sojourn.doctor.doctor import Doctor, Mended
from sojourn.doctor.runs import Rounds
from sojourn.errors import SojournError, StoreError
from sojourn.event import Event
from sojourn.finding import Board
from sojourn.ledger import Audit
from sojourn.log import get_logger
from sojourn.people.calls import People, PersonRequest
from sojourn.people.live import Live
from sojourn.recalled import Recalled
from sojourn.service.key_uses import WRITE_INTERVAL
from sojourn.service.request_session import Rules
from sojourn.service.services import Services
from sojourn.service.ticker import Ticker
from sojourn.session import Session
from sojourn.settings import Settings
from sojourn.sweeps.service import Sweeps
from sojourn.webhook import Letter

T = TypeVar("T")
P = TypeVar("P", bound=Hashable)

log = get_logger(__name__)

PEOPLE_THREADS = 3
"""Threads for the calls of people who are signed in."""
STRANGER_THREADS = 1
"""Threads for whatever takes one and comes with no proof, or with one that is not good."""
LOOK_THREADS = 1
"""Threads that look at the store for the sockets of license clients."""
FETCH_THREADS = 2
"""Threads that fetch the keys of JWTs' issuers."""
PUBLISH_INTERVAL = 1.0
"""Seconds between two times that a worker writes down what it has counted, for the others."""
RECOGNIZED_MAX = 64
"""Headers of applications whose API key is not worked out anew: an application sends the same each time."""
SOON = 5.0
"""Seconds, at least, between two rounds of doctor's that somebody's trouble asks for."""


def _feed_waits(fault: SojournError) -> None:
    log.debug(
        "console_feed_waits", error=str(fault)
    )  # readiness, and doctor, tell of a store that is away


def metrics_folder(settings: Settings) -> Path:
    """Return where the workers of a server keep what they have counted."""
    return Path(settings.data) / "metrics"


class Given(Struct, frozen=True, kw_only=True):
    """How the settings of a server came about, for people.

    Attributes:
        origins: the flag, variable or file that each came from, by its name.
        words: the section it belongs to, what its value is called, and what it does, likewise.
    """

    origins: Mapping[str, str] = {}
    words: Mapping[str, tuple[str, str, str]] = {}


class Context:
    """State that lives as long as the application. Handlers are functions of it and of the request."""

    def __init__(
        self,
        services: Services,
        settings: Settings,
        write: Callable[[Event], Letter],
        doctor: Doctor | None = None,
        board: Board | None = None,
        *,
        given: Given | None = None,
    ) -> None:
        self.services = services
        self.given = given or Given()
        self.traces = tracer(services) if settings.traces else None
        self.draining = False  # set at the first sign of a shutdown: no new work should come here
        self.settings = settings
        self.blocking = Blocking()  # operators' calls; the others have threads of their own
        self.people_calls = Blocking(threads=PEOPLE_THREADS)
        self.strangers = Blocking(threads=STRANGER_THREADS)
        self.seat_looks = Blocking(threads=LOOK_THREADS)
        self._fetching = Blocking(threads=FETCH_THREADS)
        self.issuers = Issuers(settings.jwt_issuers, self._fetching, dev=settings.dev)
        self.proofs: dict[str, Proofs[Any]] = {}
        self.api_keys = self.proofs_of("api_key", services.keys.valid)
        self.license_keys = self.proofs_of("license_key", services.licensed)
        self.session_tokens = self.proofs_of("session_token", self._signed_in)
        self.cross_origin = CrossOrigin(services.origins)
        self.deadlines = Deadlines(settings.request_timeout)
        self.outbound = Outbound(services, settings, write)
        self.sweeps = Sweeps(services.store, services.ledger)
        self._planned = Ticker("sweeps", self.sweeps.planner.tick, settings.plan_interval)
        self._asked_at = float("-inf")
        self.metrics = Metrics(self.look_soon)
        folder = metrics_folder(settings) if settings.workers > 1 else None
        self.metrics.bind(
            self,
            None if folder is None else SharedMetrics(folder),
            folder=folder,
            name_licenses=bool(settings.metrics_key or settings.metrics_listen),
        )
        self.recognized: Recalled[bytes, Any] = Recalled(RECOGNIZED_MAX)
        self._giving_back = Ticker("memory", give_back, GIVE_BACK_INTERVAL)
        self._key_uses = Ticker("key uses", services.keys.uses.write, WRITE_INTERVAL)
        self._publishing = Ticker("metrics", self.metrics.publish, PUBLISH_INTERVAL)
        self.people = _people(services, settings, self.look_soon)
        self.live = Live(self.people, services.sessions, on_thread=self._on_thread)
        self.feed = Feed(services.store, on_thread=self._for_operators, troubled=_feed_waits)
        self.seat_sockets = SeatSockets(
            services,
            settings,
            self.deadlines,
            self.seat_looks,
            lambda: self.draining,
            strangers=self.strangers,
        )
        askings = self.seat_sockets.askings
        services.seats.may_ask, services.seats.may_ask_all = askings.may_ask, askings.may_ask_all
        services.waiting.ask = askings.ask_for_line
        self.rounds = Rounds(doctor or Doctor([], nullcontext), note=self._note_repair, board=board)
        self._quick = Ticker("doctor", self.rounds.quick, settings.doctor_interval)
        self.readiness = Readiness(
            services, self.rounds, queue_max=settings.queue_max, look_soon=self.look_soon
        )

    def proofs_of(
        self, kind: str, look_up: Callable[[Sequence[P]], Sequence[bool | SojournError]]
    ) -> Proofs[P]:
        """Make the queue of a kind of proof; see `Proofs`."""
        made = self.proofs[kind] = Proofs(look_up, patience=self.settings.request_timeout)
        return made

    def _signed_in(self, token_hashes: Sequence[bytes]) -> list[bool]:
        return [isinstance(each, Session) for each in self.services.store.load(token_hashes)]

    async def threads_for(self, person: PersonRequest, address: str | None) -> Blocking:
        """Return the threads that carry out what somebody asks about their own sessions: those of people
        who are signed in, or those of strangers. Raises SojournError."""
        token_hash = self.people.token_hash(person)
        if token_hash is None or not await self.session_tokens.admit(token_hash, address=address):
            return self.strangers
        return self.people_calls

    async def _on_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await self.people_calls.run(self.settings.request_timeout, work, *args)

    async def _for_operators(self, work: Callable[..., T], *args: Any) -> T:
        return await self.blocking.run(self.settings.request_timeout, work, *args)

    def start(self) -> None:
        """Start the services, on the running event loop. Raises SojournError if that is impossible."""
        self.services.start()
        self._count_from_now()
        self.outbound.start()
        if self.settings.doctor_interval > 0:
            self._quick.start(at_once=True)
        if self.settings.plan_interval > 0:
            self._planned.start()
        self._giving_back.start()
        self._key_uses.start()
        if self.settings.workers > 1:
            self._publishing.start()

    def _count_from_now(self) -> None:
        try:
            if self.metrics.stream is not None:
                self.metrics.stream.begin()
        except (StoreError, OSError) as fault:
            log.warning("stream_not_counted", error=str(fault))

    def look_soon(self) -> None:
        """Let doctor look now, and not when its next round is due: a request has met a store that is
        broken, or somebody waits for what was found to be over. Safe from several threads."""
        now = time.monotonic()
        if now - self._asked_at >= SOON:
            self._asked_at = now
            self._quick.wake()

    async def stop(self) -> None:
        """Answer what was accepted, then give everything back.

        A store that hangs must not hold the process: past `shutdown_timeout` it is left as it is.
        """
        self.draining = True
        try:
            async with asyncio.timeout(max(1.0, self.settings.shutdown_timeout)):
                await self.live.stop()
                await self.feed.stop()
                await self.seat_sockets.stop()
                await asyncio.to_thread(self._stop_doctor)
                await asyncio.to_thread(self._stop_sweeps)
                await self.outbound.stop()
                await self.services.stop()
                for threads in (*self._all_threads, self._fetching):
                    await threads.close()
                for proofs in self.proofs.values():
                    await proofs.close()
                await self.cross_origin.close()
                await self.readiness.close()
        except TimeoutError:
            log.warning("stop_incomplete", why="the store did not answer in time")
            return
        self.services.close()

    @property
    def _all_threads(self) -> tuple[Blocking, ...]:
        return (self.blocking, self.people_calls, self.strangers, self.seat_looks)

    def plan_soon(self) -> None:
        """Look for planned sweeps that are due now, and not at the next tick."""
        self._planned.wake()

    def _stop_sweeps(self) -> None:
        self.sweeps.planner.stop()  # before its next step; another server takes up what is under way
        self._planned.stop()

    def _stop_doctor(self) -> None:
        self._quick.stop()
        self._publishing.stop()
        self._giving_back.stop()
        self._key_uses.stop()
        with suppress(StoreError):
            self.services.keys.uses.write()
        self.rounds.stop()

    def _note_repair(self, actor: str, mended: Sequence[Mended]) -> None:
        """Write down who had what mended. What is broken may be the very ledger: then the log has it."""
        for each in mended:
            data = {"what": each.step.what, "rows": each.step.rows, "undo": each.step.undo}
            audit = Audit(actor=actor, action="doctor.repair", subject=each.check.id, data=data)
            try:
                self.services.ledger.record(audit)
            except StoreError as fault:
                log.warning("repair_not_audited", check=each.check.id, error=fault.message)


def _people(services: Services, settings: Settings, broken: Callable[[], None]) -> People:
    secrets = [each.encode() for each in settings.secret]
    # Without a secret in common with whoever sets cookies, none is known here: any key will do.
    codec = SignedTokens(secrets or [os.urandom(32)])
    cookie = CookieOptions(name=settings.cookie_name, domain=settings.cookie_domain or None)
    return People(
        services.sessions,
        codec,
        rules=Rules(cookie=cookie.validate()),
        within=round(settings.reauth_within * SECOND) or None,
        trusted_origins=settings.trusted_origins,
        broken=broken,
    )
