"""The web component as a package: what is in it, its types, and its manifest."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.express.node import programs
from tests.typescript.toolchain import ROOT, node, packages, run

from sojourn.people.translation import LANGUAGES

PACKAGE = ROOT / "clients" / "active-sessions"
SOURCE = "".join(path.read_text() for path in sorted((PACKAGE / "src").glob("*.js")))
WITHIN = {"before", "log"}
"""Parts that are for the element alone."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as npm would bring it."""
    folder = tmp_path_factory.mktemp("component")
    npm = [*programs()[1], "pack", "--silent", "--pack-destination", str(folder)]
    run(npm, PACKAGE)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def declared() -> dict[str, Any]:
    manifest = json.loads((PACKAGE / "custom-elements.json").read_text())
    found: dict[str, Any] = manifest["modules"][0]["declarations"][0]
    return found


def names(of: str) -> set[str]:
    return {each["name"] for each in declared()[of]}


def test_what_is_in_it(unpacked: Path) -> None:
    """What its package.json leads to, and nothing that only its makers need."""
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    locales = {f"locales/{each}.js" for each in (*LANGUAGES[1:], "all")}
    assert files == {
        "README.md",
        "package.json",
        "custom-elements.json",
        "sojourn-active-sessions.js",
        "sojourn-active-sessions.d.ts",
        "locales/all.d.ts",
        *locales,
    }
    said = json.loads((unpacked / "package.json").read_text())
    assert said["customElements"] == "custom-elements.json"
    assert "dependencies" not in said


def test_the_manifest_says_what_the_element_has() -> None:
    element = (PACKAGE / "src" / "element.js").read_text()
    observed = re.search(r"observedAttributes = (\[[^\]]*\])", element)
    assert observed is not None
    assert names("attributes") == {*json.loads(observed[1]), "theme"}
    emitted = {f"sojourn:{each}" for each in re.findall(r'#emit\("([\w-]+)"', element)}
    assert names("events") == emitted
    said = re.findall(r'part=(?:"([^"]+)"|([\w-]+))', SOURCE)
    parts = {part for pair in said for part in " ".join(pair).split()}
    assert names("cssParts") == parts - WITHIN
    readme = (PACKAGE / "README.md").read_text()
    assert names("cssProperties") == set(
        re.findall(r"^\| `(--sojourn-[\w-]+)`", readme, re.MULTILINE)
    )
    assert {each for each in names("attributes") if f"| `{each}`" not in readme} <= {"lang", "live"}


USE = """
import { ActiveSessions, STRINGS, translate, type Strings } from "@sojourn/active-sessions";
import "@sojourn/active-sessions/locales/de";

const element = document.querySelector("sojourn-active-sessions")!;
element.headers = { "X-CSRFToken": "token" };
element.strings = { title: "Devices", count: { one: "{n} device", other: "{n} devices" } };
element.addEventListener("sojourn:reauth-required", async (event) => {
  event.preventDefault();
  await event.detail.retry();
});
element.addEventListener("sojourn:ended", ({ detail }) => detail.ended.toFixed());
const kept: Strings = STRINGS;
translate("sv", { title: kept.title, reasons: kept.reasons });
const made: ActiveSessions = document.createElement("sojourn-active-sessions");
void made.refresh();
// @ts-expect-error: there is no such word
element.strings = { titel: "Geräte" };
// @ts-expect-error: every plural has this one
translate("sv", { count: { one: "{n}" } });
"""


@pytest.mark.parametrize("resolution", ["NodeNext", "Bundler"])
def test_its_types_are_strict(unpacked: Path, tmp_path: Path, resolution: str) -> None:
    """An application compiles against it, by either way to find packages; mistakes do not."""
    (tmp_path / "node_modules" / "@sojourn").mkdir(parents=True)
    shutil.copytree(unpacked, tmp_path / "node_modules" / "@sojourn" / "active-sessions")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(USE)
    compiler = packages() / "typescript" / "bin" / "tsc"
    module = {"NodeNext": "NodeNext", "Bundler": "ESNext"}[resolution]
    options = ["--strict", "--noEmit", "--target", "ES2022", "--lib", "ES2022,DOM"]
    options += ["--module", module, "--moduleResolution", resolution]
    run(node(str(compiler), *options, "use.ts"), tmp_path)
