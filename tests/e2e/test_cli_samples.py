"""`sojourn sample-sessions` on a real server: made, seen on the page, taken away."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from tests.e2e.cli_harness import run, run_json, serving


def test_samples_are_made_shown_and_taken_away(tmp_path: Path) -> None:
    with serving(tmp_path, "--dev") as (server, url):
        own = {"userId": "sample-user", "device": {"name": "My own laptop"}}
        key = run_json(tmp_path, "key", "create", "shop", "--role", "app")["key"]
        mine = httpx.post(
            f"{url}/api/sessions", json=own, headers={"Authorization": f"Bearer {key}"}
        )
        assert mine.status_code == 201
        said = run(tmp_path, "sample-sessions").stdout
        assert "Made 7 sample sessions of sample-user." in said
        assert "Chrome on Mac" in said
        assert "ses_sample_" in said
        cookie = re.search(r'document\.cookie = "(\S+); path=/"', said)
        assert cookie is not None
        page = httpx.get(f"{url}/account/security", headers={"Cookie": cookie[1]}).text
        for shown in ("Safari on iPhone", "Edge on Windows", "Chrome on Android", "My own laptop"):
            assert shown in page
        assert "Lisbon, Portugal (sample)" in page
        made = run_json(tmp_path, "sample-sessions", "--user", "bob", "--count", "2")
        assert [each["userId"] for each in made["sessions"]] == ["bob", "bob"]
        usage = run(tmp_path, "sample-sessions", "--remove", "--user", "bob", code=2)
        assert "takes all sample sessions away" in usage.stderr
        assert "Removed 9 sample sessions." in run(tmp_path, "sample-sessions", "--remove").stdout
        assert "There are no" in run(tmp_path, "sample-sessions", "--remove").stdout
        (left,) = run_json(tmp_path, "sessions", "list")
        assert left["id"] == mine.json()["data"]["session"]["id"]
        assert server.end() == 0
