"""`sojourn health`: what scripts and containers are told by its exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sojourn.cli.failure import ExitCode
from sojourn.cli.main import main

ANSWERS = {
    "/readyz": (503, {"code": "store_unavailable", "error": "The store does not answer."}),
    "/livez": (200, {"status": "alive"}),
    "/half/readyz": (200, {"status": "ready", "degraded": ["schema"]}),
    "/else/readyz": (200, "<html>"),
    "/other/readyz": (200, {"hello": "world"}),
}


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_without_its_store_is_alive_and_not_ready(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--url", url]) == ExitCode.UNAVAILABLE
    assert "why: The store does not answer." in capsys.readouterr().err
    assert main(["health", "--url", url, "--live"]) == 0


def test_what_is_degraded_serves(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--url", f"{url}/half"]) == 0
    assert "Degraded: schema." in capsys.readouterr().out
    assert main(["health", "--url", f"{url}/half", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["degraded"] == ["schema"]


@pytest.mark.parametrize("where", ["else", "other"])
def test_a_stranger_is_no_server_of_ours(where: str, url: str) -> None:
    assert main(["health", "--url", f"{url}/{where}"]) == ExitCode.UNAVAILABLE
