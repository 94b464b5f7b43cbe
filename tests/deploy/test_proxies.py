"""nginx and Caddy, from the files in deploy/proxy, before what they must serve."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from tests.deploy.proxies import KINDS, SITE, Running, proxied
from tests.serving import ADMIN_KEY, SECRET, Served, acquire, new_client, served
from websockets.sync.client import connect

from sojourn.origin import TrustedHops

DEADLINE = 60.0
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Real-IP": "203.0.113.9",
}


class Behind(BaseHTTPRequestHandler):
    """Tells the headers that it got; streams one event, and the next when it is told to."""

    protocol_version = "HTTP/1.1"
    seen = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in (b"data: first\n\n", b"data: second\n\n"):
                self.wfile.write(piece)
                self.wfile.flush()
                self.seen.wait(DEADLINE)
            self.close_connection = True
            return
        self._answer(json.dumps(dict(self.headers.items())).encode())

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left > 0 and (piece := self.rfile.read(min(left, 65_536))):
            left -= len(piece)
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxy(kind: str, behind: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with proxied(kind, tmp_path_factory.mktemp(kind), behind) as running:
        yield running


@contextlib.contextmanager
def asking(proxy: Running) -> Iterator[httpx.Client]:
    """A client that believes the certificate, and reaches the site by its name."""
    with httpx.Client(
        base_url=f"https://{proxy.via}",
        headers={"Host": f"{SITE}:{proxy.port}"},
        verify=proxy.trust,
        timeout=30,
    ) as client:
        client.event_hooks["request"].append(lambda each: each.extensions.update(sni_hostname=SITE))
        yield client


def test_a_stranger_chooses_no_address(proxy: Running) -> None:
    """What is behind reads the peer's own address and scheme, whatever the request said of them."""
    with asking(proxy) as http:
        got = {k.lower(): v for k, v in http.get("/headers", headers=FORGED).json().items()}
    origin = TrustedHops(["127.0.0.1"]).origin(
        "127.0.0.1", "http", got["x-forwarded-for"], got["x-forwarded-proto"]
    )
    assert (origin.https, origin.ip) == (True, "127.0.0.1")
    assert "203.0.113.9" not in got["x-forwarded-for"]
    assert got["host"].partition(":")[0] == SITE


def test_an_event_comes_at_once(proxy: Running) -> None:
    """The first is read before the second is sent."""
    Behind.seen.clear()
    with asking(proxy) as http, http.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: first"
        Behind.seen.set()
        assert "data: second" in list(lines)


def test_the_largest_session_comes_through(proxy: Running) -> None:
    with asking(proxy) as http:
        assert http.post("/x", content=b"x" * 1_114_112).status_code == 200


def test_metrics_are_not_for_strangers(proxy: Running) -> None:
    with asking(proxy) as http:
        assert http.get("/metrics").status_code == 404


def test_plain_http_leads_to_https(proxy: Running) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.plain}", timeout=30) as http:
        answer = http.get("/account/security", headers={"Host": SITE})
    assert answer.status_code in {301, 308}
    assert answer.headers["location"].startswith(f"https://{SITE}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("server")
    with served(folder, environ={"SOJOURN_TRUSTED_PROXIES": "127.0.0.1"}) as running:
        yield running


@pytest.fixture(scope="module")
def site(kind: str, server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with proxied(kind, tmp_path_factory.mktemp(kind), server.port) as running:
        yield running


def test_doctor_finds_nothing_wrong_behind_it(site: Running, server: Served) -> None:
    """`sojourn doctor --url`, with the checks of a browser and of the API's round trip."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}
    command = [
        *(sys.executable, "-m", "sojourn", "doctor", "--json"),
        *("--url", site.url, "--via", site.via, "--data", str(server.data)),
    ]
    done = subprocess.run(
        command,
        env={
            **environment,
            "SSL_CERT_FILE": str(site.certificate),
            "SOJOURN_KEY": ADMIN_KEY,
            "SOJOURN_SECRET": SECRET,
            "SOJOURN_TRUSTED_PROXIES": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    found = json.loads(done.stdout)
    verdicts = {each["id"]: each["verdict"] for each in found["checks"]}
    assert {k: v for k, v in verdicts.items() if v in ("warning", "failure")} == {}
    assert verdicts["cookies.address"] == "ok"
    assert verdicts["round-trip.api"] == "ok"


def test_a_websocket_lives_behind_it(site: Running, server: Served) -> None:
    """The live connection of people's pages is upgraded, and told of a change."""
    with server.admin() as http:
        made = http.post("/api/sessions", json={"userId": "ada"}).json()["data"]
        with connect(
            f"wss://{SITE}:{site.port}/api/user/active-sessions/live",
            sock=socket.create_connection(("127.0.0.1", site.port)),
            ssl=site.trust,
            server_hostname=SITE,
            additional_headers={"Authorization": f"Bearer {made['token']}"},
            open_timeout=30,
        ) as live:
            assert json.loads(live.recv(timeout=30)) == {"type": "changed"}
            http.delete(f"/api/sessions/{made['session']['id']}")
            assert json.loads(live.recv(timeout=30))["type"] == "signedOut"


def test_a_seat_is_taken_through_it(site: Running, server: Served) -> None:
    _, key = server.license(editor={"capacity": 1})
    with asking(site) as http:
        answer = http.post(
            "/api/licenses/sessions",
            headers={"Authorization": f"Bearer {key}"},
            json={"feature": "editor", "userId": "ada", "clientId": "one"},
        )
        assert answer.status_code == 201, answer.text
    with new_client() as direct:
        assert acquire(direct, server.url, key, "editor", "grace", "two").status_code == 409
