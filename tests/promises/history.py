"""What clients saw: one line for each request, written by the client that sent it, and never changed.

A line is a JSON array. Instants are seconds of this machine's monotonic clock, which all processes on it
share. Nothing here, and nothing in `checker`, imports the product: a promise is held to what was said on
the wire. Tokens are never written; a session is named by its id, a seat by its lease and fence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

RECORDS_MAX = 2_000_000
"""Records of one epoch, which the checker holds in memory."""
LINE_MAX = 16_384  # bytes


class Record(NamedTuple):
    """One request.

    Attributes:
        actor: the client that sent it.
        op: acquire, beat, release, begin, check, save, rotate, end, others, cutoff.
        server: which server it was sent to.
        sent: when its last byte was written.
        done: when it was answered; None: never.
        closed: when the client stopped waiting: `done`, a time-out, or its connection's end.
        status: of HTTP; 0 without an answer.
        ask: what was asked.
        said: the answer's facts.
    """

    actor: int
    op: str
    server: int
    sent: float
    done: float | None
    closed: float
    status: int
    ask: dict[str, Any]
    said: dict[str, Any]

    @property
    def fine(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool's policy as its clients were promised it; seconds."""

    capacity: int
    lost_after: float
    suspect_after: float
    linger: float
    heartbeat: float
    reclaims: bool = True
    overdraft: int = 0  # seats above the capacity that may be granted
    reserved: int = 0  # seats of the capacity that are kept for
    kept_for: tuple[str, ...] = ()  # these users

    @property
    def most(self) -> int:
        """The most seats that may be held at once."""
        return self.capacity + self.overdraft

    def is_outside(self, holder: str) -> bool:
        """Tell whether a holder may not have what is reserved."""
        return holder.partition("/")[0] not in self.kept_for

    @property
    def patience(self) -> float:
        """How long a silent holder surely keeps its seat."""
        return (
            min(self.suspect_after + self.linger, self.lost_after)
            if self.reclaims
            else (self.lost_after)
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """A time in which something was made to fail.

    Attributes:
        kind: server-kill, server-freeze, server-stop, store-kill, store-freeze, store-cut, net, answers,
            clock, disk, storm, loss; told: an outage that nobody made, as the servers tell it.
        server: which, where it is about one; -1: all of them.
        start, end: from the first moment to the moment in which nothing was made to fail any more.
    """

    kind: str
    start: float
    end: float
    server: int = -1
    detail: str = ""


@dataclass(kw_only=True)
class Facts:
    """What the checker is told beside the histories: the promises' numbers and what was made to fail.

    Attributes:
        pools: by feature.
        grace: how long a rotated token still works.
        late: seconds for which a request may still act once its sender has hung up.
        doubts: after a restart of the store seats may be kept for those who may come back (ADR 17).
        noticed: when the servers say that they saw one. They may see it late on a busy machine, and one of
            the epoch before may reach into this one.
    """

    pools: dict[str, Pool]
    windows: list[Window] = field(default_factory=list)
    grace: float = 1.0
    late: float = 1.0
    doubts: bool = False
    noticed: list[float] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Facts:
        raw = json.loads(text)
        raw["pools"] = {name: Pool(**pool) for name, pool in raw["pools"].items()}
        raw["windows"] = [Window(**window) for window in raw["windows"]]
        return Facts(**raw)


class Writer:
    """Appends records to a file. One per process; the file is closed by `close`."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", buffering=1 << 18)
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        self.count = 0

    def write(self, record: Record) -> None:
        if self.count >= RECORDS_MAX:
            raise RuntimeError(f"an epoch has more than {RECORDS_MAX} records: make it shorter")
        self.count += 1
        self._file.write(self._encode(record) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Record]:
    """Read records in the order in which their clients stopped waiting."""
    with path.open() as lines:
        for line in lines:
            yield Record(*json.loads(line))


def show(record: Record, zero: float = 0.0) -> str:
    """Write a record as one line of evidence."""
    done = "never" if record.done is None else f"{record.done - zero:.3f}"
    said = {key: value for key, value in record.said.items() if value is not None}
    return (
        f"{record.sent - zero:9.3f} … {done:>9} #{record.actor} server {record.server}"
        f" {record.op} {record.ask} → {record.status} {said}"
    )


def by_sent(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.sent)
