"""Where spans begin and end: around a call, a batch and a sweep. None does without the setting `traces`.

A caller's `traceparent` (W3C Trace Context) makes a call part of its trace. A batch carries out requests of
many traces: it is a trace of its own, which names them in links. Spans hold names of calls, verbs, statuses
and codes, and nothing that was sent: no path, no header, no id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sojourn.extras import need
from sojourn.service.batcher import Item, type_verb
from sojourn.service.services import Services
from sojourn.wire.reply import Reply

Span = Any
"""A span of OpenTelemetry's."""


class Named(Protocol):
    """What is said of a call."""

    @property
    def name(self) -> str: ...

    @property
    def method(self) -> Any: ...

    @property
    def path(self) -> str: ...


class Tracer(Protocol):
    def begin(self, call: Named, by_name: Mapping[bytes, bytes]) -> Span:
        """Begin a call's span, as a child of its caller's if the headers name one."""

    def within(self, span: Span) -> AbstractContextManager[Any]:
        """Make what begins meanwhile a part of a span."""

    def end(self, span: Span, reply: Reply) -> None:
        """End a call's span with its answer."""

    def link(self) -> Any:
        """Return what a batch names the present span by; None if there is none that is kept."""

    def batch(self, verb: type_verb, name: str, items: Sequence[Item]) -> type_verb:
        """Return a verb that is a span each time it carries out these requests."""

    def sweep(self, actor: str) -> AbstractContextManager[Any]:
        """Return a sweep's span."""


def tracer(services: Services) -> Tracer:
    """Return what traces a server, and have it trace batches and sweeps. Raises SettingsError where
    OpenTelemetry's API is not installed."""
    need("opentelemetry", "otel", "The setting `traces`")
    from sojourn.api.opentelemetry import OpenTelemetry  # noqa: PLC0415 - only where it is asked for

    made = OpenTelemetry()
    services.batcher.link = made.link
    services.batcher.traced = made.batch
    services.sweeper.traced = made.sweep
    return made
