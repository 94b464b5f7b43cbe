"""One epoch: a crowd with a license of its own, faults meanwhile, and a verdict.

Epochs share a stage but no pools, users or sessions, so each history can be judged by itself, and memory
stays bounded however long a campaign runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.promises.clients import DRAIN, Plan
from tests.promises.history import Facts, Pool, Window
from tests.promises.nemesis import LONGEST, Nemesis, possible
from tests.promises.people import GRACE
from tests.promises.seats import contender
from tests.promises.stage import PYTHONPATH, Stage, client_process, wait

NEAR = 5.0  # seconds around a fault in which an outage is taken to be its
SEEN_WITHIN = (
    10.0  # seconds from a restart of the store until a server sees it, be it in the next epoch
)
CALM = 3.0  # seconds without faults at an epoch's end, so that what was lost shows
CHECK_TIMEOUT = 600.0
START_TIMEOUT = 20.0
LATE, UNBOUNDED = 1.0, 3_600.0  # seconds for which a request may act that its sender has given up
LOG_MAX = 1 << 20  # bytes of a server's log that are kept


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast things happen; seconds. `quick` is for tests."""

    heartbeat: float = 1.0
    suspect_after: float = 5.0
    linger: float = 1.0
    lost_after: float = 8.0
    gap: float = 1.5  # between faults
    pause: float = (
        2.5  # more after every fourth: time is given back to who has beaten since (ADR 6)
    )
    calm: float = CALM  # after the last one


LONG = Pace()
QUICK = Pace(
    heartbeat=0.4, suspect_after=3.0, linger=0.5, lost_after=4.5, gap=0.8, pause=0.6, calm=1.5
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many clients there are."""

    pools: int = 6
    capacity: int = 6
    contenders: int = 12
    stayers: int = 2
    people: int = 10
    lates: int = 3
    copies: int = 2
    think: float = 0.02
    storm: int = 0  # connections that rush in, once in an epoch
    storm_seconds: float = 12.0  # longer than a pool is patient


@dataclass(kw_only=True)
class Told:
    """What an epoch came to."""

    seed: int
    counts: dict[str, int]
    faults: dict[str, int]
    verdict: dict[str, Any]
    seconds: float
    path: Path


@dataclass(kw_only=True)
class Epoch:
    """An epoch to be run.

    Attributes:
        seconds: at most, if `done_when_struck`: then it ends when all faults have been.
        enough: acquires that are to be asked for first, where the machine is slow.
        longest: seconds for which anything is frozen, cut or full.
        without: parts of what the crowd does that are left out: late, idempotent, cutoff.
    """

    stage: Stage
    seed: int
    seconds: float
    faults: Sequence[str] = ()
    pace: Pace = LONG
    load: Load = field(default_factory=Load)
    done_when_struck: bool = False
    enough: int = 0
    longest: float = LONGEST
    without: frozenset[str] = frozenset()
    folder: Path
    say: Callable[[str], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> Judging:
        """Let the crowd and the nemesis act; return the judging, which goes on by itself."""
        plan = self._plan()
        path = self.folder / f"plan-{self.seed}.json"
        path.write_text(plan.to_json())
        nemesis = Nemesis(self.stage, self.seed, longest=self.longest)
        began = time.monotonic()
        crowd = client_process(path)
        told = _Counts(crowd)
        try:
            self._act(nemesis, told, began)
            crowd.terminate()  # it comes to its end
            crowd.wait(DRAIN + START_TIMEOUT)
        finally:
            if crowd.poll() is None:
                crowd.kill()
            crowd.wait()
            told.close()
        if crowd.returncode != 0:
            raise RuntimeError(f"the crowd failed with {crowd.returncode}")
        logs = [self._keep_log(number) for number in range(len(self.stage.nodes))]
        storms = [
            Window(kind="storm", start=began + a, end=began + b + 1.5) for a, b, _ in plan.storms
        ]
        facts = Facts(
            pools=plan.pools,
            windows=nemesis.windows + storms + self._outages(nemesis.windows, began),
            grace=GRACE,
            late=UNBOUNDED if "late" in self.without else LATE,
            doubts=self.stage.kind.startswith("valkey"),
            noticed=self._noticed(nemesis.windows, began),
        )
        self.stage.settle()
        path = Path(plan.path)
        return Judging(self, path, facts, dict(told.latest), dict(nemesis.counts), logs)

    def _outages(self, made: Sequence[Window], began: float) -> list[Window]:
        """Return the outages that the servers tell of themselves, and that no fault of ours was near: a busy
        machine stands still now and then. What the store gives back for them is no revival. They excuse
        nothing else, and how many there were is told with the verdict."""
        return [
            Window(kind="told", start=start, end=end)
            for start, end in self.stage.outages()
            if end > began and not any(w.start - NEAR < end and start < w.end + NEAR for w in made)
        ]

    def _noticed(self, made: Sequence[Window], began: float) -> list[float]:
        """Return when the servers say that they saw a restart of the store: of one that was made, or of the
        epoch before."""
        kills = [w for w in made if w.kind == "store-kill"]
        return [
            at
            for at in self.stage.noticed()
            if any(w.start <= at <= w.end + SEEN_WITHIN for w in kills)
            or began - SEEN_WITHIN <= at <= began
        ]

    def _keep_log(self, number: int) -> Path:
        """Copy the end of a server's log beside the history."""
        kept = self.folder / f"server-{number}-{self.seed}.log"
        kept.write_bytes(self.stage.nodes[number].log.read_bytes()[-LOG_MAX:])
        return kept

    def _act(self, nemesis: Nemesis, told: _Counts, began: float) -> None:
        gaps = random.Random(self.seed + 1)
        deck = possible(self.stage.kind, self.faults)
        random.Random(self.seed).shuffle(deck)
        wait(1.0)
        for number, fault in enumerate(deck):
            left = self._left(began) - CALM
            if left < 1.0:
                break
            self.say(f"{fault}, {left:.0f} s left, {told.line()}")
            nemesis.strike(fault)
            more = self.pace.pause if number % 4 == 3 else 0.0
            wait(self.pace.gap * (0.7 + 0.6 * gaps.random()) + more)
        nemesis.heal()
        if self.done_when_struck and deck:
            wait(self.pace.calm)
            while told.latest.get("acquire", 0) < self.enough and self._left(began) > 0:
                wait(0.2)
            return
        while (left := self._left(began)) > 0:
            self.say(f"calm, {left:.0f} s left, {told.line()}")
            wait(min(5.0, left))

    def _left(self, began: float) -> float:
        return self.seconds - (time.monotonic() - began)

    def _plan(self) -> Plan:
        load, pace = self.load, self.pace
        hot = [f"hot{n}" for n in range(load.pools)]
        pools = {
            name: Pool(
                capacity=load.capacity,
                lost_after=pace.lost_after,
                suspect_after=pace.suspect_after,
                linger=pace.linger,
                heartbeat=pace.heartbeat,
                reclaims=number % 3 != 2,
                overdraft=int(number % 3 == 1),
                reserved=int(number % 3 == 1),
                kept_for=(contender(number, 0),) if number % 3 == 1 else (),
            )
            for number, name in enumerate(hot)
        }
        pools["desk"] = Pool(
            capacity=400,
            lost_after=pace.lost_after,
            suspect_after=pace.suspect_after,
            linger=pace.linger,
            heartbeat=pace.heartbeat,
        )
        pools["rush"] = pools["hot0"]
        start = self.seconds / 3
        storms = [(start, start + load.storm_seconds, load.storm)] if load.storm else []
        return Plan(
            path=str(self.folder / f"history-{self.seed}.jsonl"),
            seed=self.seed,
            seconds=self.seconds,
            ports=[node.port for node in self.stage.nodes],
            far=[proxy.port for proxy in self.stage.far],
            key=self.stage.license(pools),
            admin=self.stage.admin,
            pools=pools,
            hot=hot,
            contenders=load.contenders,
            stayers=load.stayers,
            people=load.people,
            lates=load.lates,
            copies=load.copies,
            think=load.think,
            storms=storms,
            late="late" not in self.without,
            idempotent="idempotent" not in self.without,
            cutoffs="cutoff" not in self.without,
        )


class _Counts:
    """Follows what the crowd says while it runs."""

    def __init__(self, crowd: subprocess.Popen[str]) -> None:
        self.latest: dict[str, int] = {}
        self._crowd = crowd
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self._crowd.stdout is not None
        for line in self._crowd.stdout:
            with contextlib.suppress(ValueError):
                self.latest = json.loads(line)

    def line(self) -> str:
        return " ".join(
            f"{name} {self.latest.get(name, 0):,}"
            for name in ("requests", "acquire", "unanswered", "5xx")
        )

    def close(self) -> None:
        self._thread.join(5)
        if self._crowd.stdout is not None:
            self._crowd.stdout.close()


class Judging:
    """A checker at work on one history, in a process of its own."""

    def __init__(
        self,
        epoch: Epoch,
        history: Path,
        facts: Facts,
        counts: dict[str, int],
        faults: dict[str, int],
        logs: Sequence[Path] = (),
    ) -> None:
        self.epoch, self.history, self._logs = epoch, history, logs
        self._counts, self._faults = counts, faults
        self.facts = history.with_suffix(".facts.json")
        self.facts.write_text(facts.to_json())
        self._verdict = history.with_suffix(".verdict.json")
        with self._verdict.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.promises.checker", str(self.facts), str(history)],
                env={**os.environ, "PYTHONPATH": PYTHONPATH},
                stdout=out,
            )

    def told(self) -> Told:
        """Wait for the verdict. The history of an epoch without a violation is thrown away."""
        try:
            code = self._process.wait(CHECK_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        if code not in (0, 1):
            raise RuntimeError(f"the checker failed on {self.history} with {code}")
        verdict = json.loads(self._verdict.read_text())
        if not verdict["counts"]:
            for path in (self.history, *self._logs):
                path.unlink()
        return Told(
            seed=self.epoch.seed,
            counts=self._counts,
            faults=self._faults,
            verdict=verdict,
            seconds=self.epoch.seconds,
            path=self.history,
        )


__all__ = ["LONG", "QUICK", "Epoch", "Judging", "Load", "Pace", "Told"]
