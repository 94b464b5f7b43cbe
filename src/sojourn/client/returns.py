"""The end of a client: all its seats are given back, or left to expire."""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
import time
from typing import Protocol

from sojourn.client.errors import passing
from sojourn.client.hold import Asked, Wish
from sojourn.client.http import Http
from sojourn.client.signals import leaving
from sojourn.client.slots import slots as slots  # registers what it does at the end
from sojourn.client.world import World, join_all
from sojourn.errors import SojournError
from sojourn.log import sentences
from sojourn.token import Secret

RELEASE_TRIES = 3
RELEASE_PAUSE = 5.0  # seconds between two tries
RECALL_TIMEOUT = 1.0
"""Seconds for the answer to an acquire that comes again: it was decided, or it waits in the line in vain."""
AT_ONCE = 16  # seats that are given back at the same time
FOR_EACH = 8  # seats for each thread that does so

CLOSE_TIMEOUT = 5.0  # seconds in which everything is given back, or left to expire

_log = sentences("sojourn.client")


class Closable(Protocol):
    """A client that may have seats."""

    def close(self, timeout: float) -> int: ...


open_clients: set[Closable] = set()
"""Those of this process. Each takes itself out when it is closed, and in a forked child."""


def close_all() -> None:
    """Give back the seats of all clients of this process, in CLOSE_TIMEOUT seconds at most."""
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for each in list(open_clients):
        each.close(max(0.1, deadline - time.monotonic()))


def _at_exit() -> None:
    close_all()
    leaving.wait(2 * CLOSE_TIMEOUT)


atexit.register(_at_exit)  # after that of `slots`, so that it runs before it


class Return:
    """A lease on its way back to the server; without a token, an acquire that may have been granted."""

    def __init__(
        self, token: Secret | None, *, asked: Asked | None = None, wish: Wish | None = None
    ) -> None:
        self.token = token
        self.asked = asked
        self.wish = wish
        self.tries = RELEASE_TRIES
        self.wake = math.inf

    def recall(self, http: Http, timeout: float) -> Secret | None:
        """Find out what there is to give back, if anything. Raises SojournError."""
        assert self.asked is not None
        self.token = recalled(http, self.asked, timeout)
        return self.token


def recalled(http: Http, asked: Asked, timeout: float) -> Secret | None:
    """Return the token of what an acquire was granted, or None. If it has never arrived, it may be granted
    now. Raises SojournError if nobody answers."""
    timeout = min(timeout, RECALL_TIMEOUT)
    try:
        return http.acquire(asked.proof, asked.body, timeout=timeout, key=asked.key).token
    except SojournError as fault:
        if passing(fault):
            raise
        return None


class Returns:
    """Gives leases back until a deadline of the world's clock, each up to RELEASE_TRIES times."""

    def __init__(
        self, http: Http, tokens: list[Secret], *, world: World, timeout: float, deadline: float
    ) -> None:
        self.left = 0
        """Leases that the server did not take back."""
        self._http = http
        self._world = world
        self._timeout = timeout
        self._deadline = deadline
        self._todo = tokens
        self._failed: list[Secret] = []
        self._tries_left = 0

    def recall(self, asked: list[Asked]) -> None:
        """Find out what was granted to acquires whose answers were lost, until nobody answers."""
        for each in asked:
            left = self._deadline - self._world.now()
            try:
                token = recalled(self._http, each, min(self._timeout, max(0.05, left / 2)))
            except SojournError as fault:
                _log.debug("What was granted is not known: %s", fault)
                return
            if token is not None:
                self._todo.append(token)

    def run(self, lock: threading.Condition) -> None:
        """Give all back. `lock` is let go while it pauses."""
        for tries_left in reversed(range(RELEASE_TRIES)):
            self._tries_left = tries_left
            self._try_all()
            self._todo, self._failed = self._todo + self._failed, []
            if not self._todo or not tries_left or self._world.now() >= self._deadline:
                break
            pause = max(0.0, self._deadline - self._world.now()) / (tries_left + 1)
            until = self._world.now() + min(RELEASE_PAUSE, pause)
            with lock:
                while (left := until - self._world.now()) > 0:
                    self._world.wait(lock, left)
        self.left += len(self._todo)
        if self._todo:
            _log.info("%d seats were not given back. They expire by themselves.", len(self._todo))

    def _try_all(self) -> None:
        joins = []
        for _ in range(min(AT_ONCE, len(self._todo) // FOR_EACH)):
            with contextlib.suppress(RuntimeError):  # no thread is to be had: one goes on alone
                joins.append(self._world.start(self._try_some, "sojourn-returns"))
        self._try_some()
        now = self._world.now
        join_all(joins, self._deadline - now(), now=now)

    def _try_some(self) -> None:
        while (left := self._deadline - self._world.now()) > 0:
            try:
                token = self._todo.pop()
            except IndexError:
                return
            timeout = min(self._timeout, max(0.05, left / (self._tries_left + 1)))
            try:
                self._http.release(token, timeout=timeout)
            except SojournError as fault:
                if passing(fault):
                    self._failed.append(token)
                    return  # one that is not answered speaks for all
                self.left += 1
