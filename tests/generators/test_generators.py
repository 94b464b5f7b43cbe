"""What openapi-python-client makes of spec/openapi.json: it takes, keeps and returns a seat.

It is used without flags or edits, in an environment of its own, by a lock file of its own: what it needs is
not what we need. The same for openapi-typescript is clients/typescript/test/server/generated.test.ts.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import Served, served
from tests.typescript.toolchain import ROOT, cache, digest_of, run, turn

LOCK = Path(__file__).with_name("requirements.lock")
DOCUMENT = ROOT / "spec" / "openapi.json"
TIMEOUT = 900  # seconds; nothing here takes as many
STORY = """
import sys

from sojourn_client import AuthenticatedClient
from sojourn_client.api.seats import acquire, heartbeat, release
from sojourn_client.models import AcquireBody, AcquireResponse409, HeartbeatBody, HeartbeatResponse410

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
wish = AcquireBody(feature="editor", user_id="ada", client_id="generated")
seat = acquire.sync(client=client, body=wish).data
assert (seat.fence, seat.resumed) == (1, False)
other = AcquireBody(feature="editor", user_id="bob", client_id="generated")
refused = acquire.sync_detailed(client=client, body=other)
assert refused.status_code == 409
assert isinstance(refused.parsed, AcquireResponse409)
assert (refused.parsed.code, refused.parsed.limit) == ("seat_limit", 1)
holder = AuthenticatedClient(base_url=url, token=seat.token)
assert heartbeat.sync(client=holder, body=HeartbeatBody(idle_for=1.5)).data.state == "active"
assert heartbeat.sync(client=holder).data.expires_in > 0
assert release.sync(client=holder).data.released is True
lost = heartbeat.sync(client=holder)
assert isinstance(lost, HeartbeatResponse410)
assert (lost.code, lost.reason) == ("lease_lost", "released")
print("told")
"""


def generator() -> Path:
    """Install the generator, unless it is there; return its environment's folder of programs."""
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    name = f"openapi-python-client-{version}-{digest_of([LOCK])}"
    folder = cache() / name
    uv = [sys.executable, "-m", "uv"]
    with turn(name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], ROOT)
            python = ["--python", str(folder / "bin" / "python")]
            install = [*uv, "pip", "install", "--quiet", "--require-hashes", *python]
            run([*install, "--requirements", str(LOCK)], ROOT, timeout=TIMEOUT)
            (folder / "complete").touch()
    return folder / "bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("generators")) as server:
        yield server


def test_a_generated_python_client(tmp_path: Path, server: Served) -> None:
    programs = generator()
    path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])  # it calls ruff
    generate = [str(programs / "openapi-python-client"), "generate", "--path", str(DOCUMENT)]
    said = run(generate, tmp_path, timeout=TIMEOUT, PATH=path)
    assert "warning" not in said.lower()
    assert "error" not in said.lower()
    _, key = server.license(editor={"capacity": 1})
    [made] = [each for each in tmp_path.iterdir() if each.is_dir()]
    story = [str(programs / "python"), "-c", STORY, server.url, key]
    assert run(story, made, timeout=TIMEOUT) == "told\n"
