"""The three guides of moving in, run step by step as they stand on tables as the old systems have them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.docs.test_drills import commands, shell
from tests.e2e.cli_harness import run_json, serving
from tests.e2e.old_tables import add_user_sessions, executing, in_days, make_user_sessions
from tests.e2e.test_adopt_seats import INSERT, TABLE, row, rows


def filled(page: str, url: str) -> str:
    """Return a page's commands, with its old database."""
    script, count = re.subn(r"OLD=\S+", f"OLD='{url}'", commands(page))
    assert count == 1
    return script


def last_report(said: str) -> dict[str, int]:
    """Return the report that a command printed as JSON."""
    found: dict[str, int] = json.loads(said[said.index("\n{") :].partition("\n}")[0] + "\n}")
    return found


def test_from_user_sessions(tmp_path: Path, postgres_url: str) -> None:
    make_user_sessions(postgres_url)
    kept: list[dict[str, Any]] = [{"id": number} for number in range(1, 6)]
    add_user_sessions(postgres_url, [*kept, {"id": 9, "expires": in_days(-1)}])
    said = shell(tmp_path, filled("move-from-user-sessions.md", postgres_url))
    report = last_report(said)
    assert (report["taken"], report["already_there"]) == (0, 5)


def test_from_express(tmp_path: Path, postgres_url: str) -> None:
    """With a table that has lost its key, and two rows of one sid."""
    with executing(postgres_url) as execute:
        execute(
            'CREATE TABLE "session" ("sid" varchar NOT NULL, "sess" json NOT NULL,'
            ' "expire" timestamp(6) NOT NULL)'
        )
        ends = datetime.now(UTC) + timedelta(hours=1)
        cookie = {"originalMaxAge": 3_600_000, "expires": ends.isoformat(), "path": "/"}
        sess = json.dumps({"cookie": cookie, "passport": {"user": "ada"}})
        sids = [f"sid-{number:028}" for number in (1, 2, 2)]
        add = 'INSERT INTO "session" SELECT :sid, CAST(:sess AS json), to_timestamp(:at)'
        execute(add, [{"sid": sid, "sess": sess, "at": ends.timestamp()} for sid in sids])
    said = shell(tmp_path, filled("move-from-express.md", postgres_url))
    report = last_report(said)
    assert (report["read"], report["taken"], report["already_there"]) == (2, 0, 2)


@pytest.mark.parametrize("silent", [0, 2])
def test_from_a_license_backend(silent: int, tmp_path: Path) -> None:
    """The living have their seats, ghosts have none."""
    old = f"sqlite:///{tmp_path}/old.db"
    with executing(old) as execute:
        execute(TABLE)
        ghosts = [row(100 + number, beat="2026-01-02 00:00:00") for number in range(silent)]
        execute(INSERT, rows() + ghosts)
    with serving(tmp_path) as (server, _):
        shell(tmp_path, filled("move-from-license-backend.md", old))
        held = {each["userId"] for each in run_json(tmp_path, "seats", "list")}
        assert held == {"user-1", "user-2"}
        assert server.end() == 0
