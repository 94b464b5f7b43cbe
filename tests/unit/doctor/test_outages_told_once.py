"""What a server's log is told of what doctor finds: once for an outage, and once when it is over."""

from __future__ import annotations

import logging

import pytest
from tests.patient import MISSING, SLOW, Patient

from sojourn.doctor.runs import Rounds


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum("doctor_found" in each.getMessage() for each in caplog.records)


def test_one_line_for_all_that_a_look_finds(caplog: pytest.LogCaptureFixture) -> None:
    """Two checks that fail at once are one outage; looks that find the same again say nothing."""
    caplog.set_level(logging.INFO)
    patient = Patient()
    rounds = Rounds(patient.doctor())
    rounds.quick()
    assert told(caplog) == 0
    patient.wrong |= {"schema.tables": MISSING, "store.speed": SLOW}
    for _ in range(3):
        rounds.quick()
    assert told(caplog) == 1
    patient.wrong.pop("store.speed")
    rounds.quick()
    assert told(caplog) == 1  # something is wrong still
    patient.wrong.clear()
    for _ in range(3):
        rounds.quick()
    assert told(caplog) == 2


def test_commands_lead_to_what_was_looked_at() -> None:
    """What a finding says to run is completed, line by line, by whoever knows where that is."""
    patient = Patient(schema_tables=MISSING)
    doctor = patient.doctor()
    doctor.again = lambda command: f"{command} --data /srv/sojourn"
    (seen,) = [each for each in doctor.examine() if each.check.id == "schema.tables"]
    assert seen.finding.fix is not None
    assert seen.finding.fix.command.endswith(" --data /srv/sojourn")
