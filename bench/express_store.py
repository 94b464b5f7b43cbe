"""Express with our Store on a Sojourn server beside Express with connect-pg-simple.

One application, two stores, in turns within seconds, each on the first core. PostgreSQL, which both have
their sessions in, the load and the Sojourn server share the other. What does one more server between Express
and its database cost, and what is had for it: keys that parallel requests do not lose, and revoked sessions
that no request brings back?
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
from msgspec import Struct
from places import ADMIN_KEY, HERE, OTHER_CORE, SERVER_CORE, pin, started
from tests.adapters.express.node import NodeApp, installed
from tests.typescript.toolchain import built
from versus import Side, turns_of
from web_sessions import peer_requests

from sojourn.testing.servers import Server, fresh_database, postgres

PARALLEL = 16
"""Requests at once that each set a key of their own."""
TIMEOUT = 60  # seconds for one answer


class Row(Struct, frozen=True, kw_only=True):
    what: str
    sojourn: float
    connect_pg_simple: float
    ratio: float  # sojourn / connect-pg-simple: of rates the median of the rounds


class App(Struct, frozen=True):
    """The application on one of the stores. `revoke`: ends a user's sessions from elsewhere."""

    node: NodeApp
    revoke: Callable[[str], object]

    @property
    def side(self) -> Side:
        port = int(self.node.url.rpartition(":")[2])
        return Side(port, self.node.process.pid, peer_requests(port))


def measure(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Compare rates in turns; then count what is lost, and what lives on."""
    pin(os.getpid(), OTHER_CORE)
    with postgres() as sql, _ours(sql) as ours, _theirs(sql) as theirs:
        pin(sql.pid or 0, OTHER_CORE)
        rows = []
        us, them = ours.side, theirs.side
        for at, call in enumerate(("read", "write")):
            say(f"express · {call}")
            found = turns_of(us, them, at, rounds)
            rows += [
                Row(
                    what=f"{call}, requests per second",
                    sojourn=found.ours_rate,
                    connect_pg_simple=found.theirs_rate,
                    ratio=found.rate,
                ),
                Row(
                    what=f"{call}, µs of CPU in Express",
                    sojourn=found.ours_us,
                    connect_pg_simple=found.theirs_us,
                    ratio=found.ours_us / found.theirs_us if found.theirs_us else 0.0,
                ),
            ]
        say("express · parallel requests")
        rows.append(_counted(f"keys lost of {PARALLEL * rounds}", keys_lost, ours, theirs, rounds))
        say("express · revoked sessions")
        rows.append(
            _counted(f"revoked sessions of {rounds} that lived on", lived_on, ours, theirs, rounds)
        )
    return rows


def _counted(
    what: str, count: Callable[[App, int], int], ours: App, theirs: App, rounds: int
) -> Row:
    us, them = count(ours, rounds), count(theirs, rounds)
    return Row(what=what, sojourn=us, connect_pg_simple=them, ratio=us / them if them else 0.0)


@contextlib.contextmanager
def _ours(sql: Server) -> Iterator[App]:
    with fresh_database(sql) as url, started(f"--store={url}") as (port, pid):
        pin(pid, OTHER_CORE)
        server = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

        def revoke(user: str) -> None:
            body = {"userId": user, "reason": "revoked"}
            answer = httpx.post(f"{server}/api/sessions/end", json=body, headers=headers)
            assert len(answer.json()["data"]["ids"]) == 1, answer.text

        settings = {
            "MODULE": str(HERE / "peers" / "sojourn_store.mjs"),
            "EXPRESS_ENTRY": str(built() / "out" / "src" / "express.js"),
            "KEY": ADMIN_KEY,
        }
        with _running(server, **settings) as node:
            yield App(node, revoke)


@contextlib.contextmanager
def _theirs(sql: Server) -> Iterator[App]:
    with fresh_database(sql) as url:

        def revoke(user: str) -> None:
            ours = "DELETE FROM session WHERE sess->'passport'->>'user' = %s"
            with psycopg.connect(url) as connection:
                assert connection.execute(ours, [user]).rowcount == 1

        with _running(url, CREATE="1") as node:
            yield App(node, revoke)


@contextlib.contextmanager
def _running(store: str, **settings: str) -> Iterator[NodeApp]:
    node = NodeApp(installed(), store, **settings)
    try:
        pin(node.process.pid, SERVER_CORE)
        yield node
    finally:
        node.close()


@contextlib.contextmanager
def _signed_in(app: App, user: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.node.url, timeout=TIMEOUT) as client:
        _post(client, "/login", {"user": user})
        yield client


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


def keys_lost(app: App, rounds: int) -> int:
    """Let requests of one browser set a key each, at once; return how many keys are not there afterwards."""
    lost = 0
    with ThreadPoolExecutor(PARALLEL) as threads:
        for n in range(rounds):
            with _signed_in(app, f"parallel-{n}") as client:
                keys = [f"k{each}" for each in range(PARALLEL)]
                # The client's threads share its cookies and have connections of their own.
                list(threads.map(lambda key: _post(client, "/set", {key: 1}), keys))
                lost += len(set(keys) - client.get("/me").json()["data"].keys())
    return lost


def lived_on(app: App, rounds: int) -> int:
    """Revoke sessions while a request of theirs works, which saves afterwards; return how many are good."""
    living = 0
    with ThreadPoolExecutor(1) as threads:
        for n in range(rounds):
            user = f"revoked-{n}"
            with _signed_in(app, user) as client:
                slow = threads.submit(_post, client, "/slow", {"draft": n})
                assert app.node.line() == {"slow": "in"}
                app.revoke(user)
                httpx.post(f"{app.node.url}/release", timeout=TIMEOUT).raise_for_status()
                slow.result(TIMEOUT)
                living += client.get("/me").json()["user"] == user
    return living
