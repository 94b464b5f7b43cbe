"""`sojourn doctor` as people type it: with secrets that no server starts with, and from outside."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.app import App, serving
from tests.doctor.test_sql_repair import code_of
from tests.e2e.cli_harness import run

from sojourn.adapters.express import EXPRESS
from sojourn.doctor import examiners as doctoring
from sojourn.finding import Verdict
from sojourn.settings import load

BAD = {"short": "a-short-secret-1", "well-known": "keyboard cat", "guessed": "ab" * 20}


def doctor(folder: Path, *arguments: str, code: int, env: Mapping[str, str] | None = None) -> Any:
    """Run it for machines; return what it found, by check."""
    said = code_of(folder, "doctor", "--json", *arguments, code=code, env=env)
    return {check["id"]: check for check in json.loads(said)["checks"]}


def worst(found: Mapping[str, Any]) -> set[str]:
    return {name for name, check in found.items() if check["verdict"] in ("warning", "failure")}


@pytest.mark.parametrize(
    ("where", "kind"),
    [("toml", "well-known"), ("environment", "short"), ("environment", "guessed")],
)
def test_a_secret_that_no_server_starts_with(where: str, kind: str, tmp_path: Path) -> None:
    """It is named, with the command that makes a good one; and all the rest is looked at."""
    secret, env = BAD[kind], {}
    run(tmp_path, "migrate")
    if where == "toml":
        file = tmp_path / "sojourn.toml"
        file.touch(0o600)
        file.write_text(f'secret = ["{secret}"]\n')
    else:
        env = {"SOJOURN_SECRET": secret}
    run(tmp_path, "serve", "--port", "0", env=env, code=2)  # this one still refuses
    found = doctor(tmp_path, env=env, code=8)
    assert worst(found) == {"secrets.set"}
    command = found["secrets.set"]["fix"]["command"]
    assert (
        command == 'export SOJOURN_SECRET="$(sojourn secret new)"'
    )  # without the bad one behind it
    assert secret not in str(found)
    for name in ("schema.tables", "round-trip.session", "seats.orphans"):
        assert found[name]["verdict"] == "ok", found[name]


def test_settings_that_no_server_starts_with(tmp_path: Path) -> None:
    """All of them are named, none is shown; and all the rest is looked at, with what is left of them."""
    run(tmp_path, "migrate")
    file, env = tmp_path / "sojourn.toml", {"SOJOURN_ADMIN_KEY": "too-short-a-key"}
    file.touch(0o600)
    file.write_text('secret = "a-text-and-no-list-of-secrets"\nport = "many"\ncolour = 3\n')
    found = doctor(tmp_path, env=env, code=8)
    assert worst(found) == {"settings.valid", "secrets.set"}
    told = found["settings.valid"]
    for name in ("SOJOURN_ADMIN_KEY", "secret", "port", "'colour'"):
        assert any(name in line for line in told["evidence"]), (name, told)
    assert "shorter than 32 bytes" in found["secrets.set"]["finding"]
    assert "a-text-and" not in str(found)
    assert "too-short" not in str(found)
    for name in ("schema.tables", "round-trip.session", "seats.orphans"):
        assert found[name]["verdict"] == "ok", found[name]
    file.write_text("store = 5")
    assert worst(doctor(tmp_path, "--area", "schema", code=8)) == {"settings.valid"}


def test_a_repair_of_one_area_is_all_json_and_writes_nothing_else(
    empty_sqlite: str, tmp_path: Path
) -> None:
    """Who asks for the tables alone gets no canary signed in on the live store, and no seat taken."""
    path = empty_sqlite.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP INDEX sojourn_leases_session")
        file.execute("CREATE TABLE written (what TEXT)")
        for table in ("sojourn_sessions", "sojourn_leases", "sojourn_pools", "sojourn_events"):
            file.execute(
                f"CREATE TRIGGER watch_{table} AFTER INSERT ON {table} "
                f"BEGIN INSERT INTO written VALUES ('{table}'); END"
            )
        file.commit()

        def written() -> set[str]:
            return {what for (what,) in file.execute("SELECT what FROM written")}

        store = ("--store", empty_sqlite)
        said = json.loads(
            run(tmp_path, "doctor", "--fix", "--yes", "--json", "--area", "schema", *store).stdout
        )
        assert "sojourn_leases_session" in str(said["mended"])
        assert written() == set()
        doctor(tmp_path, *store, code=0)  # who asks for everything gets a canary
        assert {"sojourn_sessions", "sojourn_leases"} <= written()


@pytest.mark.parametrize(
    "text", ["store = 5", "not toml", 'store = "postgrse://here/there"', 'data = ["."]']
)
def test_settings_that_do_not_say_where_to_look(text: str) -> None:
    """Then no other database is looked at in its place."""
    loaded = load(toml=text, lenient=True)
    with closing(
        doctoring.doctor(loaded.settings, faults=loaded.faults, express=EXPRESS)
    ) as opened:
        [seen] = opened.examine()
    assert seen.check.id == "settings.valid"
    assert seen.finding.verdict is Verdict.FAILURE
    assert "Nothing else was looked at" in seen.finding.evidence[-1]


def test_no_secret_for_a_shared_store(postgres_url: str, tmp_path: Path) -> None:
    run(tmp_path, "migrate", "--store", postgres_url)
    found = doctor(tmp_path, "--store", postgres_url, code=8)
    assert "secrets.set" in worst(found)
    assert worst(found) <= {"secrets.set", "store.connection-encrypted"}
    assert "sojourn secret new" in found["secrets.set"]["fix"]["command"]
    assert found["round-trip.session"]["verdict"] == "ok"
    assert found["round-trip.seat"]["verdict"] == "skipped"


def test_no_secret_yet(tmp_path: Path) -> None:
    """A store of this host's own, before the first start of its server, which makes one: all is well."""
    run(tmp_path, "migrate")
    assert worst(doctor(tmp_path, code=0)) == set()


def test_from_outside(tmp_path: Path) -> None:
    """--url, --login and --page reach the checks: an application that is well, and one that forgets."""
    run(tmp_path, "migrate")
    login = tmp_path / "login.http"
    login.write_text("POST /login\n\nname=canary&password=correct+horse")
    for app, code, wrong in (
        (App(), 7, {"cookies.secure"}),  # plain HTTP
        (App(forgets=True), 8, {"cookies.secure", "cookies.returns"}),
    ):
        with serving(app) as where:
            flags = ("--url", f"http://{where}", "--login", str(login), "--page", "/me")
            found = doctor(tmp_path, "--area", "cookies", *flags, code=code)
        assert worst(found) == wrong
        assert "correct+horse" not in str(found)
    run(tmp_path, "doctor", "--url", f"http://{where}", "--login", "no-such-file", code=2)
