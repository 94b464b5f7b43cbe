"""The commands of guides that people follow in trouble, run in their order as they stand."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
from tests.e2e.cli_harness import environment, make_license, run, run_json, serving
from tests.serving import ADMIN_KEY, SECRET, free_port

from sojourn.testing.binaries import postgres_folder
from sojourn.testing.servers import Server, fresh_database

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
DEADLINE = 120.0


def commands(page: str, *, after: str = "", before: str = "") -> str:
    """Return the shell blocks of a page, or of a part of it between two headings."""
    text = (GUIDE / page).read_text()
    text = text.partition(f"\n## {after}\n")[2] if after else text
    text = text.partition(f"\n## {before}\n")[0] if before else text
    assert text
    return "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))


def shell(folder: Path, script: str, env: dict[str, str] | None = None) -> str:
    """Run a script until the first failure, with `sojourn` being ours; return what it printed."""
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    ours = bin_ / "sojourn"
    ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sojourn "$@"\n')
    ours.chmod(0o755)
    path = os.pathsep.join(map(str, (bin_, postgres_folder(), os.environ["PATH"])))
    done = subprocess.run(
        ["bash", "-euxc", script],
        cwd=folder,
        env={**environment(env), "PATH": path},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def acquire(url: str, key: str, user: str) -> httpx.Response:
    return httpx.post(
        f"{url}/api/licenses/sessions",
        headers={"Authorization": f"Bearer {key}"},
        json={"feature": "editor", "userId": user, "clientId": user},
        timeout=30,
    )


def test_maximum_user_limit_reached(tmp_path: Path) -> None:
    """Two seats are held, a third person is refused; at the end of the page she gets one."""
    with serving(tmp_path) as (server, url):
        license_id, key = make_license(tmp_path, "editor=2")
        for user, status in (("ada", 201), ("grace", 201), ("linus", 409)):
            assert acquire(url, key, user).status_code == status
        script = commands(
            "maximum-user-limit-reached.md", before="If it is another system that says it"
        )
        script = re.sub(r"LICENSE=\S+", f"LICENSE={license_id}", script)
        said = shell(tmp_path, script)
        assert "Maximum user limit reached" in said
        assert acquire(url, key, "linus").status_code == 201
        (policy,) = run_json(tmp_path, "license", "show", license_id)["features"]
        assert (policy["capacity"], policy["countBy"], policy["idleAfter"]) == (5, "user", 900.0)
        assert (policy["lostAfter"], policy["heartbeatInterval"]) == (45.0, 10.0)
        assert server.end() == 0


def test_failed_to_fetch_active_sessions(tmp_path: Path) -> None:
    """The table is dropped under a running server; the page's commands bring the list back."""
    with serving(tmp_path) as (server, url):
        key = run_json(tmp_path, "key", "create", "shop", "--role", "app")["key"]
        app = {"Authorization": f"Bearer {key}"}
        token = httpx.post(f"{url}/api/sessions", headers=app, json={"userId": "ada"}, timeout=30)
        own = {"Authorization": f"Bearer {token.json()['data']['token']}"}
        page = f"{url}/api/user/active-sessions"
        assert httpx.get(page, headers=own, timeout=30).status_code == 200
        with sqlite3.connect(tmp_path / "sojourn-data" / "sojourn.db", timeout=30) as database:
            database.execute("DROP TABLE sojourn_sessions")
        database.close()
        assert "have not been set up" in httpx.get(page, headers=own, timeout=30).json()["message"]
        refused = httpx.post(f"{page}/logout-others", headers=own, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_broken")
        script = commands(
            "failed-to-fetch-active-sessions.md", before="If it is a page of your own"
        )
        first, rest = script.split("\n", 1)
        assert first == "sojourn doctor --area schema"
        run(tmp_path, "doctor", "--area", "schema", code=8)
        assert "ready" in shell(tmp_path, rest)
        back = httpx.get(page, headers=own, timeout=30)
        assert back.status_code == 401  # the table is back, without the rows that went with it
        assert server.end() == 0


def test_the_drill_on_sqlite(tmp_path: Path) -> None:
    """Backup, restore, and the quarterly try, with a server that ran when the backup was made."""
    copies = tmp_path / "backups"
    copies.mkdir()
    written, put_back = (
        line.replace("/var/backups", str(copies))
        for line in commands("backup.md", after="SQLite", before="PostgreSQL").strip().splitlines()
    )
    with serving(tmp_path) as (server, _):
        make_license(tmp_path, "editor=2")
        shell(tmp_path, written)
        assert server.end() == 0
    assert "sign in again" in shell(tmp_path, put_back)
    with serving(tmp_path) as (server, _):
        assert [each["name"] for each in run_json(tmp_path, "license", "list")] == ["Acme"]
        assert server.end() == 0
    shell(tmp_path, commands("backup.md", after="Try it").replace("/var/backups", str(copies)))


def test_the_drill_on_postgresql(
    tmp_path: Path, postgres_url: str, postgres_server: Server
) -> None:
    """With pg_dump and pg_restore: licenses are there, and a session that ended since is not live again."""
    env = {"SOJOURN_STORE": postgres_url, "SOJOURN_SECRET": SECRET, "SOJOURN_ADMIN_KEY": ADMIN_KEY}
    page = commands("backup.md", after="PostgreSQL", before="MariaDB and MySQL")
    dumped, restored = page.split("\n", 1)
    run(tmp_path, "migrate", env=env)
    with serving(tmp_path, env=env) as (server, url):
        make_license(tmp_path, "editor=2")
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        made = httpx.post(f"{url}/api/sessions", headers=admin, json={"userId": "ada"}, timeout=30)
        person = {**admin, "X-Session-Token": made.json()["data"]["token"]}
        shell(tmp_path, dumped, env)
        assert httpx.delete(f"{url}/api/sessions/current", headers=person, timeout=30).is_success
        assert server.end() == 0
    with fresh_database(postgres_server) as empty:
        script = restored.replace("8701", str(free_port()))
        given = {**env, "EMPTY": empty, "SOJOURN_KEY": ADMIN_KEY}
        shell(tmp_path, f"{script}wait $! || true\n", given)
        with serving(tmp_path, env={**env, "SOJOURN_STORE": empty}) as (server, url):
            assert len(run_json(tmp_path, "license", "list")) == 1
            current = httpx.get(f"{url}/api/sessions/current", headers=person, timeout=30)
            assert (current.status_code, current.json()["code"]) == (401, "session_ended")
            assert server.end() == 0
