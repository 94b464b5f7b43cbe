"""The receiver of the webhooks guide runs as it stands, and believes nobody but the server."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.e2e.cli_harness import run, run_json, serving
from tests.serving import free_port

OLD = "whsec_VGhlIHNlY3JldCBiZWZvcmUgdGhpcyBvbmUu"
"""Of the time before the secret was rotated; and behind it nothing, as a list split at its commas has."""
TRIES_MAX = 30
GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "webhooks.md").read_text()


@contextlib.contextmanager
def the_guides_receiver(folder: Path, port: int, secret: str) -> Iterator[subprocess.Popen[str]]:
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (folder / "receiver.py").write_text(code)
    receiver = subprocess.Popen(
        [sys.executable, "receiver.py", str(port)],
        cwd=folder,
        env={**os.environ, "WEBHOOK_SECRETS": f"{secret},{OLD},"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield receiver
    finally:
        receiver.kill()
        receiver.communicate()


def test_the_guides_receiver_takes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with serving(tmp_path, "--dev") as (server, _):
        made = run_json(tmp_path, "webhook", "create", url)
        with the_guides_receiver(tmp_path, port, made["secret"]) as receiver:
            # The first attempt may come before the receiver listens; a test does not wait for others.
            assert receiver.stdout is not None
            for _ in range(TRIES_MAX):
                if "took it" in (said := _tried(tmp_path, made["webhookId"])):
                    break
                assert receiver.poll() is None
            assert "took it" in said
            assert receiver.stdout.readline().startswith("webhook.test {'webhookId'")
            forged = {"type": "session.created", "timestamp": "", "data": {}}
            headers = {
                "webhook-id": "evt_1",
                "webhook-timestamp": "1800000000",
                "webhook-signature": "v1,AAAA",
            }
            answer = httpx.post(url, json=forged, headers=headers)
            assert answer.status_code == 400
        assert server.end() == 0


def _tried(folder: Path, webhook_id: str) -> str:
    """Run `sojourn webhook test`, which fails while nobody listens."""
    with contextlib.suppress(AssertionError):
        return run(folder, "webhook", "test", webhook_id).stdout
    return ""


def test_the_guide_names_what_there_is(tmp_path: Path) -> None:
    """Every command in it, and every setting."""
    for command in sorted(set(re.findall(r"sojourn webhook (\w+)", GUIDE))):
        assert "Usage" in run(tmp_path, "webhook", command, "--help").stdout
    said = run_json(tmp_path, "settings")
    for name in set(re.findall(r"SOJOURN_(WEBHOOK\w+|EVENT\w+)", GUIDE)):
        assert name.lower() in said
