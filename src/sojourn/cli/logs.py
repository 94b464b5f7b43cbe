"""The server's log: one stream on stderr, ours and uvicorn's alike, without a secret in it.

On a terminal a line is for people, elsewhere JSON. Every line passes `mask_text` after it has been
rendered, so that no way of putting a token into a message, a field or an exception gets around it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from sojourn.errors import SettingsError
from sojourn.settings import Settings

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "console", "json")

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
URL_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@/]+@")
SECRET_FIELDS = frozenset(
    {
        "authorization",
        "cookie",
        "set-cookie",
        "x-session-token",
        "secret",
        "password",
        "token",
        "key",
        "admin_key",
        "license_key",
    }
)
MASK = "…"
CHATTY = ("uvicorn", "httpx", "httpcore", "asyncio", "alembic")
"""Their everyday messages are for log_level = debug."""

Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]


def mask_text(text: str) -> str:
    """Take every token, credential header and URL password out of a text."""
    text = TOKEN.sub(rf"\1{MASK}", text)
    text = HEADER.sub(rf"\1{MASK}", text)
    text = BEARER.sub(rf"\1 {MASK}", text)
    return URL_PASSWORD.sub(rf"\1:{MASK}@", text)


def mask_fields(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take the values of fields out that are secrets by name, at any depth."""
    for name in event:
        event[name] = _mask_field(name, event[name])
    return event


def _mask_field(name: str, value: Any) -> Any:
    if name.lower().replace("-", "_") in _NAMES and value:
        return MASK
    if isinstance(value, dict):
        return {k: _mask_field(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_field("", v) for v in value]
    return value


_NAMES = frozenset(name.replace("-", "_") for name in SECRET_FIELDS)


def _masking(renderer: Processor) -> Processor:
    """Render, then mask what was rendered."""

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return mask_text(str(renderer(logger, method, event)))

    return render


def configure(settings: Settings) -> None:
    """Send structlog and the standard library's logging to stderr. Raises SettingsError."""
    import structlog

    level = _level(settings)
    console = _on_console(settings)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.stdlib.ExtraAdder(),
        _drop_color_message,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                mask_fields,
                *_renderers(console),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in CHATTY:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else logging.WARNING)


def _renderers(console: bool) -> list[Processor]:
    import os

    import structlog

    if not console:
        return [
            # Without local variables: an admin key set by hand has no prefix to be masked by.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            _in_order,
            _masking(structlog.processors.JSONRenderer()),
        ]
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=20, exception_formatter=structlog.dev.plain_traceback
    )
    return [_drop_logger, _masking(renderer)]


def _in_order(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Begin every line with when, how bad and what."""
    first = {"timestamp": event.pop("timestamp"), "level": event.pop("level")}
    return {**first, "message": event.pop("event"), **event}


def _drop_color_message(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event.pop("color_message", None)  # uvicorn's message once more, with colors in it
    return event


def _drop_logger(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("logger", None)  # of use to machines only
    return event


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
