"""Two who want one seat: ada, by the extension in a browser, and a rival, who asks for it over HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from tests.extension.browser import DEADLINE, ORIGIN, BrowserFault, Chromium
from tests.serving import Served, acquire, new_client, release

from sojourn.testing.processes import wait_until
from sojourn.testing.proxy import FaultProxy

PAUSE = 0.05  # seconds between two requests of the rival's
POLL = 0.1  # seconds between two looks
HELD = ("safe", "jeopardy")


class Rival:
    """Asks for the seat again and again, from a machine of its own, until it is granted or told to stop."""

    def __init__(self, server: Served, key: str) -> None:
        self._server, self._key = server, key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="rival", daemon=True)
        self._token = ""
        self.granted_at: float | None = None
        self.refused = 0

    def start(self) -> Self:
        self._thread.start()
        return self

    def _ask(self) -> None:
        with new_client() as http:
            while not self._stop.is_set():
                with contextlib.suppress(httpx.HTTPError, KeyError):
                    how = {"device": {"kind": "desktop"}}
                    said = acquire(
                        http, self._server.url, self._key, "editor", "bob", "rival", **how
                    )
                    if said.status_code == 201:
                        self._token = said.json()["data"]["token"]
                        self.granted_at = time.monotonic()
                        return
                    self.refused += said.status_code == 409
                self._stop.wait(PAUSE)

    def granted(self, timeout: float) -> bool:
        """Wait until it has the seat; tell whether it has."""
        self._thread.join(timeout)
        return self.granted_at is not None

    def give_back(self) -> None:
        """Ask no more, and give back what was granted."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE)
        if self._token:
            with new_client() as http:
                release(http, self._server.url, self._token)
            self._token = ""


class Stage:
    """A license with one seat, and the browser whose extension has it."""

    def __init__(
        self,
        server: Served,
        folder: Path,
        *,
        policy: Mapping[str, Any],
        proxy: FaultProxy | None = None,
    ) -> None:
        self.server = server
        self.proxy = proxy
        self.browser = Chromium(folder / "profile")
        with server.admin() as http:
            made = http.post(
                "/api/licenses",
                json={
                    "name": "Acme",
                    "features": {"editor": {"capacity": 1, **policy}},
                    "allowedOrigins": [ORIGIN],
                },
            ).json()["data"]
        self.license_id, self.key = made["licenseId"], made["key"]
        self._monitor = self.tab = self.lease_id = ""

    def sign_in(self, hold: str = "always") -> None:
        """Let ada have the seat; with `tabs`, a tab of the application is opened, and she has it for that."""
        url = self.proxy.url if self.proxy else self.server.url
        settings = {
            "url": url,
            "key": self.key,
            "feature": "editor",
            "userId": "ada",
            "hold": hold,
        }
        if hold == "tabs":
            self.tab = self.open_tab()
        code = f"chrome.storage.local.set({{ settings: {json.dumps(settings)} }})"
        self.ask(f"{code}.then(() => chrome.runtime.sendMessage({{ command: 'settings' }}))")
        self.until(lambda: self.state == "safe" and self.sockets() == 1)
        self.lease_id = self.lease()["leaseId"]
        watch = "chrome.storage.session.onChanged.addListener"
        self.ask(
            f"self.states = []; {watch}(({{ view }}) => view && states.push(view.newValue.state))"
        )

    @property
    def address(self) -> str:
        """A page of the application."""
        return f"{self.server.url}/livez"

    def open_tab(self) -> str:
        return self.browser.open(self.address)

    def open_window(self) -> None:
        """Open a window with two tabs of the application."""
        self.ask(
            f"chrome.windows.create({{ url: Array(2).fill({json.dumps(self.address)}) }})"
            ".then(() => undefined)"
        )

    def close_windows(self) -> None:
        """Close all windows but that of the extension's own page."""
        others = "const others = all.filter((each) => each.id !== own.id)"
        both = "Promise.all([chrome.windows.getAll(), chrome.windows.getCurrent()])"
        close = "return Promise.all(others.map((each) => chrome.windows.remove(each.id)))"
        self.ask(f"{both}.then(([all, own]) => {{ {others}; {close}; }}).then(() => undefined)")

    # What the extension knows

    def ask(self, code: str) -> Any:
        """Run code in a page of the extension's, which is opened where there is none."""
        if not any(x["targetId"] == self._monitor for x in self.browser.targets("page")):
            self._monitor = self.browser.open(f"{ORIGIN}/popup.html")
        self.until(self._loaded)
        return self.browser.evaluate(self._monitor, code)

    def _loaded(self) -> bool:
        code = "document.readyState === 'complete' && !!globalThis.chrome?.storage"
        with contextlib.suppress(BrowserFault):
            return bool(self.browser.evaluate(self._monitor, code))
        return False

    @property
    def monitor(self) -> str:
        return self._monitor

    @property
    def state(self) -> str:
        """What the popup says of the seat."""
        view = self.ask("chrome.storage.session.get('view').then(({ view }) => view)") or {}
        return str(view.get("state", ""))

    @property
    def states(self) -> list[str]:
        """What it has said since ada signed in, as far as its page has not been closed."""
        found: list[str] = self.ask("self.states ?? []")
        return found

    @property
    def boots(self) -> int:
        """How often the worker was started."""
        return int(self.ask("chrome.storage.session.get('boots').then(({ boots }) => boots ?? 0)"))

    # What the server knows

    def leases(self, *, ended: bool = False) -> list[dict[str, Any]]:
        asked = {"licenseId": self.license_id, "includeEnded": str(ended).lower()}
        with self.server.admin() as http:
            answer = http.get("/api/licenses/sessions", params=asked).json()
        items: list[dict[str, Any]] = answer["data"]["items"]
        return items

    def lease(self) -> dict[str, Any]:
        """Return ada's lease, ended or not."""
        (found,) = [each for each in self.leases(ended=True) if each["userId"] == "ada"]
        return found

    def sockets(self) -> int:
        """Return how many sockets keep seats at the server."""
        with self.server.admin() as http:
            lines = http.get("/metrics").text.splitlines()
        (found,) = [x for x in lines if x.startswith("sojourn_seat_sockets ")]
        return int(float(found.split()[1]))

    def holds(self) -> bool:
        """Tell whether ada has the seat: the server says so, a socket keeps it, and her popup shows it."""
        try:
            mine = [x for x in self.leases() if x["userId"] == "ada" and x["state"] == "active"]
            return bool(mine) and self.sockets() == 1 and self.state == "safe"
        except (httpx.HTTPError, BrowserFault, KeyError, ValueError):
            return False

    @staticmethod
    def until(said: Any, timeout: float = DEADLINE) -> None:
        """Wait for something. Raises TimeoutError."""
        asked = 0.0

        def look() -> bool:
            nonlocal asked
            if time.monotonic() < asked:
                return False
            happened = bool(said())
            asked = time.monotonic() + POLL
            return happened

        if not wait_until(look, timeout):
            raise TimeoutError("It did not happen in time.")


@contextlib.contextmanager
def staged(
    server: Served, folder: Path, *, policy: Mapping[str, Any], cable: bool = False
) -> Iterator[Stage]:
    """A browser with the extension; behind a network that fails at will where `cable` says so."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(server.url)) if cable else None
        stage = Stage(server, folder, policy=policy, proxy=proxy)
        stack.callback(stage.browser.end)
        stage.browser.start()
        yield stage
