"""One thread that keeps all seats of a client: beats, retries, comes back, gives back. A few help while it
is late.

An agenda (a heap) says which seat is due when. One unanswered request speaks for the whole server:
until the next try, no other seat's beat is spent on it. Requests run without the lock, so asking a
seat how it stands never waits for the network.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sojourn.client.errors import (
    ClientClosed,
    SeatDenied,
    SeatLost,
    ServerUnreachable,
    StoreAway,
    passing,
    told_to_wait,
)
from sojourn.client.forks import renew_after_fork
from sojourn.client.hold import Asked, Hold, idleness
from sojourn.client.http import BEATING, Grant, Http
from sojourn.client.returns import RELEASE_PAUSE, Return, Returns, open_clients
from sojourn.client.slots import slots
from sojourn.client.world import Crew, Join, Notes, World, join_all
from sojourn.errors import InvalidToken, Overloaded, SojournError, Unauthenticated
from sojourn.log import sentences
from sojourn.token import Secret

if TYPE_CHECKING:
    from sojourn.client.live import Live

TRIES_PER_LEASE = 3  # of what is left of a lease, the share one request may take: 1 / 3
TIMEOUT_MIN = 0.25  # seconds
REFUSED_PACE = 60.0  # seconds between tries where only a person can help
HELPERS = BEATING - 1
"""Threads that help while beats are late: each waits for one answer at a time."""
HELP_AFTER = 0.5  # seconds by which a beat is late

_log = sentences("sojourn.client")


class Beats:
    """Keeps seats. `lock` guards every Hold; it is never held during a request or a callback."""

    def __init__(
        self,
        http: Http,
        proof: Callable[[], Secret],
        *,
        world: World,
        timeout: float,
        sockets: bool = False,
    ) -> None:
        self.world = world
        self.lock = threading.Condition()
        self.notes = Notes(world)
        self.timeout = timeout
        self._http = http
        self._proof = proof
        self._holds: set[Hold] = set()
        self._agenda: list[tuple[float, float, int, Hold | Return]] = []
        self._number = itertools.count()
        self._away_until = -math.inf
        self._join: Join | None = None
        self._helpers = Crew(world, self._help, "sojourn-heartbeats-more", HELPERS)
        self._sockets = sockets
        self._live: Live | None = None
        self._closed = False
        renew_after_fork(self)
        self._left = 0  # seats that are asked for back no more, and were not given back

    # --- for the thread that wants a seat ---

    def begin(
        self, hold: Hold, owner: object, wanted: Callable[[], bool], client_id: str
    ) -> int | None:
        """Reserve the right to acquire for `owner`, as `client_id`; None if the seat is held already. Raises
        SeatLost if it is not `wanted` any more, which is asked under the lock: who lets go later ends what
        began here."""
        with self.lock:
            self._check_open()
            self.lock.wait_for(lambda: not hold.busy or not wanted())
            self._check_open()
            if not wanted():
                raise SeatLost("released")
            if hold.held(self.world.now()):
                return None
            if hold.reason == "forked":
                raise SeatLost("forked")
            open_clients.add(self)
            self._http.open()
            self._holds.add(hold)
            hold.named(client_id)
            hold.owner = owner
            hold.busy = True
            hold.turn += 1
            return hold.turn

    def ended(self, hold: Hold, owner: object) -> None:
        """Give the right back, if `owner` has it. What was granted to a request that was interrupted, or
        whose answer was lost, is given back."""
        with self.lock:
            if hold.owner is not owner:
                return
            hold.owner = None
            self.done(hold)
            if (asked := hold.asked) is not None and hold.grant is None and not self._closed:
                hold.forget()  # or the next acquire would be told the same lease, and see it given back
                self._plan(Return(None, asked=asked, wish=hold.wish), self.world.now())
                with contextlib.suppress(RuntimeError):  # no thread is to be had
                    self._start()

    def done(self, hold: Hold) -> None:
        with self.lock:
            hold.busy = False
            if hold.due < math.inf:
                self._plan(hold)
            elif hold.grant is None:
                self._holds.discard(hold)
            self.lock.notify_all()

    def ask(self, hold: Hold, *, takeover: bool, timeout: float, wait: float = 0.0) -> Grant:
        """Acquire, once: with the old lease's token if it may come back, else with the key.

        `wait`: seconds for which the server may keep the request in the line, beside `timeout`.
        """
        timeout += wait
        with self.lock:
            old = hold.grant if hold.gone and hold.resumable else None
        try:
            if old is not None:
                try:
                    return self._acquire(hold, old.token, hold.wish.resume_body(wait=wait), timeout)
                except SojournError as fault:
                    if passing(fault) or isinstance(fault, SeatDenied):
                        raise
                    hold.resumable = False
            body = hold.wish.body(takeover=takeover, wait=wait)
            return self._acquire(hold, self._proof(), body, timeout)
        except SojournError as fault:
            unsent = isinstance(fault, ServerUnreachable) and not fault.sent
            if passing(fault) and not unsent and not isinstance(fault, Overloaded):
                hold.in_doubt = True
            raise

    def _acquire(self, hold: Hold, proof: Secret, body: dict[str, Any], timeout: float) -> Grant:
        """Acquire, under the same key for as long as nobody has answered. What was granted to a request whose
        answer was lost may be over by now: then once more, under another."""
        for again in (True, False):
            try:
                key = hold.key_for(body)
                hold.asked = Asked(proof=proof, body=body, key=key)
                grant = self._http.acquire(proof, body, timeout=timeout, key=key)
            except SojournError as fault:
                if not passing(fault):
                    hold.unanswered = hold.asked = None
                elif isinstance(fault, Overloaded) or not getattr(fault, "sent", True):
                    hold.asked = None  # it was not carried out
                raise
            hold.unanswered = None
            if grant.expires_in > 0 or not again:
                break
        return grant

    def granted(self, hold: Hold, turn: int, grant: Grant, *, resumed: bool) -> bool:
        """Keep a new lease; give it back if nobody wants it any more (False)."""
        with self.lock:
            wanted = hold.turn == turn and not self._closed
            if wanted:
                self._start()  # before the seat is called safe: a process may be out of threads
                hold.granted(grant, chance=self.world.chance(), resumed=resumed)
                hold.asked = None
                self._plan(hold)
                self._keep_open(hold, grant)
        if not wanted:
            self._give_back(Return(grant.token))
            hold.asked = None
        return wanted

    def pause(self, hold: Hold, turn: int, seconds: float) -> None:
        """Wait between two acquires; raises when the wish was withdrawn meanwhile."""
        until = self.world.now() + seconds
        with self.lock:
            while (left := until - self.world.now()) > 0:
                self.world.wait(self.lock, left)
                self._check_open()
                if hold.turn != turn:
                    raise SeatLost("released")

    def release(self, hold: Hold) -> bool:
        """End a hold, and give its seat back. False where the server has not confirmed it yet."""
        with self.lock:
            grant = hold.ended()
            self._holds.discard(hold)
            self._hang_up(hold)  # under the lock: later, it might be the socket of the next lease
            self.lock.notify_all()
        return grant is None or self._give_back(Return(grant.token))

    def let_go(self, hold: Hold) -> None:
        """End a hold at once, without waiting for anything; its seat is given back on the thread."""
        with self.lock:
            grant = hold.ended()
            self._holds.discard(hold)
            if grant is not None and not self._closed:
                self._plan(Return(grant.token), self.world.now())
                self._start()
            self._hang_up(hold)
            self.lock.notify_all()

    def say_goodbye(self, hold: Hold) -> bool:
        with self.lock:
            held = hold.held(self.world.now())
            grant = hold.ended("closing")
            self._holds.discard(hold)
            heard = self._hang_up(hold, goodbye=True)
            self.lock.notify_all()
            self.lock.wait_for(lambda: not hold.busy)  # a beat that arrived later would undo it
        heard()  # or the socket would take the goodbye back
        if grant is None or not held:
            return False
        try:
            self._http.beat(grant.token, {"closing": True}, timeout=self.timeout)
        except SojournError as fault:
            _log.debug("No goodbye: %s The seat expires by itself.", fault)
            return False
        finally:
            slots.seats_remain = True  # it lingers, for whoever comes back under the same name
        return True

    def _keep_open(self, hold: Hold, grant: Grant) -> None:
        if self._live is None and self._sockets and (ways := self._http.ways()) is not None:
            from sojourn.client.live import Live  # noqa: PLC0415  # those who beat need none of it

            self._live = Live(*ways, world=self.world, lock=self.lock, replan=self._replan)
        if self._live is not None:
            try:
                self._live.attend(hold, grant.token)
            except (OSError, RuntimeError) as fault:  # no descriptor, or no thread, is to be had
                _log.warning("A seat is kept by heartbeats alone: %s", fault)

    def _hang_up(self, hold: Hold, *, goodbye: bool = False) -> Callable[[], object]:
        return (lambda: None) if self._live is None else self._live.leave(hold, goodbye=goodbye)

    def _replan(self, hold: Hold) -> None:
        self._away_until = -math.inf
        if not hold.busy and hold.due < math.inf:  # else whoever is at it plans what is next
            self._plan(hold)

    # --- the thread ---

    def run(self) -> None:
        while True:
            self.step()
            with self.lock:
                if self._closed:
                    return
                if (pause := self._next() - self.world.now()) > 0:
                    self.world.wait(self.lock, pause)
                elif pause < -HELP_AFTER:
                    self._helpers.call()

    def _help(self, number: int) -> None:
        """Do what is due, until nothing is."""
        try:
            while self.step():
                pass
        finally:
            with self.lock:
                self._helpers.left(number)

    def step(self) -> bool:
        """Do the most urgent of what is due. False: there was nothing."""
        with self.lock:
            now = self.world.now()
            if self._closed or self._next() > now:
                return False
            task = heapq.heappop(self._agenda)[3]
            task.wake = math.inf
            grant = self._take(task, now) if isinstance(task, Hold) else None
            turn = task.turn if isinstance(task, Hold) else 0
        try:
            if isinstance(task, Return):
                self._give_back(task)
            elif grant is not None:
                self._attend(task, turn, grant)
        except BaseException:  # noqa: BLE001  # the thread outlives any bug: all seats hang on it
            _log.exception("A heartbeat, or giving a seat back, failed in an unforeseen way")
            if isinstance(task, Hold):
                self._failed(task, turn, "internal")
            else:
                with self.lock:
                    self._left += 1
        finally:
            if isinstance(task, Hold) and grant is not None:
                self.done(task)
        return True

    def _take(self, hold: Hold, now: float) -> Grant | None:
        """Look at a seat whose time has come; return its grant if it needs a request."""
        hold.review(now)
        if hold.busy:
            return None  # whoever is at it plans what is next
        if now >= hold.due and now < self._away_until:
            hold.put_off(now, self._away_until - now, "unreachable")
        if now < hold.due:
            if hold.due < math.inf:
                self._plan(hold)
            return None
        hold.busy = True
        return hold.grant

    def _attend(self, hold: Hold, turn: int, grant: Grant) -> None:
        if hold.gone:
            self._regain(hold, turn)
            return
        try:
            body = idleness(hold)
            pulse = self._http.beat(grant.token, body, timeout=self._patience(hold))
        except SeatLost as lost:
            with self.lock:
                if hold.turn != turn:
                    return
                self._away_until = -math.inf
                again = hold.refused(self.world.now(), lost.reason, resumable=lost.resumable)
        except (Unauthenticated, InvalidToken):  # the server's secret has changed
            with self.lock:
                again = hold.turn == turn and hold.unproven()
            if not again:
                self._failed(hold, turn, "unproven")
        except SojournError as fault:
            self._failed(hold, turn, fault.code, fault)
            return
        else:
            with self.lock:
                self._away_until = -math.inf
                if hold.turn == turn:
                    hold.renewed(pulse, chance=self.world.chance())
            return
        if again:
            self._regain(hold, turn)

    def _regain(self, hold: Hold, turn: int) -> None:
        try:
            grant = self.ask(hold, takeover=False, timeout=self._patience(hold))
        except SeatDenied as denied:
            wait = denied.retry_after * (1 + 0.1 * self.world.chance())
            self._put_off(hold, turn, wait, "seat_limit")
        except SojournError as fault:
            if passing(fault):
                self._failed(hold, turn, fault.code, fault)
            else:
                why = (hold.wish.feature, hold.wish.user, fault, fault.hint)
                _log.warning("The seat on %s of %s does not come back: %s %s", *why)
                self._put_off(hold, turn, REFUSED_PACE, fault.code)
        else:
            self.granted(hold, turn, grant, resumed=True)

    def _failed(
        self, hold: Hold, turn: int, reason: str, fault: SojournError | None = None
    ) -> None:
        with self.lock:
            now = self.world.now()
            if hold.turn != turn:
                return
            wait = 0.0 if fault is None else told_to_wait(fault)
            hold.failed(now, reason, chance=self.world.chance(), wait=wait)
            if isinstance(fault, ServerUnreachable | StoreAway | Overloaded):
                self._away_until = hold.due
            _log.debug("Heartbeat failed (%s); next in %.2f s", reason, hold.due - now)

    def _put_off(self, hold: Hold, turn: int, seconds: float, reason: str) -> None:
        with self.lock:
            self._away_until = -math.inf
            if hold.turn == turn:
                hold.denied(self.world.now(), seconds, reason)

    def _patience(self, hold: Hold) -> float:
        """Return how long a request may take, so that several fit into what is left of a lease."""
        with self.lock:
            left = hold.safe_until - self.world.now()
        share = left / TRIES_PER_LEASE if left > 0 else self.timeout
        return min(self.timeout, max(TIMEOUT_MIN, share))

    def _give_back(self, task: Return) -> bool:
        try:
            if (token := task.token) is None:
                if self._taken_again(task):
                    return True  # by the same holder: what was granted is its own
                token = task.recall(self._http, self.timeout)
                if token is None or self._taken_again(task, recalled=True):
                    return True
            self._http.release(token, timeout=self.timeout)
        except SojournError as fault:
            task.tries -= 1
            with self.lock:
                if passing(fault) and task.tries and not self._closed:
                    self._plan(task, self.world.now() + RELEASE_PAUSE)
                    self._start()
                    return False
                self._left += 1
            _log.info("A seat was not given back: %s It expires by itself.", fault)
            return False
        return True

    # --- the agenda; all under the lock ---

    def _plan(self, task: Hold | Return, when: float | None = None) -> None:
        urgency = task.safe_until if isinstance(task, Hold) else math.inf
        task.wake = task.next_turn() if isinstance(task, Hold) else when or 0.0
        heapq.heappush(self._agenda, (task.wake, urgency, next(self._number), task))
        self.lock.notify_all()

    def _next(self) -> float:
        """Return when the first task is due, dropping entries that a later plan replaced."""
        while self._agenda and self._agenda[0][0] != self._agenda[0][3].wake:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else math.inf

    def _start(self) -> None:
        if self._join is None:
            self._join = self.world.start(self.run, "sojourn-heartbeats")

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("The client is closed.")

    def _taken_again(self, task: Return, *, recalled: bool = False) -> bool:
        """Tell whether its holder has a seat again, or asks for one. What was `recalled` meanwhile may have
        been granted after that, in its stead: then a heartbeat finds out, and gets it back."""
        with self.lock:
            found = [each for each in self._holds if each.wish == task.wish]
            for each in found if recalled else []:
                each.doubted(self.world.now())
                self._replan(each)
            return bool(found)

    # --- the end ---

    def close(self, timeout: float) -> int:
        """Give everything back, within `timeout` seconds. Return how many seats this client has not given
        back, all told: those expire by themselves."""
        with self.lock:
            if self._closed:
                return self._left
            self._closed = True
            due = [task for *_, task in self._agenda if isinstance(task, Return)]
            asked = [x.asked for x in due if x.token is None and x.asked]
            asked += [hold.asked for hold in self._holds if hold.asked is not None]
            tokens = [task.token for task in due if task.token is not None]
            tokens += [grant.token for hold in self._holds if (grant := hold.ended())]
            self._holds.clear()
            self._agenda.clear()
            self.lock.notify_all()
        open_clients.discard(self)
        deadline = self.world.now() + timeout
        returns = Returns(
            self._http, tokens, world=self.world, timeout=self.timeout, deadline=deadline
        )
        returns.recall(asked)
        returns.run(self.lock)
        self._http.close()  # breaks off what the thread may be waiting for
        hang_up = None if self._live is None else self._live.close
        joins = (self._join, *self._helpers.joins, hang_up, self.notes.close)
        left = deadline - self.world.now()
        join_all(filter(None, joins), left, now=self.world.now)
        self._left += returns.left
        slots.seats_remain |= self._left > 0
        return self._left

    def forked(self) -> None:
        """Start afresh in a forked child: seats and threads are the parent's (connections: see `sockets`)."""
        self.lock = threading.Condition()  # the old one may be held by a thread that is not here
        self.notes = Notes(self.world)
        for hold in self._holds:
            hold.forked()
        self._holds.clear()
        self._agenda.clear()
        self._join = None
        self._helpers = Crew(self.world, self._help, "sojourn-heartbeats-more", HELPERS)
        open_clients.discard(self)
        if self._live is not None:
            self._live.forked(self.lock)
