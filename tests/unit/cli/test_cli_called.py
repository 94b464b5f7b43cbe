"""A command that is printed works as it is printed, on what it was found in."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.cli_harness import run, run_json

from sojourn.cli.called import Called, of_server
from sojourn.settings import Settings

FLAGS = {"data": "/srv/it's here", "store": None, "config": "a.toml", "url": "https://x.example"}


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("sojourn migrate", "sojourn migrate --data '/srv/it'\"'\"'s here' --config a.toml"),
        ("sojourn sweep run", "sojourn sweep run --data '/srv/it'\"'\"'s here'"),
        ("sojourn secret new --data x", "sojourn secret new --data x"),
        ("timedatectl set-ntp true", "timedatectl set-ntp true"),
        (
            'export SOJOURN_SECRET="$(sojourn secret new)"',
            'export SOJOURN_SECRET="$(sojourn secret new)"',
        ),
    ],
)
def test_commands_lead_to_the_same_place(command: str, again: str) -> None:
    assert Called(FLAGS).again(command) == again


def test_from_outside_the_site_is_named_again() -> None:
    said = Called({"url": "https://x.example", "data": None}).again("sojourn doctor --fix")
    assert said == "sojourn doctor --fix --url https://x.example"


@pytest.mark.parametrize("command", ["migrate", "reconcile", "doctor --fix", "serve"])
def test_a_flag_that_holds_a_password_is_left_out(command: str) -> None:
    """Masked, it would lead nowhere; whoever set it has it in the environment or a settings file."""
    called = Called({"store": "redis://:hush@cache/0", "ledger": "sqlite:///x.db", "data": "there"})
    said = called.again(f"sojourn {command}")
    assert said == f"sojourn {command} --ledger sqlite:///x.db --data there"


def test_what_is_secret_by_being_known_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.log._remembered", {"known-secret"})
    said = Called({"url": "https://x.example/known-secret"}).again("sojourn doctor")
    assert said == "sojourn doctor"


def test_a_log_names_no_masked_flag() -> None:
    settings = Settings(store="postgresql://me:hush@db/x", data="/srv/data")
    said = of_server(settings).again("sojourn reconcile --repair")
    assert said == "sojourn reconcile --repair --data /srv/data"


@pytest.mark.parametrize("named", ["data", "store", "config"])
def test_what_doctor_says_mends_the_database_that_it_looked_at(tmp_path: Path, named: str) -> None:
    """From another folder than the server's: the command as printed, nothing added."""
    home, here = tmp_path / "the server's", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    file = home / "sojourn.db"
    (home / "sojourn.toml").write_text(f'data = "{home}"\nstore = "sqlite:///{file}"\n')
    flags = {
        "data": ["--data", str(home)],
        "store": ["--store", f"sqlite:///{file}"],
        "config": ["--config", str(home / "sojourn.toml")],
    }[named]
    run(here, "migrate", *flags)
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE sojourn_webhooks")
    said = run(here, "doctor", *flags, code=8).stdout
    found = re.search(r"^ +sojourn (migrate .*)$", said, re.MULTILINE)
    assert found is not None
    run(here, *shlex.split(found[1]))
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM sojourn_webhooks").fetchone() == (0,)
    assert not (here / "sojourn-data").exists()
    checks = run_json(here, "doctor", *flags)["checks"]
    assert {each["verdict"] for each in checks} <= {"ok", "skipped"}
