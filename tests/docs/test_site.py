"""The documentation's site says word by word what its pages say, and fetches nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

SITE = Path(__file__).parents[2] / "docs" / "site"
COUNTED = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "ol", "ul", "li", "table", "tr", "td", "th"),
    *("pre", "code", "strong", "em", "a", "img", "blockquote"),
}
"""Elements of which the site has as many as a page; paragraphs within lists may differ."""


def builder() -> Any:
    """Return docs/site/build.py as a module, which finds its neighbor as if it were run."""
    sys.path.insert(0, str(SITE))
    try:
        spec = importlib.util.spec_from_file_location("build_site", SITE / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SITE))
    return module


BUILD = builder()


class Content(HTMLParser):
    """What a reader sees of a page: its words, its code blocks, how many elements of each kind."""

    def __init__(self, *, article: bool) -> None:
        super().__init__()
        self.inside = 0 if article else 1
        self.skipping = False
        self.words: list[str] = []
        self.elements: Counter[str] = Counter()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "article":
            self.inside = 1
        if not self.inside:
            return
        self.skipping = known.get("class") == "headerlink"
        if tag in COUNTED and not self.skipping and known.get("id") != "__skip":
            self.elements[tag] += 1
        if tag[0] == "h" and "id" in known:
            self.ids.append(known["id"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.inside = 0
        self.skipping = False

    def handle_data(self, data: str) -> None:
        if self.inside and not self.skipping:
            self.words.append(data)

    def text(self) -> str:
        """Return the words without white space: where lines end in paragraphs is nobody's matter."""
        return re.sub(r"\s+", "", "".join(self.words))


def read(html: str, *, article: bool) -> Content:
    content = Content(article=article)
    content.feed(html)
    return content


def place(page: str) -> str:
    """Return where the site has a page: a folder's README.md is its index."""
    return re.sub(r"README\.html$", "index.html", page.removesuffix(".md") + ".html")


def rendered(page: str) -> str:
    """Return a page as a code host shows it."""
    return str(MarkdownIt("commonmark").enable("table").render((BUILD.ROOT / page).read_text()))


def test_the_site_is_as_the_pages_are(tmp_path: Path) -> None:
    """In one test, for the site is built once: about four seconds of a processor."""
    run = BUILD.build(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    site = tmp_path / "site"
    different = {}
    for page in BUILD.pages():
        written = read(rendered(page), article=False)
        shown = read((site / place(page)).read_text(), article=True)
        if (written.text(), written.elements) != (shown.text(), shown.elements):
            different[page] = written.elements - shown.elements, shown.elements - written.elements
    assert different == {}
    assert fetched(site) == set()
    assert "seat_limit" in (site / "search.json").read_text()


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    """To a page or to a section, so that a site with such a link is never made."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "zensical.toml").write_text(BUILD.CONFIG.read_text())
    page = tmp_path / "pages" / "README.md"
    for text, good in (
        ("# Here\n\n[there](#here)\n", True),
        ("# Here\n\n[there](#there)\n", False),
        ("# Here\n\n[there](there.md)\n", False),
    ):
        page.write_text(text)
        assert (BUILD.generated(tmp_path).returncode == 0) is good, text


def test_the_menu_has_four_kinds_of_pages() -> None:
    kinds = {name: below for each in BUILD.menu() for name, below in each.items()}
    assert list(kinds) == ["Sojourn", "Tutorials", "How to", "Reference", "Explanation"]
    assert all(kinds.values())
    explained = json.dumps(kinds["Explanation"])
    decisions = {f"docs/adr/{each.name}" for each in (BUILD.ROOT / "docs/adr").glob("0*.md")}
    assert {each for each in decisions if each not in explained} == set()


def fetched(site: Path) -> set[str]:
    """Return the addresses that a browser would ask elsewhere for, to show a page."""
    found = set()
    for page in site.rglob("*.html"):
        found |= set(
            re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]+)"', page.read_text())
        )
    for sheet in site.rglob("*.css"):
        found |= set(re.findall(r"(?:url\(|@import )[\"']?([a-z]+:[^\"')]+)", sheet.read_text()))
    return {
        each for each in found if re.match(r"[a-z]+:|//", each) and not each.startswith("data:")
    }
