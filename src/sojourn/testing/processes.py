"""Processes that must not outlive whoever needs them.

A throwaway server lives in a folder of its own, which holds three files besides its data: `pid`, `log`
and `lock`. Whoever uses the server holds a shared lock on `lock`. Beside every server runs a *keeper*:
this file, run as a script, waiting for the exclusive lock. The system grants it once the last user has
let go or died, however it died, and the keeper then ends the server and removes the folder.

The script is run without site-packages, so this module imports the standard library only.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

POLL_INTERVAL = 0.005  # seconds
END_TIMEOUT = 10.0  # seconds until a polite end becomes SIGKILL
DEAD_STATES = (
    "Z",
    "X",
)  # a zombie holds no port, no file and no memory; in a container it may stay

DETACH = 'log=$1 pid=$2; shift 2; "$@" </dev/null >>"$log" 2>&1 & echo $! >"$pid"'
"""A shell that leaves at once: its child belongs to init, so nobody has to wait for it."""


def detach(
    argv: Sequence[str | Path],
    *,
    folder: Path,
    name: str = "",
    owner: int | None = None,
    env: dict[str, str] | None = None,
) -> int:
    """Start a process in a session of its own, note its pid in `folder`, and return the pid."""
    log, pid = folder / f"{name}log", folder / f"{name}pid"
    subprocess.run(
        ["/bin/sh", "-c", DETACH, "sh", log, pid, *argv],
        cwd=folder,
        env=env,
        user=owner,
        group=None if owner is None else group_of(owner),
        extra_groups=None if owner is None else [],
        start_new_session=True,
        check=True,
    )
    return int(pid.read_text())


def group_of(owner: int) -> int:
    return pwd.getpwuid(owner).pw_gid


def parents() -> dict[int, int]:
    """Map every living process to its parent."""
    if not Path("/proc/self/stat").exists():
        return _parents_by_ps()
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) and stat[0] not in DEAD_STATES:
            found[int(entry.name)] = int(stat[1])
    return found


def _stat(pid: int) -> list[str] | None:
    """Read state, parent, ... of a process; None if there is no such process."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return line.rpartition(")")[2].split()  # its name may hold spaces and parentheses


def _parents_by_ps() -> dict[int, int]:
    rows = _ps("-axo", "pid=,ppid=,stat=").splitlines()
    fields = [row.split() for row in rows]
    return {int(pid): int(parent) for pid, parent, state in fields if state[0] not in DEAD_STATES}


def _ps(*arguments: str) -> str:
    listing = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)
    return listing.stdout


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = _stat(pid)
    return stat is None or stat[0] not in DEAD_STATES


def command(pid: int) -> str:
    """Say what a process runs; empty if there is no such process."""
    if not Path("/proc/self/cmdline").exists():
        return _ps("-ww", "-o", "command=", "-p", str(pid)).strip()
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """List the living processes that a process has started and not yet lost."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        found = [
            int(n) for task in tasks.iterdir() for n in (task / "children").read_text().split()
        ]
    except OSError:  # no /proc, or a kernel without `children`
        found = [child for child, parent in parents().items() if parent == pid]
    return [child for child in found if alive(child)]


def tree(pid: int) -> list[int]:
    """List a process and everything below it, parents first."""
    below: dict[int, list[int]] = {}
    for child, parent in parents().items():
        below.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:  # grows while it is walked
        found.extend(below.get(each, ()))
    return found


def signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_until(happened: Callable[[], bool], timeout: float) -> bool:
    """Watch for something until a deadline; tell whether it happened."""
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def gone(pids: Sequence[int], timeout: float = END_TIMEOUT) -> bool:
    """Wait until none of these processes lives; tell whether that came true."""
    return wait_until(lambda: not any(map(alive, pids)), timeout)


def freeze(pid: int) -> list[int]:
    """Stop a process and everything below it where they stand; list them, parents first."""
    signal_all([pid], signal.SIGSTOP)  # the parent first, so that it starts nothing more
    everything = tree(pid)
    signal_all(everything, signal.SIGSTOP)
    return everything


def kill_tree(pid: int) -> None:
    """End a process and everything below it as a power cut would."""
    everything = freeze(pid)
    signal_all(everything, signal.SIGKILL)
    if not gone(everything):
        raise TimeoutError(f"processes {everything} do not die of SIGKILL")


def noted(folder: Path) -> int | None:
    """Return the pid of the process that lives in `folder`, or None.

    A pid may have been given to a stranger since. Ours names its folder on its command line.
    """
    try:
        pid = int((folder / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if alive(pid) and str(folder) in command(pid) else None


def end(folder: Path, number: int) -> None:
    """End the process that lives in `folder`, politely first, and wait until it is gone."""
    pid = noted(folder)
    if pid is None:
        return
    everything = tree(pid)
    signal_all([pid], number)
    signal_all(everything, signal.SIGCONT)  # a paused process would never hear the signal
    if not gone(everything):
        kill_tree(pid)


def hold(folder: Path) -> IO[bytes] | None:
    """Take part in using what lives in `folder` until the answer is closed; None if it is gone."""
    try:
        lock = (folder / "lock").open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(lock, fcntl.LOCK_SH)  # waits while a keeper is clearing up
    if (folder / "lock").exists():
        return lock
    lock.close()
    return None


def start_keeper(folder: Path, number: int) -> None:
    """Have `folder` cleared, and its process ended with this signal, once nobody holds it."""
    script = Path(__file__).resolve()
    detach(
        [sys.executable, "-I", "-S", script, folder, str(number)],
        folder=folder,
        name="keeper.",
    )


def keep(folder: Path, number: int) -> None:
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        end(folder, number)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
