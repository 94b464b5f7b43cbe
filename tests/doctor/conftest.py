"""Doctors that die at their work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

CHILD = (sys.executable, str(Path(__file__).with_name("child.py")))
Mend: TypeAlias = Callable[[str, int], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def mend() -> Iterator[Mend]:
    """Let a doctor mend what a URL names, and die before its nth change; 0: say how many there are."""
    argv = [*CHILD, "-"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def run(url: str, last: int) -> subprocess.CompletedProcess[str]:
            asked.write(f"{last} {url}\n")
            asked.flush()
            code, said = json.loads(told.readline())
            return subprocess.CompletedProcess(argv, code, stdout=said, stderr=said)

        yield run
        asked.close()
