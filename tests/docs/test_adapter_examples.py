"""The examples for FastAPI, Flask and Django run as they stand."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PASSWORD = "correct horse battery staple"

EVIL = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}

DJANGO_STORY = """
import re, sys
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
security = here.get("/account/security")
assert b"<sojourn-active-sessions" in security.content
assert b'live="poll"' in security.content
assert "default-src 'none'" in security["Content-Security-Policy"]
asset = re.search(rb'"(assets/sojourn-active-sessions[^"]+)"', security.content)[1].decode()
assert here.get("/account/" + asset)["Content-Type"] == "text/javascript; charset=utf-8"
assert here.get("/api/user/active-sessions").json()["total"] == 2
evil = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
strict = Client(enforce_csrf_checks=True)
strict.cookies = here.cookies
_this, another = re.findall(r'"(security[?]end=[^"]+)"', security.content.decode())
form = "/account/" + another.replace("&amp;", "&")
assert b"It will need to sign in again." in strict.get(form).content
assert strict.post(form, headers=evil).status_code == 403
done = strict.post(form)
assert (done.status_code, done["Location"]) == (303, "security")
assert b"is signed out.</p>" in strict.get("/account/security").content
assert b"is signed out.</p>" not in strict.get("/account/security").content
assert there.get("/account/security").status_code == 401
there.post("/sign-in", {"user": "ann", "password": "correct horse battery staple"})
assert strict.post("/api/user/active-sessions/logout-others", headers=evil).status_code == 403
assert strict.post("/api/user/active-sessions/logout-others").json()["data"] == {"ended": 1, "seats": 0}
signed_out = there.get("/account/security")
assert signed_out.status_code == 401 and b'href="/?next=%2Faccount%2Fsecurity"' in signed_out.content
there.post("/sign-in", {"user": "ann", "password": "correct horse battery staple"})
assert here.post("/sign-out-others").json() == {"ended": 1}
assert b"sign-in" in there.get("/").content
here.post("/sign-out")
assert b"sign-in" in here.get("/").content
print("told")
"""


def link_of_another(page: str) -> str:
    """Find where the page asks whether to sign out the device that is not this one."""
    _this, another = re.findall(r'"(security\?end=[^"]+)"', page)
    return html.unescape(another)


def load(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an example as if it were started in a folder of its own."""
    monkeypatch.chdir(folder)
    for setting in [each for each in os.environ if each.startswith("SOJOURN_")]:
        monkeypatch.delenv(setting)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fastapi_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is there, below any prefix, and its socket tells a device that it has been signed out."""
    app = load("fastapi_app", tmp_path, monkeypatch).app
    with TestClient(app, root_path="/shop") as here, TestClient(app) as there:
        assert here.get("/account/security").status_code == 401
        for client in (here, there):
            signed = client.post("/login", params={"user": "ann", "password": "correct horse"})
            assert signed.json() == {"hello": "ann"}
        page = here.get("/account/security")
        assert 'live="socket"' in page.text
        (asset,) = re.findall(r'"(assets/sojourn-active-sessions[^"]+)"', page.text)
        assert here.get(f"/account/{asset}").headers["content-type"].startswith("text/javascript")
        assert here.get("/api/user/active-sessions").json()["total"] == 2
        form = f"/account/{link_of_another(page.text)}"
        assert "It will need to sign in again." in here.get(form).text
        assert here.post(form, headers=EVIL).status_code == 403
        done = here.post(form, follow_redirects=False)
        assert (done.status_code, done.headers["location"]) == (303, "security")
        assert "is signed out.</p>" in here.get("/account/security").text
        assert there.get("/account/security").status_code == 401
        there.post("/login", params={"user": "ann", "password": "correct horse"})
        with there.websocket_connect("/api/user/active-sessions/live") as socket:
            assert socket.receive_json() == {"type": "changed"}
            ended = here.post("/api/user/active-sessions/logout-others").json()
            assert ended["data"] == {"ended": 1, "seats": 0}
            assert socket.receive_json() == {"type": "signedOut", "reason": "signed_out_elsewhere"}
        assert there.get("/me").status_code == 401


def test_the_flask_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("flask_app", tmp_path, monkeypatch)
    here, there = module.app.test_client(), module.app.test_client()
    wrong = here.post("/sign-in", data={"user": "ann", "password": "wrong"})
    assert wrong.status_code == 403
    for client in (here, there):
        assert b"Sign in" in client.get("/").data
        client.post("/sign-in", data={"user": "ann", "password": PASSWORD})
    here.post("/count")
    assert b"counted to 1" in here.get("/").data
    page = here.get("/account/security")
    assert 'live="poll"' in page.text
    assert page.headers.getlist("Cache-Control") == ["no-store"]
    (asset,) = re.findall(r'"(assets/sojourn-active-sessions[^"]+)"', page.text)
    assert here.get(f"/account/{asset}").mimetype == "text/javascript"
    assert here.get("/account/assets/nothing.js").status_code == 404
    form = f"/account/{link_of_another(page.text)}"
    assert "It will need to sign in again." in here.get(form).text
    assert here.post(form, headers=EVIL).status_code == 403
    done = here.post(form)
    assert (done.status_code, done.location) == (303, "security")
    assert "is signed out.</p>" in here.get("/account/security").text
    assert "is signed out.</p>" not in here.get("/account/security").text
    assert there.get("/account/security").status_code == 401
    there.post("/sign-in", data={"user": "ann", "password": PASSWORD})
    others = "/api/user/active-sessions/logout-others"
    assert here.post(others, headers=EVIL).status_code == 403
    assert here.post(others).json["data"] == {"ended": 1, "seats": 0}
    assert b"Please sign in" in there.get("/account/security").data
    there.post("/sign-in", data={"user": "ann", "password": PASSWORD})
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
