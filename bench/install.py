"""What does it take to install us, and to import the client?

Each extra goes into an empty virtual environment of each Python on this machine, from a wheel of this
checkout and with the newest packages that it allows. Sizes are of files, as installed: no bytecode.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parent.parent
EXTRAS = (
    "",
    "pages",
    "flask",
    "django",
    "redis",
    "postgres",
    "mysql",
    "geo",
    "testing",
    "server",
    "all",
)
PEERS = ("urllib3", "httpx2", "httpx")
"""HTTP clients that the client could stand on. httpx brings its command line, where its packages are."""
IMPORTS = {
    "sojourn.client": "import sojourn.client",
    "its Client": "from sojourn.client import Client",
    "a client made": "from sojourn.client import Client; Client('https://a.test', jwt='x')",
    **{peer: f"import {peer}" for peer in PEERS},
}
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
UV = (sys.executable, "-m", "uv")


class Size(Struct):
    python: str
    extra: str
    packages: int
    megabytes: float


class Import(Struct):
    python: str
    what: str
    of_httpx: float
    """CPU time, as a share of what importing httpx takes."""


def sizes(say: Callable[[str], None]) -> list[Size]:
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        return [
            installed(Path(folder), wheel, python, extra, say)
            for python in pythons()
            for extra in EXTRAS
        ]


def imports(rounds: int, say: Callable[[str], None]) -> list[Import]:
    """Let imports take turns; the least of each counts."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        return [
            each
            for python in pythons()
            for each in imported(Path(folder), wheel, python, rounds, say)
        ]


def pythons() -> list[tuple[str, str]]:
    """List the versions at hand, and where they are: by uv, or of pyenv."""
    ran = _run(*UV, "python", "list", "--only-installed", "--output-format", "json", "--offline")
    found = {each["version"]: each["path"] for each in json.loads(ran)}
    for path in Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
        "versions/*/bin/python"
    ):
        found.setdefault(path.parent.parent.name, str(path))
    newest: dict[str, tuple[str, str]] = {}
    for version in sorted(found, key=lambda each: [int(x) for x in each.split(".") if x.isdigit()]):
        minor = ".".join(version.split(".")[:2])
        if minor in VERSIONS:
            newest[minor] = (version, found[version])
    return list(newest.values())


def build(folder: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    return next(folder.glob("*.whl"))


def environment(folder: Path, python: tuple[str, str], *what: str) -> Path:
    """Make an empty environment, install, and return its Python."""
    made = Path(tempfile.mkdtemp(dir=folder))
    _run(*UV, "venv", "--quiet", "--python", python[1], str(made))
    inside = made / ("Scripts" if os.name == "nt" else "bin") / "python"
    _run(*UV, "pip", "install", "--quiet", "--python", str(inside), *what)
    return inside


def installed(
    folder: Path, wheel: Path, python: tuple[str, str], extra: str, say: Callable[[str], None]
) -> Size:
    say(f"Python {python[0]}: {extra or 'alone'}")
    inside = environment(folder, python, f"{wheel}[{extra}]" if extra else str(wheel))
    (packages,) = inside.parent.parent.glob("lib/python*/site-packages")
    size = sum(path.lstat().st_size for path in packages.rglob("*") if path.is_file())
    count = len(list(packages.glob("*.dist-info")))
    return Size(python[0], extra or "none", count, round(size / 1e6, 1))


def imported(
    folder: Path, wheel: Path, python: tuple[str, str], rounds: int, say: Callable[[str], None]
) -> list[Import]:
    say(f"Python {python[0]}")
    inside = environment(folder, python, str(wheel), *PEERS, "click", "rich", "pygments")
    took: dict[str, float] = {}
    for _ in range(2 * rounds):
        for name, code in IMPORTS.items():
            took[name] = min(took.get(name, math.inf), _cpu(inside, code))
    return [Import(python[0], name, time / took["httpx"]) for name, time in took.items()]


def _cpu(inside: Path, code: str) -> float:
    """Return the seconds of CPU that it takes, by Python's own clock."""
    timed = f"start = time.process_time(); {code}; print(time.process_time() - start)"
    return float(_run(str(inside), "-c", f"import time; {timed}"))


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
