"""Flask's requests that go on after their response, or end before it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Response, copy_current_request_context, session, stream_with_context
from tests.adapters.test_flask_promises import World

from sojourn.adapters.flask import visit
from sojourn.errors import Conflict


@pytest.fixture
def world() -> World:
    return World()


def test_what_a_streamed_body_changes_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    app = world.app()

    @app.get("/stream/<int:looked>")
    def stream(looked: int) -> Response:
        if looked:
            session.get("x")

        def body() -> Iterator[str]:
            session["x"] = 1
            yield "x"

        return Response(stream_with_context(body()))

    for looked in (0, 1):
        caplog.clear()
        answer = app.test_client().get(f"/stream/{looked}")
        assert answer.text == "x"
        answer.close()
        assert f"session_changed_too_late path=/stream/{looked} place={__file__}:" in caplog.text


@pytest.mark.parametrize("looked", [0, 1])
def test_a_sign_in_in_a_streamed_body_is_refused_in_words(world: World, looked: int) -> None:
    """It could give no cookie, whether the view has looked at its session or not."""
    app = world.app()

    @app.post("/stream")
    def stream() -> Response:
        if looked:
            session.get("x")

        def body() -> Iterator[str]:
            visit.begin("ann")
            yield "in"

        return Response(stream_with_context(body()))

    with pytest.raises(Conflict, match="cannot be given a new token"):
        app.test_client().post("/stream").get_data()
    assert world.service.of("ann") == []


def test_a_copied_context_that_ends_first_undoes_nothing(world: World) -> None:
    """As of a thread that sends a mail of the sign-in: its end is not the request's."""
    app = world.app()

    @app.post("/sign-in")
    def sign_in() -> dict[str, object]:
        visit.begin("ann")
        told: list[object] = []
        tell = copy_current_request_context(lambda: told.append(visit.user_id))
        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
        return {"told": told}

    @app.get("/who")
    def who() -> dict[str, object]:
        return {"user": visit.user_id}

    client = app.test_client()
    assert client.post("/sign-in").json == {"told": ["ann"]}
    assert client.get("/who").json == {"user": "ann"}


@pytest.mark.parametrize("looked", [0, 1])
def test_a_body_that_is_the_first_to_ask_who_is_there_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, looked: int
) -> None:
    app = world.app()

    @app.get("/stream")
    def stream() -> Response:
        if looked:
            session.get("x")

        def body() -> Iterator[str]:
            yield str(visit.user_id)

        return Response(stream_with_context(body()))

    answer = app.test_client().get("/stream")
    assert answer.text == "None"
    answer.close()
    assert (answer.headers.get("Vary") == "Cookie") is bool(looked)
    assert caplog.text.count("session_read_too_late path=/stream") == 1 - looked
