"""The people of the demo: what each does next, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from enum import StrEnum
from typing import Any

import msgspec

from sojourn.cli.demo.network import Cable
from sojourn.cli.demo.stage import FEATURE, clean_environment

NAMES = (
    *("Ada", "Ben", "Chloe", "Dan", "Emma", "Farid", "Greta", "Hugo", "Ines", "Jonas"),
    *("Kira", "Luis", "Mona", "Nils", "Olga", "Pia", "Quinn", "Rosa", "Sam", "Tara"),
)


class Fate(StrEnum):
    """What ends, or interrupts, a person's stay."""

    CRASH = "crash"
    GOODBYE = "goodbye"
    CABLE = "cable"
    LID = "lid"
    IDLE = "idle"
    LEAVE = "leave"


GHOSTS = frozenset({Fate.CRASH, Fate.GOODBYE, Fate.CABLE, Fate.LID})
"""Fates that leave a seat behind without giving it back."""

OPENING = (Fate.CRASH, Fate.GOODBYE, Fate.CABLE, Fate.IDLE, Fate.LID)
"""The first fates, so that even a short demo shows each."""

WEIGHTS = {
    Fate.CRASH: 4,
    Fate.GOODBYE: 3,
    Fate.CABLE: 3,
    Fate.LID: 2,
    Fate.IDLE: 2,
    Fate.LEAVE: 4,
}

PROGRAM = (sys.executable, "-m", "sojourn.cli.demo.person")

HELD = (1.5, 6.0)  # seconds on a seat before fate strikes
SHORT, LONG = (0.6, 1.6), (4.0, 8.0)  # seconds until somebody is back: in time, or too late


class Chance:
    """Decides, the same way for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a play, not a secret
        self._opening = list(OPENING)
        self._ghost_to_come = True  # the first who crashes stays away until the seat is reclaimed

    def fate(self) -> Fate:
        if self._opening:
            return self._opening.pop(0)
        return self._random.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]

    def held(self) -> float:
        return self._random.uniform(*HELD)

    def away(self, fate: Fate) -> float:
        late = fate in (Fate.LEAVE, Fate.IDLE) or self._random.random() < 0.6
        if fate is Fate.CRASH and self._ghost_to_come:
            self._ghost_to_come, late = False, True
        return self._random.uniform(*(LONG if late else SHORT))


class Person:
    """Somebody with a program, a cable, and a plan."""

    def __init__(self, number: int, cable: Cable, license_key: str) -> None:
        name, again = NAMES[number % len(NAMES)], number // len(NAMES)
        self.name = f"{name} {again + 1}" if again else name
        self.user = self.name.lower().replace(" ", "-")
        self.client = f"{self.user}-laptop"
        self.cable = cable
        self.said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.state = "away"  # away, asking, holding, lost, or a fate that struck
        self.since = 0.0  # when the state began
        self.due = 0.0  # when something is to happen next
        self.fate: Fate | None = None
        self._key = license_key
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the program, on the person's own cable."""
        self._process = subprocess.Popen(
            [*PROGRAM, self.cable.url, FEATURE, self.user, self.client],
            env={**clean_environment(), "SOJOURN_LICENSE_KEY": self._key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends everybody itself
        )
        threading.Thread(target=self._hear, args=(self._process,), daemon=True).start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if process is self._process:  # not the last words of one that was killed
                    self.said.put(msgspec.json.decode(line, type=dict[str, Any]))

    def tell(self, order: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died on its own: what it held will tell
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process is not None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the program as a crash would: no word to anybody."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def dismiss(self) -> None:
        """Ask the program to give its seat back and end; `kill` sees to the rest."""
        if self._process is not None and self._process.stdin is not None:
            self._signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def wait(self, timeout: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
