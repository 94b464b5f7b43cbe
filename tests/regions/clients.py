"""Clients of one region: they take seats, beat, give them back, and write down what they believed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import httpx
from msgspec import Struct
from tests.regions.checker import Belief, Dropped, History, TurnedAway
from tests.serving import Served, acquire, beat, new_client, release

FEATURE = "editor"
PATIENCE = 20.0  # seconds for an answer
PAUSE = 0.02  # seconds between two requests of one region


class Seat(Struct):
    token: str
    since: float
    until: float
    heard: float  # when the latest beat left that was answered
    due: float


class Region(threading.Thread):
    """Drives the users of one region, one request after the other.

    `starts` is even while its server runs, and `cut` tells whether that is cut off from the authority. A
    request during which the server did not run all the time says nothing about availability.
    """

    def __init__(
        self,
        name: str,
        server: Served,
        key: str,
        *,
        users: int,
        every: float,
        seed: int,
        history: History,
        lock: threading.Lock,
        starts: Callable[[], int],
        cut: Callable[[], bool],
    ) -> None:
        super().__init__(name=f"region-{name}", daemon=True)
        self.region = name
        self.fault: BaseException | None = None
        self._server = server
        self._key = key
        self._users = [f"{name}-{n}" for n in range(users)]
        self._every = every
        self._chosen = random.Random(seed)
        self._history = history
        self._lock = lock
        self._starts = starts
        self._cut = cut
        self._seats: dict[str, Seat] = {}
        self._over = threading.Event()

    def finish(self) -> None:
        """Write down who still holds a seat, and end."""
        self._over.set()
        self.join(3 * PATIENCE)
        assert not self.is_alive()
        if self.fault is not None:
            raise self.fault

    def run(self) -> None:
        try:
            with new_client(PATIENCE) as http:
                while not self._over.is_set():
                    self._step(http)
                    self._over.wait(PAUSE)
            now = time.monotonic()
            for user in list(self._seats):
                self._end(user, now)
        except BaseException as fault:  # noqa: BLE001 - it is told by `finish`
            self.fault = fault

    def _step(self, http: httpx.Client) -> None:
        now = time.monotonic()
        due = [user for user, seat in self._seats.items() if seat.due <= now]
        if due:
            self._beat(http, min(due, key=lambda user: self._seats[user].due))
            return
        user = self._chosen.choice(self._users)
        if user not in self._seats:
            self._acquire(http, user)
        elif self._chosen.random() < 0.25:
            self._release(http, user)

    def _beat(self, http: httpx.Client, user: str) -> None:
        seat, sent = self._seats[user], time.monotonic()
        seat.due = sent + self._every
        try:
            answer = beat(http, self._server.url, seat.token)
        except httpx.HTTPError:
            answer = None
        now = time.monotonic()
        if answer is not None and answer.status_code == 200:
            seat.heard = sent
            seat.until = sent + float(answer.json()["data"]["expiresIn"])
            with self._lock:
                self._history.beats += 1
        elif answer is not None and answer.status_code == 410:
            with self._lock:
                self._history.dropped.append(Dropped(self.region, user, now, sent - seat.heard))
            self._end(user, now)
        elif now >= seat.until:
            self._end(user, now)

    def _acquire(self, http: httpx.Client, user: str) -> None:
        starts, cut, sent = self._starts(), self._cut(), time.monotonic()
        try:
            answer = acquire(http, self._server.url, self._key, FEATURE, user)
        except httpx.HTTPError as fault:
            self._note(starts, cut=cut, why=f"no answer ({type(fault).__name__})")
            return
        now, body = time.monotonic(), answer.json()
        if answer.status_code == 201:
            data = body["data"]
            until = sent + float(data["expiresIn"])
            self._seats[user] = Seat(data["token"], now, until, sent, sent + self._every)
            with self._lock:
                self._history.granted += 1
                self._history.granted_cut_off += cut and self._cut()
        elif answer.status_code == 409 and body["code"] == "seat_limit":
            with self._lock:
                self._history.denied += 1
            if body["inUse"] < body["limit"]:
                self._note(starts, cut=cut, why=f"{body['inUse']} of {body['limit']} are in use")
        else:
            self._note(starts, cut=cut, why=f"{answer.status_code} {body.get('code')}")

    def _note(self, starts: int, *, cut: bool, why: str) -> None:
        if starts % 2 == 0 and starts == self._starts():  # it ran all the time
            with self._lock:
                told = TurnedAway(self.region, time.monotonic(), why, cut)
                self._history.turned_away.append(told)

    def _release(self, http: httpx.Client, user: str) -> None:
        seat = self._seats[user]
        self._end(user, time.monotonic())
        try:
            release(http, self._server.url, seat.token)
        except httpx.HTTPError:
            return  # it runs out by itself

    def _end(self, user: str, at: float) -> None:
        seat = self._seats.pop(user)
        with self._lock:
            believed = Belief(self.region, user, seat.since, min(at, seat.until))
            self._history.beliefs.append(believed)
