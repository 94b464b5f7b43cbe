"""`--help`, laid out as `cargo` and `uv` do: what it does, usage, then the flags by topic.

Our own because typer's rich help takes longer to load than most commands take to run, and spends a
terminal's width on boxes.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDTH_MAX = 100  # columns: longer lines are hard to read
LEFT_MAX = 30  # columns for flags; a longer one has its text on the next line
INDENT = 2
LAST = ("Options", "Server")


class Command(TyperCommand):
    """A command with our help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(render(self, ctx))


class Group(TyperGroup):
    """A group of commands that shows its help when called alone, and calls that a success."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(render(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        alone = not args and not ctx.resilient_parsing
        return super().parse_args(ctx, ["--help"] if alone else args)


def render(command: Any, ctx: Any) -> str:
    """Write the help of a command or group."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX)
    first, *rest = paragraphs(command.help or "")
    pieces = [piece.strip("{}") for piece in command.collect_usage_pieces(ctx)]
    usage = " ".join([ctx.command_path, *pieces])
    sections = list(_sections(command, ctx))
    left = min(LEFT_MAX, max((len(n) for _, rows in sections for n, _ in rows), default=0))
    parts = [
        "\n".join(_wrapped(first, width)),
        "\n".join(_wrapped(f"{_bold('Usage:')} {usage}", width, subsequent=" " * 7)),
        *("\n".join(_wrapped(text, width)) for text in rest),
        *(_section(title, rows, left, width) for title, rows in sections),
    ]
    if command.epilog:
        parts.append(command.epilog)
    return "\n\n".join(parts) + "\n"


def paragraphs(text: str) -> list[str]:
    """Split a docstring into paragraphs, each on one line."""
    return [" ".join(p.split()) for p in textwrap.dedent(text).strip().split("\n\n")]


def _sections(command: Any, ctx: Any) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name in command.list_commands(ctx) if isinstance(command, Group) else ():
        child = command.get_command(ctx, name)
        if not child.hidden:
            panel = child.rich_help_panel or "Commands"
            found.setdefault(panel, []).append((name, paragraphs(child.help or "")[0]))
    for param in command.get_params(ctx):
        if getattr(param, "hidden", False):
            continue
        argument = param.param_type_name == "argument"
        panel = getattr(param, "rich_help_panel", None) or ("Arguments" if argument else "Options")
        name = str(param.display_name_raw) if argument else _flags(param)
        found.setdefault(panel, []).append((name, _text(param)))
    for panel in LAST:  # what most commands share comes last
        if panel in found:
            found[panel] = found.pop(panel)
    yield from found.items()


def _flags(param: Any) -> str:
    longs = [o for o in param.opts if o.startswith("--")]
    shorts = [o for o in param.opts if not o.startswith("--")]
    name = ", ".join([*shorts, *longs])
    if not shorts:
        name = "    " + name  # long names stand below each other
    if param.secondary_opts:
        return name.replace("--", "--[no-]")
    return name if param.is_flag or param.name == "help" else f"{name} {param.metavar or 'TEXT'}"


def _text(param: Any) -> str:
    text = str(getattr(param, "help", "") or "")
    default = param.default
    told = isinstance(default, str | int | float) and not isinstance(default, bool)
    if told and getattr(param, "show_default", False):
        text += f" [default: {getattr(default, 'value', default)}]"
    if param.required and param.param_type_name != "argument":
        text += " [required]"
    return text.strip()


def _section(title: str, rows: list[tuple[str, str]], left: int, width: int) -> str:
    lines = [_bold(title + ":")]
    margin = INDENT + left + 2
    for name, text in rows:
        body = _wrapped(text, width - margin) or [""]
        if len(name) <= left:
            lines.append(
                f"{' ' * INDENT}{_flag(name)}{' ' * (left - len(name))}  {body[0]}".rstrip()
            )
            body = body[1:]
        else:
            lines.append(f"{' ' * INDENT}{_flag(name)}")
        lines += [" " * margin + line for line in body]
    return "\n".join(lines)


def _wrapped(text: str, width: int, subsequent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 20),
        subsequent_indent=subsequent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _colored() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _bold(text: str) -> str:
    return typer.style(text, bold=True) if _colored() else text


def _flag(text: str) -> str:
    return typer.style(text, fg="cyan") if _colored() else text
