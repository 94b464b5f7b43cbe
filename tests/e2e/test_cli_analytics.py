"""`sojourn analytics` against a server: measured within seconds, told in tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cli_harness import DEADLINE, holder, make_license, run, run_json, serving

from sojourn.cli.analytics import guarded
from sojourn.cli.failure import ExitCode

Used = tuple[Path, str]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    """A server on which ann held the only seat while ben was refused."""
    folder = tmp_path_factory.mktemp("analytics")
    with serving(folder) as (server, _):
        license_id, key = make_license(folder, "editor=1")
        with holder(folder, key, "ann") as ann:
            ann.wait_state("safe")
            env = {"SOJOURN_LICENSE_KEY": key}
            run(folder, "hold", "editor", "--user", "ben", code=ExitCode.DENIED, env=env)
            ann.end()  # gives the seat back
        yield folder, license_id
        assert server.end() == 0


def measured(used: Used) -> Any:
    """Wait until the grant, the refusal and the end are measured."""
    folder, license_id = used
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = run_json(folder, "analytics", "usage", license_id, "editor")
        if found["counts"]["ended"]:
            return found
    raise AssertionError("it was not measured in time")


def test_how_seats_were_used(used: Used) -> None:
    folder, license_id = used
    found = measured(used)
    assert (found["peak"], found["capacity"]) == (1, 1)
    assert found["counts"]["denied"] == {"seat_limit": 1}
    said = run(folder, "analytics", "usage", license_id, "editor", "--last", "1d").stdout
    assert "At most 1 of 1 seats were in use at once" in said
    rows = list(
        csv.DictReader(
            io.StringIO(run(folder, "analytics", "usage", license_id, "editor", "--csv").stdout)
        )
    )
    assert max(int(row["peak"]) for row in rows) == 1
    assert sum(int(row["denied"]) for row in rows) == 1


def test_who_and_why(used: Used) -> None:
    folder, license_id = used
    measured(used)
    assert "ann" in run(folder, "analytics", "shares", license_id, "editor").stdout
    (incident,) = run_json(folder, "analytics", "denials")
    assert incident["users"] == {"ben": 1}
    assert "ben" in run(folder, "analytics", "denials").stdout
    assert "released" in run(folder, "analytics", "reasons", license_id, "editor").stdout
    assert "Thu" in run(folder, "analytics", "week", license_id, "editor").stdout


def test_what_if_and_forecast(used: Used) -> None:
    folder, license_id = used
    measured(used)
    run(folder, "sweep", "run")  # a replay goes until the last sweep
    asked = ("analytics", "what-if", license_id, "editor")
    told = run_json(folder, *asked, "--seats", "1")
    assert (told["recorded"], told["asItWas"]["denied"], told["whatIf"]["denied"]) == (1, 1, 0)
    assert "0 refusals instead of 1" in run(folder, *asked, "--seats", "1").stdout
    said = run(folder, "analytics", "forecast", license_id, "editor").stdout
    assert "Three whole weeks are needed" in said
    run(folder, "analytics", "what-if", license_id, "none", code=ExitCode.NOT_FOUND)


def test_rebuild_asks_first(used: Used) -> None:
    folder, _ = used
    before = measured(used)["counts"]
    run(folder, "analytics", "rebuild", code=2)
    assert "It is measured anew." in run(folder, "analytics", "rebuild", "--yes").stdout
    assert measured(used)["counts"] == before


def test_a_name_is_no_formula() -> None:
    """What a stranger is called is not carried out by a spreadsheet."""
    assert guarded("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert (guarded("ann"), guarded(-1)) == ("ann", -1)


def test_a_parquet_file_is_written(used: Used) -> None:
    """It begins and ends as such a file does; a folder that is not there is named."""
    measured(used)
    folder, license_id = used
    for what in ("usage", "week", "shares"):
        file = folder / f"{what}.parquet"
        run(folder, "analytics", what, license_id, "editor", "--parquet", str(file))
        told = file.read_bytes()
        assert (told[:4], told[-4:]) == (b"PAR1", b"PAR1")
    wrong = str(folder / "nowhere" / "usage.parquet")
    options = ("analytics", "usage", license_id, "editor", "--parquet", wrong)
    assert "was not written" in run(folder, *options, code=ExitCode.USAGE).stderr
