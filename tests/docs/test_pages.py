"""Every link of every page leads somewhere, and `sojourn` takes every command that a page shows."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from sojourn.cli.help import Group
from sojourn.cli.main import command_tree
from sojourn.cli.sweep import RunUnlessNamed

ROOT = Path(__file__).parents[2]
ENDS = re.compile(r"\s(?:\|{1,2}|&&|;|>>?|2>&1|&)(?:\s|$)")
"""Where a command ends in a line of a shell."""


def pages() -> list[str]:
    """List the Markdown files that belong to the project, whatever else lies about."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in listed.splitlines() if (ROOT / name).is_file())


@cache
def tokens(page: str) -> Any:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())


def inline(page: str) -> Iterator[Any]:
    for token in tokens(page):
        yield from token.children or ()


@cache
def anchors(page: str) -> set[str]:
    """Return a page's anchors, as code hosts make them from headings."""
    found: dict[str, int] = {}
    names = set()
    previous = None
    for token in tokens(page):
        if token.type == "inline" and previous is not None and previous.type == "heading_open":
            text = "".join(
                each.content for each in token.children if each.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            names.add(f"{slug}-{count}" if count else slug)
        previous = token
    return names


def links(page: str) -> set[str]:
    found = {str(each.attrs["href"]) for each in inline(page) if each.type == "link_open"}
    found |= {str(each.attrs["src"]) for each in inline(page) if each.type == "image"}
    html = "".join(each.content for each in tokens(page) if each.type == "html_block")
    html += "".join(each.content for each in inline(page) if each.type == "html_inline")
    return found | set(re.findall(r'(?:src|href)="([^"]+)"', html))


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    wrong = []
    for link in links(page):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue  # an address elsewhere: not for a test without a network
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists():
            wrong.append(link)
        elif anchor and target.suffix == ".md":
            name = str(target.resolve().relative_to(ROOT))
            if anchor not in anchors(name):
                wrong.append(link)
    assert wrong == []


def test_the_index_leads_to_every_page() -> None:
    """Whoever comes to docs/README.md finds each guide and each page of the reference."""
    index = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in links("docs/README.md")}
    wanted = {
        ROOT / page
        for page in pages()
        if page.startswith(("docs/guide/", "docs/reference/", "docs/campaigns"))
    }
    assert {str(each.relative_to(ROOT)) for each in wanted - index} == set()


def shell_lines(page: str) -> Iterator[str]:
    """Yield the commands of a page's shell blocks, each on a line of its own."""
    for token in tokens(page):
        if token.type == "fence" and token.info.strip() in ("sh", "", "console", "bash"):
            yield from token.content.replace("\\\n", " ").splitlines()


def shown(page: str) -> Iterator[tuple[str, bool]]:
    """Yield each command of ours that a page shows, and whether it is one to be run as it stands."""
    for line in shell_lines(page):
        for piece in ENDS.split(re.sub(r"(^|\s)#.*$", "", line)):
            # what is within $(…) is a command as well
            for text in (*re.findall(r"\$\((sojourn [^)]*)\)", piece), piece):
                found = re.search(
                    r"^(?:sudo (?:-u \w+ )?|\w+=\S* |docker compose exec \w+ |\$ )*"
                    r"(?:\S*/)?sojourn (?P<rest>.*)$",
                    text.strip(),
                )
                if found and " docker " not in f" {text} ":
                    yield found["rest"], True
    for token in inline(page):
        if token.type == "code_inline" and token.content.startswith("sojourn "):
            yield token.content.removeprefix("sojourn "), False


@cache
def root() -> Any:
    return command_tree()


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """Find the command that words lead to, and what is left of them."""
    command: Any = root()
    while words and isinstance(command, Group) and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if isinstance(command, RunUnlessNamed) and words and words[0].startswith("--"):
        command = command.commands["run"]
    return command, words


def fault(text: str, *, whole: bool) -> str:
    """Say why `sojourn` would not take this; empty if it would."""
    command, rest = resolved(shlex.split(text))
    if isinstance(command, Group):
        options = {"--help", "-h", "--version", "-V"}
        if not rest and not whole:
            return ""
        return "" if rest and set(rest) <= options else f"no command {' '.join(rest)!r}"
    known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)} | {
        "--help",
        "-h",
    }
    if unknown := {each.partition("=")[0] for each in rest if re.match(r"--?[a-z]", each)} - known:
        return f"no option {', '.join(sorted(unknown))}"
    if not whole or "--help" in rest or any("…" in each for each in rest):
        return ""
    try:
        command.make_context(command.name, list(rest))
    except Exception as wrong:  # noqa: BLE001 - whatever the parser says is what a reader would read
        return f"{type(wrong).__name__}: {wrong}"
    return ""


@pytest.mark.parametrize("page", pages())
def test_commands_that_are_shown_are_taken(page: str) -> None:
    wrong = {}
    for text, whole in shown(page):
        plain = text.replace("\\|", "|")
        if not whole and re.search(r"[…|]|^[A-Z]", plain.partition(" --")[0]):
            continue  # words about commands: "sojourn license, seats …"
        if said := fault(plain, whole=whole):
            wrong[text] = said
    assert wrong == {}


def test_a_command_that_is_none_is_told() -> None:
    assert fault("license list", whole=True) == ""
    assert fault("license lst", whole=True) == "no command 'lst'"
    assert fault("seats list --bogus", whole=False) == "no option --bogus"
    assert "Missing" in fault("seats waiting", whole=True)


def blocks(page: str, *languages: str) -> list[str]:
    return [
        each.content
        for each in tokens(page)
        if each.type == "fence" and each.info.strip() in languages
    ]


@pytest.mark.parametrize("page", [each for each in pages() if blocks(each, "python")])
def test_python_that_is_shown_can_be_imported(page: str) -> None:
    """It compiles, and takes from our modules what is in them."""
    for text in blocks(page, "python"):
        whole = re.sub(
            r"(?m)^( +)\.\.\.$(?=\n *(?:\"|\]))", "", text
        )  # of a list: "and what is yours"
        for node in ast.walk(ast.parse(whole)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sojourn"):
                module = importlib.import_module(node.module or "")
                lacking = [each.name for each in node.names if not hasattr(module, each.name)]
                assert lacking == [], node.module


@pytest.mark.parametrize("page", [each for each in pages() if blocks(each, "json", "yaml", "toml")])
def test_documents_that_are_shown_are_whole(page: str) -> None:
    for text in blocks(page, "json"):
        assert json.loads(text) is not None
    for text in blocks(page, "yaml"):
        assert list(yaml.safe_load_all(text))
    for text in blocks(page, "toml"):
        assert tomllib.loads(text)
