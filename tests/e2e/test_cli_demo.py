"""`sojourn demo`: a short show keeps its promises, and leaves nothing behind."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.cli_harness import Program, run, run_json

from sojourn.testing import processes

GONE_TIMEOUT = 20.0  # seconds


def test_ghosts_are_reclaimed_and_nothing_is_granted_twice(tmp_path: Path) -> None:
    """On a server of its own, which is gone afterwards."""
    env = {"TMPDIR": str(tmp_path)}
    summary = run_json(
        tmp_path,
        "demo",
        "--seconds",
        "9",
        "--clients",
        "4",
        "--capacity",
        "2",
        "--seed",
        "1",
        env=env,
    )
    assert summary["overGrants"] == summary["denialsPastTime"] == 0
    assert summary["ghostsReclaimed"] > 0
    assert summary["waits"] + summary["denials"] > 0
    assert summary["acquires"] > 2
    assert summary["seed"] == 1
    assert list(tmp_path.glob("sojourn-demo-*")) == []


def test_killed_outright_it_takes_everybody_along(tmp_path: Path) -> None:
    """Not even SIGKILL leaves a server or a client running. It needs Linux to say so."""
    demo = Program(
        tmp_path, "demo", "--clients", "3", "--capacity", "2", env={"TMPDIR": str(tmp_path)}
    )
    with demo:
        demo.wait_for("Ben has a seat")
        family = processes.tree(demo.process.pid)
        assert len(family) >= 4  # itself, its server, and at least two clients
        demo.end(signal.SIGKILL)
        assert processes.gone(family, GONE_TIMEOUT)


def test_a_closed_terminal_ends_it_tidily(tmp_path: Path) -> None:
    """As Ctrl-C does: everybody goes home, and what it made is removed."""
    with Program(
        tmp_path, "demo", "--clients", "2", "--capacity", "1", env={"TMPDIR": str(tmp_path)}
    ) as demo:
        demo.wait_for("Ada has a seat")
        family = processes.tree(demo.process.pid)
        assert demo.end(signal.SIGHUP) == 0
        assert "Over-grants" in "\n".join(demo.lines)
        assert processes.gone(family, GONE_TIMEOUT)
        assert list(tmp_path.glob("sojourn-demo-*")) == []


def test_an_impossible_show_is_refused(tmp_path: Path) -> None:
    assert "2 to 100 clients" in run(tmp_path, "demo", "--clients", "1", code=2).stderr
