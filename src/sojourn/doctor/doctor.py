"""Runs checks, one after another, and carries out the repairs that they bring along."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from msgspec import Struct

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

Lock = Callable[[], AbstractContextManager[Callable[[], None] | None]]
"""Held while one doctor repairs. Raises RepairBusy if another one does. What it hands out, if
anything, raises StoreUnavailable once it is lost."""


class Examined(Struct, frozen=True, kw_only=True):
    """A check and what it found."""

    check: Check
    finding: Finding
    milliseconds: int
    steps: tuple[Step, ...] = ()  # what its repair would do


class Mended(Struct, frozen=True, kw_only=True):
    """A step of a repair that was carried out."""

    check: Check
    step: Step


class Doctor:
    """Looks with every examiner's checks, in their order. Holds nothing between two runs."""

    def __init__(self, examiners: Sequence[Examiner], lock: Lock) -> None:
        self._examiners = tuple(examiners)
        self._lock = lock

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
        verdicts: dict[str, Verdict] = {}
        titles: dict[str, str] = {}
        for check in self.checks(quick=quick, areas=areas, ids=ids):
            began = time.perf_counter()
            before = unmet(check, verdicts)
            finding = skipped(_later(titles[before])) if before else _look(check)
            titles[check.id] = check.title
            verdicts[check.id] = finding.verdict
            yield Examined(
                check=check,
                finding=finding,
                milliseconds=round((time.perf_counter() - began) * 1000),
                steps=_steps(check, finding),
            )

    def repair(self, ids: Sequence[str] = ()) -> Iterator[Mended]:
        """Look again, and mend what is wrong (of these checks, or of all that can be), step by step.
        Checks that were not asked for are not made: some sign a canary in, and take a seat.

        One doctor at a time. Raises RepairBusy, and StoreError where the store gives way in between:
        run it again, it goes on from there.
        """
        with self._lock() as assure:
            for seen in self.examine(ids=ids):
                if seen.check.repair is None or not seen.steps:
                    continue
                if ids and seen.check.id not in ids:
                    continue
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
    """Say the worst of what was found; OK if there is nothing."""
    return max((each.finding.verdict for each in seen), key=lambda v: v.rank, default=Verdict.OK)


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


def _later(first: str) -> str:
    return f"Not looked at: “{first}” comes first."


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except (StoreError, SettingsError) as error:
        return failure(
            f"This could not be looked at: {error}",
            fix=Fix(text=error.hint) if error.hint else None,
        )
    except Exception as error:
        # A doctor that falls over tells nothing of all the rest.
        log.exception("doctor_check_failed", check=check.id)
        return failure(
            f"This check itself failed ({type(error).__name__}).",
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
