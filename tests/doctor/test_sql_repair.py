"""Repairs that are killed, raced, or under load: in the end all is well, and nobody has noticed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.doctor.conftest import CHILD
from tests.doctor.planted import PEOPLE, Plant, Ward, ward
from tests.doctor.sql_faults import columns, keyless
from tests.e2e.cli_harness import run, serving

from sojourn.errors import RepairBusy
from sojourn.finding import Verdict
from sojourn.stores import open as stores
from sojourn.stores.sql import server
from sojourn.stores.sql.doctor import lock

DEADLINE = 60.0  # seconds
BATCH = 1_000
LONG = bool(os.environ.get("SOJOURN_CAMPAIGN"))
"""`make campaign-doctor`: kill at every statement, with more people."""
KINDS = ("sqlite", "postgres", "mariadb")


def break_keys(patient: Ward) -> None:
    """What a script does that is run again: every row twice, and no key."""
    if patient.kind == "sqlite":
        keyless("sojourn_sessions", twice=True)(patient)
        return
    patient.execute(
        *{
            "postgresql": (
                "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_pkey",
                "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_token",
            ),
            "mysql": (
                "ALTER TABLE sojourn_sessions DROP PRIMARY KEY, DROP INDEX sojourn_sessions_token",
            ),
        }[patient.kind],
        "INSERT INTO sojourn_sessions SELECT * FROM sojourn_sessions",
    )


SUFFERED: dict[str, Plant] = {
    "sqlite": lambda patient: columns(patient, "sojourn_leases", session_id="INTEGER"),
    "postgresql": [
        'ALTER TABLE sojourn_leases ALTER COLUMN user_id TYPE varchar(256) COLLATE "default"'
    ],
    "mysql": [
        "ALTER TABLE sojourn_leases MODIFY user_id VARCHAR(256) COLLATE utf8mb4_general_ci NOT NULL"
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_four_doctors_beside_live_load(kind: str, request: pytest.FixtureRequest) -> None:
    """One mends, the others say so; requests wait, and none fails."""
    with ward(request.getfixturevalue(f"{kind}_url")) as patient:
        patient.execute("DROP TABLE sojourn_sweeps")
        patient.do(SUFFERED[patient.kind])  # what a request does not fail from
        faults: list[BaseException] = []
        healed = threading.Event()
        rounds = [0]

        def live() -> None:
            try:
                while not healed.is_set():
                    patient.check_on_everybody()
                    rounds[0] += 1
            except BaseException as error:  # noqa: BLE001  # whatever it is fails the test
                faults.append(error)

        load = threading.Thread(target=live)
        load.start()
        try:
            doctors = [
                subprocess.Popen(
                    [*CHILD, patient.url, "0"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
                )
                for _ in range(4)
            ]
            said = [each.communicate(timeout=DEADLINE)[1].decode() for each in doctors]
        finally:
            healed.set()
            load.join()
        assert faults == []
        assert rounds[0] > 0
        codes = [each.returncode for each in doctors]
        assert 0 in codes, said
        assert all(
            code == 0 or "RepairBusy" in text for code, text in zip(codes, said, strict=True)
        ), said
        assert not patient.wrong()
        assert not list(patient.doctor.repair())


@pytest.mark.parametrize("kind", KINDS)
def test_one_doctor_at_a_time(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOCK_TIMEOUT", 1)  # seconds until the second one gives up
    monkeypatch.setattr(lock, "NAME", lock.NAME | {"timeout": 1})
    url = request.getfixturevalue(f"{kind}_url")
    with ward(url) as patient, stores.repair_lock(url):
        patient.execute("DROP TABLE sojourn_sweeps")
        with pytest.raises(RepairBusy):
            list(patient.doctor.repair())
        assert set(patient.wrong()) == {"schema.tables"}


@pytest.mark.parametrize("kind", KINDS)
def test_story_multiple_primary_keys(kind: str, request: pytest.FixtureRequest) -> None:
    """A script that makes the table is run again until "multiple primary keys" appears, and sessions stop
    working; after doctor the same people are still signed in."""
    with ward(request.getfixturevalue(f"{kind}_url")) as patient:
        break_keys(patient)
        if kind != "sqlite":  # which takes no key for a table that is there
            with pytest.raises(Exception, match=r"(?i)duplicate"):
                patient.execute("ALTER TABLE sojourn_sessions ADD PRIMARY KEY (id)")
            patient.execute("ALTER TABLE sojourn_sessions ADD COLUMN attempt SERIAL")
            patient.execute("ALTER TABLE sojourn_sessions ADD PRIMARY KEY (id, attempt)")
            with pytest.raises(Exception, match=r"(?i)multiple primary key"):
                patient.execute("ALTER TABLE sojourn_sessions ADD PRIMARY KEY (id)")
        broken = patient.wrong()
        assert "schema.keys" in broken
        assert list(patient.doctor.repair())
        assert not patient.wrong()
        patient.check_on_everybody()
        patient.newcomer(1)
        assert patient.ask("SELECT count(*) FROM sojourn_sessions WHERE id LIKE 's%'") == PEOPLE


DOCTOR = ("doctor", "--area", "schema", "--area", "store")
"""The seats of the ward are of no license, which would be told, too."""


def test_the_command(tmp_path: Path) -> None:
    """Look, plan, mend, look again; the exit code says the worst; JSON for machines; a server goes on."""
    url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    with serving(tmp_path), ward(url) as patient:
        assert "All is well" in run(tmp_path, *DOCTOR).stdout
        keyless("sojourn_sessions", twice=True)(patient)
        patient.execute("DROP INDEX sojourn_leases_session")
        seen = code_of(tmp_path, *DOCTOR, code=8)
        assert "sessions has no primary key" in seen
        plan = code_of(tmp_path, *DOCTOR, "--dry-run", code=8)
        assert "Nothing was changed" in plan
        assert "sessions_before_" in plan
        assert set(patient.wrong()) == {"schema.keys", "schema.duplicates", "schema.indexes"}
        run(tmp_path, *DOCTOR, "--fix", code=2)  # nobody is there to be asked
        mended = run(tmp_path, *DOCTOR, "--fix", "--yes").stdout
        assert "Rebuilt sojourn_sessions" in mended
        assert "All is well" in mended
        document = json.loads(run(tmp_path, *DOCTOR, "--fix", "--json").stdout)
        assert document["worst"] == Verdict.OK
        assert document["mended"] == []
        patient.check_on_everybody()
        patient.execute("DROP INDEX sojourn_leases_session")
        assert json.loads(code_of(tmp_path, *DOCTOR, "--json", code=7))["worst"] == Verdict.WARNING


def code_of(folder: Path, *arguments: str, code: int, env: Mapping[str, str] | None = None) -> str:
    """Run a command whose exit code is its answer: nothing is said on stderr."""
    done = run(folder, *arguments, code=code, env=env)
    assert done.stderr == ""
    return done.stdout
