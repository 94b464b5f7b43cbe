"""The server's log: one stream on stderr, ours and uvicorn's alike, without a secret in it.

On a terminal a line is for people, elsewhere JSON. Ours is masked where it is made (`sojourn.log`); what
other libraries say is masked here, after it has been rendered.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from sojourn.cli.called import Called, of_server
from sojourn.errors import SettingsError
from sojourn.log import mask_fact, mask_text, traceback_of
from sojourn.settings import Settings
from sojourn.text import escaped, escaped_json

COMMAND = re.compile(r"`(sojourn [^`]+)`")
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "console", "json")
CHATTY = ("uvicorn", "httpx", "httpcore", "asyncio", "alembic")
"""Their everyday messages are for log_level = debug."""
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"event", "facts", "message", "asctime"}
_UNWANTED = frozenset({"color_message"})  # uvicorn's message once more, with colors in it
EVENT_WIDTH = 24
COLORS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
DIM, BOLD, RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message: our facts, or what others gave as `extra`."""
    found: dict[str, Any] = getattr(record, "facts", {})
    more = {k: v for k, v in vars(record).items() if k not in _OWN and k not in _UNWANTED}
    return {**found, **{k: mask_fact(k, v) for k, v in more.items()}}


def _event(record: logging.LogRecord) -> str:
    event: str | None = getattr(record, "event", None)
    return mask_text(record.getMessage()) if event is None else event


def _failure(record: logging.LogRecord) -> str:
    """The traceback, if there is one. Without local variables: an admin key set by hand has no prefix
    to be masked by."""
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        return traceback_of(record.exc_info)
    return mask_text(record.exc_text or "")


class JsonFormatter(logging.Formatter):
    """One object a line, beginning with when, how bad and what."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": _event(record),
            "logger": record.name,
            **_facts(record),
        }
        if failure := _failure(record):
            said["exception"] = failure
        return escaped_json(mask_text(json.dumps(said, default=str, ensure_ascii=False)))


class ConsoleFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = colors

    def _in(self, color: str, text: str) -> str:
        return f"{color}{text}{RESET}" if self._colors else text

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = self._in(COLORS.get(record.levelname, ""), f"{record.levelname.lower():7}")
        event = self._in(BOLD, f"{escaped(_event(record)):{EVENT_WIDTH}}")
        facts = [
            self._in(DIM, f"{escaped(name)}=") + escaped(str(value)).replace("\n", "\\n")
            for name, value in _facts(record).items()
        ]
        line = " ".join([self._in(DIM, at), level, event, *facts]).rstrip()
        return mask_text("\n".join(filter(None, [line, escaped(_failure(record))])))


class CompletedCommands(logging.Filter):
    """Lets a command of ours in a hint work as it is printed, from any folder, on what is served here."""

    def __init__(self, called: Called) -> None:
        super().__init__()
        self._called = called

    def filter(self, record: logging.LogRecord) -> bool:
        facts = getattr(record, "facts", {})
        hint = facts.get("hint")
        if isinstance(hint, str):
            told = COMMAND.sub(lambda found: f"`{self._called.again(found[1])}`", hint)
            record.facts = {**facts, "hint": told}
        return True


class _MaskedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(mask_text(super().format(record)))


def guard() -> None:
    """Mask what reaches stderr where no log was set up: what libraries warn of, and threads that fail."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_MaskedFormatter())
    threading.excepthook = _thread_failed


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is None or sys.stderr is None:
        return
    failure = (failed.exc_type, failed.exc_value, failed.exc_traceback)
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
        sys.stderr.write(escaped(traceback_of(failure)) + "\n")


def configure(settings: Settings) -> None:
    """Send all logging to stderr. Raises SettingsError."""
    import os

    level = _level(settings)
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ConsoleFormatter(colors=colors) if _on_console(settings) else JsonFormatter()
    )
    handler.addFilter(CompletedCommands(of_server(settings)))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)  # as its parent's, whoever has set one before
    for name in CHATTY:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else logging.WARNING)


def _level(settings: Settings) -> int:
    name = settings.log_level.lower()
    if name not in LEVELS:
        raise SettingsError(f"log_level is {name!r}; it is one of {', '.join(LEVELS)}.")
    return int(getattr(logging, name.upper()))


def _on_console(settings: Settings) -> bool:
    if settings.log_format not in FORMATS:
        raise SettingsError(
            f"log_format is {settings.log_format!r}; it is one of {', '.join(FORMATS)}."
        )
    if settings.log_format == "auto":
        return settings.dev or sys.stderr.isatty()
    return settings.log_format == "console"
