"""Builds the documentation's site: `make docs`.

    python docs/site/build.py [FOLDER]   the site is FOLDER/site; 1 if the generator warns

Every page of the repository keeps its place, so that relative links lead where they lead on a code host.
Files that pages link to and that are no pages, such as configurations, are taken along as they are. The menu
follows docs/README.md and docs/adr/README.md. Nothing is fetched, neither by the build nor by who reads the
site, which may be read from the file system, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dialect import adapted, parsed
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("zensical.toml")
WORKER = Path(__file__).with_name("iframe-worker.js")
FETCHED = "https://unpkg.com/iframe-worker/shim"
INDEX, DECISIONS = "docs/README.md", "docs/adr/README.md"
OUTSIDE = re.compile(r"[a-z][a-z+.-]*:|#")


def pages() -> list[str]:
    """List the Markdown files of the repository that belong to it, whatever else lies about."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in listed.splitlines() if (ROOT / name).is_file())


def inline(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from token.children or ()


def links(text: str) -> Iterator[str]:
    """Yield where a page's links and pictures lead, in their order."""
    tokens = parsed(text)
    for each in inline(tokens):
        if each.type in ("link_open", "image"):
            yield str(each.attrs["href" if each.type == "link_open" else "src"])
    html = "".join(each.content for each in (*tokens, *inline(tokens)) if "html" in each.type)
    yield from re.findall(r'(?:src|href)="([^"]+)"', html)


def target(page: str, link: str) -> str | None:
    """Return the path that a page's link leads to, from the root; None if it leads elsewhere."""
    path = link.partition("#")[0]
    if OUTSIDE.match(link) or not path:
        return None
    return str(((ROOT / page).parent / path).resolve().relative_to(ROOT))


def title(page: str) -> str:
    found = re.search(r"^# (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{page} has no title")
    return found[1].replace("`", "")


def sections(text: str, level: int) -> tuple[str, list[tuple[str, str]]]:
    """Return what stands before the first heading of a level, and each heading with the text below it."""
    first, *rest = re.split(rf"^{'#' * level} ", text, flags=re.MULTILINE)
    split = (piece.partition("\n") for piece in rest)
    return first, [(heading.strip(), below) for heading, _, below in split]


def menu() -> list[Any]:
    """Return the menu: the sections of the index, each with the pages it leads to, each page once."""
    told = {"README.md", INDEX, DECISIONS}

    def entries(page: str, text: str) -> list[Any]:
        found: list[Any] = []
        for link in links(text):
            to = target(page, link)
            if to == DECISIONS and page == INDEX:
                below = entries(DECISIONS, (ROOT / DECISIONS).read_text())
                found.append({"Decisions": [{title(DECISIONS): DECISIONS}, *below]})
            elif to and to.endswith(".md") and to not in told:
                told.add(to)
                found.append({title(to): to})
        return found

    made: list[Any] = [{"Sojourn": ["README.md", INDEX]}]
    for heading, text in sections((ROOT / INDEX).read_text(), 2)[1]:
        first, groups = sections(text, 3)
        found = entries(INDEX, first)
        found += [{name: entries(INDEX, below)} for name, below in groups]
        made.append({heading: found})
    return made


def stage(folder: Path) -> None:
    """Lay out what the generator reads: pages, what they link to, and its configuration."""
    for page in pages():
        text = (ROOT / page).read_text()
        place = folder / "pages" / page
        place.parent.mkdir(parents=True, exist_ok=True)
        for link in links(text):
            to = target(page, link)
            if to is None or to.endswith(".md"):
                continue
            if (ROOT / to).is_dir():
                text = text.replace(f"]({link})", f"]({_listing(folder, link, to)})")
            else:
                _copy(folder, to)
        place.write_text(adapted(text))
    config = CONFIG.read_text().replace("nav = []", f"nav = {_toml(menu())}")
    (folder / "zensical.toml").write_text(config)


def _copy(folder: Path, name: str) -> None:
    place = folder / "pages" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / name, place)


def _listing(folder: Path, link: str, to: str) -> str:
    """Return where a link to a folder leads instead: its README.md, or a list of the files in it."""
    name = f"{to}/README.md"
    if name not in pages():
        listed = subprocess.run(
            ["git", "ls-files", to], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        place = folder / "pages" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"- [{each}]({Path(each).relative_to(to)})\n" for each in listed)
        place.write_text(f"# {to}\n\n{rows}")
        for each in listed:
            _copy(folder, each)
    return f"{link.rstrip('/')}/README.md"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(k)} = {_toml(v)}' for k, v in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site into folder/site. What the generator warns of is a failure."""
    source, site = folder / "source", folder / "site"
    for each in (source, site):
        shutil.rmtree(each, ignore_errors=True)
    source.mkdir(parents=True)
    stage(source)
    run = generated(source)
    if run.returncode == 0:
        (source / "site").rename(site)
        _own_worker(site)
    return run


def _own_worker(site: Path) -> None:
    """Take along the one script that the theme would fetch: it lets the search work from the file system."""
    shutil.copyfile(WORKER, site / "assets" / WORKER.name)
    for page in site.rglob("*.html"):
        up = "../" * len(page.relative_to(site).parent.parts)
        page.write_text(page.read_text().replace(FETCHED, f"{up}assets/{WORKER.name}"))


def generated(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=source,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0] if arguments else ROOT / "build" / "docs").resolve()
    run = build(folder)
    if run.returncode:
        print(run.stdout, run.stderr, file=sys.stderr)
    else:
        print(f"file://{folder}/site/index.html")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
