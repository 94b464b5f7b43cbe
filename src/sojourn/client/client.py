"""The client of a license server: takes seats and keeps them.

with Client("https://licenses.example.com", license_key="sjk_…").seat("render", user="ada") as seat:
    while work:
        seat.check()   # raises SeatLost when the seat is gone
        ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sojourn.client.beats import Beats
from sojourn.client.hold import Wish
from sojourn.client.http import Http
from sojourn.client.identity import default_client_id, default_device
from sojourn.client.returns import CLOSE_TIMEOUT, close_all
from sojourn.client.seat import OnChange, OnWait, Seat
from sojourn.client.signals import leaving
from sojourn.client.transport import HttpxTransport, Transport
from sojourn.client.world import World
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.token import Secret, TokenKind, check_token

if TYPE_CHECKING:
    import ssl


class Client:
    """One connection pool and one heartbeat thread for all seats of this process at one server.

    Safe from several threads. Nothing is connected and no thread runs before the first acquire.
    After a fork the child starts afresh: it holds none of its parent's seats, may take its own, and gives
    nothing of its parent's back.

    Args:
        url: the server's, such as `https://licenses.example.com`.
        license_key: the proof (`sjk_…`), or
        jwt: a user's JWT, or a callable that returns a fresh one whenever a seat is acquired.
        timeout: seconds for one request; less where a lease would run out meanwhile.
        retries: how often an acquire is tried again when the server cannot be reached.
        sockets: keep each seat by an open WebSocket, too, as far as half of this process's descriptors go.
            A crash is then known at once, and a loss is told without delay. Heartbeats go on where a
            socket cannot be opened, and where it does not speak often enough for the lease.
        signals: give seats back when SIGTERM or SIGHUP is about to end the process, where nothing else
            handles it and the first seat is described, or acquired, on the main thread. A main thread that
            stands in C, as in Qt's `exec()`, needs a timer for that: see docs/guide/desktop-app.md.
        verify: False or an SSLContext to check the server's certificate differently.
        transport: how requests travel, for tests and unusual networks: a `Transport`, or one of httpx's.
        world: time, chance and threads, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        license_key: str | None = None,
        jwt: str | Callable[[], str] | None = None,
        timeout: float = 5.0,
        retries: int = 3,
        signals: bool = True,
        sockets: bool = False,
        verify: ssl.SSLContext | bool = True,
        transport: Transport | HttpxTransport | None = None,
        world: World | None = None,
    ) -> None:
        if not timeout > 0 or retries < 0:
            raise InvalidInput("timeout must be positive, and retries not negative.")
        world = world or World()
        self._jwt = jwt is not None
        self._http = Http(url, now=world.now, verify=verify, transport=transport)
        self._retries = retries
        self._signals = signals
        self._beats = Beats(
            self._http, _proof(license_key, jwt), world=world, timeout=timeout, sockets=sockets
        )

    def __repr__(self) -> str:
        return f"<Client of {self._http.name}>"

    def seat(
        self,
        feature: str,
        *,
        user: str | None = None,
        client_id: str | None = None,
        instance: str | None = None,
        license_id: str | None = None,
        session_id: str | None = None,
        device: Device | None = None,
        takeover: bool = False,
        wait: float | None = None,
        resume: bool = True,
        on_change: OnChange | None = None,
        on_wait: OnWait | None = None,
    ) -> Seat:
        """Describe a seat; `acquire` or a with-block takes it.

        Args:
            feature: which feature of the license.
            user: who sits on it. May be left out when a JWT says so.
            client_id: with the user, the holder's name: whoever comes back under it gets its own seat
                back at once, and two at a time take it from each other. Default: a hash of this
                machine, OS user and program, and the number of this copy of it, the same after a crash
                (`identity.default_client_id`). It is found when the seat is acquired: processes that are
                forked in between are copies with names of their own.
            instance: tells seats of one process apart, where one user has several: "1", "2", …
            license_id: which license, where the proof does not say.
            session_id: the web session the seat belongs to; it is released when that ends.
            device: what people see in lists. Default: this machine's name and system.
            takeover: if every seat is in use, take it from this user's most silent other client.
            wait: seconds to wait in the feature's line while every seat is in use; `math.inf`: for
                ever. None: SeatDenied at once.
            resume: get a lost seat back without being asked. Never done where somebody meant the
                loss: taken over, moved, revoked, session ended.
            on_change: called with each Change, in order, on a thread for callbacks.
            on_wait: called with Waiting, which has the place in the line, every few seconds by the
                thread that acquires; what it raises ends the waiting.
        """
        if user is None and not self._jwt:
            raise InvalidInput("A seat needs a user.", hint="Say who: seat(feature, user=…).")
        if wait is not None and not (_is_number(wait) and wait >= 0):
            raise InvalidInput(
                "wait must be a number of seconds.",
                hint="None: not at all; math.inf: for ever.",
            )
        if self._signals:
            leaving.watch(close_all)
        if client_id is not None and instance is not None:
            client_id = f"{client_id}.{instance}"
        wish = Wish(
            feature=feature,
            user=user,
            license_id=license_id,
            session_id=session_id,
            device=device or default_device(),
        )
        return Seat(
            self._beats,
            wish,
            partial(self._named, client_id, instance),
            takeover=takeover,
            retries=self._retries,
            wait=wait,
            resume=resume,
            on_change=on_change,
            on_wait=on_wait,
        )

    def _named(self, client_id: str | None, instance: str | None) -> str:
        """Return as whom a seat is acquired. Called in each process that does."""
        if self._signals:
            leaving.watch(close_all)  # it may have been forked since the seat was described
        return default_client_id(instance) if client_id is None else client_id

    def close(self, timeout: float = CLOSE_TIMEOUT) -> int:
        """Give all seats back and disconnect. Takes `timeout` seconds at most; also done at exit.

        Return how many seats the server has not taken back: those expire by themselves.
        """
        return self._beats.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _proof(license_key: str | None, jwt: str | Callable[[], str] | None) -> Callable[[], Secret]:
    if (license_key is None) == (jwt is None):
        raise InvalidInput(
            "A client needs a license key or a JWT, one of them.",
            hint="Say license_key=… (sjk_…), or jwt=… where users prove who they are.",
        )
    if license_key is not None:
        key = Secret(check_token(license_key, TokenKind.LICENSE))
        return lambda: key
    if isinstance(jwt, str):
        token = Secret(jwt)
        return lambda: token
    assert jwt is not None
    fresh = jwt
    return lambda: Secret(fresh())
