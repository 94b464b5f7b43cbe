"""Counters of what the stream tells: denials, leases and sessions begun and ended; and of what sweeps did.

The stream has what every server and every application did, so each tells the same of all: in Prometheus take
the maximum over servers, not the sum. It is read on when somebody scrapes. Several workers of a server share
one account, in a file that one of them at a time carries on:

    <data>/metrics/stream        how far it was read, and what was counted
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from sojourn.api.shared_metrics import SIZE_MAX, write_file
from sojourn.decoding import prepared
from sojourn.errors import SojournError
from sojourn.event import Event, EventKind, of_canary
from sojourn.ledger import Ledger, SweepRun
from sojourn.license import split_pool_id
from sojourn.log import get_logger
from sojourn.store import Store

if sys.platform != "win32":
    import fcntl

log = get_logger(__name__)

FRESH_FOR = 1.0
"""Seconds for which what was counted is told again."""
PATIENCE = 1.0
"""Seconds for which a scrape waits for it; past that it tells what was counted before."""
READ = 1_000
ROUNDS_MAX = 20
"""Times that so many events are read for one scrape; what is left waits for the next."""
SWEEPS = 100
"""Sweeps that are read for one scrape."""
FEATURES_MAX = 200
"""Features with a label of their own; those that come later are told as"""
OTHERS = "(others)"
REASONS = frozenset(
    (
        *("signed_out", "signed_out_elsewhere", "signed_out_everywhere", "password_changed"),
        *("ended", "replaced", "made_room", "session_limit", "cut_off", "revoked", "key_revoked"),
        *("impersonation_ended", "rotation_lost", "unanswered"),
    )
)
"""Reasons of ends with a label of their own. Applications say what they like, which is not for everybody."""
DENIED = "sojourn_denials"
BEGUN = "sojourn_leases_begun"
ENDED = "sojourn_leases_ended"
SIGNED_IN = "sojourn_sessions_begun"
SIGNED_OUT = "sojourn_sessions_ended"
SWEPT = "sojourn_swept"
_BEGUN = {
    EventKind.LEASE_ACQUIRED: "acquired",
    EventKind.LEASE_RESUMED: "resumed",
    EventKind.LEASE_TAKEN_OVER: "taken_over",
}
_ENDED = {
    EventKind.LEASE_RELEASED: "released",
    EventKind.LEASE_EVICTED: "evicted",
    EventKind.LEASE_REVOKED: "revoked",
    EventKind.LEASE_EXPIRED: "expired",
}
_SWEPT = ("leases_expired", "leases_removed", "sessions_cut", "sessions_removed", "events_removed")
_TOLD: dict[str, tuple[str, tuple[str, ...]]] = {
    DENIED: ("Acquires that were refused.", ("feature", "reason")),
    BEGUN: ("Leases that were granted, or came back.", ("feature", "how")),
    ENDED: ("Leases that ended, as far as that was noted.", ("feature", "reason")),
    SIGNED_IN: ("Sessions that began.", ()),
    SIGNED_OUT: ("Sessions that somebody ended.", ("reason",)),
    SWEPT: ("What sweeps found and did.", ("what",)),
}


@prepared
class Counted(Struct):
    """`counts`: by the name of a counter and its labels, joined by spaces, which none of them has."""

    after: int = 0
    after_sweep: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)

    def copy(self) -> Counted:
        counts, features = dict(self.counts), list(self.features)
        return msgspec.structs.replace(self, counts=counts, features=features)

    def add(self, counter: str, *labels: str, by: int = 1) -> None:
        key = " ".join((counter, *labels))
        self.counts[key] = self.counts.get(key, 0) + by

    def take(self, event: Event) -> None:
        """Count an event."""
        self.after = event.id
        if of_canary(event):
            return
        if event.kind is EventKind.SESSION_CREATED:
            self.add(SIGNED_IN)
        elif event.kind is EventKind.SESSION_ENDED:
            reason = event.data.get("reason")
            self.add(SIGNED_OUT, reason if reason in REASONS else OTHERS)
        elif event.pool_id is not None:
            feature = self._feature(event.pool_id)
            if event.kind is EventKind.LEASE_DENIED:
                self.add(DENIED, feature, str(event.data.get("reason") or OTHERS))
            elif event.kind in _BEGUN:
                self.add(BEGUN, feature, _BEGUN[event.kind])
            elif event.kind in _ENDED:
                self.add(ENDED, feature, _ENDED[event.kind])

    def _feature(self, pool_id: str) -> str:
        feature = split_pool_id(pool_id)[1]
        if feature not in self.features:
            if len(self.features) >= FEATURES_MAX:
                return OTHERS
            self.features.append(feature)
        return feature

    def take_sweep(self, run: SweepRun) -> None:
        self.after_sweep = run.id
        for what in _SWEPT:
            self.add(SWEPT, what, by=getattr(run, what))


class StreamCounts:
    """`folder`: where the workers of a server share their account; None: there is one process only."""

    def __init__(self, store: Store, ledger: Ledger, folder: Path | None = None) -> None:
        self._store = store
        self._ledger = ledger
        self._folder = folder
        self._lock = threading.Lock()
        self._counted: Counted | None = None
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Read on, if that was not done just now. Never raises, and waits no longer than PATIENCE."""
        loop = asyncio.get_running_loop()
        if self._looking is None or self._looking.done():
            if loop.time() - self._looked_at < FRESH_FOR:
                return
            self._looking = loop.create_task(self._look())
        await asyncio.wait({self._looking}, timeout=PATIENCE)

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self.read_on)
        except (SojournError, OSError) as fault:
            log.debug("stream_not_counted", error=str(fault))
        self._looked_at = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """Count from now on, unless another worker has begun. Raises StoreError."""
        with self._alone() as alone:
            if not alone or (self._folder is not None and self._load() is not None):
                return
            newest = self._store.events(limit=1, newest_first=True)
            swept = self._ledger.sweeps(limit=1)
            after = newest[0].id if newest else 0
            self._keep(Counted(after=after, after_sweep=swept[0].id if swept else 0))

    def read_on(self) -> None:
        """Count what has happened since. Raises StoreError."""
        with self._alone() as alone:
            counted = self._load()
            if alone and counted is not None:
                self._read(counted)
                self._keep(counted)
            elif counted is not None:
                self._counted = counted

    def _read(self, counted: Counted) -> None:
        for _ in range(ROUNDS_MAX):
            events = self._store.events(after=counted.after, limit=READ)
            for event in events:
                counted.take(event)
            if len(events) < READ:
                break
        for run in reversed(self._ledger.sweeps(limit=SWEEPS)):
            if run.id > counted.after_sweep:
                counted.take_sweep(run)

    def _load(self) -> Counted | None:
        if self._folder is None:
            return None if self._counted is None else self._counted.copy()
        try:
            with (self._folder / "stream").open("rb") as file:
                return msgspec.json.decode(file.read(SIZE_MAX + 1), type=Counted)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            log.warning("stream_counts_not_read", error=str(error))
            return None

    def _keep(self, counted: Counted) -> None:
        if self._folder is not None:
            write_file(self._folder / "stream", msgspec.json.encode(counted))
        self._counted = counted

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Be the only one who reads on; False where another worker does."""
        with self._lock:
            if self._folder is None or sys.platform == "win32":
                yield True
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / "stream.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                    return
                yield True

    def collect(self) -> Iterable[Metric]:
        counted = self._counted
        if counted is None:
            return
        counts = dict(counted.counts)
        for name, (words, labels) in _TOLD.items():
            family = CounterMetricFamily(name, words, labels=labels)
            if not labels:
                family.add_metric((), counts.get(name, 0))
            for key in sorted(counts):
                counter, *values = key.split(" ")
                if labels and counter == name:
                    family.add_metric(values, counts[key])
            yield family
