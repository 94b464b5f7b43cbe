"""Secrets that are wrong, each made for real: doctor names what it is, and says none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.doctor.doctor import Doctor
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
