"""Pages are written in CommonMark, as code hosts show them; the site's generator reads Python-Markdown.

`adapted` rewrites what the two read differently. A test holds the site to the pages, word by word.
"""

from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

INDENT = 4
"""Spaces by which Python-Markdown wants the content of a list's item indented."""


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def adapted(text: str) -> str:
    tokens = parsed(text)
    lines = text.split("\n")
    columns = _columns(tokens, lines)
    code = _code_lines(tokens)
    tables = _lines_of(tokens, "table_open")
    before = _blocks_without_a_blank_line(tokens, lines)
    out = []
    for number, line in enumerate(lines):
        if number in before:
            out.append("")
        body = _indented(line, columns.get(number, []))
        if number in tables:
            body = _piped(body)
        out.append(body if number in code else _escaped(body))
    return "\n".join(out)


def _columns(tokens: list[Token], lines: list[str]) -> dict[int, list[int]]:
    """Return for each line the columns at which the contents of its list items begin, outermost first.

    On the line of an item's marker its own column is left out.
    """
    found: dict[int, list[int]] = {}
    for token in tokens:
        if token.type == "list_item_open" and token.map:
            start, end = token.map
            above = found.get(start, [])
            marker = re.match(r"(?:[-*+]|\d+[.)])\s+", lines[start][(above or [0])[-1] :].lstrip())
            if marker is None:
                raise ValueError(f"line {start + 1} begins no item: {lines[start]!r}")
            lead = lines[start][(above or [0])[-1] :]
            own = (above or [0])[-1] + len(lead) - len(lead.lstrip()) + marker.end()
            for number in range(start + 1, end):
                found[number] = [*above, own]
            found.setdefault(start, above)
    return found


def _indented(line: str, columns: list[int]) -> str:
    """Move a line from the columns of its items to multiples of INDENT."""
    if not columns or not line.strip():
        return line
    lead = len(line) - len(line.lstrip())
    # a paragraph's line may hang back ("lazy"): it belongs to its item all the same
    return " " * (INDENT * len(columns) + max(0, lead - columns[-1])) + line.lstrip()


def _lines_of(tokens: list[Token], *types: str) -> set[int]:
    return {line for each in tokens if each.type in types and each.map for line in range(*each.map)}


def _code_lines(tokens: list[Token]) -> set[int]:
    return _lines_of(tokens, "fence", "code_block", "html_block")


def _blocks_without_a_blank_line(tokens: list[Token], lines: list[str]) -> set[int]:
    """Return the lines that need an empty one before them.

    They are those of blocks after a paragraph or a table, and of items after one of several paragraphs.
    """
    openers = (
        *("bullet_list_open", "ordered_list_open", "table_open"),
        *("fence", "blockquote_open", "html_block"),
    )
    found = {
        each.map[0]
        for each in tokens
        if each.type in openers and each.map and not _begins_item(lines, each.map[0])
    }
    for before, after in pairwise(each for each in tokens if each.type == "list_item_open"):
        if before.map and after.map and "" in map(str.strip, lines[slice(*before.map)]):
            found.add(after.map[0])
    return {line for line in found if line and lines[line - 1].strip()}


def _begins_item(lines: list[str], start: int) -> bool:
    """True if the block stands in an item's first line, or right below it."""
    return any(
        re.match(r"\s*(?:[-*+]|\d+[.)])\s", each) for each in lines[max(0, start - 1) : start]
    )


def _piped(row: str) -> str:
    r"""Write a pipe within code as it is: there `\|` is two characters."""
    return re.sub(r"(`+)(?:(?!\1).)+\1", lambda code: code[0].replace("\\|", "|"), row)


def _escaped(line: str) -> str:
    """Write a letter that CommonMark lets escape, and Python-Markdown does not, as an entity."""
    pieces = re.split(r"(`+(?:[^`]+)`+)", line)
    pieces[::2] = [each.replace("\\<", "&lt;").replace("\\|", "&#124;") for each in pieces[::2]]
    return "".join(pieces)
