"""The benchmark of presence runs, in a small form, and what it measures is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.waiting import DEADLINE

SCRIPT = Path(__file__).parents[2] / "bench" / "presence.py"


def test_killed_clients_seats_are_had_by_others(tmp_path: Path) -> None:
    """Every seat of a process that was killed is somebody else's, and nobody was denied for a ghost."""
    found = tmp_path / "presence.json"
    command = [sys.executable, str(SCRIPT), f"--json={found}", "--sockets=40", "--killed=15"]
    command += ["--seconds=3", "--heartbeat=2"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=4 * DEADLINE)
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(found.read_text())
    assert (figures["sockets"], figures["killed"]) == (40, 15)
    assert figures["renewals_per_s"] > 0
    assert figures["last_s"] >= figures["first_s"] > 0
    assert figures["denials_with_ghost"] == 0
