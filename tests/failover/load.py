"""What people and clients do while a database fails over, and what they were told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
from msgspec import Struct, field
from tests.serving import ADMIN_KEY, TLS, Served

WORKERS = 4
PAUSE = 0.02  # seconds between the steps of a worker
READY_WITHIN = 30.0
SEATS = 100_000
TICK = threading.Event()
"""Never set: what is polled tells no signal of its own."""


class Seen(Struct):
    """What was answered. Kept by all workers, under the lock of `Load`."""

    sessions: list[str] = field(default_factory=list)  # tokens, answered 201 and never ended
    seats: list[str] = field(default_factory=list)  # likewise
    answers: Counter[str] = field(default_factory=Counter)  # by kind of request and outcome
    wrote_at: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By kind: when one was sent, and when it was granted."""


class Load:
    """Workers that sign people in, look sessions up, take seats and beat for them."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._key = server.license(editor={"capacity": SEATS})[1]
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.seen = Seen()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(n,)) for n in range(WORKERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    @property
    def done(self) -> int:
        with self._lock:
            return sum(self.seen.answers.values())

    def wait_for(self, requests: int, timeout: float = 60.0) -> None:
        """Wait until so many more have been answered well."""
        start, until = self._well(), time.monotonic() + timeout
        while self._well() < start + requests:
            if time.monotonic() > until:
                raise AssertionError(f"the load stands still: {dict(self.seen.answers)}")
            self._over.wait(0.02)

    def _well(self) -> int:
        with self._lock:
            return sum(n for what, n in self.seen.answers.items() if what.endswith(" ok"))

    def first_write_after(self, instant: float) -> float | None:
        """Return how many seconds after an instant a sign-in and a seat were asked for and granted: the
        later of the two; None if one never was."""
        with self._lock:
            first = [
                min((at - instant for sent, at in writes if sent > instant), default=None)
                for writes in self.seen.wrote_at.values()
            ]
        return None if None in first or len(first) < 2 else max(filter(None, first))

    def failed(self) -> int:
        return sum(n for what, n in self.seen.answers.items() if not what.endswith(" ok"))

    def lost(self) -> tuple[int, int]:
        """Ask for everything that was answered; return how many sessions and seats are gone."""
        sessions = seats = 0
        with self._client() as http:
            for token in self.seen.sessions:
                sessions += not self._known(partial(self._look, http, token))
            for token in self.seen.seats:
                seats += not self._known(partial(self._beat, http, token))
        return sessions, seats

    def lost_for_good(self) -> int:
        """Take the seats that are gone again, each by its token; return how many do not come back."""
        with self._client() as http:
            gone = [x for x in self.seen.seats if not self._known(partial(self._beat, http, x))]
            return sum(not self._known(partial(self._resume, http, token)) for token in gone)

    def _known(self, ask: Callable[[], httpx.Response]) -> bool:
        """Tell whether the server says yes; a store that is not ready to say so yet is asked again."""
        until = time.monotonic() + READY_WITHIN
        while (answer := ask()).status_code == 503 and time.monotonic() < until:
            TICK.wait(PAUSE)
        return answer.status_code in (200, 201)

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._server.url, verify=TLS, timeout=20)

    def _work(self, worker: int) -> None:
        turn = 0
        with self._client() as http, self._server.admin() as admin:
            while not self._over.wait(PAUSE):
                turn += 1
                name = f"user-{worker}-{turn}"
                token = self._ask("sign-in", admin, "/api/sessions", {"userId": name})
                if token:
                    self._keep(self.seen.sessions, token)
                    self._note("session", lambda token=token: self._look(admin, token))
                body = {"feature": "editor", "userId": name, "clientId": "c"}
                seat = self._ask("acquire", http, "/api/licenses/sessions", body, key=self._key)
                if seat:
                    self._keep(self.seen.seats, seat)
                    self._note("heartbeat", lambda seat=seat: self._beat(http, seat))

    def _ask(
        self,
        what: str,
        http: httpx.Client,
        path: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
    ) -> str | None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        sent = time.monotonic()
        answer = self._note(what, lambda: http.post(path, json=body, headers=headers))
        if answer is None or answer.status_code != 201:
            return None
        with self._lock:
            self.seen.wrote_at.setdefault(what, []).append((sent, time.monotonic()))
        token: str = answer.json()["data"]["token"]
        return token

    def _note(self, what: str, ask: Any) -> httpx.Response | None:
        try:
            answer: httpx.Response = ask()
            outcome = "ok" if answer.is_success else str(answer.status_code)
        except httpx.HTTPError as error:
            answer, outcome = None, type(error).__name__  # type: ignore[assignment]  # nobody answered
        with self._lock:
            self.seen.answers[f"{what} {outcome}"] += 1
        return answer

    def _keep(self, where: list[str], token: str) -> None:
        with self._lock:
            where.append(token)

    def _look(self, http: httpx.Client, token: str) -> httpx.Response:
        headers = {"X-Session-Token": token, "Authorization": f"Bearer {ADMIN_KEY}"}
        return http.get("/api/sessions/current", headers=headers)

    def _resume(self, http: httpx.Client, token: str) -> httpx.Response:
        return http.post(
            "/api/licenses/sessions", json={}, headers={"Authorization": f"Bearer {token}"}
        )

    def _beat(self, http: httpx.Client, token: str) -> httpx.Response:
        return http.post(
            "/api/licenses/sessions/heartbeat",
            json={},
            headers={"Authorization": f"Bearer {token}"},
        )
