"""Runs checks, one after another, and carries out the repairs that they bring along."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from msgspec import Struct
from msgspec.structs import replace

from sojourn.errors import RepairBusy as RepairBusy
from sojourn.errors import SettingsError, StoreError
from sojourn.finding import (
    Area,
    Check,
    Examiner,
    Finding,
    Fix,
    Step,
    Verdict,
    failure,
    skipped,
    unmet,
)
from sojourn.log import get_logger

log = get_logger(__name__)

ROUNDS_MAX = 6
"""How often is looked for what a repair has brought to light: as often as one check may hide another."""
TRIES_MAX = 2
"""Repairs of one check in a run: another check's may have broken it anew, and more often does not help."""

Lock = Callable[[], AbstractContextManager[Callable[[], None] | None]]
"""Held while one doctor repairs. Raises RepairBusy if another one does. What it hands out, if
anything, raises StoreUnavailable once it is lost."""


class Examined(Struct, frozen=True, kw_only=True):
    """A check and what it found."""

    check: Check
    finding: Finding
    milliseconds: int
    steps: tuple[Step, ...] = ()  # what its repair would do
    waits_for: str = ""  # the check that is to be well first: this one was not made


class Mended(Struct, frozen=True, kw_only=True):
    """A step of a repair that was carried out."""

    check: Check
    step: Step


class Doctor:
    """Looks with every examiner's checks, in their order. Holds nothing between two runs."""

    def __init__(
        self, examiners: Sequence[Examiner], lock: Lock, *, again: Callable[[str], str] = str
    ) -> None:
        """`again`: completes a command of ours, so that it works as printed on what is looked at here."""
        self._examiners = tuple(examiners)
        self._lock = lock
        self.again = again

    def checks(
        self, *, quick: bool = False, areas: Sequence[Area] = (), ids: Sequence[str] = ()
    ) -> list[Check]:
        """Say what would be looked at. `ids`: these checks, and those that are to be well before them."""
        every = [check for examiner in self._examiners for check in examiner.checks()]
        wanted = _with_needs(every, ids)
        return [
            check
            for check in every
            if (check.quick or not quick)
            and (not areas or check.area in areas)
            and (not ids or check.id in wanted)
        ]

    def examine(
        self, *, quick: bool = False, areas: Sequence[Area] = (), ids: Sequence[str] = ()
    ) -> Iterator[Examined]:
        """Look, and yield each finding as soon as it is there. Never raises for what it looks at."""
        found: dict[str, Finding] = {}
        titles: dict[str, str] = {}
        for check in self.checks(quick=quick, areas=areas, ids=ids):
            began = time.perf_counter()
            before = unmet(check, found)
            finding = skipped(_later(check.title, titles[before])) if before else _look(check)
            finding = self._completed(finding)
            titles[check.id] = check.title
            found[check.id] = finding
            yield Examined(
                check=check,
                finding=finding,
                milliseconds=round((time.perf_counter() - began) * 1000),
                steps=_steps(check, finding),
                waits_for=before or "",
            )

    def _completed(self, finding: Finding) -> Finding:
        fix = finding.fix
        if fix is None or not fix.command:
            return finding
        told = replace(fix, command="\n".join(map(self.again, fix.command.splitlines())))
        return replace(finding, fix=told)

    def repair(self, ids: Sequence[str] = ()) -> Iterator[Mended]:
        """Look again, and mend what is wrong, step by step: of these checks; or, where none is named, of
        all, and then what came to light by that. Checks that were not asked for are not made: some sign
        a canary in, and take a seat.

        One doctor at a time. Raises RepairBusy, and StoreError where the store gives way in between:
        run it again, it goes on from there.
        """
        with self._lock() as assure:
            tried: Counter[str] = Counter()
            for _ in range(1 if ids else ROUNDS_MAX):
                before = tried.total()
                yield from self._repair_once(ids, assure, tried)
                if tried.total() == before:  # nothing is left, or it does not help
                    return

    def _repair_once(
        self, ids: Sequence[str], assure: Callable[[], None] | None, tried: Counter[str]
    ) -> Iterator[Mended]:
        for seen in self.examine(ids=ids):
            if seen.check.repair is None or not seen.steps:
                continue
            if (ids and seen.check.id not in ids) or tried[seen.check.id] >= TRIES_MAX:
                continue
            if _held_back(seen.check, tried):
                continue
            tried[seen.check.id] += 1
            if assure is not None:
                assure()
            for step in seen.check.repair.apply():
                log.info("doctor_mended", check=seen.check.id, what=step.what, rows=step.rows)
                yield Mended(check=seen.check, step=step)

    def close(self) -> None:
        """Give back what looking took; another look takes it again. Idempotent."""
        for examiner in self._examiners:
            examiner.close()


def worst(seen: Sequence[Examined]) -> Verdict:
    """Return the worst verdict; OK if there is none."""
    return max((each.finding.verdict for each in seen), key=lambda v: v.rank, default=Verdict.OK)


def mendable(seen: Sequence[Examined], tried: Mapping[str, int]) -> list[Examined]:
    """Return those that the next round of a run mends. `tried`: how often, by check, this run has."""
    able = [each for each in seen if each.steps and tried.get(each.check.id, 0) < TRIES_MAX]
    under_way = [*tried, *(each.check.id for each in able)]
    return [each for each in able if not _held_back(each.check, under_way)]


def _held_back(check: Check, mended: Iterable[str]) -> bool:
    return any(Area(name.partition(".")[0]) in check.not_after for name in mended)


def _with_needs(every: Sequence[Check], ids: Sequence[str]) -> set[str]:
    needs = {check.id: check.needs for check in every}
    found: set[str] = set()
    left = list(ids)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(needs.get(name, ()))
    return found


def _later(question: str, first: str) -> str:
    return f"“{question}” waits for “{first}”."


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except (StoreError, SettingsError) as error:
        return failure(
            f"“{check.title}” could not be answered: {error}",
            fix=Fix(text=error.hint) if error.hint else None,
        )
    except Exception as error:
        # A doctor that falls over tells nothing of all the rest.
        log.exception("doctor_check_failed", check=check.id)
        return failure(
            f"The check “{check.title}” itself failed ({type(error).__name__}).",
            means="What it looks at may be well or not.",
            fix=Fix(text="See the log, and report it."),
        )


def _steps(check: Check, finding: Finding) -> tuple[Step, ...]:
    if check.repair is None or finding.verdict.rank == 0:
        return ()
    try:
        return tuple(check.repair.plan())
    except StoreError:
        return ()
