"""Tables that fit, words for numbers, help for everything."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from sojourn import __version__
from sojourn.cli.main import command_tree, main
from sojourn.cli.output import (
    Column,
    Output,
    build_table,
    count,
    figure,
    span,
    terminal,
    when,
)
from sojourn.cli.seats import show_leases

COLUMNS = [
    Column("User"),
    Column("State"),
    Column("Client", drop=2),
    Column("Last beat (s)", figure=True),
    Column("Left (s)", figure=True, drop=1),
    Column("Lease", whole=True),
]
LEASE = "lse_66chEVBIjfDICzxRJLr5IL"
ROWS = [
    ("ada", "active", "a laptop with a long name", "1.0", "29", LEASE),
    ("a.very.long.user.name@example.com", "suspect", None, "12,345.0", "0", LEASE),
]


def drawn(width: int, **options: Any) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, **options)
    console.print(build_table(COLUMNS, ROWS, width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", range(64, 140, 4))
def test_tables_shrink_to_the_width(width: int) -> None:
    """Ids and figures stay whole; heads too; a row stays one line."""
    lines = drawn(width)
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert all(LEASE in line for line in lines[2:])
    assert "12,345.0" in lines[3]
    assert "Last beat (s)" in lines[0]
    assert "Cli…" not in lines[0]


def test_what_may_be_left_out_goes_first() -> None:
    wide, narrow, narrower = drawn(140)[0], drawn(88)[0], drawn(72)[0]
    assert "Client" in wide
    assert "Client" not in narrow
    assert "Left (s)" in narrow
    assert "Left (s)" not in narrower
    assert "a.very.long.user.name@example.com" in drawn(140)[3]


def test_figures_are_right_aligned() -> None:
    lines = drawn(140)
    end = lines[0].index("Last beat (s)") + len("Last beat (s)")
    assert lines[2][:end].endswith("1.0")
    assert lines[3][:end].endswith("12,345.0")


def test_states_have_colors_and_words() -> None:
    """Only on a terminal, and only if they are wanted."""
    assert "\x1b[32mactive" in "\n".join(drawn(140, force_terminal=True))
    assert "\x1b[33msuspect" in "\n".join(drawn(140, force_terminal=True))
    assert "\x1b[3" not in "\n".join(drawn(140, force_terminal=True, no_color=True))
    assert "\x1b" not in "\n".join(drawn(140))


def test_into_a_pipe_everything_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(COLUMNS, [("u" * 300, *ROWS[0][1:])])
    assert "u" * 300 in capsys.readouterr().out


def test_json_is_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).json([{"a": "ü"}])
    Output(as_json=True).json({"a": 1}, lines=True)
    first, second = capsys.readouterr().out.split("]\n")
    assert json.loads(first + "]") == [{"a": "ü"}]
    assert second == '{"a":1}\n'


def test_words_for_numbers() -> None:
    assert [count(n, "seat") for n in (0, 1, 1200)] == ["0 seats", "1 seat", "1,200 seats"]
    assert count(2, "process", "processes") == "2 processes"
    assert [span(s) for s in (0.05, 0.949, 3, 5.06, 59.94)] == [
        "0.05 s",
        "0.95 s",
        "3 s",
        "5.1 s",
        "59.9 s",
    ]
    assert [span(s) for s in (60, 92, 3600, 5400, 604800)] == [
        "1 min",
        "1 min 32 s",
        "1 h",
        "1 h 30 min",
        "7 days",
    ]
    assert [figure(s) for s in (None, 0.04, 9.96, 1234.5)] == [None, "0.0", "10.0", "1,234"]


def test_instants_are_the_readers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert when(None) is None
    assert len(when("2026-11-22T00:13:17.742Z") or "") == len("2026-11-22 00:13:17")


def commands(
    group: Any = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with its path."""
    group = command_tree() if group is None else group
    yield path, group
    for name, child in getattr(group, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", [p for p, _ in commands()], ids=lambda p: " ".join(p) or "sojourn")
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """It fits the width, says what the command does, and what each flag is."""
    assert main([*path, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0].strip().endswith(".")
    assert f"Usage: {' '.join(('sojourn', *path))}" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("path", "command"), [(p, c) for p, c in commands() if not hasattr(c, "commands")]
)
def test_every_flag_is_explained(path: tuple[str, ...], command: Any) -> None:
    silent = [p.name for p in command.params if not getattr(p, "help", None)]
    assert silent == []


def test_whatever_prints_data_prints_json_too() -> None:
    """`serve` prints no data; `secret new` prints one bare word for scripts, and JSON if asked."""
    without = {
        " ".join(path)
        for path, command in commands()
        if not hasattr(command, "commands") and "as_json" not in {p.name for p in command.params}
    }
    assert without == {"serve"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version"}
    for asked in ("version", "--version", "-V"):
        assert main([asked]) == 0
        assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["secret", "new"]) == 0
    assert len(capsys.readouterr().out.strip()) == 64


def lease(user: str, license_: str, silent: float, **more: Any) -> dict[str, Any]:
    return {
        "leaseId": f"lse_{user:0<22}",
        "licenseId": f"lic_{license_:0<22}",
        "licenseName": license_,
        "feature": "editor",
        "userId": user,
        "clientId": "desk",
        "state": "active",
        "heldFor": 311.0,
        "lastBeatAgo": silent,
        "expiresIn": 42.0,
    } | more


class TestSeats:
    LEASES = (
        lease("ada", "Beta", 3.0),
        lease("bob", "Alpha", 1.0),
        lease("cho", "Alpha", 88.0, state="suspect"),
    )

    @pytest.mark.parametrize("width", [60, 80, 120, 200])
    def test_are_told_by_license_the_most_silent_first(
        self, width: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = printed(width, monkeypatch, lambda out: show_leases(out, [*self.LEASES], wide=False))
        order = [line.split()[0] for line in said.splitlines() if line[:3] in ("ada", "bob", "cho")]
        assert order == ["cho", "bob", "ada"]
        assert said.count("Alpha") == 2
        assert ("lse_" in said) is (width >= 120)  # ids go first
        assert ("--wide" in said) is (width < 120)
        assert all(len(line) <= width for line in said.splitlines())

    def test_are_shown_whole_when_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = printed(40, monkeypatch, lambda out: show_leases(out, [*self.LEASES], wide=True))
        assert all(each["leaseId"] in said for each in self.LEASES)
        assert "Held (min)" in said


def test_wrapped_lines_hang_below_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(40, monkeypatch, lambda out: out.hang("✓ ok  ", "one two three " * 6))
    lines = said.splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("✓ ok  one")
    assert all(line.startswith("      ") and line[6] != " " for line in lines[1:])


def printed(width: int, monkeypatch: pytest.MonkeyPatch, say: Callable[[Output], None]) -> str:
    """Return what is printed on a terminal that is so wide."""
    file = io.StringIO()
    console = terminal(file=file, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(Output, "console", console)
    say(Output())
    return file.getvalue()
