"""What doctor finds and mends, over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn.doctor.doctor import Examined, Mended, worst
from sojourn.doctor.runs import Latest
from sojourn.finding import Area, Fix, Step, Verdict
from sojourn.wire.bodies import Answer, rfc3339, seconds


class FixBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """`text` in words; the others letter by letter, where there is something to run or to write."""

    text: str
    command: str = ""
    sql: str = ""
    setting: str = ""


class StepBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """`rows`: how many are concerned, where that is known."""

    what: str
    why: str
    rows: int | None = None
    undo: str = ""


class CheckBody(Answer, frozen=True, kw_only=True):
    """`title` is the question, `finding` the answer. `at`: when it was looked at, by the server's clock;
    `took`: for how long, in seconds. `plan`: what a repair would do, step by step; empty where there is
    nothing that doctor may mend by itself."""

    id: str
    area: Area
    title: str
    looked_at: str
    verdict: Verdict
    finding: str
    evidence: list[str]
    means: str
    fix: FixBody | None
    plan: list[StepBody]
    at: str
    took: float


class DoctorBody(Answer, frozen=True, kw_only=True):
    """`worst` is the worst verdict of all; `waiting` names the checks that were not asked yet."""

    worst: Verdict
    counts: dict[str, int]
    running: bool
    repairing: bool
    checks: list[CheckBody]
    waiting: list[str]


class MendedBody(StepBody, frozen=True, kw_only=True, omit_defaults=True):
    check: str


class RepairedBody(Answer, frozen=True, kw_only=True):
    """What was done, and what was found afterwards."""

    mended: list[MendedBody]
    doctor: DoctorBody


def doctor_body(
    latest: Mapping[str, Latest], order: Sequence[str], *, running: bool, repairing: bool
) -> DoctorBody:
    found = [latest[name] for name in order if name in latest]
    return DoctorBody(
        worst=worst([each.seen for each in found]),
        counts=counts([each.seen for each in found]),
        running=running,
        repairing=repairing,
        checks=[check_body(each) for each in found],
        waiting=[name for name in order if name not in latest],
    )


EVIDENCE_MAX = 100
EVIDENCE_CHARACTERS = 2_000
"""Pieces of evidence that are shown of one finding, and how long each is: they may repeat what is stored."""


def counts(seen: Sequence[Examined]) -> dict[str, int]:
    """Count by verdict, the worst first."""
    verdicts = [each.finding.verdict for each in seen]
    order = (Verdict.FAILURE, Verdict.WARNING, Verdict.OK, Verdict.SKIPPED)
    return {verdict.value: verdicts.count(verdict) for verdict in order}


def check_body(latest: Latest) -> CheckBody:
    seen = latest.seen
    check, finding = seen.check, seen.finding
    return CheckBody(
        id=check.id,
        area=check.area,
        title=check.title,
        looked_at=check.looked_at,
        verdict=finding.verdict,
        finding=finding.title,
        evidence=[_cut(each) for each in finding.evidence[:EVIDENCE_MAX]],
        means=finding.means,
        fix=None if finding.fix is None else fix_body(finding.fix),
        plan=[step_body(step) for step in seen.steps],
        at=rfc3339(latest.at),
        took=seconds(seen.milliseconds),
    )


def _cut(text: str) -> str:
    return text if len(text) <= EVIDENCE_CHARACTERS else f"{text[:EVIDENCE_CHARACTERS]} …"


def fix_body(fix: Fix) -> FixBody:
    return FixBody(text=fix.text, command=fix.command, sql=fix.sql, setting=fix.setting)


def step_body(step: Step) -> StepBody:
    return StepBody(what=step.what, why=step.why, rows=step.rows, undo=step.undo)


def mended_body(mended: Mended) -> MendedBody:
    step = mended.step
    return MendedBody(
        check=mended.check.id, what=step.what, why=step.why, rows=step.rows, undo=step.undo
    )
