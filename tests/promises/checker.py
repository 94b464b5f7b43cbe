"""Holds histories to the promises. It imports the standard library and its own history alone.

    python -m tests.promises.checker FACTS.json HISTORY.jsonl …

A client *surely* holds a seat from the answer to its acquire until its pool's patience after the sending of
the last beat that was acknowledged; it *possibly* holds it from the moment in which it asked until nothing
that it sent can keep the seat any longer. Too many sure holders are a seat sold twice, and a denial with too
few possible ones is a denial without cause.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.promises import judge_seats, judge_sessions
from tests.promises.case import MARGIN, Case, Verdict
from tests.promises.history import Facts, Record, read

STATUSES: dict[str, frozenset[int]] = {
    "acquire": frozenset({201, 401, 403, 409, 410, 429, 503}),
    "beat": frozenset({200, 410, 503}),
    "release": frozenset({200, 503}),
    "begin": frozenset({201, 503}),
    "check": frozenset({200, 401, 503}),
    "save": frozenset({200, 401, 404, 503}),
    "rotate": frozenset({200, 401, 404, 503}),
    "end": frozenset({200, 401, 503}),
    "others": frozenset({200, 401, 503}),
    "cutoff": frozenset({200, 503}),
}


def well_formed(case: Case) -> None:
    """Every answer is one that is documented for its call."""
    for record in case.records:
        if record.done is None:
            continue
        case.checked["well-formed"] += 1
        if "malformed" in record.said:
            case.blame("malformed", f"an answer is not well-formed: {record.said}", record)
        elif record.status not in STATUSES[record.op] and not (
            record.status == 408 and case.troubled(record.sent - 12, record.closed)
        ):
            case.blame("status", f"{record.op} was answered {record.status}", record)


def stops(case: Case) -> None:
    """A stop in good order fails no request that it had taken."""
    for window in case.windows:
        if window.kind != "server-stop":
            continue
        for record in case.records:
            if record.server != window.server or not (
                window.start - MARGIN <= record.closed <= window.end + MARGIN
            ):
                continue
            if record.said.get("x") in ("reset", "fresh") or (
                record.status >= 500 and record.status != 503
            ):
                case.blame("stop", "a stop in good order failed a request", record)


def check(facts: Facts, records: Sequence[Record]) -> Verdict:
    """Hold one epoch to all promises."""
    case = Case(facts, records)
    well_formed(case)
    stops(case)
    sessions = judge_sessions.judge(case)
    judge_seats.judge(case, sessions)
    return Verdict(
        records=len(case.records),
        answered=sum(record.done is not None for record in case.records),
        acquires=sum(
            record.op == "acquire" and record.status in (201, 409) for record in case.records
        ),
        counts=dict(case.counts),
        violations=case.found,
        recoveries=case.recoveries,
        relaxed=dict(case.relaxed),
        checked=dict(case.checked),
    )


def main(arguments: list[str]) -> int:
    facts = Facts.from_json(Path(arguments[0]).read_text())
    records = [record for path in arguments[1:] for record in read(Path(path))]
    verdict = check(facts, records)
    sys.stdout.write(verdict.to_json() + "\n")
    return 1 if verdict.counts else 0


def said(verdict: dict[str, Any]) -> list[str]:
    """Write a verdict's violations as lines."""
    lines = []
    for violation in verdict["violations"]:
        lines.append(f"{violation['kind']}: {violation['text']}")
        lines += [f"    {line}" for line in violation["evidence"]]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
