"""What does a web session cost, beside those that people use today?

Each server has one core; its database and the load share the other. Everybody answers the same three
routes: sign in, read a key, write a key. The peers are set up as their manuals say, with connections
that are kept; where a peer touches the session with every request, that is its way, and ours is to
write a touch down once a minute. `sojourn http, every touch` shows what it would be otherwise.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from load import compare, repeat
from msgspec import Struct
from places import ADMIN_KEY, HERE, OTHER_CORE, SECRET, SERVER_CORE, free_port, pin, serving
from tests.adapters.express.node import installed, programs

from sojourn.stores.open import migrate
from sojourn.testing.redis_server import redis_server
from sojourn.testing.servers import fresh_database, postgres

CONNECTIONS = 64
SESSIONS = 256
PEERS = HERE / "peers"


class Row(Struct, frozen=True, kw_only=True):
    server: str
    store: str
    call: str
    rate: float
    ratio: float  # of the empty ASGI application's rate, in turns with it
    p50: float
    p99: float
    failed: int


class Peer(Struct, frozen=True):
    """A server: how it is started, given its port, and on which kind of store."""

    name: str
    store: str  # postgres | redis
    argv: Callable[[int], list[str]]
    cwd: Path = PEERS
    prepare: Callable[[dict[str, str]], object] | None = None


def _uvicorn(module: str) -> Callable[[int], list[str]]:
    return lambda port: [
        *(sys.executable, "-m", "uvicorn", f"{module}:app", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]


def _gunicorn(module: str) -> Callable[[int], list[str]]:
    return lambda port: [
        *(sys.executable, "-m", "gunicorn", f"{module}:application", "-b", f"127.0.0.1:{port}"),
        *("-k", "gthread", "--threads", "8", "-w", "1", "--log-level", "warning"),
    ]


def _node(_port: int) -> list[str]:
    return [programs()[0], "app.js"]


def _migrate_django(env: dict[str, str]) -> None:
    subprocess.run([sys.executable, "django_peer.py"], cwd=PEERS, env=env, check=True)


def peers() -> list[Peer]:
    express = installed()
    return [
        Peer(
            "sojourn asgi",
            "postgres",
            _uvicorn("sojourn_asgi"),
            PEERS,
            lambda e: migrate(e["STORE"]),
        ),
        Peer("sojourn asgi", "redis", _uvicorn("sojourn_asgi")),
        Peer("starsessions", "redis", _uvicorn("stars")),
        Peer(
            "sojourn asgi, alone",
            "postgres",
            _uvicorn("sojourn_plain"),
            PEERS,
            lambda e: migrate(e["STORE"]),
        ),
        Peer("sojourn asgi, alone", "redis", _uvicorn("sojourn_plain")),
        Peer("starsessions, alone", "redis", _uvicorn("stars_plain")),
        Peer(
            "django db, every touch", "postgres", _gunicorn("django_peer"), PEERS, _migrate_django
        ),
        Peer("flask-session", "redis", _gunicorn("flask_peer")),
        Peer("express connect-pg-simple", "postgres", _node, express),
        Peer("express connect-redis", "redis", _node, express),
    ]


def measure(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Run everybody in turn, on one PostgreSQL and one Valkey."""
    pin(os.getpid(), OTHER_CORE)
    rows: list[Row] = []
    with postgres() as sql, redis_server() as redis, serving("--empty") as empty:
        for server in (sql.pid, redis.pid):
            pin(server or 0, OTHER_CORE)
        for every_touch in (False, True):
            say("sessions · sojourn http")
            with fresh_database(sql) as url:
                rows += _sojourn(url, empty, every_touch, rounds)
        for peer in peers():
            say(f"sessions · {peer.name}")
            with contextlib.ExitStack() as stack:
                url = redis.url
                if peer.store == "postgres":
                    url = stack.enter_context(fresh_database(sql))
                port, _ = stack.enter_context(running(peer, url))
                rows += _peer(peer, port, empty, rounds)
    return rows


def _sojourn(url: str, empty: int, every_touch: bool, rounds: int) -> list[Row]:
    options = ["--every-touch"] if every_touch else []
    name = "sojourn http, every touch" if every_touch else "sojourn http"
    with serving(f"--store={url}", *options) as port:
        check, write = http_requests(port)
        return [
            _row(name, "postgres", "check", port, empty, check, rounds),
            *([] if every_touch else [_row(name, "postgres", "write", port, empty, write, rounds)]),
        ]


def http_requests(port: int) -> tuple[list[bytes], list[bytes]]:
    """Begin sessions on Sojourn's server; return requests that check each, and that write to it."""
    tokens = []
    for n in range(SESSIONS):
        body = json.dumps({"userId": f"user-{n}", "data": {"n": 0}})
        _, answer, _ = _ask(port, "POST", "/api/sessions", _key(), body)
        tokens.append(json.loads(answer)["data"]["token"])
    check = [_raw("GET", "/api/sessions/current", _key(token)) for token in tokens]
    write = [
        _raw("PATCH", "/api/sessions/current", _key(token), b'{"set":{"n":1}}') for token in tokens
    ]
    return check, write


def peer_requests(port: int) -> tuple[list[bytes], list[bytes]]:
    """Sign in on a peer; return requests that read each session, and that write to it."""
    cookies = []
    for n in range(SESSIONS):
        body = json.dumps({"user": f"user-{n}"})
        _, _, set_cookie = _ask(port, "POST", "/login", {}, body)
        cookie = {"Cookie": set_cookie.partition(";")[0]}
        _ask(port, "POST", "/set", cookie, '{"n": 0}')
        cookies.append(cookie)
    read = [_raw("GET", "/me", cookie) for cookie in cookies]
    write = [_raw("POST", "/set", cookie, b'{"n": 1}') for cookie in cookies]
    return read, write


def _peer(peer: Peer, port: int, empty: int, rounds: int) -> list[Row]:
    read, write = peer_requests(port)
    return [
        _row(peer.name, peer.store, call, port, empty, requests, rounds)
        for call, requests in (("read", read), ("write", write))
    ]


def _row(
    name: str, store: str, call: str, port: int, empty: int, requests: list[bytes], rounds: int
) -> Row:
    run = compare(
        (empty, lambda _: repeat([_raw("GET", "/", {})])),
        (port, lambda n: repeat(requests[n::CONNECTIONS])),
        connections=CONNECTIONS,
        rounds=rounds,
    )
    return Row(
        server=name,
        store=store,
        call=call,
        rate=run.middle.rate,
        ratio=run.ratio,
        p50=run.middle.p50,
        p99=run.middle.p99,
        failed=sum(n for status, n in run.statuses.items() if status != 200),
    )


@contextlib.contextmanager
def running(peer: Peer, url: str) -> Iterator[tuple[int, int]]:
    """Run a peer on the server's core; give its port and its process id."""
    port = free_port()
    env = os.environ | {"STORE": url, "SECRETS": SECRET, "CREATE": "1", "PORT": str(port)}
    if peer.prepare is not None:
        peer.prepare(env)
    child = subprocess.Popen(
        peer.argv(port), cwd=peer.cwd, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        pin(child.pid, SERVER_CORE)
        if peer.argv is _node:
            assert child.stdout is not None
            port = json.loads(child.stdout.readline())["port"]
        _await(child, port, peer.name)
        pin(child.pid, SERVER_CORE)  # its workers, too
        yield port, child.pid
    finally:
        child.terminate()
        child.wait(20)


def _await(child: subprocess.Popen[str], port: int, name: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start")
        with contextlib.suppress(OSError):
            _ask(port, "GET", "/", {})
            return
        time.sleep(0.05)


def _key(token: str | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return headers if token is None else headers | {"X-Session-Token": token}


def _ask(
    port: int, method: str, path: str, headers: dict[str, str], body: str | None = None
) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Set-Cookie") or ""
    finally:
        connection.close()


def _raw(method: str, path: str, headers: dict[str, Any], body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{k}: {v}" for k, v in headers.items())]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
