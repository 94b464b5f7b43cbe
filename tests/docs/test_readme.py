"""The README's lines are run as they stand: only addresses, keys and one threshold are filled in."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.serving import ADMIN_KEY, served

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def filled(line: str, port: int, out: Path) -> list[str]:
    if line.startswith("export ADMIN="):
        return [f"export ADMIN={ADMIN_KEY}"]
    if found := re.match(r"export (KEY|LEASE)=(sj._)", line):
        name, prefix = found.groups()
        return [f"export {name}=$(grep -o '{prefix}[A-Za-z0-9_-]*' {out} | tail -n 1)"]
    run = line.replace("localhost:8700", f"127.0.0.1:{port}")
    run = run.replace('"lostAfter": 30', '"lostAfter": 6')
    run = run.replace(".venv/bin/sojourn", f"{shlex.quote(sys.executable)} -m sojourn")
    if run.startswith("curl"):
        return [f"{run} | tee -a {out}; echo"]
    if " hold " not in run or run.startswith("#"):
        return [run]
    who = re.findall(r"--user (\w+)", run)[0]
    started = f"{run.removesuffix('&').rstrip()} > {out}.{who} 2>&1 &"
    # A person types slower than her client starts; a script has to wait for it.
    seats = f'curl -s 127.0.0.1:{port}/api/licenses/sessions -H "$H"'
    return [started, f"until {seats} | grep -q {who}; do :; done"] if who == "grace" else [started]


def script(port: int, out: Path) -> str:
    """Fill in what the README leaves to its reader."""
    (text,) = [b for b in blocks("sh") if "ADMIN=" in b]
    lines = ["set -m", "set -e", "set -o pipefail"]  # job control, for `kill %1`
    for line in text.replace("\\\n", " ").splitlines():
        lines += filled(line, port, out)
    return "\n".join([*lines, "wait"])


def test_the_readmes_story_runs(tmp_path: Path) -> None:
    """License, two seats, the 409 with who holds them, a killed client, and its seat for the next one."""
    out = tmp_path / "answers"
    with served(tmp_path / "data") as server:
        shell = subprocess.Popen(
            ["bash", "-c", script(server.port, out)],
            env={**os.environ, "SOJOURN_URL": server.url},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with server.admin() as http:
                deadline = time.monotonic() + 40
                tick = threading.Event()
                while time.monotonic() < deadline:
                    items = http.get("/api/licenses/sessions").json()["data"]["items"]
                    if "linus" in {x["userId"] for x in items}:
                        break
                    tick.wait(0.1)
                else:
                    os.killpg(shell.pid, signal.SIGKILL)
                    log = "".join(p.read_text() for p in tmp_path.glob("answers*"))
                    raise AssertionError(
                        f"linus never got a seat:\n{log}\n{shell.communicate()[1]}"
                    )
        finally:
            for pid in session_of(shell.pid):
                os.kill(pid, signal.SIGKILL)
            shell.communicate()
    answers = out.read_text()
    assert "HTTP/1.1 409" in answers
    assert "Maximum user limit reached" in answers
    assert '"userId":"ada"' in answers
    assert '"userId":"grace"' in answers


def test_the_readmes_session_lives_and_ends(tmp_path: Path) -> None:
    """Begun, checked, saved and ended, by the lines as they stand."""
    (text,) = [b for b in blocks("sh") if "TOKEN=" in b]
    out = tmp_path / "answers"
    out.touch()
    with served(tmp_path / "data") as server:
        lines = ["set -e", "set -o pipefail"]
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("export APP="):
                lines.append(f"export APP={ADMIN_KEY}")
            elif line.startswith("export TOKEN="):
                lines.append(f"export TOKEN=$(grep -o 'sjs_[A-Za-z0-9]*' {out} | tail -n 1)")
            else:
                lines += filled(line, server.port, out)
        subprocess.run(["bash", "-c", "\n".join(lines)], check=True, timeout=60)
    began, checked, saved, ended = out.read_text().replace("}{", "}\n{").splitlines()
    assert '"userId":"ada"' in began
    assert '"theme":"dark"' in checked
    assert '"revision":2' in saved
    assert '"ended":1' in ended


def session_of(leader: int) -> list[int]:
    """With job control each job has a group of its own; the session still names them all."""
    found = subprocess.run(
        ["ps", "-e", "-o", "pid=,sess="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in found.splitlines()]
    return [pid for pid, session in pairs if session == leader]


def test_every_file_the_readme_names_exists() -> None:
    """No link in the front door leads nowhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [x for x in links if not (ROOT / x).exists()] == []
