"""`sojourn doctor`: what is wrong, with evidence; and with --fix, mending it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sojourn.cli import source
from sojourn.cli.called import Called
from sojourn.cli.command import Json, confirm
from sojourn.cli.database import is_own, open_folder
from sojourn.cli.failure import ExitCode
from sojourn.cli.options import Folder, Ledger, given
from sojourn.cli.output import STYLES, Output, count, span
from sojourn.cli.source import Config
from sojourn.errors import InvalidInput
from sojourn.finding import Area, Verdict

if TYPE_CHECKING:
    from sojourn.doctor.doctor import Doctor, Examined, Mended

CODES = {
    Verdict.OK: ExitCode.OK,
    Verdict.SKIPPED: ExitCode.OK,
    Verdict.WARNING: ExitCode.WARNED,
    Verdict.FAILURE: ExitCode.UNWELL,
}
MARKS = {Verdict.OK: "✓", Verdict.SKIPPED: "–", Verdict.WARNING: "!", Verdict.FAILURE: "✗"}
INDENT = "    "

Store = Annotated[
    str | None,
    given("--store", "URL", "Store to look at."),
]
Secret = Annotated[
    list[str] | None,
    given("--secret", "SECRET", "The servers' secrets. Repeat. Better in SOJOURN_SECRET."),
]
Areas = Annotated[
    list[str] | None,
    given("--area", "AREA", f"Look at this alone: {', '.join(Area)}. Repeat."),
]
Fix = Annotated[bool, typer.Option("--fix", help="Mend what can be mended.", show_default=False)]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the plan of --fix; change nothing.", show_default=False),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="With --fix: do not ask for confirmation.", show_default=False
    ),
]
Url = Annotated[
    str | None,
    given("--url", "URL", "Address to look at as a browser does."),
]
Login = Annotated[
    Path | None,
    given("--login", "FILE", "With --url: the request that signs a canary in, as its text."),
]
PageOption = Annotated[
    str | None,
    given("--page", "PATH", "With --url: a page that only who is signed in may see."),
]
OriginOption = Annotated[
    str | None,
    given("--origin", "ORIGIN", "With --url: another site whose pages use the cookie."),
]
Via = Annotated[
    str | None,
    given("--via", "HOST:PORT", "With --url: connect there, whatever the address says."),
]
Express = Annotated[
    str | None,
    given("--express", "URL", "An Express application's sessions: express+postgresql://…"),
]


def doctor(
    fix: Fix = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    area: Areas = None,
    store: Store = None,
    ledger: Ledger = None,
    data: Folder = None,
    secret: Secret = None,
    express: Express = None,
    url: Url = None,
    login: Login = None,
    page: PageOption = None,
    origin: OriginOption = None,
    via: Via = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Say what is wrong with sessions and seats.

    Looks at the store, its tables and its settings, also where no server can start: names what is
    wrong, shows the evidence, and says what mends it. Changes nothing without --fix.

    With --fix it shows the plan, asks, and then mends what it safely can: tables are copied before they
    are changed, and whoever is signed in or has a seat keeps it. It may be stopped and run again.

    The exit code tells the worst that was found, after mending: 0 nothing, 7 a warning, 8 a failure.
    """
    from sojourn.adapters.express import EXPRESS
    from sojourn.doctor import examiners
    from sojourn.doctor.doctor import mendable

    areas = _areas(area or [])
    given = {"store": store, "ledger": ledger, "data": data, "express": express}
    read = {**given, "secret": secret}
    loaded = source.read(read, config, lenient=True)  # what is wrong with them is a finding
    outside = None
    if url is not None:
        request = None if login is None else _read(login)
        outside = examiners.Outside(url=url, login=request, page=page, origin=origin, via=via)
    out = Output(as_json=as_json)
    places = {"url": url, "login": login, "page": page, "origin": origin, "via": via}
    called = Called({**given, **places, "config": config})
    made = examiners.doctor(
        loaded.settings,
        outside,
        loaded.faults,
        express=EXPRESS,
        again=called.again,
        config=config or examiners.CONFIG,
    )
    with contextlib.closing(made) as opened:
        seen = _look(opened, areas, out)
        mended: list[Mended] = []
        if dry_run and not as_json:
            _show_plan(mendable(seen, {}), out, called, dry_run=True)
        elif fix and not dry_run:
            if mendable(seen, {}) and is_own(loaded.settings, loaded.settings.ledger_url):
                open_folder(
                    loaded.settings
                )  # where the lock of its repairs is, if no server ever was
            seen = _fix(opened, seen, mended, out, called, areas=areas, yes=yes)
    if as_json:
        out.json(_document(seen, mended))
    else:
        _sum_up(seen, out, called, fix=fix)
    return int(CODES[_worst(seen)])


def _read(login: Path) -> str:
    try:
        return login.read_text()
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            f"The sign-in request {login} cannot be read: {error}.",
            hint="Write it into a file: POST /login, an empty line, then name=canary&password=…",
        ) from None


def _areas(names: Sequence[str]) -> list[Area]:
    unknown = [name for name in names if name not in list(Area)]
    if unknown:
        raise InvalidInput(
            f"There is no area {unknown[0]!r}.", hint=f"Use one of: {', '.join(Area)}."
        )
    # What is wrong with the settings keeps others from being looked at: nothing is well without them.
    return [Area.SETTINGS, *map(Area, names)] if names else []


def _worst(seen: Sequence[Examined]) -> Verdict:
    from sojourn.doctor.doctor import worst

    return worst(seen)


def _look(
    doctor: Doctor, areas: Sequence[Area], out: Output, *, again: bool = False
) -> list[Examined]:
    """Look, and show each finding as soon as it is there; after mending, only what is still wrong."""
    seen = []
    if again and not out.as_json:
        out.say("\nLooking again.", style="bold")
    found = doctor.examine(areas=areas)
    left_out = 0
    while (each := _next(found, out)) is not None:
        seen.append(each)
        left_out += bool(each.waits_for)
        if (
            not out.as_json
            and not each.waits_for
            and not (again and each.finding.verdict.rank == 0)
        ):
            _show(each, out)
    if left_out and not out.as_json:
        out.say(
            f"{MARKS[Verdict.SKIPPED]} {count(left_out, 'check')} not made: what they need comes first."
        )
    return seen


def _next(found: Iterator[Examined], out: Output) -> Examined | None:
    with out.waiting("Looking"):
        return next(found, None)


def _show(seen: Examined, out: Output) -> None:
    from rich.text import Text

    finding, verdict = seen.finding, seen.finding.verdict
    style = STYLES.get(verdict.value, "dim")
    name = Text(f"  {seen.check.id}", style="dim")
    mark = Text(f"{MARKS[verdict]} {verdict.value:<8} ", style=style)
    out.hang(mark, Text.assemble(finding.title, name))
    if verdict.rank == 0:
        return
    lines = [("looked at", seen.check.looked_at), *(("seen", x) for x in finding.evidence)]
    if finding.means:
        lines.append(("means", finding.means))
    if finding.fix is not None:
        fix = finding.fix
        lines.append(("do", fix.text))
        lines += [
            ("", x) for part in (fix.command, fix.sql, fix.setting) for x in part.splitlines()
        ]
    for label, text in lines:
        lead = Text.assemble(INDENT, (f"{label:<9} ", "dim"))
        if label in ("", "seen"):  # to be copied
            out.console.print(Text.assemble(lead, text), soft_wrap=True, markup=False)
        else:
            out.hang(lead, text)


def _show_plan(seen: Sequence[Examined], out: Output, called: Called, *, dry_run: bool) -> None:
    # What mends two faults at once is said once.
    steps = {step.what: (each, step) for each in reversed(seen) for step in reversed(each.steps)}
    if not steps:
        out.say("\nThere is nothing that doctor could mend.", style="bold")
        return
    out.say("\nThe plan:", style="bold")
    for number, (each, step) in enumerate(reversed(steps.values()), 1):
        rows = "" if step.rows is None else f" ({count(step.rows, 'row')})"
        out.hang(f"{number}. ", f"{step.what}{rows}")
        out.hang(f"{INDENT}why   ", step.why, style="dim")
        if step.undo:
            out.hang(f"{INDENT}undo  ", step.undo, style="dim")
        out.say(f"{INDENT}for   {each.check.id}", style="dim")
    if dry_run:
        out.say(f"\nNothing was changed. To mend: {called.again('sojourn doctor --fix')}")


def _fix(
    doctor: Doctor,
    seen: list[Examined],
    mended: list[Mended],
    out: Output,
    called: Called,
    *,
    areas: Sequence[Area],
    yes: bool,
) -> list[Examined]:
    """Mend what is wrong, and what comes to light by that; each plan is shown first. Returns what is
    found afterwards; `mended` grows by what was done."""
    from sojourn.doctor.doctor import ROUNDS_MAX, mendable

    tried: Counter[str] = Counter()
    for _ in range(ROUNDS_MAX):
        planned = mendable(seen, tried)
        if not planned:
            break
        tried.update(each.check.id for each in planned)
        if not out.as_json:
            _show_plan(planned, out, called, dry_run=False)
            confirm(f"Mend {count(len(planned), 'fault')} as planned?", yes=yes)
        mended += _mend(doctor, planned, out)
        seen = _look(doctor, areas, out, again=True)
    if not mended and not out.as_json:
        _show_plan(seen, out, called, dry_run=False)  # there is none
    return seen


def _mend(doctor: Doctor, planned: Sequence[Examined], out: Output) -> list[Mended]:
    """Mend what was planned, and no more: what comes to light by it has not been shown yet."""
    mended = []
    if not out.as_json:
        out.say("\nMending.", style="bold")
    for each in doctor.repair([one.check.id for one in planned]):
        mended.append(each)
        if not out.as_json:
            out.hang("✓ ", each.step.what, style=STYLES["ok"])
            if each.step.undo:
                out.hang(f"{INDENT}undo  ", each.step.undo, style="dim")
    return mended


def _sum_up(seen: Sequence[Examined], out: Output, called: Called, *, fix: bool) -> None:
    said = []
    for verdict, noun in ((Verdict.FAILURE, "failure"), (Verdict.WARNING, "warning")):
        number = sum(each.finding.verdict is verdict for each in seen)
        if number:
            said.append(count(number, noun))
    took = span(sum(each.milliseconds for each in seen) / 1_000)
    looked = f"{count(len(seen), 'check')} in {took}"
    if not said:
        out.say(f"\nAll is well: {looked}.", style=STYLES["ok"])
        return
    hint = ""
    if not fix and any(each.steps for each in seen):
        hint = f" To see what doctor would do: {called.again('sojourn doctor --dry-run')}"
    out.say(f"\n{' and '.join(said)} in {looked}.{hint}", style="bold")


def _document(seen: Sequence[Examined], mended: Sequence[Mended]) -> dict[str, Any]:
    return {
        "worst": _worst(seen).value,
        "checks": [_row(each) for each in seen],
        "mended": [{"check": each.check.id, **_step(each.step)} for each in mended],
    }


def _row(seen: Examined) -> dict[str, Any]:
    check, finding = seen.check, seen.finding
    fix = finding.fix
    return {
        "id": check.id,
        "area": check.area.value,
        "title": check.title,
        "lookedAt": check.looked_at,
        "verdict": finding.verdict.value,
        "finding": finding.title,
        "evidence": finding.evidence,
        "means": finding.means,
        "fix": None
        if fix is None
        else {"text": fix.text, "command": fix.command, "sql": fix.sql, "setting": fix.setting},
        "plan": [_step(step) for step in seen.steps],
        "milliseconds": seen.milliseconds,
    }


def _step(step: Any) -> dict[str, Any]:
    return {"what": step.what, "why": step.why, "rows": step.rows, "undo": step.undo}
