"""A wall clock that a test may set, for the servers and processes that it starts.

    with WallClock() as wall, postgres(wall=wall) as server:
        wall.shift(hours=-1)  # as if an operator had set the machine's clock back

libfaketime stands between a process and the system's clock, and reads from a file how far the two are
apart. Only the wall clock is told otherwise: monotonic time goes on as it is, as on a real machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from sojourn.testing.binaries import MissingServer

LIBRARY = "libfaketimeMT.so.1"
FOLDERS = (
    "/usr/lib/*-linux-*/faketime",
    "/usr/lib/faketime",
    "/usr/local/lib/faketime",
    "/opt/homebrew/lib/faketime",
)
MAC_LIBRARY = "libfaketimeMT.1.dylib"


class WallClock:
    """How far the wall clock of some processes is from this machine's. It begins at nothing."""

    def __init__(self) -> None:
        self._library = library()
        self._folder = tempfile.TemporaryDirectory(prefix="sojourn-wall-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        self._file = folder / "shift"
        self.shift()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def shift(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None:
        """Set the clock so far from this machine's, at once, for all processes that go by it."""
        ahead = (days * 24 + hours) * 3_600 + seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+.3f}\n")
        new.chmod(0o644)
        new.replace(self._file)

    @property
    def environ(self) -> dict[str, str]:
        """What the environment of a process must have beside the rest, for it to go by this clock."""
        return {
            "DYLD_INSERT_LIBRARIES" if self._library.suffix == ".dylib" else "LD_PRELOAD": str(
                self._library
            ),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


class OwnWallClock:
    """The wall clock of this very process, as a test sets it: for stores that keep their data here."""

    def __init__(self) -> None:
        self._told = time.time_ns
        self._ahead = 0

    def __enter__(self) -> Self:
        time.time_ns = self._now
        return self

    def __exit__(self, *_: object) -> None:
        time.time_ns = self._told

    def _now(self) -> int:
        return self._told() + self._ahead

    def shift(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None:
        """As `WallClock.shift`, for what reads `time.time_ns`."""
        self._ahead = round(((days * 24 + hours) * 3_600 + seconds) * 1e9)


def library() -> Path:
    """Find libfaketime: $FAKETIME_LIBRARY, the system's, or what the tests have fetched."""
    for candidate in _candidates():
        if candidate.exists():
            return candidate
    raise MissingServer(
        "libfaketime was not found, by which tests set the clock of a server of theirs.\n"
        "Run `sudo apt-get install libfaketime` on Debian, `brew install libfaketime` on a Mac,"
        " or set FAKETIME_LIBRARY to the library."
    )


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("FAKETIME_LIBRARY"):
        yield Path(named)
    patterns: Iterable[str] = FOLDERS
    for pattern in patterns:
        for folder in Path("/").glob(pattern.removeprefix("/")):
            yield folder / LIBRARY
            yield folder / MAC_LIBRARY
