"""What is built is the same twice, holds what it must and nothing else; a version is cut as it should be."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from trove_classifiers import classifiers as known

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## [Unreleased]

### What changes for you

- Run it.

### Added

- A thing.

## [0.1.0] - 2026-01-01

### What changes for you

- All of it.
"""


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        f"release_{name}", ROOT / "release" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found: list[Path] = load("build").build(tmp_path_factory.mktemp("one"), instant="1790000000")
    return found


def test_two_builds_are_equal(built: list[Path], tmp_path: Path) -> None:
    """From copies with other times and rights, under another umask."""
    build = load("build")
    before = os.umask(0o077)
    try:
        again = build.build(tmp_path, instant="1790000000")
    finally:
        os.umask(before)
    assert [build.digest(each) for each in again] == [build.digest(each) for each in built]
    assert [each.suffix for each in again] == [".whl", ".gz"]


def test_what_is_built_holds_what_it_must(built: list[Path]) -> None:
    assert load("build").faults(built) == []


def test_what_does_not_belong_is_told(built: list[Path], tmp_path: Path) -> None:
    wheel = tmp_path / built[0].name
    shutil.copy(built[0], wheel)
    with zipfile.ZipFile(wheel, "a") as opened:
        opened.writestr("docs/screenshots/list.png", b"")
    told = load("build").faults([wheel])
    assert [each.partition(" holds ")[2] for each in told] == [
        "docs/screenshots/list.png",
        "docs/screenshots/list.png, which is not of the package",
    ]


def test_the_metadata_is_known_words() -> None:
    project = load("build").project()
    said = project["classifiers"]
    assert set(said) <= known
    assert said == sorted(
        said, key=lambda each: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", each)]
    )
    assert "urls" not in project or all("://" in each for each in project["urls"].values())


def test_the_bill_of_materials_has_every_package_of_the_lock() -> None:
    """Once, with its version; the same lock gives the same text."""
    sbom = load("sbom")
    lock = (ROOT / "requirements.lock").read_text()
    document = json.loads(sbom.bill())
    assert sbom.bill() == sbom.bill()
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    refs = [each["bom-ref"] for each in document["components"]]
    assert len(refs) == len(set(refs)) == lock.count("==") - lock.count("== '")
    assert document["dependencies"][0]["dependsOn"] == refs
    assert "://" not in "".join(each["purl"] for each in document["components"])


def test_a_version_is_cut() -> None:
    cut = load("cut")
    text = cut.cut(CHANGELOG, "0.2.0", "2026-12-01")
    assert (
        text.count("## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### What changes for you\n") == 1
    )
    assert "A thing." in cut.section(text, "0.2.0")
    assert "All of it." in cut.section(text, "0.1.0")
    with pytest.raises(ValueError, match=r"has a section 0\.2\.0 already"):
        cut.cut(text, "0.2.0", "2026-12-01")
    with pytest.raises(ValueError, match="What changes for you"):
        cut.cut(text, "0.3.0", "2026-12-01")


def test_every_place_of_the_version_is_found_and_changed() -> None:
    cut = load("cut")
    version = load("build").project()["version"]
    for place, pattern in cut.PLACES.items():
        text = (ROOT / place).read_text()
        assert cut.versions(text, pattern) == {version}, place
        changed = cut.named(text, pattern, "9.8.7")
        assert cut.versions(changed, pattern) == {"9.8.7"}
        assert cut.named(changed, pattern, version) == text


def test_unreleased_says_what_changes_for_you() -> None:
    """Or the next version cannot be cut."""
    text = (ROOT / "CHANGELOG.md").read_text()
    load("cut").cut(text, "9.8.7", "2030-01-01")
