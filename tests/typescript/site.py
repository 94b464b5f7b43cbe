"""An application's own site for a browser, and what a Sojourn server knows of its tabs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.sync_api import BrowserContext, Page
from tests.serving import Served

from sojourn.testing.processes import wait_until

DEADLINE = 120.0
"""Seconds until a test gives up; nothing here takes as many."""
POLICY = {"capacity": 1, "heartbeatInterval": 60, "lostAfter": 180, "linger": 60}
"""So long that no lease ends because a machine stands still for a while."""


class Site:
    """An application's own site: a page, and the client as a bundler makes it."""

    def __init__(self, page: bytes, script: bytes, *, script_path: str = "/sojourn.js") -> None:
        files = {"/": (b"text/html", page), script_path: (b"text/javascript", script)}
        self.files = files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, content = files.get(self.path, (b"text/plain", b""))
                self.send_response(200 if self.path in files else 404)
                self.send_header("Content-Type", kind.decode())
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *said: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Stage:
    """A browser's tabs of the application, and what the server knows of their seat."""

    def __init__(self, context: BrowserContext, site: Site, server: Served) -> None:
        self._context = context
        self._site = site
        self._server = server
        self.admin = server.admin()
        made = self.admin.post(
            "/api/licenses",
            json={
                "name": "Acme",
                "features": {"editor": POLICY},
                "allowedOrigins": [site.origin],
            },
        ).json()["data"]
        self.license_id, self.key = made["licenseId"], made["key"]

    def tab(self, *, ready: str = "window.seat", **how: Any) -> Page:
        page = self._context.new_page()
        said = json.dumps({"url": self._server.url, "proof": self.key, **how})
        page.goto(f"{self._site.origin}/#{said}")
        page.wait_for_function(ready, timeout=DEADLINE * 1000)
        return page

    def leases(self, *, ended: bool = False) -> list[dict[str, Any]]:
        asked = {"licenseId": self.license_id, "includeEnded": str(ended).lower()}
        items: list[dict[str, Any]] = self.admin.get("/api/licenses/sessions", params=asked).json()[
            "data"
        ]["items"]
        return items

    def seats(self) -> list[tuple[int, str]]:
        return [(x["fence"], x["state"]) for x in self.leases()]

    def sockets(self) -> int:
        lines = self.admin.get("/metrics").text.splitlines()
        (found,) = [x for x in lines if x.startswith("sojourn_seat_sockets ")]
        return int(float(found.split()[1]))

    def until(self, said: Callable[[], bool]) -> None:
        assert wait_until(said, DEADLINE)
