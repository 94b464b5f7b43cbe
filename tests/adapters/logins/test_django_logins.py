"""Django's login libraries, in a process of their own: see django_stories.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STORIES = Path(__file__).with_name("django_stories.py")
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::DeprecationWarning")
"""The libraries' own deprecations are theirs."""
DEADLINE = 240  # seconds


def test_djangos_login_libraries() -> None:
    """Each story of django_stories.py."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, STORIES],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={each: value for each, value in os.environ.items() if not each.startswith("PYTEST_")},
        cwd=STORIES.parents[3],
    )
    assert done.returncode == 0, done.stdout + done.stderr
