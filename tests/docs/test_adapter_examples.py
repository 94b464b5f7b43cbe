"""The examples for Flask and Django run as they stand."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PASSWORD = "correct horse battery staple"

DJANGO_STORY = """
import sys
sys.path.insert(0, sys.argv[1])
import django_app
from django.core.management import call_command
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import setup_test_environment

setup_test_environment(debug=True)
call_command("migrate", verbosity=0)
User.objects.create_user("ann", password="correct horse battery staple")
here, there = Client(), Client(headers={"user-agent": "another browser"})
wrong = here.post("/sign-in", {"user": "ann", "password": "wrong"})
assert wrong.status_code == 403
for client in (here, there):
    assert b"sign-in" in client.get("/").content
    signed = client.post("/sign-in", {"user": "ann", "password": "correct horse battery staple"})
    assert signed.status_code == 302
here.post("/count")
page = here.get("/").content
assert b"counted to 1" in page and b"another browser" in page, page
assert here.post("/sign-out-others").json() == {"ended": 1}
assert b"sign-in" in there.get("/").content
here.post("/sign-out")
assert b"sign-in" in here.get("/").content
print("told")
"""


def test_the_flask_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SOJOURN_")]:
        monkeypatch.delenv(name)
    spec = importlib.util.spec_from_file_location("flask_app", EXAMPLES / "flask_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    here, there = module.app.test_client(), module.app.test_client()
    wrong = here.post("/sign-in", data={"user": "ann", "password": "wrong"})
    assert wrong.status_code == 403
    for client in (here, there):
        assert b"Sign in" in client.get("/").data
        client.post("/sign-in", data={"user": "ann", "password": PASSWORD})
    here.post("/count")
    assert b"counted to 1" in here.get("/").data
    assert here.post("/sign-out-others").json == {"ended": 1}
    assert b"Sign in" in there.get("/").data
    assert there.post("/count").status_code == 401
    here.post("/sign-out")
    assert b"Sign in" in here.get("/").data
    module.app.session_interface._desk.close()


def test_the_django_example_runs(tmp_path: Path) -> None:
    """In a process of its own: Django takes its settings once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}
    told = subprocess.run(
        [sys.executable, "-c", DJANGO_STORY, str(EXAMPLES)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.stdout.endswith("told\n"), told.stderr
