"""Cuts a version: what is below *Unreleased* in CHANGELOG.md becomes its section, and files name the version.

    python release/cut.py 0.2.0 2026-12-01     change the files (`make release-cut VERSION=0.2.0`)
    python release/cut.py --check              say what is missing for a release (`make release-check`)

Commits nothing, tags nothing, publishes nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNRELEASED = "## [Unreleased]\n"
FOR_YOU = "### What changes for you"
VERSION = re.compile(r"\d+\.\d+\.\d+")
PLACES = {
    "pyproject.toml": r'(?m)^version = "(?P<v>[\d.]+)"$',
    "deploy/helm/sojourn/Chart.yaml": r'(?m)^(?:version: |appVersion: ")(?P<v>[\d.]+)"?$',
    "deploy/kubernetes/sojourn.yaml": r'image: sojourn:(?P<v>[\d.]+)|kubernetes.io/version: "(?P<w>[\d.]+)"',
}
"""Where the version stands, besides the changelog."""


def versions(text: str, pattern: str) -> set[str]:
    found = re.finditer(pattern, text)
    return {each for match in found for each in match.groupdict().values() if each}


def named(text: str, pattern: str, version: str) -> str:
    """Put a version in the place of the one that is named."""

    def put(match: re.Match[str]) -> str:
        old = next(each for each in match.groupdict().values() if each)
        return match[0].replace(old, version)

    return re.sub(pattern, put, text)


def section(changelog: str, version: str) -> str | None:
    """Return the section of a version, or None."""
    found = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    return found[1] if found else None


def cut(changelog: str, version: str, day: str) -> str:
    """Return the changelog with *Unreleased* empty, and what was below it as a version's section.

    Raises ValueError where that is not possible."""
    before, there, rest = changelog.partition(UNRELEASED)
    if not there:
        raise ValueError("CHANGELOG.md has no section Unreleased.")
    if section(changelog, version) is not None:
        raise ValueError(f"CHANGELOG.md has a section {version} already.")
    if FOR_YOU not in rest.partition("\n## ")[0]:
        raise ValueError(f"Unreleased does not begin with {FOR_YOU!r}.")
    return f"{before}{UNRELEASED}\n## [{version}] - {day}\n{rest}"


def missing() -> list[str]:
    """Say what a release of the present version lacks."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = [
        f"{place} names {', '.join(sorted(there))}, not {version}"
        for place, pattern in PLACES.items()
        if (there := versions((ROOT / place).read_text(), pattern)) != {version}
    ]
    own = section(changelog, version)
    if own is None:
        found.append(f"CHANGELOG.md has no section [{version}]: make release-cut VERSION=…")
    elif FOR_YOU not in own:
        found.append(f"its section [{version}] does not say {FOR_YOU!r}")
    unreleased = changelog.partition(UNRELEASED)[2].partition("\n## ")[0]
    if unreleased.strip():
        found.append("CHANGELOG.md has lines below Unreleased")
    if _git("status", "--porcelain"):
        found.append("there are changes that are not committed")
    tagged = _git("tag", "--list", f"v{version}")
    if tagged and _git("rev-list", "-n", "1", tagged) != _git("rev-parse", "HEAD"):
        found.append(f"the tag v{version} is of another commit")
    return found


def _git(*arguments: str) -> str:
    said = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout.strip()


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        found = missing()
        for each in found:
            print(f"missing: {each}", file=sys.stderr)
        return int(bool(found))
    version, *day = arguments or [""]
    if not VERSION.fullmatch(version):
        print("Name a version: make release-cut VERSION=0.2.0", file=sys.stderr)
        return 2
    changelog = ROOT / "CHANGELOG.md"
    try:
        text = cut(changelog.read_text(), version, *(day or [datetime.now(UTC).date().isoformat()]))
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 1
    changelog.write_text(text)
    for place, pattern in PLACES.items():
        path = ROOT / place
        path.write_text(named(path.read_text(), pattern, version))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
