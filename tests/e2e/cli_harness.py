"""`sojourn` as people and scripts run it: processes, their lines, and their exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from unittest import mock

from msgspec import Struct

from sojourn.cli.main import main

DEADLINE = 40.0  # seconds; how long a step may take on a busy machine
SOJOURN = (sys.executable, "-m", "sojourn")
READY = re.compile(r"READY (http://\S+) pid (\d+)")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}
    return {**kept, "COLUMNS": "100", "TZ": "UTC", **(more or {})}


class Done(Struct, frozen=True):
    code: int
    stdout: str
    stderr: str


def run(folder: Path, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end, in a folder, and check its exit code.

    In this process, since most of a short command's time is Python's start; but what serves or starts
    processes of its own is run as one.
    """
    apart = arguments[0] in ("serve", "demo")
    done = (_run_apart if apart else _run_here)(folder, arguments, environment(env))
    assert done.code == code, f"{arguments}: {done.code}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr + done.stdout
    if code not in (0, 7, 8, 130):  # doctor's verdicts are no failures
        assert_three_lines(done.stderr)
    return done


def _run_here(folder: Path, arguments: Sequence[str], env: dict[str, str]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(arguments)
    return Done(code, out.getvalue(), err.getvalue())


def _run_apart(folder: Path, arguments: Sequence[str], env: dict[str, str]) -> Done:
    done = subprocess.run(
        [*SOJOURN, *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_json(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """Run a command with --json; its stdout is one JSON document and nothing else."""
    return json.loads(run(folder, *arguments, "--json", env=env).stdout)


def assert_three_lines(text: str) -> None:
    what, why, todo = text.splitlines()[-3:]
    assert what.startswith("error: ")
    assert why.startswith("  why: ")
    assert todo.startswith("   do: ")


class Program:
    """A command that goes on, and what it says, line by line."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.log = folder / f"log-{time.monotonic_ns()}"
        self._fresh: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*SOJOURN, *arguments],
                cwd=folder,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def wait_for(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Wait for a line that holds the pattern, among those not waited for yet."""
        deadline = time.monotonic() + DEADLINE
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                line = self._fresh.get(timeout=left)
                if line is None:
                    break
                self.lines.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"no {pattern!r} in {self.lines}\n{self.stderr}")

    def wait_state(self, state: str) -> dict[str, Any]:
        """Wait until `hold --json` reports a state."""
        self.wait_for(f'"state":"{state}"')
        said: dict[str, Any] = json.loads(self.lines[-1])
        return said

    @property
    def stderr(self) -> str:
        return self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and read what is left."""
        code = self.process.wait(DEADLINE)
        with contextlib.suppress(queue.Empty):
            while (line := self._fresh.get(timeout=DEADLINE)) is not None:
                self.lines.append(line)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._fresh.put(None)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)


@contextlib.contextmanager
def serving(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Program, str]]:
    """Serve in a folder on a free port; give the program and the address it said."""
    with Program(folder, "serve", "--port", "0", *arguments, env=env) as server:
        yield server, server.wait_for(READY)[1]


def make_license(folder: Path, *features: str) -> tuple[str, str]:
    """Make a license through the command line; return its id and its key."""
    flags = [part for feature in features for part in ("--feature", feature)]
    made = run_json(folder, "license", "create", "Acme", *flags)
    return made["licenseId"], made["key"]


def holder(folder: Path, key: str, user: str, *arguments: str) -> Program:
    """Start `sojourn hold editor --json` for a user."""
    return Program(
        folder,
        *("hold", "editor", "--user", user, "--json", *arguments),
        env={"SOJOURN_LICENSE_KEY": key},
    )
