"""What this process counts, or all workers of its server, for Prometheus.

The hot path adds to plain lists; they become metrics only when somebody scrapes. Labels are bounded in
number, and name licenses only where not everybody may scrape.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sojourn import __version__
from sojourn.api.proofs import Outcomes
from sojourn.api.seats_in_use import SeatsInUse
from sojourn.api.shared_metrics import SharedMetrics
from sojourn.api.stream_counts import StreamCounts
from sojourn.doctor.runs import Rounds
from sojourn.errors import StoreBroken
from sojourn.finding import Area, Verdict
from sojourn.service.services import Services
from sojourn.service.waiting import BOUNDS as WAIT_BOUNDS
from sojourn.service.waiting import WaitingRoom
from sojourn.sweeps.planner import Counts

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8; escaping=underscores"


FRESH_FOR = 1.0
"""Seconds for which what was scraped is told again."""
REFUSED: Counter[str] = Counter()
"""Requests of this process that reached no call, by code: malformed, too large, too slow, misdirected."""


class Busy(Protocol):
    @property
    def busy(self) -> int: ...


class Looking(Protocol):
    outcomes: Outcomes


class Delivering(Protocol):
    delivered: int
    failed: int
    pending: int
    dead: int
    lag: float


class Sending(Protocol):
    @property
    def deliverer(self) -> Delivering: ...


class Asking(Protocol):
    asked: int
    answered: int
    spared: int
    denials_with_ghost: int


class Attending(Protocol):
    doubted: int

    @property
    def open(self) -> int: ...

    @property
    def askings(self) -> Asking: ...


class Planning(Protocol):
    counts: Counts


class Sweeping(Protocol):
    @property
    def planner(self) -> Planning: ...


class Watched(Protocol):
    """What is looked at when somebody scrapes."""

    services: Services
    rounds: Rounds
    draining: bool

    @property
    def proofs(self) -> Mapping[str, Looking]: ...

    @property
    def blocking(self) -> Busy: ...

    @property
    def outbound(self) -> Sending: ...

    @property
    def seat_sockets(self) -> Attending: ...

    @property
    def sweeps(self) -> Sweeping: ...


class Tally:
    """Answers of one call: how many by code, and how long they took. `broken` is called with each that
    tells of a store that does not mend by itself."""

    __slots__ = ("_broken", "buckets", "codes", "ok", "seconds")

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self.ok = 0
        self.codes: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, code: str, seconds: float) -> None:
        if code:
            self.codes[code] = self.codes.get(code, 0) + 1
            if code == StoreBroken.code:
                self._broken()
        else:
            self.ok += 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Metrics(Collector):
    """All tallies of a process; counted on the event loop only."""

    def __init__(self, broken: Callable[[], None] = lambda: None) -> None:
        self._broken = broken
        self.calls: dict[str, Tally] = {}
        self.batches: dict[str, list[int]] = {}  # verb -> [batches, requests]
        self._context: Watched | None = None
        self._shared: SharedMetrics | None = None
        self._seats: SeatsInUse | None = None
        self.stream: StreamCounts | None = None
        self._registry = CollectorRegistry()
        self._told: tuple[float, bytes] = (float("-inf"), b"")  # when, and what
        self._making: asyncio.Task[bytes] | None = None

    def bind(
        self,
        context: Watched,
        shared: SharedMetrics | None = None,
        *,
        folder: Path | None = None,
        name_licenses: bool = False,
    ) -> None:
        """Look at a process when somebody scrapes.

        `shared`, `folder`: with other workers of its server. `name_licenses`: not everybody may scrape.
        """
        self._context = context
        self._shared = shared
        store, ledger = context.services.store, context.services.ledger
        self._seats = SeatsInUse(store, ledger, name_licenses=name_licenses)
        self.stream = StreamCounts(store, ledger, folder)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        context.services.batcher.observe = self.observe_batch

    def tally(self, call: str) -> Tally:
        """Return the tally of a call, making it at first."""
        return self.calls.setdefault(call, Tally(self._broken))

    def observe_batch(self, verb: str, size: int) -> None:
        row = self.batches.setdefault(verb, [0, 0])
        row[0] += 1
        row[1] += size

    def text(self) -> bytes:
        if self._shared is not None:
            return self._shared.text(self._registry.collect)
        return generate_latest(self._registry)

    def publish(self) -> None:
        """Write down what this worker has counted, for the others of this server."""
        if self._shared is not None:
            self._shared.publish(self._registry.collect)

    async def fresh(self) -> bytes:
        """Return the text, at most `FRESH_FOR` old. It takes milliseconds to write: on a thread, and once
        for all who ask meanwhile, so that scrapes keep nobody waiting."""
        loop = asyncio.get_running_loop()
        at, text = self._told
        if loop.time() - at < FRESH_FOR:
            return text
        if self._making is None or self._making.done():
            self._making = loop.create_task(self._make())
        return await asyncio.shield(self._making)  # who hangs up takes it from nobody else

    async def _make(self) -> bytes:
        at = asyncio.get_running_loop().time()
        if self._seats is not None and self.stream is not None:
            await asyncio.gather(self._seats.refresh(), self.stream.refresh())
        text = await asyncio.to_thread(self.text)
        if self._shared is None:  # else the folder says what is fresh, of all workers
            self._told = at, text
        return text

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is collected at registration

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("sojourn_build", "What runs here.", value={"version": __version__})
        answers = CounterMetricFamily(
            "sojourn_http_answers", "Answers by call and code.", labels=("call", "code")
        )
        times = HistogramMetricFamily(
            "sojourn_http_seconds", "Time from headers to answer.", labels=("call",)
        )
        for call, tally in list(self.calls.items()):
            answers.add_metric((call, "ok"), tally.ok)
            for code, count in list(tally.codes.items()):
                answers.add_metric((call, code), count)
            times.add_metric((call,), _cumulative(tally.buckets, BOUNDS), tally.seconds)
        yield answers
        yield times
        refused = CounterMetricFamily(
            "sojourn_http_refused", "Requests that reached no call.", labels=("code",)
        )
        for code, count in list(REFUSED.items()):
            refused.add_metric((code,), count)
        yield refused
        yield from self._queues()

    def _queues(self) -> Iterable[Metric]:
        batches = CounterMetricFamily("sojourn_batches", "Batches carried out.", labels=("verb",))
        requests = CounterMetricFamily(
            "sojourn_batched_requests", "Requests in those batches.", labels=("verb",)
        )
        for verb, (count, size) in list(self.batches.items()):
            batches.add_metric((verb,), count)
            requests.add_metric((verb,), size)
        yield batches
        yield requests
        if self._context is None:
            return
        yield GaugeMetricFamily(
            "sojourn_queue_depth",
            "Hot requests accepted and not yet answered.",
            value=self._context.services.batcher.depth,
        )
        yield GaugeMetricFamily(
            "sojourn_calls_waiting",
            "Other calls accepted and not yet answered.",
            value=self._context.blocking.busy,
        )
        yield from _line(self._context.services.waiting)
        yield from _proofs(self._context.proofs)
        recorder = self._context.services.recorder
        if recorder is not None:
            yield GaugeMetricFamily(
                "sojourn_recorder_lag_events",
                "Events of the store that the ledger does not have yet.",
                value=recorder.lag.events,
            )
            yield GaugeMetricFamily(
                "sojourn_recorder_lag_seconds",
                "The age of the oldest of them.",
                value=recorder.lag.milliseconds / 1_000,
            )
            sizes = GaugeMetricFamily(
                "sojourn_store_bytes",
                "Memory of the store that one takes, by a sample of each minute.",
                labels=("of",),
            )
            sizes.add_metric(("lease",), recorder.sizes.lease)
            sizes.add_metric(("session",), recorder.sizes.session)
            yield sizes
        yield GaugeMetricFamily(
            "sojourn_draining", "1 while shutting down.", value=int(self._context.draining)
        )
        if self._seats is not None:
            yield from self._seats.collect()
        yield from _sockets(self._context.seat_sockets)
        if self.stream is not None:
            yield from self.stream.collect()
        yield from _webhooks(self._context.outbound.deliverer)
        yield from _sweeps(self._context.sweeps.planner.counts)
        yield from _doctor(self._context.rounds)


def _line(room: WaitingRoom) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "sojourn_line_waiting", "Requests that wait for a seat.", value=room.length
    )
    ended = CounterMetricFamily(
        "sojourn_line_ended", "Requests that waited, by what became of them.", labels=("outcome",)
    )
    ended.add_metric(("served",), room.served)
    ended.add_metric(("unserved",), room.unserved)
    yield ended
    times = HistogramMetricFamily(
        "sojourn_line_seconds", "How long those who were served had waited, in their last request."
    )
    times.add_metric((), _cumulative(room.buckets, WAIT_BOUNDS), room.seconds)
    yield times


def _proofs(kinds: Mapping[str, Looking]) -> Iterable[Metric]:
    proofs = CounterMetricFamily(
        "sojourn_unseen_proofs",
        "Proofs that had not been seen before, by kind and by what became of them.",
        labels=("kind", "outcome"),
    )
    for kind, each in kinds.items():
        for outcome in Outcomes.__struct_fields__:
            proofs.add_metric((kind, outcome), getattr(each.outcomes, outcome))
    yield proofs


def _sockets(sockets: Attending) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "sojourn_seat_sockets", "Open sockets of license clients.", value=sockets.open
    )
    counted = {
        "sojourn_holders_asked": (
            "Holders that were asked whether they are there before somebody was denied.",
            sockets.askings.asked,
        ),
        "sojourn_holders_answered": ("Those of them who were there.", sockets.askings.answered),
        "sojourn_holders_spared": (
            "Those who did not answer, as living clients of their kind or in their network may not.",
            sockets.askings.spared,
        ),
        "sojourn_holders_doubted": (
            "Holders doubted since their socket dropped, or they did not answer.",
            sockets.doubted,
        ),
        "sojourn_denials_with_ghost": (
            "Refusals given while a seat was held by somebody who did not answer. Never more than 0.",
            sockets.askings.denials_with_ghost,
        ),
    }
    for name, (words, value) in counted.items():
        yield CounterMetricFamily(name, words, value=value)


def _webhooks(deliverer: Delivering) -> Iterable[Metric]:
    attempts = CounterMetricFamily(
        "sojourn_webhook_attempts", "Attempts of this process, by outcome.", labels=("outcome",)
    )
    attempts.add_metric(("delivered",), deliverer.delivered)
    attempts.add_metric(("failed",), deliverer.failed)
    yield attempts
    waiting = GaugeMetricFamily(
        "sojourn_webhook_deliveries",
        "Deliveries in the ledger, of all servers, by state.",
        labels=("state",),
    )
    waiting.add_metric(("pending",), deliverer.pending)
    waiting.add_metric(("dead",), deliverer.dead)
    yield waiting
    yield GaugeMetricFamily(
        "sojourn_webhook_lag_seconds",
        "Age of the oldest event that waits for an enabled webhook.",
        value=deliverer.lag,
    )


def _sweeps(counts: Counts) -> Iterable[Metric]:
    runs = CounterMetricFamily(
        "sojourn_sweep_runs",
        "Selective sweeps of this process, by plan and by hand, by what became of them.",
        labels=("state",),
    )
    for state, count in sorted({"done": 0, "failed": 0, **counts.runs}.items()):
        runs.add_metric((state,), count)
    yield runs
    yield CounterMetricFamily(
        "sojourn_sweep_leases_ended", "Leases that they ended.", value=counts.ended
    )
    for name, words, value in (
        (
            "sojourn_sweep_last_run_timestamp_seconds",
            "When the latest began.",
            counts.last_run_at / 1_000,
        ),
        (
            "sojourn_sweep_overdue_plans",
            "Planned sweeps that are due and have not begun.",
            counts.overdue,
        ),
        (
            "sojourn_sweep_lag_seconds",
            "For how long the first of them has been due.",
            counts.lag / 1_000,
        ),
    ):
        yield GaugeMetricFamily(name, words, value=value)


def _doctor(rounds: Rounds) -> Iterable[Metric]:
    latest = list(rounds.latest().values())
    findings = GaugeMetricFamily(
        "sojourn_doctor_findings",
        "Checks of doctor by where they look and what they found last.",
        labels=("area", "verdict"),
    )
    found = Counter((each.seen.check.area, each.seen.finding.verdict) for each in latest)
    for area in sorted({area for area, _ in found}):
        for verdict in Verdict:
            findings.add_metric((Area(area).value, verdict.value), found[area, verdict])
    yield findings
    if latest:
        yield GaugeMetricFamily(
            "sojourn_doctor_looked_timestamp_seconds",
            "When a check of doctor last looked, as Unix time.",
            value=max(each.at for each in latest) / 1_000,
        )


def _cumulative(buckets: Sequence[int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), buckets, strict=True):
        total += count
        rows.append((bound, total))
    return rows
