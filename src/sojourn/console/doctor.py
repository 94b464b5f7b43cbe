"""The page `/console/doctor`: what was found becomes words and pieces of a page."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct

from sojourn.console.frame import Notice, rows
from sojourn.console.render import render
from sojourn.console.words import When, count, duration, when
from sojourn.doctor.doctor import Mended
from sojourn.doctor.runs import Latest, Rounds, Run
from sojourn.errors import RepairBusy, SojournError
from sojourn.finding import Area, Check, Fix, Step, Verdict

TITLES = {
    Area.SETTINGS: "Settings",
    Area.SCHEMA: "Tables",
    Area.STORE: "Store",
    Area.SECRETS: "Secrets and instances",
    Area.COOKIES: "Cookies",
    Area.ROUND_TRIP: "Round trip",
    Area.SEATS: "Seats",
}
WORDS = {
    Verdict.FAILURE: "Failure",
    Verdict.WARNING: "Warning",
    Verdict.OK: "Fine",
    Verdict.SKIPPED: "Skipped",
}
WAITING = "waiting"
PROBLEMS = (Verdict.FAILURE, Verdict.WARNING)
SAID = ((Verdict.OK, "fine"), (Verdict.SKIPPED, "skipped"), (WAITING, "not looked at yet"))
"""What a line of an area says of its checks, in this order."""


class FindingRow(Struct, frozen=True, kw_only=True):
    """A check as it is shown. Without a finding it waits to be looked at."""

    dom: str
    check: str
    area: str
    area_title: str
    question: str
    looked_at: str
    verdict: str = WAITING
    word: str = "Not looked at yet:"
    title: str
    at: When | None = None
    took: str = ""
    evidence: tuple[str, ...] = ()
    means: str = ""
    effect: str = ""
    fix: Fix | None = None
    steps: tuple[Step, ...] = ()

    @property
    def problem(self) -> bool:
        return self.verdict in PROBLEMS


class Summary(Struct, frozen=True, kw_only=True):
    """What the page opens with: the effect on people, the cause, and what it rests on.

    Attributes:
        steps: the plan of what can be repaired, each step once; `repairable`: how many problems that is.
    """

    title: str
    text: str
    cause: str = ""
    verdict: str = ""
    steps: tuple[Step, ...] = ()
    repairable: str = ""
    at: When | None = None  # the last look
    waiting: bool = False  # some were not looked at yet
    running: bool = False
    done: int = 0
    total: int = 0


class AreaRows(Struct, frozen=True):
    """What is not wrong in an area: one line, and the checks below it."""

    name: str
    title: str
    rows: tuple[FindingRow, ...]

    @property
    def said(self) -> str:
        counts = [(sum(x.verdict == verdict for x in self.rows), word) for verdict, word in SAID]
        return ", ".join(f"{number} {word}" for number, word in counts if number)

    @property
    def verdict(self) -> str:
        """Return the icon of the line: fine where anything is."""
        there = [each.verdict for each in self.rows]
        return next(str(verdict) for verdict, _ in SAID if verdict in there)


def row(check: Check, latest: Latest | None, now: int) -> FindingRow:
    """Show a check, and what it found last if it ever looked."""
    shown: dict[str, Any] = {
        "dom": "check-" + check.id.replace(".", "-"),
        "check": check.id,
        "area": check.area.value,
        "area_title": TITLES[check.area],
        "question": check.title,
        "looked_at": check.looked_at,
    }
    if latest is None:
        return FindingRow(**shown, title=check.title)
    seen, finding = latest.seen, latest.seen.finding
    return FindingRow(
        **shown,
        verdict=finding.verdict.value,
        word=WORDS[finding.verdict] + ":",
        title=finding.title,
        at=when(latest.at, now),
        took=f"took {duration(seen.milliseconds)}",
        evidence=finding.evidence,
        means=finding.means,
        effect=finding.effect,
        fix=finding.fix,
        steps=seen.steps,
    )


def all_rows(rounds: Rounds, now: int) -> list[FindingRow]:
    latest = rounds.latest()
    return [row(check, latest.get(check.id), now) for check in rounds.checks()]


def problems(found: Sequence[FindingRow]) -> list[FindingRow]:
    """Return what is wrong, the worst first."""
    wrong = [each for each in found if each.problem]
    return sorted(wrong, key=lambda each: each.verdict == Verdict.WARNING)


def counted(found: Sequence[FindingRow]) -> str:
    """Say how much is wrong."""
    verdicts = [each.verdict for each in found]
    return _headline_of(*map(verdicts.count, PROBLEMS)).rstrip(".")


def by_area(found: Sequence[FindingRow]) -> list[AreaRows]:
    """Sort what is not wrong by area."""
    return [
        AreaRows(area.value, TITLES[area], mine)
        for area in Area
        if (mine := tuple(x for x in found if x.area == area.value and not x.problem))
    ]


def summary(found: Sequence[FindingRow], run: Run | None = None) -> Summary:
    """Answer what the page's reader came for: whom it concerns, why, and what that rests on."""
    wrong = problems(found)
    waiting = any(each.at is None for each in found)
    if run is not None:
        title, text = _under_way(run)
        done, total = len(run.current.seen), len(run.checks)
        return Summary(
            title=title, text=text, running=True, done=done, total=total, waiting=waiting
        )
    times = [each.at for each in found if each.at is not None]
    last = max(times, key=lambda at: at.iso, default=None)
    if not wrong:
        return Summary(title=_all_well(found), text=_rests_on(found), at=last, waiting=waiting)
    worst, *others = wrong
    cause = worst.title if worst.title != worst.effect else ""
    if others:
        cause = f"{cause} {_also(others)}".strip()
    steps = {step.what: step for each in wrong for step in each.steps}  # one may mend two problems
    number = sum(bool(each.steps) for each in wrong)
    return Summary(
        title=worst.effect,
        cause=cause,
        verdict=worst.verdict,
        text=_rests_on(found),
        steps=tuple(steps.values()),
        repairable=count(number, "problem"),
        at=last,
        waiting=waiting,
    )


def _also(others: Sequence[FindingRow]) -> str:
    said = counted(others)
    return f"Besides: {said[0].lower()}{said[1:]}."


def _under_way(run: Run) -> tuple[str, str]:
    """Say what a run does, or what it waits for."""
    now = run.current
    done, total = len(now.seen), len(now.checks)
    mending = now.repairs and not now.seen
    if now is not run:
        title = "The repair comes next." if run.repairs else "The look comes next."
        other = f"The checks under way end first: {done} of {total} are done."
        if now.repairs:
            other = "The repair under way ends first."
        return title, f"{other} You may leave: it goes on."
    if mending:
        text = "Doctor looks once more before it touches anything. You may leave: it goes on."
        return "Repairing", text
    text = "Nothing is changed by it. You may leave: it goes on, and what it finds is kept."
    return f"Looking: {done} of {total} done", text


def _all_well(found: Sequence[FindingRow]) -> str:
    if any(each.verdict == Verdict.OK for each in found):
        return "Sessions and seats are well."
    return "Nothing has been looked at yet."


def _headline_of(failures: int, warnings: int) -> str:
    said = [count(failures, "failure")] * bool(failures)
    said += [count(warnings, "warning")] * bool(warnings)
    return f"{' and '.join(said)}." if said else ""


def _rests_on(found: Sequence[FindingRow]) -> str:
    looked = [each for each in found if each.at is not None]
    if not found:
        return "There is nothing here to look at."
    if not looked:
        return "Run all checks to see how sessions and seats are."
    text = f"{count(len(looked), 'check')} looked at."
    waiting = len(found) - len(looked)
    if waiting:
        text += f" {count(waiting, 'more thorough one')} only when you run them all."
    return text


def after(run: Run) -> Notice:
    """Say what has become of a run."""
    steps = tuple(each.step for each in run.mended)
    if isinstance(run.fault, RepairBusy):
        return Notice(
            verdict=Verdict.WARNING,
            title="Somebody else repairs just now. Nothing was changed from here.",
            text=f"{run.fault.message} {run.fault.hint}",
        )
    if run.fault is not None:
        return _gave_way(run.fault, run.mended)
    if not run.repairs:
        found = [seen.finding.verdict for seen in run.seen]
        said = _headline_of(found.count(Verdict.FAILURE), found.count(Verdict.WARNING))
        title = f"{count(len(found), 'check')} looked at. {said or 'All is well.'}"
        return Notice(verdict=run.verdict, title=title, aloud=True)
    if not steps:
        return Notice(verdict=Verdict.OK, title="There was nothing left to repair.")
    return Notice(
        verdict=Verdict.OK,
        title=f"Repaired. {count(len(steps), 'step')} carried out, and everything looked at again.",
        steps=steps,
    )


def _gave_way(fault: SojournError, mended: Sequence[Mended]) -> Notice:
    done = tuple(each.step for each in mended)
    text = f"{fault.message} {fault.hint}".strip()
    if done:
        text += " What is done stays done: repair again, and it goes on from here."
    return Notice(
        verdict=Verdict.FAILURE, title="This did not come to its end.", text=text, steps=done
    )


def forbidden(role: str) -> Notice:
    return Notice(
        verdict=Verdict.WARNING,
        title=f"A key of role {role} may look, and not repair. Nothing was changed.",
        text="Sign in with a key of role operator or admin.",
    )


def digest(rounds: Rounds) -> str:
    """Name a state of findings, so that an open page learns whether it shows the present one."""
    verdicts = sorted((name, x.seen.finding.verdict) for name, x in rounds.latest().items())
    return sha256(repr(verdicts).encode()).hexdigest()[:16]


def changed(rounds: Rounds, seen: str) -> Notice | None:
    """Say so if something else is found now than what a page shows."""
    if seen == digest(rounds) or rounds.looking is not None or rounds.repairing:
        return None
    failing = rounds.areas(Verdict.FAILURE)
    return Notice(
        verdict=Verdict.FAILURE if failing else Verdict.SKIPPED,
        title="Doctor has found something else since this page was opened."
        if not failing
        else f"Doctor finds failures now: {', '.join(TITLES[each] for each in failing)}.",
        link="doctor",
        label="Show it",
    )


class Stream:
    """A run, told to an open page piece by piece, as server-sent events that htmx puts into place."""

    def __init__(self, rounds: Rounds, run: Run, *, may_repair: bool) -> None:
        self._rounds = rounds
        self._run = run
        self._may_repair = may_repair
        self._current = run.current
        self._told = 0
        self._wrong: set[str] | None = None  # the page may be older than what was found last

    def news(self, now: int) -> bytes:
        """Tell what is new: each check that was looked at meanwhile, and how far it is; while the run
        waits, of the one that it waits for."""
        pieces = self._looked_at(self._current, now)
        current = self._run.current
        if current is not self._current:
            if self._current.repairs:  # who asked for it follows this run by now
                pieces.append(self._notice(self._current))
            self._current, self._told = current, 0
            pieces += self._looked_at(current, now)
        found = all_rows(self._rounds, now)
        html = self._render("_summary.html", summary=summary(found, self._run))
        return event(*pieces, partial("#summary", "innerMorph", html))

    def _looked_at(self, run: Run, now: int) -> list[str]:
        upto = len(run.seen)
        looked = [row(each.check, Latest(each, now), now) for each in run.seen[self._told : upto]]
        self._told = upto
        shown = self._wrong
        if shown is None or any((each.check in shown) != each.problem for each in looked):
            # It moves between what is wrong and what is fine.
            found = all_rows(self._rounds, now)
            self._wrong = {each.check for each in found if each.problem}
            return [self._areas(found)]
        return [
            partial(f"#{each.dom}", "outerMorph", self._render("_check.html", row=each))
            for each in looked
        ]

    def _areas(self, found: Sequence[FindingRow]) -> str:
        html = self._render(
            "_areas.html", areas=by_area(found), problems=problems(found), counted=counted(found)
        )
        return partial("#areas", "innerMorph", html)

    def end(self, now: int) -> bytes:
        """Tell how it ended. What is shown afterwards is what a page opened now would show."""
        found = all_rows(self._rounds, now)
        return event(
            self._areas(found),
            partial(
                "#summary", "innerMorph", self._render("_summary.html", summary=summary(found))
            ),
            self._notice(self._run),
        )

    def _notice(self, run: Run) -> str:
        return partial("#notice", "innerHTML", self._render("_notice.html", notice=after(run)))

    def _render(self, template: str, **values: Any) -> str:
        again = self._rounds.again
        return render(
            template, may_repair=self._may_repair, rows=rows, again=again, **values
        ).decode()


def partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'


def event(*pieces: str) -> bytes:
    """Write pieces of HTML as one server-sent event."""
    lines = "".join(pieces).replace("\r", "").split("\n")
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode()
