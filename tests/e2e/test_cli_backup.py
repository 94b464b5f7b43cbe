"""`sojourn backup` beside a server that serves, and `sojourn restore` after it."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.cli_harness import make_license, run, run_json, serving

TIMEOUT = 30.0


class People:
    """An application that signs people in, and a client that takes seats."""

    def __init__(self, folder: Path, url: str, app: str, license_key: str) -> None:
        self.folder, self.url = folder, url
        self._app = {"Authorization": f"Bearer {app}"}
        self._license = {"Authorization": f"Bearer {license_key}"}

    def sign_in(self, user: str) -> str:
        made = self._ask("POST", "/api/sessions", self._app, {"userId": user})
        return str(made.json()["data"]["token"])

    def known(self, token: str) -> httpx.Response:
        return self._ask("GET", "/api/sessions/current", {**self._app, "X-Session-Token": token})

    def sign_out(self, token: str) -> None:
        headers = {**self._app, "X-Session-Token": token}
        assert self._ask("DELETE", "/api/sessions/current", headers).status_code == 200

    def seat(self, user: str) -> httpx.Response:
        body = {"feature": "editor", "userId": user, "clientId": user}
        return self._ask("POST", "/api/licenses/sessions", self._license, body)

    def beat(self, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return self._ask("POST", "/api/licenses/sessions/heartbeat", headers)

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: Any = None
    ) -> httpx.Response:
        return httpx.request(method, self.url + path, headers=headers, json=body, timeout=TIMEOUT)


def people(folder: Path, url: str) -> People:
    app = run_json(folder, "key", "create", "shop", "--role", "app")["key"]
    _, key = make_license(folder, "editor=2")
    return People(folder, url, app, key)


def again(before: People, url: str) -> People:
    """The same people, at a server that was started anew."""
    before.url = url
    return before


def test_a_backup_comes_back_and_revives_nobody(tmp_path: Path) -> None:
    """Licenses, keys and seats are as they were; sessions are over, the ended and the living alike; who got
    a seat later is told so and gets another."""
    file = tmp_path / "backup.db"
    with serving(tmp_path) as (server, url):
        them = people(tmp_path, url)
        ada, grace = them.sign_in("ada"), them.sign_in("grace")
        held = them.seat("ada").json()["data"]["token"]
        said = run_json(tmp_path, "backup", str(file))
        assert (said["sessions"], said["leases"]) == (2, 1)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        them.sign_out(ada)
        later = them.seat("grace").json()["data"]["token"]
        assert them.seat("linus").status_code == 409
        assert (
            "A server of the data folder"
            in run(tmp_path, "restore", str(file), "--yes", code=1).stderr
        )
        assert server.end() == 0
    said = run_json(tmp_path, "restore", str(file), "--yes")
    assert said["before"] is not None
    with serving(tmp_path) as (server, url):
        them = again(them, url)
        for token in (ada, grace):
            gone = them.known(token)
            assert (gone.status_code, gone.json()["code"]) == (401, "session_ended")
        assert them.beat(held).status_code == 200
        lost = them.beat(later)
        assert (lost.status_code, lost.json()["code"]) == (410, "lease_lost")
        assert them.seat("grace").status_code == 201
        assert them.seat("linus").status_code == 409  # two seats, as before
        assert server.end() == 0
    with closing(sqlite3.connect(said["before"])) as before:  # nothing of before is lost
        (rows,) = before.execute("SELECT count(*) FROM sojourn_leases").fetchone()
    assert rows == 2


def test_sessions_stay_where_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    with serving(tmp_path) as (server, url):
        them = people(tmp_path, url)
        ada, grace = them.sign_in("ada"), them.sign_in("grace")
        run(tmp_path, "backup", str(file))
        them.sign_out(ada)
        assert server.end() == 0
    run(tmp_path, "restore", str(file), "--yes", "--keep-sessions")
    with serving(tmp_path) as (server, url):
        them = again(them, url)
        assert them.known(grace).status_code == 200
        assert them.known(ada).status_code == 200  # as its help says: the backup knows of no end
        assert server.end() == 0


def test_what_a_crash_left_in_the_log_is_in_the_copy(tmp_path: Path) -> None:
    """A server that was killed leaves its last commits beside the file."""
    file = tmp_path / "backup.db"
    with serving(tmp_path) as (server, url):
        them = people(tmp_path, url)
        tokens = [them.sign_in(f"user {number}") for number in range(5)]
        server.process.kill()
        server.wait()
    assert run_json(tmp_path, "backup", str(file))["sessions"] == len(tokens)
    run(tmp_path, "restore", str(file), "--yes", "--keep-sessions")
    with serving(tmp_path) as (server, url):
        assert all(again(them, url).known(token).status_code == 200 for token in tokens)
        assert server.end() == 0


def test_a_backup_fits_an_empty_folder(tmp_path: Path) -> None:
    """After a disaster: another host, with the backup and the secret."""
    file, secret = tmp_path / "backup.db", tmp_path / "secret"
    with serving(tmp_path) as (server, url):
        them = people(tmp_path, url)
        held = them.seat("ada").json()["data"]["token"]
        run(tmp_path, "backup", str(file))
        secret.write_text((tmp_path / "sojourn-data" / "secret").read_text())
        assert server.end() == 0
    new = tmp_path / "new"
    new.mkdir()
    assert run_json(new, "restore", str(file), "--yes")["before"] is None
    with serving(new, env={"SOJOURN_SECRET_FILE": str(secret)}) as (server, url):
        assert again(them, url).beat(held).status_code == 200
        assert server.end() == 0


def test_each_backup_beside_writers_is_of_one_instant(tmp_path: Path) -> None:
    """What was answered before it is in it, and nothing else of what people do meanwhile is half in it: a
    session never without its event."""
    stop = threading.Event()
    done = 0

    def sign_in() -> None:
        nonlocal done
        while not stop.is_set():
            them.sign_in(f"user {done}")
            done += 1

    with serving(tmp_path) as (server, url):
        them = people(tmp_path, url)
        thread = threading.Thread(target=sign_in)
        thread.start()
        try:
            for number in range(4):
                file = tmp_path / f"backup-{number}.db"
                before = done
                said = run_json(tmp_path, "backup", str(file))
                assert before <= said["sessions"] <= done + 1
                with closing(sqlite3.connect(file)) as copy:
                    told = copy.execute(
                        "SELECT count(*) FROM sojourn_events WHERE kind = 'session.created'"
                    )
                    assert told.fetchone()[0] == said["sessions"]
        finally:
            stop.set()
            thread.join()
        assert server.end() == 0


@pytest.mark.parametrize("kind", ["torn", "text", "foreign", "absent"])
def test_what_is_no_backup_replaces_nothing(kind: str, tmp_path: Path) -> None:
    with serving(tmp_path) as (server, _):
        run(tmp_path, "backup", str(tmp_path / "good.db"))
        assert server.end() == 0
    file = tmp_path / "backup.db"
    whole = (tmp_path / "good.db").read_bytes()
    if kind == "torn":
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        file.write_text("no database\n" * 500)
    elif kind == "foreign":
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE songs (title TEXT)")
            other.commit()
    database = tmp_path / "sojourn-data" / "sojourn.db"
    was = database.read_bytes()
    run(tmp_path, "restore", str(file), "--yes", code=4 if kind == "absent" else 1)
    assert database.read_bytes() == was


def test_a_backup_overwrites_nothing_and_needs_a_file(tmp_path: Path) -> None:
    file = tmp_path / "backup.db"
    file.write_text("of yesterday")
    assert "There is no database" in run(tmp_path, "backup", str(tmp_path / "x"), code=4).stderr
    with serving(tmp_path) as (server, _):
        assert "there already" in run(tmp_path, "backup", str(file), code=1).stderr
        assert server.end() == 0
    assert file.read_text() == "of yesterday"
    refused = run(tmp_path, "backup", str(file), "--store", "postgresql://nobody@db/x", code=2)
    assert "database's own tools" in refused.stderr
