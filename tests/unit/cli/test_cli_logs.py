"""No token, key or credential gets into a log, however it came there."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.cli import logs
from sojourn.errors import SettingsError
from sojourn.log import get_logger, mask_text
from sojourn.settings import Settings
from sojourn.token import TokenKind

LEASE = "sjl_gqd2ZXJzaW9uAadwb29sX2lk-_gqd2ZXJzaW9uAadwb29sX2lk"
RANDOM = "0aZ9" * 12 + "x"  # as long as a real one, and the same in every process
TOKENS = [*(kind + RANDOM for kind in TokenKind if kind is not TokenKind.LEASE), LEASE]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """What goes to stderr; everything is as before afterwards."""
    root, level = list(logging.root.handlers), logging.root.level
    yield capsys
    logging.root.handlers[:] = root
    logging.root.setLevel(level)
    for name in logs.CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("token", TOKENS, ids=[token[:4] for token in TOKENS])
def test_tokens_keep_their_kind_and_lose_the_rest(token: str) -> None:
    for text in (token, f"key={token}", f'{{"k":"{token}"}}', f"b'{token}'", f"/x/{token}?y"):
        masked = mask_text(text)
        assert token[8:] not in masked
        assert token[:8] + "…" in masked


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer an-admin-key-of-my-own",
        "authorization=Basic YWRtaW46aHVzaA==",
        "headers={'authorization': 'Bearer an-admin-key-of-my-own', 'accept': '*/*'}",
        "[(b'authorization', b'Bearer an-admin-key-of-my-own')]",
        '{"Authorization":"Bearer an-admin-key-of-my-own"}',
        "X-Session-Token: an-admin-key-of-my-own",
        "Cookie: session=an-admin-key-of-my-own; other=1",
        "sent Bearer an-admin-key-of-my-own to it",
        "postgresql://me:an-admin-key-of-my-own@db/x",
        "postgresql://:YWRtaW46aHVzaA==@db/x",
        "postgresql://me@db/x?password=an-admin-key-of-my-own&sslmode=require",
        "redis+sentinel://db/x?sentinel_password=an-admin-key-of-my-own",
        "host=db password='an-admin-key-of-my-own' user=me",
        "postgresql://me:my@an-admin-key-of-my-own@db/x",
        "postgresql://me:my/an-admin-key-of-my-own@db:5432/x",
        "cannot read redis://:7@an-admin-key-of-my-own@db:6379/0, it says",
    ],
)
def test_credentials_are_masked_in_any_spelling(text: str) -> None:
    masked = mask_text(text)
    assert "an-admin-key-of-my-own" not in masked
    assert "YWRtaW46" not in masked
    assert "…" in masked


@pytest.mark.parametrize(
    "text",
    [
        "lease lse_7Hs expired after 90 s",
        "http://127.0.0.1:8700/readyz",
        "the cookie jar is empty",
        "http://127.0.0.1:8700/users/ann@example.org",
        "sqlite:///./sojourn-data/sojourn.db",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize("form", ["json", "console"])
def test_every_way_into_the_log_is_masked(log: pytest.CaptureFixture[str], form: str) -> None:
    """Ours and other libraries': messages, fields, nested fields, exceptions."""
    logs.configure(Settings(log_format=form, log_level="debug"))
    token = TOKENS[0]
    get_logger("ours").info(f"saw {token}", field=token, deep={"list": [token]})
    get_logger("ours").info("by_name", key="hush-hush", headers={"Cookie": "hush-hush"})
    logging.getLogger("uvicorn.error").warning("it sent %s", token, extra={"more": token})
    try:
        raise ValueError(f"bad token {token}")
    except ValueError:
        get_logger("ours").exception("failed")
        logging.getLogger("other").exception("failed")
    text = log.readouterr().err
    assert text.count("…") >= 8
    assert token[8:] not in text
    assert "hush-hush" not in text


def test_machines_get_one_object_a_line(log: pytest.CaptureFixture[str]) -> None:
    """Beginning with when, how bad, and what."""
    logging.getLogger("uvicorn.error").setLevel(
        logging.INFO
    )  # as a server in this process leaves it
    logs.configure(Settings(log_format="json"))
    get_logger("ours").warning("returned_after_outage", seconds=1.5)
    logging.getLogger("uvicorn.error").info("chatter")
    (line,) = log.readouterr().err.splitlines()
    said = json.loads(line)
    assert list(said)[:3] == ["timestamp", "level", "message"]
    assert (said["level"], said["message"]) == ("warning", "returned_after_outage")
    assert (said["seconds"], said["logger"]) == (1.5, "ours")


@pytest.mark.parametrize("settings", [Settings(log_level="loud"), Settings(log_format="xml")])
def test_unknown_levels_and_formats_are_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="it is one of"):
        logs.configure(settings)


HOSTILE = "x\nserving\x1b[2J\u202e"
"""A line of its own, an order to the terminal, and a change of direction."""


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_that_is_logged_makes_a_line_or_steers_a_terminal(
    log: pytest.CaptureFixture[str], form: str
) -> None:
    logs.configure(Settings(log_format=form))
    get_logger("ours").warning("seen", name=HOSTILE, deep={HOSTILE: [HOSTILE]})
    text = log.readouterr().err
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "u202e" in text


def test_what_fails_where_no_log_is_set_up_is_masked_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies, and what libraries warn of while nobody listens."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    last = logging.lastResort
    assert last is not None
    monkeypatch.setattr(last, "formatter", None)
    logs.guard()

    def fail() -> None:
        raise ValueError(f"cannot reach postgresql://me:hush@hush@db/x with {TOKENS[0]}")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    record = logging.makeLogRecord({"msg": "no %s", "args": (TOKENS[0],), "levelno": 30})
    said = capsys.readouterr().err + last.format(record)
    assert "ValueError: cannot reach postgresql://me:…@db/x" in said
    assert "hush" not in said
    assert TOKENS[0] not in said


def test_commands_in_hints_work_as_printed(log: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From any folder, on the database that is served: a bare command would make another one."""
    store = f"sqlite:///{tmp_path}/shop.db"
    logs.configure(Settings(data=str(tmp_path), store=store, log_format="json"))
    get_logger("sojourn.test").error("table_missing", hint="Run `sojourn migrate`; then look.")
    (line,) = log.readouterr().err.splitlines()
    said = json.loads(line)["hint"]
    assert said == f"Run `sojourn migrate --data {tmp_path} --store {store}`; then look."
