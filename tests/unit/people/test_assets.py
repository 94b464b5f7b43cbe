"""What pages are made of: the component's size, one home for it and for the colors, what is vendored."""

from __future__ import annotations

import gzip
import hashlib
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sojourn.console.render import HERE
from sojourn.errors import SettingsError
from sojourn.people.assets import CLIENTS, COMPONENT, PACKAGE, asset, find
from sojourn.people.pages import Look, asset_page, security_page

ROOT = Path(__file__).parents[3]
SOURCE = CLIENTS / "active-sessions" / COMPONENT
BUILD = runpy.run_path(str(SOURCE.parent / "build.py"))
COMPONENT_MAX = 13_000  # bytes, gzipped
COLOR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)")


def test_the_component_is_small() -> None:
    assert len(gzip.compress(SOURCE.read_bytes(), 9)) < COMPONENT_MAX


def test_what_is_shipped_is_what_its_sources_make() -> None:
    """If not: run clients/active-sessions/build.py."""
    made: dict[Path, str] = BUILD["built"]()
    there = {path for path in made if path.parent.name != "locales"}
    assert {path.name for path in there} == {
        COMPONENT,
        "sessions.css",
        "sojourn-active-sessions.d.ts",
    }
    assert made.keys() - there == set((SOURCE.parent / "locales").iterdir())
    assert {path: path.read_text() for path in made} == made


def test_two_modules_do_not_share_a_name(tmp_path: Path) -> None:
    """Put one after another, the second would change what the first means."""
    (tmp_path / "element.js").write_text('import { a } from "./a.js";\nconst b = a;\n')
    (tmp_path / "a.js").write_text("const b = 1;\nexport const a = b;\n")
    module = BUILD["module"]
    module.__globals__["SOURCES"], before = tmp_path, module.__globals__["SOURCES"]
    try:
        with pytest.raises(ValueError, match="same name: b"):
            module()
    finally:
        module.__globals__["SOURCES"] = before


def test_the_icons_are_those_of_the_component() -> None:
    """What stands where scripts are off looks the same."""
    template = (PACKAGE.parent / "templates" / "icons.html").read_text()
    icons = dict(re.findall(r'^  "(\w+)": \'(.+)\',$', template, re.MULTILINE))
    component = dict(
        re.findall(
            r"^  (\w+):\s+'(.+)',$", (SOURCE.parent / "src" / "markup.js").read_text(), re.MULTILINE
        )
    )
    assert len(component) == 10
    assert {name: icons[name] for name in component} == component


def test_the_colors_are_the_same_everywhere() -> None:
    """In the pages, in the component, and in its documentation."""
    pages = COLOR.findall((PACKAGE / "tokens.css").read_text())
    tokens = SOURCE.read_text().split("const TOKENS = `")[1].split("`")[0]
    component = re.findall(r"([\w-]+) (\w{6}) (\w{6})", tokens)
    told = (SOURCE.parent / "README.md").read_text()
    documented = re.findall(r"`--sojourn-([\w-]+)` \| `(#\w{6})` \| `(#\w{6})`", told)
    assert len(pages) == 14
    assert pages == [(name, f"#{light}", f"#{dark}") for name, light, dark in component]
    assert pages == documented


def test_what_is_vendored_is_what_came() -> None:
    for folder in (PACKAGE, HERE / "static"):
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            digest, name = line.split()
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_package_has_it_all(tmp_path: Path) -> None:
    """A built package holds the component, as it is in the repository, beside templates and files."""
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        assert package.read(f"sojourn/people/static/{COMPONENT}") == SOURCE.read_bytes()
        names = set(package.namelist())
    source = PACKAGE.parents[1]
    here = [path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {f"sojourn/{path.relative_to(source)}" for path in here} <= names


def test_a_name_stands_for_a_content() -> None:
    """Whatever changes gets another name; a name of before is found no more."""
    served = asset("console.css").name
    assert find(served) is asset("console.css")
    assert find(served.replace(".css", ".js")) is None
    assert find("console.aaaaaaaaaaaa.css") is None
    assert find("../pages.aaaaaaaaaaaa.py") is None
    assert asset("inter-latin.woff2").name.encode() in asset("tokens.css").body


def test_text_travels_packed() -> None:
    plain, packed = asset_page(asset(COMPONENT).name), asset_page(asset(COMPONENT).name, "br, gzip")
    assert plain is not None
    assert packed is not None
    assert gzip.decompress(packed.body) == plain.body == SOURCE.read_bytes()
    assert ("Content-Encoding", "gzip") in packed.headers
    assert ("Vary", "Accept-Encoding") in plain.headers


def test_a_sign_in_address_is_one() -> None:
    """A link must not run what it says; whoever comes back, comes back to this host."""
    with pytest.raises(SettingsError, match="no address"):
        Look(sign_in_url="javascript:alert(1)")
    assert (
        Look(sign_in_url="/in?a=b").sign_in("//evil.example/x")
        == "/in?a=b&next=%2Fevil.example%2Fx"
    )
    page = security_page(Look(site_name="<b>", sign_in_url='/"><script>'), "/account/security")
    assert b"<b>" not in page.body
    assert b'"><script>' not in page.body


def test_a_page_leads_to_where_passwords_are_changed() -> None:
    """Where that is known; the words alone are no link."""
    with pytest.raises(SettingsError, match="change_password_url"):
        Look(change_password_url="javascript:alert(1)")
    known = Look(change_password_url='/.well-known/change-password?a="><b>')
    page = security_page(known, "/account/security").body.decode()
    assert (
        '<a href="/.well-known/change-password?a=&#34;&gt;&lt;b&gt;">change your password</a>'
        in page
    )
    assert "change your password</a>" not in security_page(Look(), "/x").body.decode()
