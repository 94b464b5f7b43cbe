"""Traces: a call is a span in its caller's trace, a batch one that names its calls; nothing sent is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.api_harness import ADMIN, BEAT, CURRENT, FEATURE, SEATS, Answer, World, api, send, served
from tests.unit.api.test_api_cross_origin import over_a_connection

from sojourn.errors import StoreUnavailable
from sojourn.service.batcher import Batcher

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
EXPORTED = InMemorySpanExporter()
Ask = Callable[..., Answer]


@pytest.fixture(scope="module", autouse=True)
def sdk() -> None:
    """Collect spans as an application's own SDK does. There is one provider for a process."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(EXPORTED))
    trace.set_tracer_provider(provider)


@pytest.fixture(params=["direct", "asgi", "router"])
def lane(request: pytest.FixtureRequest) -> Iterator[tuple[World, Ask]]:
    EXPORTED.clear()
    if request.param == "direct":
        world = World(traces=True, dev=True)
        with served(world) as server:
            yield world, lambda *a, **b: over_a_connection(server, *a, **b)
        return
    with api(traces=True, dev=True) as inside:
        app = inside.app if request.param == "asgi" else inside.app.behind
        yield inside, lambda method, path, **b: inside.run(send(app, method, path, **b))


def named(name: str) -> list[ReadableSpan]:
    return [span for span in EXPORTED.get_finished_spans() if span.name == name]


def hexed(span: Any) -> tuple[str, str]:
    return f"{span.trace_id:032x}", f"{span.span_id:016x}"


def take(ask: Ask, world: World, *headers: tuple[str, str]) -> Answer:
    return ask("POST", SEATS, bearer=world.license_key, json=world.wish(), headers=headers)


def test_a_call_belongs_to_its_callers_trace(lane: tuple[World, Ask]) -> None:
    world, ask = lane
    assert take(ask, world, ("traceparent", SAMPLED)).status == 201
    (span,) = named(f"POST {SEATS}")
    assert span.parent is not None
    assert hexed(span.parent) == (TRACE, CALLER)
    assert hexed(span.context)[0] == TRACE
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": SEATS,
        "http.response.status_code": 201,
        "sojourn.call": "acquire",
    }


def test_a_batch_is_a_trace_that_names_its_calls(lane: tuple[World, Ask]) -> None:
    world, ask = lane
    take(ask, world, ("traceparent", SAMPLED))
    (call,) = named(f"POST {SEATS}")
    (batch,) = named("batch acquire")
    assert batch.parent is None
    assert hexed(batch.context)[0] != TRACE
    assert [hexed(link.context) for link in batch.links] == [hexed(call.context)]
    assert dict(batch.attributes or {}) == {"sojourn.verb": "acquire", "sojourn.batch.size": 1}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{'0' * 32}-{CALLER}-01")],
        [("traceparent", "ff-" + SAMPLED[3:])],
        [("traceparent", SAMPLED + "x" * 5_000)],
        [("traceparent", SAMPLED.upper() + "\u00e9")],
    ],
)
def test_a_caller_without_a_trace_begins_one(
    lane: tuple[World, Ask], headers: list[tuple[str, str]]
) -> None:
    """However wrong what it sends is: it is answered as ever."""
    world, ask = lane
    assert take(ask, world, *headers).status == 201
    (span,) = named(f"POST {SEATS}")
    assert span.parent is None


def test_a_state_that_is_too_long_is_left_out(lane: tuple[World, Ask]) -> None:
    world, ask = lane
    for state, told in (("a=1", "a=1"), ("a=" + "1" * 600, "")):
        EXPORTED.clear()
        take(ask, world, ("traceparent", SAMPLED), ("tracestate", state))
        (span,) = named(f"POST {SEATS}")
        assert span.context.trace_state.to_header() == told


def test_refusals_and_faults(lane: tuple[World, Ask], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is told by its code, and is no fault of ours; a store that is down is one."""
    world, ask = lane
    assert ask("POST", SEATS, bearer="sjk_nonsense", json=world.wish()).status == 401
    (refused,) = named(f"POST {SEATS}")
    assert refused.status.status_code is StatusCode.UNSET
    assert refused.attributes is not None
    assert str(refused.attributes["sojourn.code"]).startswith("token_")

    def down(*_: Any) -> Any:
        raise StoreUnavailable("mysql://root:planted-password@db is down")

    monkeypatch.setattr(world.services.seats._store, "release", down)
    token = take(ask, world).data["token"]
    assert ask("DELETE", CURRENT, bearer=token).status == 503
    (call,), (batch,) = named(f"DELETE {CURRENT}"), named("batch release")
    for span in (call, batch):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "store_unavailable"
    assert "planted-password" not in everything()


def test_operators_calls_and_sweeps(lane: tuple[World, Ask]) -> None:
    _, ask = lane
    assert ask("POST", "/api/sweeps", bearer=ADMIN).status == 200
    (call,) = named("POST /api/sweeps")
    assert call.attributes is not None
    assert call.attributes["sojourn.call"] == "run_sweep"
    swept = [dict(span.attributes or {}) for span in named("sweep")]
    assert {"sojourn.actor": "key"} in swept


def everything() -> str:
    """All that spans hold."""
    spans = EXPORTED.get_finished_spans()
    return " ".join(str(span.to_json()) for span in spans)


def test_nothing_that_was_sent_is_told(lane: tuple[World, Ask]) -> None:
    """No token, key, cookie, id, body, query or header."""
    world, ask = lane
    seat = take(ask, world, ("cookie", "planted-cookie=1"), ("user-agent", "planted-agent")).data
    ask("POST", BEAT, bearer=seat["token"], json={"idleFor": 1.25})
    ask("POST", f"{BEAT}?token=planted-query", bearer="sjl_planted-token")
    app_key = next(iter(world.keys.values()))
    begun = ask("POST", "/api/sessions", bearer=ADMIN, json={"userId": "planted-user"}).data
    session = [("X-Session-Token", begun["token"])]
    ask("GET", "/api/sessions/current", bearer=ADMIN, headers=session)
    ask("DELETE", f"{SEATS}/force-cleanup/planted-user/{FEATURE}", bearer=ADMIN)
    ask("GET", "/api/sessions/planted-id", bearer=app_key)
    ask("DELETE", CURRENT, bearer=seat["token"])
    told = everything()
    secrets = (world.license_key, ADMIN, app_key, seat["token"], begun["token"], seat["leaseId"])
    assert len(EXPORTED.get_finished_spans()) >= 10
    assert [each for each in (*secrets, "planted", world.license_id, "ann") if each in told] == []


def test_links_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.api.opentelemetry.LINKS_MAX", 3)
    with api(traces=True, capacity=20) as world:
        EXPORTED.clear()

        async def many() -> Sequence[Answer]:
            calls = [
                send(
                    world.app,
                    "POST",
                    SEATS,
                    bearer=world.license_key,
                    json=world.wish(client=f"tab-{n}"),
                )
                for n in range(10)
            ]
            return await asyncio.gather(*calls)

        assert {answer.status for answer in world.run(many())} == {201}
        batches = named("batch acquire")
        sizes = [(span.attributes or {})["sojourn.batch.size"] for span in batches]
        assert sum(int(str(size)) for size in sizes) == 10
        assert all(len(span.links) <= 3 for span in batches)


def test_without_the_setting_nothing_of_it_is_there() -> None:
    """No span, and OpenTelemetry is not even imported."""
    EXPORTED.clear()
    with api() as world:
        world.seat()
        assert EXPORTED.get_finished_spans() == ()
        assert world.services.batcher.traced is None
        assert world.services.batcher.link is None
    asked = "import sys, sojourn.api.app; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def test_a_batcher_by_itself_traces_nothing() -> None:
    assert Batcher({}).traced is None
