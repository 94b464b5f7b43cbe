"""The guide has a heading for every check, and none for what is no check."""

from __future__ import annotations

import re
from pathlib import Path

from sojourn.adapters.express import EXPRESS
from sojourn.cli.failure import ExitCode
from sojourn.console import probe
from sojourn.doctor.examiners import Outside, examiners
from sojourn.finding import Area
from sojourn.settings import Settings

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "doctor.md").read_text()
SETTINGS = (
    Settings(store="sqlite:////nowhere/sojourn.db"),
    Settings(store="postgresql://nobody@127.0.0.1:1/x", ledger="mysql://nobody@127.0.0.1:1/x"),
    Settings(
        store="redis://127.0.0.1:1",
        ledger="sqlite:////nowhere/ledger.db",
        secret=("a-secret-of-forty-characters-0123456789-",),
        express="express+postgresql://nobody@127.0.0.1:1/x",
    ),
)
OUTSIDE = Outside(url="http://127.0.0.1:1/")


def test_every_check_has_a_heading() -> None:
    """What an examiner asks is explained; making checks looks at nothing."""
    checks = [
        check
        for settings in SETTINGS
        for examiner in examiners(settings, OUTSIDE, express=EXPRESS)
        for check in examiner.checks()
    ]
    checks.append(probe.check())  # asked by the console, of one's own browser
    ids = {re.sub(r"\.ledger-", ".", check.id) for check in checks}
    assert set(re.findall(r"^### (\S+)$", GUIDE, re.MULTILINE)) == ids
    for check in checks:
        assert check.area in Area
        assert check.id.startswith(f"{check.area}."), check.id
        assert check.title.endswith("?")
        for needed in check.needs:
            assert needed in {each.id for each in checks}, (check.id, needed)


def test_ids_of_one_run_differ() -> None:
    for settings in SETTINGS:
        ids = [
            check.id
            for examiner in examiners(settings, OUTSIDE, express=EXPRESS)
            for check in examiner.checks()
        ]
        assert len(ids) == len(set(ids))


def test_the_exit_codes_are_those_of_the_guide() -> None:
    said = {int(code) for code in re.findall(r"^\| (\d) \|", GUIDE, re.MULTILINE)}
    assert said == {ExitCode.OK, ExitCode.WARNED, ExitCode.UNWELL}
