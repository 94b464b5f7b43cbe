"""Builds the wheel and the sdist from what git knows, twice the same, and looks at what is in them.

python release/build.py [folder]      build into a folder (dist), with an SBOM and SHA256SUMS
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sbom import bill  # of this folder, which is no package

ROOT = Path(__file__).parents[1]
SIZE_MAX = {".whl": 2_000_000, ".gz": 4_000_000}
"""Bytes. Larger, and something has come along that belongs in neither."""
NEVER = re.compile(
    r"(^|/)(screenshots|\.ci|\.git|\.venv|sojourn-data|__pycache__)(/|$)|\.(db|pyc|log)$"
)
ALWAYS_WHEEL = (
    "sojourn/py.typed",
    "sojourn/people/static/sojourn-active-sessions.js",
    "sojourn/stores/redis/lua/seating.lua",
    "sojourn/people/templates/base.html",
)
ALWAYS_SDIST = ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "requirements.lock")


def project() -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def sources(target: Path) -> None:
    """Copy what belongs to the project, as git sees it, and nothing that lies about."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def epoch() -> str:
    """Return the instant that is written into what is built: that of the commit."""
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def build(folder: Path, *, instant: str) -> list[Path]:
    """Build from a fresh copy of the sources; return the files, the sdist last."""
    with tempfile.TemporaryDirectory(prefix="sojourn-build-") as place:
        sources(Path(place))
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)],
            cwd=place,
            env={**os.environ, "SOURCE_DATE_EPOCH": instant},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return sorted(folder.glob("*.whl")) + sorted(folder.glob("*.tar.gz"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(path: Path) -> list[str]:
    """List what is in a wheel or a sdist, without the sdist's own folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel.namelist()
    with tarfile.open(path) as sdist:
        return [each.name.partition("/")[2] for each in sdist if each.isfile()]


def faults(files: list[Path]) -> list[str]:
    """Say what is wrong with what was built."""
    found = []
    for path in files:
        inside = names(path)
        wheel = path.suffix == ".whl"
        found += [f"{path.name} holds {name}" for name in inside if NEVER.search(name)]
        wanted = ALWAYS_WHEEL if wheel else ALWAYS_SDIST
        found += [f"{path.name} lacks {name}" for name in wanted if name not in inside]
        if path.stat().st_size > SIZE_MAX[path.suffix]:
            found.append(f"{path.name} has {path.stat().st_size:,} bytes")
        if wheel:
            found += [
                f"{path.name} holds {name}, which is not of the package"
                for name in inside
                if not re.match(r"sojourn(-[\d.]+\w*\.dist-info)?/", name)
            ]
            found += _metadata(path)
    return found


def _metadata(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [each for each in opened.namelist() if each.endswith(".dist-info/METADATA")]
        said = BytesParser().parsebytes(opened.read(name))
    found = [
        f"the metadata has no {field}"
        for field in ("Author", "Summary", "License-Expression", "Requires-Python", "Keywords")
        if not said[field]
    ]
    if said["Version"] != project()["version"]:
        found.append(f"the metadata says version {said['Version']}")
    links = re.findall(r"\]\(([^)]+)\)", str(said.get_payload()))
    found += [f"its description links to {each}" for each in links if "://" not in each]
    return found


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    instant = epoch()
    files = build(folder, instant=instant)
    with tempfile.TemporaryDirectory(prefix="sojourn-again-") as again:
        differ = [
            one.name
            for one, other in zip(files, build(Path(again), instant=instant), strict=True)
            if digest(one) != digest(other)
        ]
    wrong = [f"{name} differs when it is built again" for name in differ] + faults(files)
    sbom = folder / f"sojourn-{project()['version']}.cdx.json"
    sbom.write_text(bill())
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in (*files, sbom))
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    for each in wrong:
        print(f"wrong: {each}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
