"""The end of a client: all its seats are given back, or left to expire."""

from __future__ import annotations

import contextlib
import threading

from sojourn.client.errors import passing
from sojourn.client.hold import RELEASE_TRIES
from sojourn.client.http import Http
from sojourn.client.world import World
from sojourn.errors import SojournError
from sojourn.log import sentences
from sojourn.token import Secret

RELEASE_PAUSE = 5.0  # seconds between two tries
AT_ONCE = 16  # seats that are given back at the same time
FOR_EACH = 8  # seats for each thread that does so

_log = sentences("sojourn.client")


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

    def run(self, lock: threading.Condition) -> None:
        """Give all back. `lock` is let go while it pauses."""
        for tries_left in reversed(range(RELEASE_TRIES)):
            self._tries_left = tries_left
            self._try_all()
            self._todo, self._failed = self._todo + self._failed, []
            if not self._todo or not tries_left:
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
        for join in joins:
            join(max(0.1, self._deadline - self._world.now()))

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
