"""A page takes a seat in Chromium, where its license allows its origin; elsewhere it reads nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser
from tests.serving import served

SCRIPT = """async ([url, key]) => {
  const ask = (method, path, bearer, body) => fetch(url + "/api/licenses/sessions" + path, {
    method, body, headers: {"Authorization": "Bearer " + bearer, "Content-Type": "application/json"},
  });
  try {
    const wish = JSON.stringify({feature: "editor", userId: "ann", clientId: "tab"});
    const seat = await (await ask("POST", "", key, wish)).json();
    const beat = await (await ask("POST", "/heartbeat", seat.data.token, "{}")).json();
    const left = await (await ask("DELETE", "/current", seat.data.token)).json();
    const refused = await ask("POST", "", key.slice(0, -1) + "!", wish);
    return [beat.data.state, left.data.released, refused.status];
  } catch (fault) { return [String(fault)]; }
}"""


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def site() -> Iterator[str]:
    """Serve an empty page; yield its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Blank)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_page_takes_a_seat_where_its_license_allows_that(
    chromium: Browser, tmp_path: Path
) -> None:
    """Acquire, beat, release, and a wrong key: it reads them all. Another origin's page reads nothing."""
    with served(tmp_path) as server, site() as ours, site() as theirs, server.admin() as http:
        body = {"name": "Acme", "features": {"editor": {"capacity": 1}}, "allowedOrigins": [ours]}
        key = http.post("/api/licenses", json=body).json()["data"]["key"]
        told = {}
        for origin in (ours, theirs):
            context = chromium.new_context()
            page = context.new_page()
            page.goto(origin)
            told[origin] = page.evaluate(SCRIPT, [server.url, key])
            context.close()
        assert told[ours] == ["active", True, 401]
        assert told[theirs] == ["TypeError: Failed to fetch"]
        taken = http.get("/api/events", params={"limit": 100}).json()["data"]["items"]
        assert [each["kind"] for each in taken].count("lease.acquired") == 1
