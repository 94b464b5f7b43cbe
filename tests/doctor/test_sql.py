"""Every planted fault of a database is found, told, and mended, and nobody is lost."""

from __future__ import annotations

import pytest
from tests.doctor import server_faults, sql_faults
from tests.doctor.planted import Planted, ward

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
