"""A server that was frozen: what clients sent and gave up meanwhile is not carried out when it wakes.

The system took it all in: on connections that were open, and on new ones.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.raw_http import head
from tests.serving import Served, new_client, served

from sojourn.testing.processes import _stat, wait_until

BASE = "/api/sessions"
CURRENT = BASE + "/current"
PATIENCE = 20.0  # seconds until a test gives up
MANY = 40


@contextmanager
def frozen(server: Served) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert wait_until(lambda: (_stat(server.pid) or "?")[0] == "T", PATIENCE)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


class App:
    """An application's backend, by a client library and by hand."""

    def __init__(self, server: Served, http: httpx.Client) -> None:
        self.server = server
        self.http = http
        with server.admin() as admin:
            made = admin.post("/api/keys", json={"name": "shop", "role": "app"})
        self.key = str(made.json()["data"]["key"])

    def ask(self, method: str, path: str, token: str = "", **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", "X-Session-Token": token}
        answer = self.http.request(
            method, self.server.url + path, headers=headers, json=body or None
        )
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def begin(self) -> str:
        return str(self.ask("POST", BASE, userId="ann")["token"])

    def written(self, method: str, path: str, token: str, body: Any, *, chunked: bool) -> bytes:
        content = json.dumps(body).encode()
        lines = [f"X-Session-Token: {token}", "Content-Type: application/json"]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        else:
            lines.append(f"Content-Length: {len(content)}")
        return head(method, path, *lines, bearer=self.key) + content

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with served(tmp_path / "data") as server, new_client() as http:
        yield App(server, http)


@pytest.mark.parametrize("chunked", [False, True], ids=["direct", "asgi"])
def test_what_was_given_up_meanwhile_is_not_carried_out(app: App, chunked: bool) -> None:
    """Sign-outs would end sessions that were begun later, saves overwrite what was saved later."""
    token, other = app.begin(), app.begin()
    before = app.ask("PATCH", CURRENT, token, set={"a": "before"})["revision"]
    abandoned = [
        app.written("PATCH", CURRENT, token, {"set": {"a": "abandoned"}}, chunked=chunked),
        app.written("POST", CURRENT + "/end-others", token, {}, chunked=chunked),
        app.written("DELETE", CURRENT, token, {}, chunked=chunked),
    ]
    with ExitStack() as opened:
        connections = [opened.enter_context(app.connect()) for _ in range(MANY // 2)]
        for each in connections:  # the server has them
            each.sendall(head("GET", "/livez"))
            assert each.recv(65_536).startswith(b"HTTP/1.1 200")
        with frozen(app.server):
            connections += [opened.enter_context(app.connect()) for _ in range(MANY // 2)]
            for n, each in enumerate(connections):
                each.sendall(abandoned[n % 3])
            opened.close()
        later = app.begin()
        after = app.ask("PATCH", CURRENT, token, set={"a": "after"})["revision"]
    with app.server.admin() as admin:  # it has come round to all of them
        assert wait_until(lambda: _counted(admin) == MANY, PATIENCE), _counted(admin)
    assert after == before + 1
    session = app.ask("GET", CURRENT, token)["session"]
    assert (session["data"], session["revision"]) == ({"a": "after"}, after)
    for alive in (other, later):
        app.ask("GET", CURRENT, alive)


def _counted(admin: httpx.Client) -> float:
    """Count the requests that were dropped, by the server's own account."""
    lines = admin.get("/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("sojourn_http_answers_total{") and 'code="client_gone"' in line
    )
