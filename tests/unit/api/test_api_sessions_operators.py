"""Sessions over HTTP, as operators see and end them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, SEATS, Api, api
from tests.session_harness import BASE, CURRENT, Backend

from sojourn.ledger import Role

PATIENCE = 10.0  # seconds until a test that hangs fails


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.fixture
def app(world: Api) -> Backend:
    return Backend(world)


class TestOperators:
    def test_list_who_is_signed_in_without_what_is_the_applications(self, app: Backend) -> None:
        tokens = [app.begin(user, data={"a": 1})["token"] for user in ("ann", "bob", None)]
        viewer = app.world.keys[Role.VIEWER]
        answer = app.world.call("GET", BASE, bearer=viewer)
        assert {each["userId"] for each in answer.data["items"]} == {"ann", "bob", None}
        assert not any("data" in each for each in answer.data["items"])
        assert not any(token[4:].encode() in answer.body for token in tokens)
        refused = app.world.call("GET", BASE + "?data=true", bearer=viewer)
        assert (refused.status, refused.code) == (403, "forbidden")

    def test_list_page_by_page(self, app: Backend) -> None:
        ids = sorted(app.begin("ann")["session"]["id"] for _ in range(5))
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = app.world.admin("GET", f"{BASE}?userId=ann&limit=2&after={after}").data
            found += [each["id"] for each in page["items"]]
            after = page["next"]
        assert found == ids

    def test_list_newest_first(self, app: Backend) -> None:
        ids = []
        for _ in range(3):
            ids.append(app.begin("ann")["session"]["id"])
            app.world.clock.advance(seconds=1)
        found = app.call("GET", BASE + "?userId=ann&newestFirst=true&limit=2").data["items"]
        assert [each["id"] for each in found] == [ids[2], ids[1]]
        assert app.call("GET", BASE + "?newestFirst=true").status == 403
        assert app.world.admin("GET", BASE + "?newestFirst=true").code == "invalid_request"

    def test_an_application_lists_one_user_at_a_time(self, app: Backend) -> None:
        assert (app.call("GET", BASE).status, app.call("GET", BASE).code) == (403, "forbidden")
        assert app.call("GET", BASE + "?userId=ann").status == 200

    def test_show_one_by_its_id(self, app: Backend) -> None:
        sessions = {each["id"]: each for each in (app.begin()["session"] for _ in range(20))}
        for session_id, session in sessions.items():
            shown = app.world.admin("GET", f"{BASE}/{session_id}").data["session"]
            assert shown == {k: v for k, v in session.items() if k != "data"}
        for unknown in ("ses_x", "x", "ses_" + "z" * 22, next(iter(sessions))[:-1]):
            assert app.world.admin("GET", f"{BASE}/{unknown}").code == "session_unknown"

    def test_end_one_by_its_id(self, app: Backend) -> None:
        begun = app.begin()
        answer = app.world.admin("DELETE", f"{BASE}/{begun['session']['id']}")
        assert (answer.data, answer.json["message"]) == ({"ended": 1}, "The session is over.")
        assert app.check(begun["token"]).code == "session_ended"
        assert app.world.admin("DELETE", f"{BASE}/{begun['session']['id']}").data == {"ended": 0}

    def test_end_all_of_a_user_in_one_step(self, app: Backend) -> None:
        anns = [app.begin("ann")["token"] for _ in range(3)]
        bobs = app.begin("bob")["token"]
        answer = app.world.admin("DELETE", BASE + "?userId=ann")
        assert answer.data["at"].endswith("Z")
        assert {app.check(token).code for token in anns} == {"session_ended"}
        assert app.check(bobs).status == 200

    def test_end_everybodys_at_once_is_for_admins_and_said_outright(self, app: Backend) -> None:
        tokens = [app.begin(user)["token"] for user in ("ann", "bob", None)]
        path = BASE + "/cutoff"
        for role in set(Role) - {Role.ADMIN}:
            refused = app.world.call(
                "POST", path, bearer=app.world.keys[role], json={"userId": None}
            )
            assert (refused.status, refused.code) == (403, "forbidden")
        assert app.world.admin("POST", path, json={}).code == "invalid_request"
        assert app.check(tokens[0]).status == 200
        assert app.world.admin("POST", path, json={"userId": None}).status == 200
        assert {app.check(token).json["endReason"] for token in tokens} == {"cut_off"}

    def test_after_a_cutoff_tombstones_events_and_leases_follow_at_once(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many batches it takes, and without waiting for the hour of the sweep."""
        begun = [app.begin("ann") for _ in range(7)]
        seat = app.world.seat("ann", sessionId=begun[0]["session"]["id"])
        sweeper, followed = app.world.services.sweeper, threading.Event()
        monkeypatch.setattr(sweeper, "_batch", 2)
        monkeypatch.setattr("sojourn.service.sweeper.ROUNDS_MAX", 1)
        run = sweeper.run

        def watched(**options: Any) -> Any:
            done = run(**options)
            if len(app.events()) == len(begun):
                followed.set()
            return done

        monkeypatch.setattr(sweeper, "run", watched)
        app.world.admin("DELETE", BASE + "?userId=ann")
        assert followed.wait(PATIENCE), "the sweep did not follow"
        events = app.events()
        assert {event.subject for event in events} == {each["session"]["id"] for each in begun}
        assert {event.data["reason"] for event in events} == {"revoked"}
        assert all(str(event.actor).startswith("key:key_") for event in events)
        assert app.world.beat(seat["token"]).json["reason"] == "session_ended"


def test_no_token_is_in_events_lists_or_problems(world: Api) -> None:
    app = Backend(world)
    tokens = [app.begin("ann")["token"] for _ in range(3)]
    rotated = app.call("POST", CURRENT + "/rotate", tokens[0]).data["token"]
    world.admin("DELETE", BASE + "?userId=ann")
    shown = b"".join(
        world.admin("GET", path).body
        for path in ("/api/events?limit=1000", BASE, SEATS, "/metrics", "/api/sweeps")
    )
    shown += app.check(rotated).body
    assert not [token for token in [*tokens, rotated, ADMIN] if token[4:].encode() in shown]
