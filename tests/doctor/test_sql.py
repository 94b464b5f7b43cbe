"""Every planted fault of a database is found, told, and mended, and nobody is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from tests.databases import copied
from tests.doctor import server_faults, sql_faults
from tests.doctor.planted import Planted, Ward, ward
from tests.doctor.test_sql_repair import LONG

from sojourn.errors import SojournError

CATALOGUE = {
    "sqlite": [*sql_faults.common("sqlite"), *sql_faults.SQLITE],
    "postgres": [*sql_faults.common("postgresql"), *server_faults.POSTGRES],
    "mariadb": [*sql_faults.common("mysql"), *server_faults.MARIADB],
}


@pytest.mark.parametrize("kind", CATALOGUE)
def test_every_fault_is_found_and_mended(kind: str, request: pytest.FixtureRequest) -> None:
    """Found k of k, mended k of k that can be; the same people are signed in and on their seats."""
    faults: list[Planted] = CATALOGUE[kind]
    with ward(request.getfixturevalue(f"{kind}_url")) as patient:
        assert not patient.wrong()  # no false alarm
        for number, fault in enumerate(faults):
            patient.suffers(fault)
            patient.newcomer(number)


STEPS = range(1, 24) if LONG else (1,)
"""Each fault is planted together with those so far behind it in the catalogue."""


@pytest.mark.parametrize("step", STEPS)
def test_two_faults_at_once_are_mended_in_one_run(
    step: int, migrated_sqlite: Path, tmp_path: Path
) -> None:
    """Whichever two: one of them may hide the other, and one run of the repair mends both."""
    faults = [fault for fault in CATALOGUE["sqlite"] if fault.mended]
    both = 0
    for number, one in enumerate(faults):
        other = faults[(number + step) % len(faults)]
        with ward(copied(migrated_sqlite, tmp_path / f"{number}.db")) as patient:
            if not (planted(patient, one) and planted(patient, other)):
                continue  # one needs what the other took away
            both += 1
            assert list(patient.doctor.repair()), (one.name, other.name)
            left = {name: x.finding for name, x in patient.wrong().items()}
            assert not left, (one.name, other.name, left)
            patient.check_on_everybody()
    assert both > len(faults) // 2


def planted(patient: Ward, fault: Planted) -> bool:
    try:
        patient.do(fault.plant)
    except (SojournError, DBAPIError, StopIteration):
        return False
    return True
