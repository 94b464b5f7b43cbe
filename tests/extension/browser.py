"""Chromium as a person has it: a process of its own with the extension in it, and no debugger attached.

Commands go to the browser itself, by its DevTools protocol. A debugger that stays attached to the extension's
worker would keep it alive: so none ever is, and each look into a page attaches to that and lets go again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.chromium import FLAGS, find
from tests.typescript.toolchain import built
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from sojourn.testing.processes import alive, freeze, gone, kill_tree, signal_all, tree, wait_until

ID = "ibhopjdmpfbopppbekhahihfchenppdg"  # follows from the key in the extension's manifest
ORIGIN = f"chrome-extension://{ID}"
DEADLINE = 120.0
"""Seconds until whatever is waited for is given up."""
MESSAGE_MAX = 2**24  # bytes


class BrowserFault(RuntimeError):
    """The browser refused a command, or is gone."""


class Chromium:
    """A browser with a profile of its own. Raises BrowserFault where it does not do what it is told."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self._process: subprocess.Popen[bytes] | None = None
        self._tree: list[int] = []
        self._cdp: ClientConnection | None = None
        self._connected = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._number = 0

    def start(self) -> None:
        extension = built().parent / "chrome-extension" / "out"
        self.profile.mkdir(parents=True, exist_ok=True)
        # Or else an unpacked extension that reloads itself stays off.
        preferences = self.profile / "Default" / "Preferences"
        preferences.parent.mkdir(exist_ok=True)
        if not preferences.exists():
            preferences.write_text('{"extensions": {"ui": {"developer_mode": true}}}')
        noted = self.profile / "DevToolsActivePort"
        noted.unlink(missing_ok=True)
        command = [
            find(),
            *FLAGS,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={self.profile}",
            "--no-first-run",
            f"--disable-extensions-except={extension}",
            f"--load-extension={extension}",
            "about:blank",
        ]
        with (self.profile / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if not wait_until(lambda: noted.exists() and len(noted.read_text().split()) == 2, DEADLINE):
            raise BrowserFault("The browser did not start.")
        port, path = noted.read_text().split()
        self._cdp = self._connected.enter_context(
            connect(
                f"ws://127.0.0.1:{port}{path}",
                open_timeout=DEADLINE,
                close_timeout=1,
                ping_interval=None,  # it may be frozen
                max_size=MESSAGE_MAX,
                compression=None,
            )
        )

    # Commands

    def send(self, method: str, session: str = "", **params: Any) -> Any:
        """Give the browser, or what a session is attached to, a command; return what it answers."""
        if self._cdp is None:
            raise BrowserFault("There is no browser.")
        with self._lock:
            self._number += 1
            number = self._number
            more = {"sessionId": session} if session else {}
            try:
                self._cdp.send(
                    json.dumps({"id": number, "method": method, "params": params, **more})
                )
                while True:
                    said = json.loads(self._cdp.recv(timeout=DEADLINE))
                    if said.get("id") == number:
                        break
            except (WebSocketException, OSError, TimeoutError) as fault:
                raise BrowserFault(f"{method}: {fault!r}") from fault
        if "error" in said:
            raise BrowserFault(f"{method}: {said['error']}")
        return said["result"]

    def targets(self, kind: str) -> list[dict[str, Any]]:
        infos: list[dict[str, Any]] = self.send("Target.getTargets")["targetInfos"]
        return [each for each in infos if each["type"] == kind]

    def worker(self) -> str | None:
        """Return the target of the extension's worker; None if it does not run."""
        found = [x for x in self.targets("service_worker") if x["url"].startswith(ORIGIN)]
        return found[0]["targetId"] if found else None

    def open(self, url: str, *, window: bool = False) -> str:
        """Open a tab, in a window of its own if that is asked for; return its target."""
        made = self.send("Target.createTarget", url=url, newWindow=window)
        return str(made["targetId"])

    def close(self, target: str) -> None:
        self.send("Target.closeTarget", targetId=target)

    @contextlib.contextmanager
    def attached(self, target: str) -> Iterator[str]:
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            yield session
        finally:
            with contextlib.suppress(BrowserFault):
                self.send("Target.detachFromTarget", sessionId=session)

    def evaluate(self, target: str, code: str) -> Any:
        """Run code in a page; return its value. Raises BrowserFault with what it threw."""
        with self.attached(target) as session:
            said = self.send(
                "Runtime.evaluate",
                session,
                expression=code,
                awaitPromise=True,
                returnByValue=True,
            )
        if "exceptionDetails" in said:
            raise BrowserFault(str(said["exceptionDetails"]))
        return said["result"].get("value")

    def stop_workers(self, target: str) -> None:
        """Stop the extension's worker, as the browser does that needs its room; from a page of its own."""
        with self.attached(target) as session:
            self.send("ServiceWorker.enable", session)
            self.send("ServiceWorker.stopAllWorkers", session)

    def complaints(self) -> list[str]:
        """Return what the browser has to say against the extension: its manifest, and errors as it ran."""
        page = self.open("chrome://extensions")
        there = "!!globalThis.chrome?.developerPrivate"
        try:
            if not wait_until(lambda: bool(self.evaluate(page, there)), DEADLINE):
                raise BrowserFault("There is no page of extensions.")
            every: list[dict[str, Any]] = self.evaluate(
                page, "chrome.developerPrivate.getExtensionsInfo()"
            )
        finally:
            self.close(page)
        (ours,) = [each for each in every if each["id"] == ID]
        found = [*ours["manifestErrors"], *ours["runtimeErrors"], *ours["installWarnings"]]
        return [str(each) for each in found]

    # Ends

    def quit(self) -> None:
        """Close it as a person does, by its menu."""
        self._note()
        with contextlib.suppress(BrowserFault):
            self.send("Browser.close")

    def terminate(self) -> None:
        self._note()
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill all of its processes, as a power cut does."""
        kill_tree(self.pid)

    def freeze(self) -> None:
        """Stop all of its processes where they stand, as a laptop's lid does."""
        self._tree = freeze(self.pid)

    def wake(self) -> None:
        signal_all(self._tree, signal.SIGCONT)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrowserFault("There is no browser.")
        return self._process.pid

    def _note(self) -> None:
        self._tree = tree(self.pid)

    def end(self) -> None:
        """Take care that nothing of it is left, whatever state it is in."""
        process, self._process = self._process, None
        if process is None:
            return
        if alive(process.pid):
            kill_tree(process.pid)
        left = [pid for pid in self._tree if alive(pid)]
        signal_all(left, signal.SIGKILL)
        process.wait(DEADLINE)
        gone(left)
        self._cdp = None
        self._connected.close()
