"""One history before its judges: what was made to fail, and what that leaves open.

It decides with conservative intervals. What nobody answered may have been done until a second after its
sender gave it up (`Facts.late`), or, where something was made to fail meanwhile, until a second after that
was over. Later than that, a promise says, it does nothing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from tests.promises.history import Facts, Record, Window, show

SEEN_WITHIN = 10.0
"""Seconds from a restart of the store until a server sees it, on a busy machine."""
MARGIN = 0.15  # seconds of doubt where two clocks' milliseconds, or a busy machine's, meet
IN_FLIGHT = 0.3  # seconds for which a request may have been under way when something began to fail
NO_EFFECT = frozenset({"overloaded", "shutting_down", "too_many_requests"})
BOUNDED = frozenset({"loss", "server-stop", "told"})
"""Windows that last as long as they say, whatever is well again when."""
UNMEASURED = BOUNDED | {"net", "answers", "storm"}
"""Faults after which there is no first good answer: there were others all the time."""
VIOLATIONS_MAX = 40  # of a kind, told with evidence; all are counted
EVIDENCE_MAX = 12
RECOVERY_MAX = 30.0  # seconds from the end of a fault to the first good answer


@dataclass(kw_only=True)
class Violation:
    """A broken promise, with the few records that prove it."""

    kind: str
    text: str
    evidence: list[str]


@dataclass(kw_only=True)
class Verdict:
    """What a history says.

    Attributes:
        counts: of all violations, by kind.
        recoveries: (fault, seconds from its end to the first good answer).
        relaxed: how often something was let pass, by the reason.
    """

    records: int = 0
    answered: int = 0
    acquires: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    recoveries: list[tuple[str, float]] = field(default_factory=list)
    relaxed: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Case:
    """One history, and what is known beside it."""

    def __init__(self, facts: Facts, records: Sequence[Record]) -> None:
        self.facts = facts
        self.records = sorted(records, key=lambda record: record.sent)
        self.zero = self.records[0].sent if self.records else 0.0
        self.found: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.relaxed: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.recoveries: list[tuple[str, float]] = []
        self.windows: list[Window] = []
        self.windows = self._recovered(facts.windows)
        if told := sum(w.kind == "told" for w in self.windows):
            self.relaxed["outages that nobody made, as told"] = told
        self._losses = [w for w in self.windows if w.kind == "loss"]
        self._nets = [w for w in self.windows if w.kind == "net"]
        self._untils: dict[int, float] = {}

    def blame(self, kind: str, text: str, *evidence: Record) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= VIOLATIONS_MAX:
            near = [
                f"{w.start - self.zero:.3f} … {w.end - self.zero:.3f} {w.kind} {w.detail}"
                for w in self.windows
                if evidence and w.start < evidence[-1].closed + 1 and w.end > evidence[0].sent - 1
            ]
            shown = [show(record, self.zero) for record in evidence[:EVIDENCE_MAX]]
            self.found.append(Violation(kind=kind, text=text, evidence=[*shown, *near[:6]]))

    def _recovered(self, windows: Sequence[Window]) -> list[Window]:
        """Let each fault last until something was well again, and note how long that took."""
        goods: dict[int, list[float]] = {-1: []}
        for record in self.records:
            if record.fine and record.done is not None:
                goods.setdefault(record.server, []).append(record.done)
                goods[-1].append(record.done)
        for times in goods.values():
            times.sort()
        last = self.records[-1].sent if self.records else 0.0
        found = []
        for window in sorted(windows, key=lambda window: window.start):
            times = goods.get(window.server, [])
            at = bisect_left(times, window.end)
            end = times[at] if at < len(times) else max(window.end, last)
            if window.kind in UNMEASURED:
                found.append(window if window.kind in BOUNDED else replace(window, end=end))
                continue
            if (
                window.kind == "store-kill"
            ):  # a read is well before servers see that much is to be settled
                seen = [at for at in self.facts.noticed if 0 <= at - window.start <= SEEN_WITHIN]
                end = max([end, *seen[:1]])
            self.recoveries.append((window.kind, end - window.end))
            if last - window.end > RECOVERY_MAX and end - window.end > RECOVERY_MAX:
                text = f"no good answer within {RECOVERY_MAX:g} s after {window.kind}"
                self.blame("recovery", f"{text} {window.detail}")
            found.append(replace(window, end=end))
        return found

    def doubtful(self, record: Record) -> bool:
        """Tell whether nobody can say that the request was done, or that it was not."""
        if record.done is None:
            return record.said.get("x") != "refused"
        return record.status in (408, 500, 503) and record.said.get("code") not in NO_EFFECT

    def until(self, record: Record) -> float:
        """Say until when a request may have acted."""
        if not self.doubtful(record):
            return record.closed
        known = self._untils.get(id(record))
        if known is None:
            known = self._untils[id(record)] = self._until(record)
        return known

    def _until(self, record: Record) -> float:
        late = self.facts.late
        end = record.closed + late
        for window in self.windows:
            if window.start > record.closed + late or window.end < record.sent - IN_FLIGHT:
                continue
            if window.kind in ("server-kill", "server-stop", "clock", "loss", "told"):
                continue
            if window.kind == "server-freeze" and (
                window.server != record.server or record.sent > window.start + MARGIN
            ):
                continue  # it waited before the server, which must look whether anybody still listens
            end = max(end, window.end + late)
        return end

    def troubled(self, start: float, end: float) -> Window | None:
        """Return the last fault that overlaps a time, if any."""
        return max(
            (
                w
                for w in self.windows
                if w.kind not in ("loss", "told") and w.start <= end and w.end >= start
            ),
            key=lambda w: w.end,
            default=None,
        )

    def extended(self, since: float, life: float, lost_after: float) -> float:
        """Say until when something that lives `life` from `since` may live, outages given back."""
        end = since + life
        for window in self.windows:
            if window.kind != "loss" and window.start <= end and window.end >= since - IN_FLIGHT:
                end = max(end, window.end + lost_after)
        return end + MARGIN

    def lost(self, record: Record) -> bool:
        """Tell whether the store may have lost what it answered here, by its settings."""
        done = record.closed
        return any(w.start <= done and record.sent <= w.end for w in self._losses)

    def loss_between(self, start: float, end: float) -> bool:
        return any(w.start <= end and w.end >= start for w in self._losses)

    def cut_off(self, start: float, end: float) -> bool:
        """Tell whether far clients could not reach their server in a part of a time."""
        return any(w.start <= end and w.end >= start for w in self._nets)
