"""The guides of moving in, run step by step as they stand on tables as the old systems have them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import session
from tests.docs.test_drills import GUIDE, commands, shell
from tests.e2e.cli_harness import environment, run_json, serving
from tests.e2e.old_tables import add_user_sessions, executing, in_days, make_user_sessions
from tests.e2e.test_adopt import flask_on_redis
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


DJANGO = """
import sys
from django.conf import settings
where, secret, block = sys.argv[1:4]
new = {}
exec(block, new)
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": where}},
    SECRET_KEY=secret, USE_TZ=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "sojourn.adapters.django.SessionMiddleware" if block
        else "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    **{name: value for name, value in new.items() if name.isupper()},
)
import django
django.setup()
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse(str(request.user)))]
client = Client()
if block:
    client.cookies["sessionid"] = sys.argv[4]
    print(client.get("/").content.decode(), client.get("/").content.decode())
else:
    from django.contrib.auth.models import User
    call_command("migrate", verbosity=0)
    client.force_login(User.objects.create_user("ada", password="x"))
    assert client.get("/").content == b"ada"
    print(client.cookies["sessionid"].value)
"""
"""A site on Django's own sessions, which prints the cookie of somebody who signed in; or, with a block of
settings, the same site afterwards, which prints who comes with that cookie."""


def block(page: str) -> str:
    """Return the Python of a page."""
    (found,) = re.findall(r"```python\n(.*?)```", (GUIDE / page).read_text(), re.DOTALL)
    return str(found)


def test_from_django(tmp_path: Path) -> None:
    """Somebody who signed in at the old site is signed in at the new one, by the old cookie."""
    secret = "the-secret-key-of-the-old-site-of-forty-letters-at-least"
    (tmp_path / "django-secrets").write_text(secret + "\n")

    def site(*arguments: str) -> str:
        argv = [sys.executable, "-c", DJANGO, "old.db", secret, *arguments]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    cookie = site("")
    said = shell(tmp_path, filled("move-from-django.md", f"sqlite:///{tmp_path}/old.db"))
    report = last_report(said)
    assert (report["taken"], report["already_there"]) == (0, 1)
    assert site(block("move-from-django.md"), cookie) == "ada ada"


def test_from_flask_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise, from Flask-Session on Redis."""
    with flask_on_redis() as (_, url, sid):
        said = shell(tmp_path, filled("move-from-flask-session.md", url))
    report = last_report(said)
    assert (report["taken"], report["already_there"]) == (0, 1)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {"__name__": "shop"}
    exec(block("move-from-flask-session.md"), made)
    made["app"].add_url_rule("/", view_func=lambda: str(session.get("_user_id")), endpoint="who")
    client = made["app"].test_client()
    client.set_cookie("session", sid)
    assert [client.get("/").text for _ in range(2)] == ["5", "5"]


def test_from_keygen(tmp_path: Path) -> None:
    """The license of the guide takes the policy that it stands for."""
    with serving(tmp_path) as (server, _):
        shell(tmp_path, commands("move-from-keygen.md"))
        (made,) = run_json(tmp_path, "license", "list")
        (pool,) = made["features"]
        assert (pool["capacity"], pool["heartbeatInterval"], pool["lostAfter"]) == (5, 200, 600)
        assert server.end() == 0
