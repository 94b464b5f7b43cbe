"""One account of all workers of a server: whichever is scraped, it tells what all of them have counted.

    <data>/metrics/<pid>.json    what a worker has counted; written each second, and at each scrape
                   ended.json    the counters of workers that have ended
                   told          what was told last, for all who scrape within the same second

A counter may only grow: a step back is a restart to Prometheus. So the sum is made from the files alone, by
one worker at a time, and what an ended worker had counted is kept.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric

from sojourn.decoding import prepared
from sojourn.log import get_logger

if sys.platform != "win32":
    import fcntl

log = get_logger(__name__)

SIZE_MAX = 1_048_576
"""Bytes of a file that is read."""
LIVE_FOR = 10.0
"""Seconds after which a worker that has written nothing is left out of what is true only now."""
LOCK_TRIES = 40
LOCK_PAUSE = 0.05
ADDED = frozenset({"counter", "histogram"})
LATEST = (
    "sojourn_build",
    "sojourn_seats_",
    "sojourn_pool_",
    "sojourn_denials",
    "sojourn_leases_",
    "sojourn_sessions_",
    "sojourn_swept",
    "sojourn_recorder_",
    "sojourn_store_",
    "sojourn_webhook_deliveries",
    "sojourn_webhook_lag",
    "sojourn_doctor_",
    "sojourn_sweep_last_run",
    "sojourn_sweep_overdue",
    "sojourn_sweep_lag",
    "process_max_fds",
    "process_start_time",
)
"""What is the same for all workers, or is of the store: whoever tells it tells its own."""


class Sample(Struct, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


@prepared
class Family(Struct, array_like=True):
    """A metric family, as it is written down."""

    name: str
    words: str
    type: str
    samples: list[Sample]

    @classmethod
    def of(cls, metric: Metric) -> Family:
        samples = [Sample(s.name, dict(s.labels), float(s.value)) for s in metric.samples]
        return cls(metric.name, metric.documentation, metric.type, samples)

    def metric(self) -> Metric:
        metric = Metric(self.name, self.words, self.type)
        for sample in self.samples:
            metric.add_sample(sample.name, sample.labels, sample.value)
        return metric


class Told:
    """What `generate_latest` takes for a registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


Collect = Callable[[], Iterable[Metric]]


class SharedMetrics:
    """The folder, as one worker sees it. Its verbs take milliseconds: call them on a thread."""

    def __init__(self, path: Path, *, fresh_for: float = 1.0) -> None:
        self._path = path
        self._fresh_for = fresh_for
        self._own = path / f"{os.getpid()}.json"
        self._told = path / "told"
        self._publishing = threading.Lock()  # the ticker's thread and a scrape's write one file

    def clear(self) -> None:
        """Forget everything: of a server that ran before."""
        with contextlib.suppress(OSError):
            for file in self._path.iterdir():
                file.unlink()

    def publish(self, collect: Collect) -> list[Family]:
        """Write down what this worker has counted."""
        with self._publishing:
            families = [Family.of(each) for each in collect()]
            self._path.mkdir(mode=0o700, exist_ok=True)
            write_file(self._own, msgspec.json.encode(families))
        return families

    def text(self, collect: Collect) -> bytes:
        """Return what all workers have counted. Where the folder cannot be used: what was told last, or else
        what this worker has counted."""
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)
            with self._alone() as alone:
                if not alone or self._is_fresh():
                    return self._told.read_bytes()
                own = self.publish(collect)
                text = generate_latest(Told(each.metric() for each in self._sum(own)))
                write_file(self._told, text)
                return text
        except OSError as error:
            log.warning("metrics_not_shared", folder=str(self._path), error=str(error))
            with contextlib.suppress(OSError):
                return self._told.read_bytes()
            return generate_latest(Told(collect()))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the folder's lock; False where another worker keeps it for too long."""
        with (self._path / "lock").open("w") as file:
            for _ in range(LOCK_TRIES):
                try:
                    if sys.platform != "win32":
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(LOCK_PAUSE)
            else:
                yield False
                return
            yield True

    def _is_fresh(self) -> bool:
        try:
            return 0 <= time.time() - self._told.stat().st_mtime < self._fresh_for
        except FileNotFoundError:
            return False

    def _sum(self, own: list[Family]) -> list[Family]:
        """Add up what all have written. Folds those that have ended into one file."""
        ended_file = self._path / "ended.json"
        ended = _read(ended_file)
        dead: list[Path] = []
        total = _Sum(own)
        now = time.time()
        for file in sorted(self._path.glob("*.json")):
            if file in (self._own, ended_file):
                continue
            found = _read(file)
            if not _runs(file.stem):
                ended = _Sum(ended).add([f for f in found if f.type in ADDED]).families
                dead.append(file)
                continue
            with contextlib.suppress(FileNotFoundError):
                live = now - file.stat().st_mtime < LIVE_FOR
                total.add(found if live else [f for f in found if f.type in ADDED])
        if dead:
            write_file(ended_file, msgspec.json.encode(ended))
            for file in dead:
                file.unlink(missing_ok=True)
        return total.add(ended).families


class _Sum:
    def __init__(self, families: list[Family]) -> None:
        self.families = families
        self._by_name = {each.name: each for each in families}
        self._places = {_place(sample): sample for each in families for sample in each.samples}

    def add(self, families: Iterable[Family]) -> _Sum:
        for family in families:
            known = self._by_name.get(family.name)
            if known is None:
                known = Family(family.name, family.words, family.type, [])
                self._by_name[family.name] = known
                self.families.append(known)
            elif family.name.startswith(LATEST):
                continue
            for sample in family.samples:
                found = self._places.get(_place(sample))
                if found is None:
                    known.samples.append(sample)
                    self._places[_place(sample)] = sample
                else:
                    found.value += sample.value
        return self


def _place(sample: Sample) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample.name, tuple(sample.labels.items())


def write_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, all or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)


def _read(file: Path) -> list[Family]:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(SIZE_MAX + 1), type=list[Family])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("metrics_not_read", file=str(file), error=str(error))
        return []


def _runs(pid: str) -> bool:
    """Tell whether a process runs. On Windows none is taken to have ended: signal 0 is Ctrl+C there."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
