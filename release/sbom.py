"""Writes the bill of materials of a server: what requirements.lock pins, in CycloneDX 1.6.

    python release/sbom.py > sojourn.cdx.json

The same lock gives the same text. Versions are exact; what is for some systems only says so.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$")
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "sojourn")


def pinned(lock: str) -> list[tuple[str, str, str]]:
    """Return each package of a lock: its name, its version, and where it is needed ("" everywhere)."""
    found = [match.groups(default="") for match in map(PINNED.match, lock.splitlines()) if match]
    return [(name, version, marker) for name, version, marker in found]


def component(name: str, version: str, marker: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if marker:
        made["properties"] = [{"name": "cdx:python:package:marker", "value": marker}]
    return made


def bill() -> str:
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = component(project["name"], project["version"], "")
    own["type"] = "application"
    own["licenses"] = [{"expression": project["license"]}]
    parts = [component(*each) for each in pinned(lock)]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, project['version'] + lock)}",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": [each["bom-ref"] for each in parts]}],
    }
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(bill())
