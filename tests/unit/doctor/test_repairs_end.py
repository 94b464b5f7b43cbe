"""A repair that does not help ends: it copies no table again and again."""

from __future__ import annotations

from collections.abc import Iterator

from tests.patient import MISSING, Patient

from sojourn.doctor.doctor import TRIES_MAX
from sojourn.finding import Step


class Incurable(Patient):
    """Whose repair does its steps, each time under another name, and changes nothing."""

    tries = 0

    def apply(self) -> Iterator[Step]:
        self.tries += 1
        yield Step(what=f"Copy it, number {self.tries}", why="It is broken.")


def test_what_does_not_help_is_not_done_for_ever() -> None:
    patient = Incurable(schema_tables=MISSING)
    mended = list(patient.doctor().repair())
    assert patient.tries == TRIES_MAX
    assert len(mended) == TRIES_MAX
