"""The guide's desktop program runs as it stands, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.serving import Served, served
from tests.waiting import DEADLINE, ended

from sojourn.client import Client, errors

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "desktop_app.py"
GUIDE = (DOCS / "guide" / "desktop-app.md").read_text()


@contextmanager
def program(server: Served, key: str, user: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), user],
        env={**os.environ, "SOJOURN_URL": server.url, "SOJOURN_LICENSE_KEY": key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(process: Any, wanted: str) -> None:
    """Read until the program says so."""

    def read() -> None:
        for line in process.stdout:
            if wanted in line:
                return
        raise AssertionError(f"it ended before it said: {wanted}")

    ended(read)


def types(process: Any, command: str) -> None:
    process.stdin.write(f"{command}\n")
    process.stdin.flush()


def test_the_program_of_the_guide(tmp_path: Path) -> None:
    """Two people and one seat: the second waits, and is served; an outage is told and gets over."""
    with served(tmp_path) as server:
        key = server.license(editor={"capacity": 1, "lostAfter": 120, "heartbeatInterval": 1})[1]
        with program(server, key, "ada") as ada, program_of_bob(server, key, ada) as bob:
            types(ada, "save")
            says(ada, "Saved.")
            types(bob, "save")
            says(bob, "Not saved")
            ada.communicate(timeout=DEADLINE)  # the end of its input: the window is closed
            assert ada.returncode == 0
            says(bob, "You can edit.")
            server.kill()
            says(bob, "does not answer")
            types(bob, "save")
            says(bob, "Saved.")
            server.start()
            says(bob, "You can edit.")
            bob.terminate()
            bob.wait(DEADLINE)
        with Client(server.url, license_key=key) as client:
            client.seat("editor", user="cem").acquire()


@contextmanager
def program_of_bob(server: Served, key: str, ada: Any) -> Iterator[Any]:
    says(ada, "You can edit.")
    with program(server, key, "bob") as bob:
        says(bob, "You are number 1 in the line.")
        yield bob


def test_the_guide_names_what_there_is() -> None:
    for name in re.findall(
        r"^\| `(\w+)` \| (?:every|the seat|nobody|the client)", GUIDE, re.MULTILINE
    ):
        if name.isupper():
            continue
        assert hasattr(errors, name), name
    for option in ("sockets", "signals"):
        assert f"{option}=" in GUIDE
    assert "SOJOURN_CLIENT_ID" in GUIDE
