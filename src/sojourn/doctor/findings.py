"""What doctor found last, beside one another: a file per process in the data folder.

The workers of one server look at the same things, and answer in turns; so each sees what all have found.
It is in files, not in a database, since doctor finds most while that is down. Each process writes a file of
its own, all or nothing, so none waits for another and nothing is lost between them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from sojourn.finding import Posted
from sojourn.log import get_logger
from sojourn.stores.folder import write_private

log = get_logger(__name__)

SIZE_MAX = 262_144
"""Bytes of a file. What would be more is posted without its evidence and plans, or not at all."""
FILES_MAX = 64
"""Of processes, the latest; those that crashed leave theirs behind."""

Version: TypeAlias = tuple[tuple[str, int, int], ...]


class FindingsFolder:
    """Implements `finding.Board`. Raises nothing: what cannot be read or kept is left out, and logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = path / f"{os.getpid()}.json"
        self._version: Version = ()
        self._read: tuple[Posted, ...] = ()

    def clear(self) -> None:
        """Forget everything: of a server that ran before."""
        with contextlib.suppress(OSError):
            for file in self._path.glob("*.json"):
                file.unlink()

    def post(self, found: Sequence[Posted]) -> None:
        text = msgspec.json.encode(found)
        if len(text) > SIZE_MAX:
            text = msgspec.json.encode([_bare(each) for each in found])
        if len(text) > SIZE_MAX:
            log.warning("findings_not_shared", folder=str(self._path), error="They are too long.")
            return
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)
            write_private(self._own, text.decode())
        except OSError as error:
            log.warning("findings_not_shared", folder=str(self._path), error=str(error))

    def read(self) -> tuple[Posted, ...]:
        """Return everything that is posted; the same object as long as nothing has changed."""
        try:
            files = sorted(self._path.glob("*.json"))
            stats = [(file, file.stat()) for file in files]
        except OSError:  # none yet, or one that is being replaced: what was read last is as good
            return self._read
        stats.sort(key=lambda each: -each[1].st_mtime_ns)
        version = tuple((file.name, s.st_mtime_ns, s.st_size) for file, s in stats[:FILES_MAX])
        if version != self._version:
            self._read = tuple(each for file, _ in stats[:FILES_MAX] for each in _posted(file))
            self._version = version
        return self._read


def _posted(file: Path) -> Sequence[Posted]:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(SIZE_MAX + 1), type=tuple[Posted, ...])
    except (OSError, msgspec.DecodeError) as error:
        log.warning("findings_not_read", file=str(file), error=str(error))
        return ()


def _bare(posted: Posted) -> Posted:
    finding = msgspec.structs.replace(posted.finding, evidence=())
    return msgspec.structs.replace(posted, finding=finding, steps=())
