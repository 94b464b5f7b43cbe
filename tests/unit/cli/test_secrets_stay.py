"""No command prints a secret that it was given, whatever happens: on stdout, on stderr, in JSON."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sojourn
from sojourn.cli import logs
from sojourn.cli.failure import Failure, show
from sojourn.cli.logs import ConsoleFormatter
from sojourn.cli.main import command_tree, main
from sojourn.cli.source import read
from sojourn.log import get_logger, mask_text, sentences
from sojourn.settings import Settings

SECRET = "planted-Signing-0123456789-abcdefghij"
ADMIN = "planted-Admin-0123456789-abcdefghijklm"
KEY = "planted-Operator-0123456789-abcdefghij"
LICENSE = "planted-License-0123456789-abcdefghijk"
PASSWORD = "planted@Store:Pass/word"  # with all that nobody encodes
PIECES = ("planted", "Store:Pass", "Pass/word")
STORES = (
    f"postgresql://shop:{PASSWORD}@127.0.0.1:1/shop",
    f"mysql://shop:{PASSWORD}@127.0.0.1:1/shop",
    f"redis://:{PASSWORD}@127.0.0.1:1/0",
    f"postgresql://shop:{PASSWORD}@[::1/shop",  # a host that cannot be read
    f"nonsense://shop:{PASSWORD}@127.0.0.1:1/shop",
    f"postgresql://shop:{PASSWORD}@127.0.0.1:99999999/shop",
    "postgresql://shop@127.0.0.1:1/shop?password=planted-query",
    "redis+sentinel://127.0.0.1:1/main?sentinel_password=planted-query",
)
ISSUERS = json.dumps(
    [{"issuer": "https://idp", "jwks_url": f"https://me:{PASSWORD}@idp/keys", "audience": "a"}]
)
FLAGS = {
    "--secret": SECRET,
    "--admin-key": ADMIN,
    "--metrics-key": ADMIN,
    "--key": KEY,
    "--license-key": LICENSE,
    "--jwt-issuers": ISSUERS,
}
URLS = ("--store", "--ledger", "--express", "--from")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, each in inner.items():
        yield from leaves(each, (*path, name))


COMMANDS = dict(leaves(command_tree()))
PLAIN = {("version",), ("secret", "new"), ("demo",)}
"""Commands that are given nothing secret, of which one takes its time."""


def options(command: Any) -> set[str]:
    return {name for each in command.params for name in each.opts}


def needed(command: Any) -> list[str]:
    """Something for each argument and option that a command cannot do without."""
    line: list[str] = []
    for each in command.params:
        if each.required and each.opts[0] not in FLAGS:
            value = {"--role": "viewer"}.get(each.opts[0], "editor")
            line += [each.opts[0], value] if each.opts[0].startswith("-") else [value]
    return line


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder and an environment of its own, and the logging that was there afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(f"SOJOURN_{name.upper()}", raising=False)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield tmp_path
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    for name in logs.CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


def told(capfd: pytest.CaptureFixture[str], line: list[str]) -> str:
    main(line)
    said = capfd.readouterr()
    return said.out + said.err


@pytest.mark.parametrize("path", sorted(set(COMMANDS) - PLAIN), ids=" ".join)
@pytest.mark.parametrize("by", ["flags", "environment"])
def test_no_command_prints_what_it_was_given(
    path: tuple[str, ...],
    by: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each command that there is, with every secret it takes, against servers that are not there."""
    command = COMMANDS[path]
    takes = options(command)
    lines = [[*path, *needed(command), *(["--json"] if as_json else [])] for as_json in (0, 1)]
    for url in STORES:
        if by == "environment":
            for name, value in FLAGS.items():
                monkeypatch.setenv("SOJOURN_" + name[2:].replace("-", "_").upper(), value)
            for name in ("STORE", "LEDGER", "EXPRESS", "ADOPT_FROM"):
                monkeypatch.setenv(f"SOJOURN_{name}", url)
            given: list[str] = []
        else:
            given = [x for name, value in FLAGS.items() if name in takes for x in (name, value)]
            given += [x for name in URLS if name in takes for x in (name, url)]
        server = ["--url", f"http://me:{PASSWORD}@127.0.0.1:1"] if "--url" in takes else []
        for line in lines:
            said = told(capfd, [*line, *given, *server])
            assert not [piece for piece in PIECES if piece in said], said
        if not {"--store", "--from"} & takes:
            return  # the others have seen all there is


@pytest.mark.parametrize("variable", ["SOJOURN_ADMIN_KEY", "SOJOURN_METRICS_KEY"])
@pytest.mark.parametrize("where", ["what", "why", "todo"])
def test_a_bug_does_not_print_them_either(
    where: str, variable: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver, a library or a bug may put anything into its message."""
    monkeypatch.setenv(variable, ADMIN)
    parts = {"what": "a", "why": "b", "todo": "c"} | {
        where: f"cannot use {STORES[0]} with {ADMIN}, Authorization: Bearer {KEY}, sja_{KEY}"
    }
    show(Failure(parts["what"], why=parts["why"], todo=parts["todo"]))
    said = capfd.readouterr().err
    assert "cannot use" in said
    assert not [piece for piece in PIECES if piece in said.replace("sja_plan…", "")]


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:99999999/x",
        "http://[::1/x",
        "//[/",
        "http://a:b@c:d/",
        "http://\u2100.example/",
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_doctor_outside_prints_nothing_of_the_sign_in(
    place: str, as_json: bool, elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An application may send a browser to an address that nobody can read: that is a finding."""

    class Application(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", place.encode().decode("latin-1"))
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # as http.server calls it

        def log_message(self, *_: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    try:
        (elsewhere / "login").write_text(
            "POST /login\nAuthorization: Bearer planted-header\n\nname=canary&password=planted-body"
        )
        line = ["doctor", "--url", f"http://127.0.0.1:{web.server_port}/", "--login", "login"]
        code = main(
            [*line, "--area", "settings", "--area", "cookies", *(["--json"] if as_json else [])]
        )
    finally:
        web.shutdown()
        web.server_close()
    said = capfd.readouterr()
    assert code in (7, 8)  # found, and no bug of ours
    assert "planted" not in said.out + said.err


def test_every_logger_is_one_that_masks() -> None:
    """Library code speaks through `sojourn.log` alone; `cli/logs.py` sets logging up, masked."""
    package = Path(sojourn.__file__).parent
    raw = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "logging.getLogger(" in file.read_text() and file.name not in ("log.py", "logs.py")
    ]
    assert raw == []


@pytest.mark.parametrize("how", ["variable", "file", "settings file"])
def test_a_secret_by_hand_is_known_however_it_came(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no prefix to be told by, and a log may be about anything."""
    monkeypatch.setattr("sojourn.log._remembered", set())
    planted = f"planted {how} 0123456789 abcdefgh"
    config = tmp_path / "sojourn.toml"
    config.write_text(f'admin_key = "{planted}"' if how == "settings file" else "")
    (tmp_path / "key").write_text(planted)
    if how == "variable":
        monkeypatch.setenv("SOJOURN_ADMIN_KEY", planted)
    elif how == "file":
        monkeypatch.setenv("SOJOURN_ADMIN_KEY_FILE", str(tmp_path / "key"))
    assert read({}, config).settings.admin_key == planted
    assert "planted" not in mask_text(f"somebody sent {planted}, and it failed")


class Recording(logging.Handler):
    """A handler of an application's own, which writes a failure anew, variables and all."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said += record.getMessage() + (record.exc_text or "")
        if record.exc_info:
            failed = traceback.TracebackException(*record.exc_info, capture_locals=True)
            self.said += "".join(failed.format())


@pytest.mark.parametrize("speak", ["facts", "sentence"])
def test_handlers_of_an_application_get_no_failure_to_write_anew(speak: str) -> None:
    handler = Recording()
    logger = logging.getLogger(f"sojourn.tests.{speak}")
    logger.addHandler(handler)
    try:
        address = f"postgresql://me:{PASSWORD}@db/x"
        raise ValueError(address)
    except ValueError:
        if speak == "facts":
            get_logger(logger.name).exception("it_failed")
        else:
            sentences(logger.name).exception("It failed.")
    finally:
        logger.removeHandler(handler)
    assert "ValueError" in handler.said
    assert not [piece for piece in PIECES if piece in handler.said]


def test_a_failure_obeys_no_terminal() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), None)
    record.exc_text = "ValueError: \x1b]0;owned\x07 \u202e\nnext line"
    said = ConsoleFormatter(colors=False).format(record)
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\nnext line" in said
