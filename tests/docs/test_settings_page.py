"""The page of settings names each one, with its default and what `sojourn serve --help` says of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sojourn.cli.source import CLIENT_FIELDS, HELP
from sojourn.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "settings.md"
FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def row(name: str) -> str:
    """The row of a setting, as the page has it: where it is missing or old, put this one in."""
    default = FIELDS[name].default
    if isinstance(default, bool):
        shown = "on" if default else "off"
    elif isinstance(default, float):
        shown = f"`{default:g}`"
    else:
        shown = f"`{default}`" if default else ""
    flag = "--" + name.replace("_", "-")
    about = HELP[name][2].replace("|", "\\|")
    return f"| `SOJOURN_{name.upper()}` | `{flag}` | {shown} | {about} |"


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in CLIENT_FIELDS])
def test_each_setting_is_on_the_page(name: str) -> None:
    assert row(name) in PAGE.read_text()


@pytest.mark.parametrize("name", CLIENT_FIELDS)
def test_commands_settings_are_on_the_page(name: str) -> None:
    assert f"`SOJOURN_{name.upper()}`" in PAGE.read_text()


def test_the_page_names_nothing_that_is_not_there() -> None:
    named = {line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    assert named == {f"SOJOURN_{name.upper()}" for name in FIELDS}
