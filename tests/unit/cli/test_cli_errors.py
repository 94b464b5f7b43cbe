"""Errors are three lines on stderr with an exit code, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sojourn.cli import main as entry
from sojourn.cli.failure import EXIT_CODES, ExitCode, Failure, as_failure, show
from sojourn.cli.main import main
from sojourn.cli.server import Server
from sojourn.client.opening import open_transport, target_at
from sojourn.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Overloaded,
    SettingsError,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    Unauthenticated,
)

FAULTS = [
    (SojournError("x"), ExitCode.FAILED),
    (Conflict("x"), ExitCode.FAILED),
    (StoreBroken("x"), ExitCode.FAILED),
    (InvalidInput("x"), ExitCode.USAGE),
    (SettingsError("x"), ExitCode.USAGE),
    (NotFound("x"), ExitCode.NOT_FOUND),
    (Unauthenticated("x"), ExitCode.NOT_ALLOWED),
    (Forbidden("x"), ExitCode.NOT_ALLOWED),
    (StoreUnavailable("x"), ExitCode.UNAVAILABLE),
    (Overloaded("x"), ExitCode.UNAVAILABLE),
    (SojournError("x", code="server_unreachable"), ExitCode.UNAVAILABLE),
    (SojournError("x", code="seat_limit"), ExitCode.DENIED),
    (PermissionError(13, "Permission denied", "/x"), ExitCode.FAILED),
    (KeyError("x"), ExitCode.FAILED),
]


@pytest.mark.parametrize(("error", "code"), FAULTS, ids=lambda x: type(x).__name__)
def test_every_error_is_three_lines(error: Exception, code: ExitCode) -> None:
    failure = as_failure(error)
    assert failure.exit_code is code
    assert all(failure.lines)
    assert not any("\n" in line for line in failure.lines)


def test_what_a_driver_says_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """And square brackets are text, not markup."""
    show(Failure("what\n  happened", why="[red]why[/red]\n\nDETAIL: [1]", todo="do\tthis"))
    assert capsys.readouterr().err.splitlines() == [
        "error: what happened",
        "  why: [red]why[/red] DETAIL: [1]",
        "   do: do this",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["license", "lis"], 2, "Did you mean 'list'?"),
        (["serve", "--nonsense"], 2, "--nonsense"),
        (["serve", "--port", "many"], 2, "--port"),
        (["serve", "--port", "70000"], 2, "port must lie between"),
        (["license", "create"], 2, "NAME"),
        (["license", "create", "Acme", "-f", "editor"], 2, "NAME=SEATS"),
        (["license", "create", "Acme", "--valid-until", "soon"], 2, "2030-01-31"),
        (["hold", "editor", "-u", "ada", "--license-key", "x", "--wait", "long"], 2, "forever"),
        (["seats", "release", "--user", "ada"], 2, "both --user and --feature"),
        (["license", "list"], 5, "SOJOURN_KEY"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 3
    assert said in err


def test_a_bug_names_its_place_and_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        entry.version(as_json=object())  # type: ignore[arg-type]  # a bug
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(entry, "command_tree", broken)
    assert main([]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: of ours (" in err
    assert "Traceback" not in err


def test_interrupts_and_readers_that_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "command_tree", interrupted)
    assert main([]) == 130


def test_an_interrupt_that_makes_something_fail_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is interrupted may fail once more while it gives its connection back."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise StoreUnavailable("The connection is closed.") from OSError("in between")

    monkeypatch.setattr(entry, "command_tree", interrupted)
    assert main([]) == 130


def test_a_closed_pipe_is_no_error() -> None:
    """`sojourn … | head -1` ends quietly."""
    command = f"{sys.executable} -m sojourn serve --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines() == ["Start the server.", "0"]
    assert done.stderr == ""


def test_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0  # alone, it shows its help
    said = capsys.readouterr().out
    assert set(EXIT_CODES) == set(ExitCode)
    assert all(text in said for text in EXIT_CODES.values())


def answering(status: int, body: object, key: str = "sja_x") -> Server:
    """A server that answers everything alike."""
    server = Server("http://there", key, key_from="SOJOURN_KEY")
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    server.__dict__["transport"] = open_transport(target_at(server.url), given=transport)
    return server


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "invalid_policy", ExitCode.USAGE),
        (401, "unauthenticated", ExitCode.NOT_ALLOWED),
        (403, "forbidden", ExitCode.NOT_ALLOWED),
        (404, "license_unknown", ExitCode.NOT_FOUND),
        (409, "conflict", ExitCode.FAILED),
        (500, "internal", ExitCode.FAILED),
        (503, "store_unavailable", ExitCode.UNAVAILABLE),
    ],
)
def test_a_servers_refusal(status: int, code: str, exit_code: ExitCode) -> None:
    """Its own words, what to do in this program's, and no key."""
    problem = {"code": code, "error": "It said no.", "details": "Do so.", "instance": "req_7"}
    with pytest.raises(Failure) as refused:
        answering(status, problem).get("/api/licenses")
    failure = refused.value
    assert failure.exit_code is exit_code
    text = " ".join(failure.lines)
    assert "It said no." in text
    assert "sja_x" not in text
    assert ("req_7" in text) is (status >= 500)


def test_a_stranger_at_the_address() -> None:
    server = Server("http://there", "sja_x")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    server.__dict__["transport"] = open_transport(target_at(server.url), given=transport)
    with pytest.raises(Failure, match="is not Sojourn"):
        server.get("/api/licenses")


def test_nobody_at_the_address() -> None:
    server = Server("http://127.0.0.1:1", "sja_x")
    with pytest.raises(Failure) as away:
        server.get("/api/licenses")
    server.close()
    assert away.value.exit_code is ExitCode.UNAVAILABLE
    assert away.value.why == "Connection refused."


def test_long_lists_are_read_page_by_page() -> None:
    """No more than was asked for, and an empty page ends it."""
    rows = [{"n": n} for n in range(1_200)]

    def answer(request: httpx.Request) -> httpx.Response:
        after, limit = int(request.url.params.get("after", 0)), int(request.url.params["limit"])
        page = rows[after : after + limit]
        following = str(after + limit) if after + limit < len(rows) else None
        return httpx.Response(200, json={"data": {"items": page, "next": following}})

    server = Server("http://there", "sja_x")
    transport = httpx.MockTransport(answer)
    server.__dict__["transport"] = open_transport(target_at(server.url), given=transport)
    assert list(server.pages("/rows", limit=10_000)) == rows
    assert list(server.pages("/rows", limit=700)) == rows[:700]


def test_loading_the_commands_is_quick() -> None:
    """What is heavy is imported by the command that needs it."""
    script = "import sys, sojourn.cli.main; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    heavy = {"rich", "httpx", "ssl", "uvicorn", "sqlalchemy", "alembic"}
    assert not heavy & set(done.stdout.split())
