"""What the guide to sweeps shows is what there is."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api_harness import FEATURE, Api, api
from tests.e2e.cli_harness import run, run_json, serving

from sojourn.api.sweeps import SweepRequest
from sojourn.plans.plan import RunState
from sojourn.plans.schedule import EXAMPLES
from sojourn.wire.bodies import camel

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "sweeps.md").read_text()
SCHEDULES = re.findall(r"^\| `(\{.*?\})` \|", GUIDE, re.MULTILINE)
COMMANDS = [
    line.partition("#")[0]
    for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as made:
        yield made


@pytest.mark.parametrize("schedule", [*SCHEDULES, *re.findall(r"\{.*?\}", EXAMPLES)])
def test_schedules_are_taken(world: Api, schedule: str) -> None:
    body = {"name": "x", "scope": {"feature": FEATURE}, "schedule": json.loads(schedule)}
    made = world.admin("POST", "/api/sweeps/plans", json=body)
    assert made.status == 201, made.body
    assert made.data["nextAt"]


def test_fields_are_those_of_the_call() -> None:
    table = GUIDE.partition("| field |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(map(camel, SweepRequest.__struct_fields__))


def test_states_are_those_there_are() -> None:
    table = GUIDE.partition("| state |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert sorted(named) == sorted(x.value for x in RunState)


def test_metrics_are_told(world: Api) -> None:
    world.admin("POST", "/api/sweeps")
    told = world.call("GET", "/metrics").body.decode()
    named = set(re.findall(r"`(sojourn_sweep_\w+)", GUIDE))
    assert len(named) == 5
    assert all(f"\n{name}" in told for name in named)


def test_commands_run(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, _):
        run_json(tmp_path, "license", "create", "Acme", "-f", "editor=5")
        for line in COMMANDS:
            program, *arguments = shlex.split(line)
            assert program == "sojourn"
            run(tmp_path, *arguments, *(["--yes"] if "--living" in arguments else []))
        assert server.end() == 0
    assert len(COMMANDS) == 7
