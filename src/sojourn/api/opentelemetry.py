"""Spans by OpenTelemetry's API. Which SDK collects them, if any, is for whoever starts the server to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sojourn import __version__
from sojourn.errors import SojournError
from sojourn.service.batcher import Item, type_verb
from sojourn.wire.reply import Reply

LINKS_MAX = 128
"""Requests that a batch's span names; so many an SDK keeps by default."""
STATE_MAX = 512
"""Bytes of a caller's `tracestate` (W3C Trace Context, 3.3.1.5); a longer one is left out."""


class _Headers(Getter[Mapping[bytes, bytes]]):
    def get(self, carrier: Mapping[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.encode())
        if value is None or len(value) > STATE_MAX:
            return None
        return [value.decode("latin-1")]

    def keys(self, carrier: Mapping[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


class OpenTelemetry:
    """Implements `traces.Tracer`. A `call` has a name, a method and a path, as `call.Call` has."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("sojourn", __version__)
        self._callers = TraceContextTextMapPropagator()
        self._headers = _Headers()

    def begin(self, call: Any, by_name: Mapping[bytes, bytes]) -> trace.Span:
        caller = self._callers.extract(by_name, Context(), self._headers)
        return self._tracer.start_span(
            f"{call.method} {call.path}",
            caller,
            SpanKind.SERVER,
            {
                "http.request.method": str(call.method),
                "http.route": call.path,
                "sojourn.call": call.name,
            },
        )

    def within(self, span: trace.Span) -> AbstractContextManager[Any]:
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def end(self, span: trace.Span, reply: Reply) -> None:
        if span.is_recording():
            span.set_attribute("http.response.status_code", reply.status)
            if reply.code:
                span.set_attribute("sojourn.code", reply.code)
            if reply.status >= 500:
                span.set_attribute("error.type", reply.code or str(reply.status))
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def link(self) -> Any:
        found = trace.get_current_span().get_span_context()
        return found if found.is_valid and found.trace_flags.sampled else None

    def batch(self, verb: type_verb, name: str, items: Sequence[Item]) -> type_verb:
        named = [item.link for item in items if item.link is not None][:LINKS_MAX]

        def traced(requests: Sequence[Any]) -> Sequence[Any]:
            attributes = {"sojourn.verb": name, "sojourn.batch.size": len(requests)}
            with self._span(f"batch {name}", attributes, [Link(each) for each in named]):
                return verb(requests)

        return traced

    @contextmanager
    def sweep(self, actor: str) -> Iterator[Any]:
        """`actor` is told by its kind alone: the rest may name a key."""
        with self._span("sweep", {"sojourn.actor": actor.partition(":")[0]}, []) as span:
            yield span

    @contextmanager
    def _span(
        self, name: str, attributes: Mapping[str, Any], links: Sequence[Link]
    ) -> Iterator[Any]:
        """Make a span that is a trace of its own. A fault is told by its code alone."""
        with self._tracer.start_as_current_span(
            name,
            Context(),
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as fault:
                span.set_attribute("error.type", code_of(fault))
                span.set_status(Status(StatusCode.ERROR))
                raise


def code_of(fault: BaseException) -> str:
    """Name a fault without its words, which may hold what was sent."""
    return fault.code if isinstance(fault, SojournError) else type(fault).__name__
