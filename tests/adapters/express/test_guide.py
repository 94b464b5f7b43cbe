"""What docs/guide/express.md says works, is run."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.adapters.express.node import SECRET, NodeApp
from tests.e2e.cli_harness import run

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "beside_express.py"
GUIDE = ROOT / "docs" / "guide" / "express.md"


def test_the_example(
    node_app: Path, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Install by the command, sign in on Node, be known in Python, and the other way round."""
    env = {"SOJOURN_STORE": f"express+{postgres_url}", "SOJOURN_SECRET": SECRET}
    assert '"public"."session"' in run(tmp_path, "express", "install", env=env).stdout
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("beside_express", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    node = NodeApp(node_app, postgres_url)
    try:
        import httpx  # noqa: PLC0415  # beside Starlette's client

        with httpx.Client(base_url=node.url) as there, TestClient(module.app) as here:
            assert here.get("/hello").json() == {"user": None}
            there.post("/login", json={"user": "ann"})
            cookie = str(there.cookies.get("connect.sid"))
            here.cookies.clear()
            here.cookies.set("connect.sid", cookie)
            assert here.get("/hello").json() == {"user": "ann"}
            assert there.get("/me").json()["data"]["hellos"] == 1
            page = here.get("/account/security").text
            assert "<sojourn-active-sessions" in page
            (shown,) = here.get("/api/user/active-sessions").json()["data"]
            assert shown["isCurrent"]
            (form,) = re.findall(r'"(security\?end=[^"]+)"', page)
            done = here.post(f"/account/{html.unescape(form)}", follow_redirects=False)
            assert (done.status_code, done.headers["location"]) == (303, "security")
            assert "You are signed out." in here.get("/account/security").text
            here.cookies.clear()
            here.cookies.set("connect.sid", cookie)
            assert here.get("/hello").json() == {"user": None}
    finally:
        node.close()


def test_the_guide_shows_the_example() -> None:
    """Line by line, without its docstring."""
    code = EXAMPLE.read_text().partition("from fastapi")[2]
    assert "from fastapi" + code in GUIDE.read_text()


def test_install_by_command(postgres_url: str, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("express", "install", "--store", postgres_url, "--table", "user_sessions", "--json"),
    )
    assert json.loads(done.stdout) == {"installed": '"public"."user_sessions"'}
    run(tmp_path, "express", "install", "--store", f"express+{postgres_url}?table=user_sessions")


def test_install_on_redis_has_nothing_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "express", "install", "--store", "express+redis://127.0.0.1:1/")
    assert "nothing to prepare" in done.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("--store", "mysql://x/y"), ("--store", "express+mysql://x/y")]
)
def test_install_elsewhere_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, "express", "install", *arguments, code=2)
    assert "express+postgresql://" in done.stderr
