"""@sojourn/client: its own tests in Node, by themselves and against a real server; its types; its size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.express.node import is_new_enough, programs
from tests.serving import Served, served
from tests.typescript.toolchain import SDK, built, bundle, node, run, zipped

from sojourn.webhook_signature import headers, new_secret

CORE_MAX = 6 * 1024
"""Bytes of the core, minified and compressed."""
SIZES = {
    "index": (CORE_MAX, ()),
    "react": (4_000, ("react",)),
    "webhooks": (1_500, ()),
    "testing": (600, ()),
    "node": (8_000, ("node:*",)),
    "express": (10_000, ("node:*", "express-session")),
}


@pytest.fixture(scope="module")
def sdk() -> Path:
    return built()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("sdk")) as server:
        yield server


def files_of(sdk: Path, folder: str) -> list[str]:
    found = sorted(str(path.relative_to(sdk)) for path in (sdk / "out" / folder).glob("*.test.js"))
    assert found
    return found


def test_types_are_those_of_the_document(sdk: Path) -> None:
    """Where they are not: `make reference types`. `built` compiled the whole document."""
    run(node("generate.mjs", "--check"), sdk)
    whole = (sdk / "test" / "whole.ts").read_text()
    assert "takeover?: boolean;" in whole
    assert "Done_Page_LeaseBody__" in whole
    assert "Record<string, never>;\n        }" not in whole


def test_it_does_what_it_says(sdk: Path) -> None:
    said = run(node("--test", *files_of(sdk, "test")), sdk)
    assert "fail 0" in said


def test_it_does_so_with_a_real_server(sdk: Path, server: Served) -> None:
    _, key = server.license(editor={"capacity": 1}, reader={"capacity": 1})
    with server.admin() as http:
        app = http.post("/api/keys", json={"name": "shop", "role": "app"}).json()["data"]["key"]
    secret, now = new_secret(), int(time.time())
    body = json.dumps(
        {
            "type": "lease.acquired",
            "timestamp": "2026-11-30T00:00:00Z",
            "data": {"leaseId": "lse_1"},
        }
    )
    webhook = {
        "headers": headers([secret], "msg_1", now, body.encode()),
        "body": body,
        "secret": secret,
        "now": now,
    }
    said = run(
        node("--test", *files_of(sdk, "test/server")),
        sdk,
        SOJOURN_URL=server.url,
        SOJOURN_LICENSE_KEY=key,
        SOJOURN_APP_KEY=app,
        SOJOURN_WEBHOOK=json.dumps(webhook),
    )
    assert "fail 0" in said


@pytest.mark.parametrize("entry", SIZES)
def test_it_is_small(sdk: Path, entry: str) -> None:
    most, external = SIZES[entry]
    assert zipped(bundle(entry, sdk, external=external)) <= most


def test_it_depends_on_nothing() -> None:
    """Frameworks are its user's; and no address of a registry is kept."""
    package = json.loads((SDK / "package.json").read_text())
    assert "dependencies" not in package
    assert all(each["optional"] for each in package["peerDependenciesMeta"].values())
    assert package["peerDependenciesMeta"].keys() == package["peerDependencies"].keys()
    lock = json.loads((SDK / "package-lock.json").read_text())
    assert [name for name, each in lock["packages"].items() if "resolved" in each] == []


@pytest.mark.parametrize(
    ("version", "good"),
    [("v18.20.4", False), ("v20.15.0", True), ("v21.7.3", False), ("v22.2.0", True), ("", False)],
)
def test_a_node_that_is_too_old_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, good: bool
) -> None:
    """It would fail with "no export named crc32"."""
    for name in ("node", "npm"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert is_new_enough(str(tmp_path / "node")) is good
    assert (programs()[0] == str(tmp_path / "node")) is good
