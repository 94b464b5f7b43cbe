"""What Sojourn says, through the standard library's `logging`: an event's name, and facts beside it.

    log = get_logger(__name__)
    log.warning("sessions_unavailable", code=fault.code, error=fault.message)

An application sees a record of the logger `sojourn.…`. Its message is
`sessions_unavailable code=store_unavailable error='…'`; `record.event` is the name alone, and
`record.facts` the facts as a dict. Nothing is printed unless the application has set up `logging`.

Secrets are taken out where the record is made, so that no handler of anybody's ever has one: tokens,
credential headers and passwords of URLs by their look, other secrets by the name of their fact. A
traceback is rendered here for the same reason, without local variables (ASVS 5.0, 16.2.5).
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import Any

MASK = "…"
# The kind and four characters stay, so that two lines about one token can be told to be.
TOKEN = re.compile(r"(sj[slka]_[0-9A-Za-z_-]{0,4})[0-9A-Za-z_-]*")
# The whole value of a credential header, however it was quoted; up to the end of what can belong to it.
HEADER = re.compile(
    r"""(?ix)
    ( \b(?:authorization|x-session-token|set-cookie|cookie)\b ["']? \s* [:=,]+ \s* b?["']? )
    [^"'\r\n)\]}]+
    """
)
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[0-9A-Za-z._~+/=-]{8,}")
# Up to the last @ of the word: a password may have one, or a slash, that nobody has encoded. A port has not.
URL_PASSWORD = re.compile(r"(://[^\s:/@]*):(?!\d+(?:[/?#\s]|$))\S+@")
# In a URL's query or in a driver's own notation: …?password=…, sentinel_password=…, password='…'
NAMED_PASSWORD = re.compile(
    r"""(?i)((?:password|passwd|pwd)\s?=\s?)(?:'[^']*'|"[^"]*"|[^\s&;,'")]+)"""
)
SECRET_FACTS = frozenset(
    {
        "authorization",
        "cookie",
        "set_cookie",
        "x_session_token",
        "secret",
        "password",
        "token",
        "key",
        "admin_key",
        "metrics_key",
        "license_key",
    }
)

REMEMBERED_MIN = 8
"""Characters of a secret that is looked for by its value."""
REMEMBERED_MAX = 64
_remembered: set[str] = set()

# A library says nothing until it is asked to: without this, logging prints warnings on stderr.
logging.getLogger("sojourn").addHandler(logging.NullHandler())


class Log:
    """A logger whose messages are names of events, with facts."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **facts: Any) -> None:
        self._say(logging.DEBUG, event, facts)

    def info(self, event: str, /, **facts: Any) -> None:
        self._say(logging.INFO, event, facts)

    def warning(self, event: str, /, **facts: Any) -> None:
        self._say(logging.WARNING, event, facts)

    def error(self, event: str, /, **facts: Any) -> None:
        self._say(logging.ERROR, event, facts)

    def exception(self, event: str, /, **facts: Any) -> None:
        """Say what failed, with the exception that is being handled."""
        self._say(logging.ERROR, event, facts, failed=True)

    def _say(self, level: int, event: str, facts: dict[str, Any], *, failed: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        event, facts = mask_text(event), {name: mask_fact(name, x) for name, x in facts.items()}
        caller = sys._getframe(2)  # noqa: SLF001  # whose line a record names; logging does the same
        record = self._logger.makeRecord(
            self._logger.name,
            level,
            caller.f_code.co_filename,
            caller.f_lineno,
            " ".join([event, *(f"{name}={_shown(value)}" for name, value in facts.items())]),
            (),
            sys.exc_info() if failed else None,
            caller.f_code.co_name,
            {"event": event, "facts": facts},
        )
        if record.exc_info:
            # Formatters print this text, and make their own where there is more: with secrets, or variables.
            record.exc_text, record.exc_info = traceback_of(record.exc_info), None
        self._logger.handle(record)


class _Masked(logging.Filter):
    """Takes secrets out of records that are sentences."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask_text(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text, record.exc_info = traceback_of(record.exc_info), None
        return True


def sentences(name: str) -> logging.Logger:
    """Return a logger of sentences for people, as the client library has; masked like the others."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, _Masked) for each in logger.filters):
        logger.addFilter(_Masked())
    return logger


def get_logger(name: str) -> Log:
    """Return the logger of a Sojourn module."""
    return Log(logging.getLogger(name))


def traceback_of(failure: Any) -> str:
    """Write a failure, given as `sys.exc_info()` does, as Python does, without what is secret."""
    return mask_text("".join(traceback.format_exception(*failure)).rstrip("\n"))


def remember_secret(value: str) -> None:
    """Take a value out of all that is said from now on. One that is short is part of many words: it is left,
    and so is one past `REMEMBERED_MAX`."""
    if len(value) >= REMEMBERED_MIN and len(_remembered) < REMEMBERED_MAX:
        _remembered.add(value)


def mask_text(text: str) -> str:
    """Take every token, credential header and URL password out of a text, and what is known to be secret."""
    for value in _remembered:
        text = text.replace(value, MASK)
    text = TOKEN.sub(rf"\1{MASK}", text)
    text = HEADER.sub(rf"\1{MASK}", text)
    text = BEARER.sub(rf"\1 {MASK}", text)
    text = NAMED_PASSWORD.sub(rf"\1{MASK}", text)
    return URL_PASSWORD.sub(rf"\1:{MASK}@", text)


def mask_fact(name: str, value: Any) -> Any:
    """Take a value out that is secret by its name or by its look, at any depth."""
    if name.lower().replace("-", "_") in SECRET_FACTS and value:
        return MASK
    if isinstance(value, dict):
        return {mask_text(str(k)): mask_fact(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask_fact("", each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask_text(str(value))


def _shown(value: Any) -> str:
    """Write a value in a message: text that has spaces or quotes in it as Python would."""
    text = str(value)
    plain = text.isprintable() and not any(each.isspace() or each in "\"'=" for each in text)
    return text if (text and plain) or not isinstance(value, str) else repr(text)
