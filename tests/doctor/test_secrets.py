"""Secrets that are wrong, each made for real: doctor names what it is, and says none of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from tests.e2e.cli_harness import run

from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.doctor.doctor import Doctor, Examined
from sojourn.doctor.secrets import SecretsExaminer
from sojourn.finding import Finding, Verdict
from sojourn.ledger import Instance, Ledger
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring

ONE = "the-first-secret-of-forty-characters-0123456"
TWO = "the-second-secret-of-forty-characters-012345"
NOW = 1_000 * DAY


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def ledger(empty_sqlite: str, clock: ManualClock) -> Iterator[Ledger]:
    with closing(open_ledger(empty_sqlite, clock=clock)) as opened:
        yield opened


def serve(ledger: Ledger, host: str, *secrets: str, stopped: bool = False) -> None:
    """Register a server with these secrets."""
    prints = Keyring([x.encode() for x in secrets]).fingerprints(ledger.mark()[0])
    instance = Instance(id=f"srv_{host}", host=host, pid=1, version="1", fingerprints=prints)
    ledger.register(instance)
    if stopped:
        ledger.register(instance, stopped=True)


def examine(
    *secrets: str,
    ledger: Ledger | None = None,
    made: bool = False,
    files: tuple[Path, ...] = (),
) -> dict[str, Finding]:
    opened = None if ledger is None else lambda: ledger
    examiner = SecretsExaminer(secrets, made=made, files=files, ledger=opened)
    found = {x.check.id: x.finding for x in Doctor([examiner], nullcontext).examine()}
    assert not any(secret in str(found) for secret in secrets if len(secret) > 12)
    return found


def verdicts(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {name: finding.verdict for name, finding in found.items() if finding.verdict.rank}


def test_healthy(ledger: Ledger) -> None:
    assert verdicts(examine(made=True)) == {}
    serve(ledger, "alpha", ONE)
    serve(ledger, "beta", ONE)
    found = examine(ONE, ledger=ledger)
    assert verdicts(found) == {}
    assert "(as here)" in found["secrets.instances"].evidence[0]


@pytest.mark.parametrize("secrets", [(), ("short",), ("a" * 40,), ("changeme",), (ONE, "short")])
def test_no_good_secret(secrets: tuple[str, ...]) -> None:
    assert verdicts(examine(*secrets)) == {"secrets.set": Verdict.FAILURE}


def test_a_file_that_others_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(ONE)
    file.chmod(0o644)
    missing = tmp_path / "sojourn.toml"
    doctor = Doctor([SecretsExaminer([ONE], made=True, files=(file, missing))], nullcontext)
    (seen,) = [x for x in doctor.examine() if x.check.id == "secrets.files"]
    assert seen.finding.verdict is Verdict.FAILURE
    assert seen.steps[0].undo == f"chmod 0644 {file}"
    assert file.stat().st_mode & 0o777 == 0o644  # so far, only a plan
    assert [x.check.id for x in doctor.repair(["secrets.files"])] == ["secrets.files"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(doctor.repair(["secrets.files"])) == []


def closing_files(
    *own: Path, beside: tuple[Path, ...] = (), values: tuple[str, ...] = ()
) -> tuple[Doctor, Examined]:
    examiner = SecretsExaminer([ONE], made=True, files=own, beside=beside, values=values)
    doctor = Doctor([examiner], nullcontext)
    (seen,) = [x for x in doctor.examine() if x.check.id == "secrets.files"]
    return doctor, seen


def written(path: Path, text: str, mode: int) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_of_others_are_told_of_and_left_alone(tmp_path: Path) -> None:
    """Those that hold no secret of ours are not even told of."""
    toml = written(tmp_path / "it's ours.toml", f'secret = ["{ONE}"]', 0o644)
    key = written(tmp_path / "key.env", "SOJOURN_ADMIN_KEY='an admin key'", 0o604)
    theirs = written(tmp_path / ".env", "DATABASE_PASSWORD=theirs", 0o644)
    doctor, seen = closing_files(beside=(toml, key, theirs), values=("an admin key", ""))
    assert seen.finding.verdict is Verdict.FAILURE
    assert len(seen.finding.evidence) == 2
    assert ".env has" not in seen.finding.evidence[0]
    assert ONE not in str(seen.finding)
    assert seen.steps == ()
    assert list(doctor.repair(["secrets.files"])) == []
    assert [mode(x) for x in (toml, key, theirs)] == [0o644, 0o604, 0o644]
    assert seen.finding.fix is not None
    for line in seen.finding.fix.command.splitlines():  # as it is printed
        subprocess.run(["/bin/sh", "-c", line], check=True)
    assert [mode(x) for x in (toml, key)] == [0o640, 0o600]


def test_a_file_that_a_group_reads_is_a_warning(tmp_path: Path) -> None:
    file = written(tmp_path / "secret", ONE, 0o640)
    _, seen = closing_files(file)
    assert seen.finding.verdict is Verdict.WARNING


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = written(tmp_path / "elsewhere", ONE, 0o644)
    (tmp_path / "secret").symlink_to(target)
    doctor, seen = closing_files(tmp_path / "secret")
    assert seen.finding.verdict is Verdict.FAILURE
    assert list(doctor.repair(["secrets.files"])) == []
    assert mode(target) == 0o644


def test_a_file_that_cannot_be_closed_ends_no_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(tmp_path / "secret", ONE, 0o644)
    two = written(tmp_path / "server.json", ONE, 0o644)
    doctor, _ = closing_files(one, two)
    close, refused = os.fchmod, list[int]()

    def fchmod(file: int, mode: int) -> None:
        if not refused:
            refused.append(file)
            raise PermissionError(1, "Operation not permitted")
        close(file, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    assert [x.step.what for x in doctor.repair(["secrets.files"])] == [
        f"Let only its owner read {two}."
    ]
    assert (mode(one), mode(two)) == (0o644, 0o600)


def test_windows_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "secret", ONE, 0o644)
    monkeypatch.setattr("sojourn.doctor.secrets.WINDOWS", True)
    doctor, seen = closing_files(file)
    assert seen.finding.verdict is Verdict.SKIPPED
    assert list(doctor.repair(["secrets.files"])) == []
    assert mode(file) == 0o644


def test_the_settings_file_that_was_named_is_looked_at(tmp_path: Path) -> None:
    config = written(tmp_path / "own.toml", f'secret = ["{ONE}"]', 0o644)
    done = run(tmp_path, "doctor", "--config", str(config), "--area", "secrets", "--json", code=8)
    (row,) = [x for x in json.loads(done.stdout)["checks"] if x["id"] == "secrets.files"]
    assert row["verdict"] == "failure"
    assert row["fix"]["command"] == f"chmod o= {config}"


def test_two_servers_with_different_secrets(ledger: Ledger) -> None:
    serve(ledger, "alpha", ONE)
    serve(ledger, "beta", TWO)
    found = examine(ONE, ledger=ledger)
    assert verdicts(found)["secrets.instances"] is Verdict.FAILURE
    text = str(found["secrets.instances"])
    assert "alpha" in text
    assert "beta" in text


def test_a_server_that_cannot_read_what_the_new_one_signs(ledger: Ledger) -> None:
    """A rotation gone wrong: the new secret signs at one server before the other knows it."""
    serve(ledger, "alpha", TWO, ONE)
    serve(ledger, "beta", ONE)
    found = examine(TWO, ONE, ledger=ledger)["secrets.instances"]
    assert found.verdict is Verdict.FAILURE
    assert found.evidence[0].startswith("beta")


def test_a_rotation_under_way(ledger: Ledger) -> None:
    serve(ledger, "alpha", TWO, ONE)
    serve(ledger, "beta", ONE, TWO)
    found = examine(ONE, TWO, ledger=ledger)["secrets.instances"]
    assert found.verdict is Verdict.WARNING


def test_settings_of_another(ledger: Ledger) -> None:
    serve(ledger, "alpha", ONE)
    assert verdicts(examine(TWO, ledger=ledger)) == {
        "secrets.instances": Verdict.WARNING,
        "secrets.changed": Verdict.WARNING,
    }


def test_changed_since(ledger: Ledger, clock: ManualClock) -> None:
    """Everybody is signed out and nobody knows why: last night's deployment had another secret."""
    serve(ledger, "alpha", ONE, stopped=True)
    clock.advance(milliseconds=8 * HOUR)
    serve(ledger, "beta", TWO)
    found = examine(TWO, ledger=ledger)
    assert verdicts(found) == {"secrets.changed": Verdict.WARNING}
    assert "alpha" in found["secrets.changed"].evidence[0]
    assert "0.3 days ago" in found["secrets.changed"].evidence[0]
    serve(ledger, "beta", TWO, ONE)
    assert verdicts(examine(TWO, ONE, ledger=ledger)) == {}


def test_the_new_secret_at_the_end(ledger: Ledger, clock: ManualClock) -> None:
    serve(ledger, "alpha", ONE, TWO)
    assert "secrets.rotation" not in verdicts(examine(ONE, TWO, ledger=ledger))
    clock.advance(milliseconds=2 * DAY)
    serve(ledger, "alpha", ONE, TWO)
    assert verdicts(examine(ONE, TWO, ledger=ledger)) == {"secrets.rotation": Verdict.WARNING}
    assert verdicts(examine(ONE, ONE)) == {"secrets.rotation": Verdict.WARNING}
