"""What Sojourn says goes through `logging`: a name, facts, and nothing secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sojourn.log import get_logger, mask_fact, sentences

TOKEN = "sjs_" + "0aZ9" * 12 + "x"


@pytest.fixture
def heard() -> Iterator[io.StringIO]:
    """What a handler of an application's own writes, with Python's own formatter."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(filename)s %(message)s"))
    logger = logging.getLogger("sojourn.tried")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_record_has_its_event_and_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("sojourn.tried").warning("store_away", seconds=1.5, why="it is down", hint=None)
    (record,) = caplog.records
    said: Any = record
    assert record.getMessage() == "store_away seconds=1.5 why='it is down' hint=None"
    assert (said.event, said.facts) == (
        "store_away",
        {"seconds": 1.5, "why": "it is down", "hint": None},
    )
    assert (record.name, record.levelname) == ("sojourn.tried", "WARNING")
    assert record.filename == "test_log.py"
    assert record.funcName == "test_a_record_has_its_event_and_its_facts"


def test_levels_hold(heard: io.StringIO) -> None:
    log = get_logger("sojourn.tried")
    for say in (log.debug, log.info, log.warning, log.error):
        say("tried")
    lines = heard.getvalue().splitlines()
    assert lines == [f"{x} sojourn.tried test_log.py tried" for x in ("INFO", "WARNING", "ERROR")]


def test_no_handler_ever_has_a_secret(heard: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the message, the facts, nor in the traceback that any formatter prints."""
    log = get_logger("sojourn.tried")
    hidden = "a-local-variable-that-nobody-is-to-see"
    log.info(TOKEN, password="hush", deep={"Cookie": "hush", TOKEN: [TOKEN]})
    try:
        raise ValueError(f"cannot use {TOKEN} at postgresql://me:hush@hush/x@db:5432/y")
    except ValueError:
        log.exception("failed", url="redis://:hush@db/0")
    text = heard.getvalue() + "".join(repr(vars(record)["facts"]) for record in caplog.records)
    assert "Traceback (most recent call last):" in text
    assert TOKEN[8:] not in text
    assert "hush" not in text
    assert hidden not in text


@pytest.mark.parametrize("value", [None, True, 0, 1.5])
def test_plain_values_stay_what_they_are(value: object) -> None:
    assert mask_fact("seconds", value) is value


def test_sentences_are_masked_too(caplog: pytest.LogCaptureFixture) -> None:
    """The client library's: in what they say, in what they were given, and in what failed."""
    log = sentences("sojourn.client")
    token = "sjl_0aZ90aZ90aZ90aZ9"
    with caplog.at_level(logging.DEBUG, logger="sojourn.client"):
        try:
            raise ValueError(f"no {token}")
        except ValueError:
            log.exception("It failed for %s at %s", token, "https://me:hush-hush@server/")
    assert "It failed for sjl_0aZ9… at https://me:…@server/" in caplog.text
    assert token not in caplog.text
    assert "hush-hush" not in caplog.text
