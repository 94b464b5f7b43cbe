"""Sessions over HTTP, as backends use them: what each call answers, and each way it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api, gather, send
from tests.session_harness import BASE, CURRENT, Backend, counted

from sojourn.clock import DAY, HOUR
from sojourn.ledger import Role
from sojourn.token import TokenKind, new_token


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.fixture
def app(world: Api) -> Backend:
    return Backend(world)


class TestBegin:
    def test_answers_the_session_and_its_token_once(self, app: Backend) -> None:
        begun = app.begin("ann", data={"cart": [1]}, level=2, device={"userAgent": "Mozilla/5.0"})
        session = begun["session"]
        assert begun["token"].startswith("sjs_")
        assert session["id"].startswith("ses_")
        assert (session["userId"], session["data"], session["level"]) == ("ann", {"cart": [1]}, 2)
        assert session["device"] == {"userAgent": "Mozilla/5.0"}
        assert (session["expiresIn"], session["idleIn"]) == (7 * DAY / 1000, DAY / 1000)
        assert app.check(begun["token"]).data == {"session": session}
        listed = app.call("GET", BASE + "?userId=ann&data=true")
        assert begun["token"].encode() not in listed.body

    def test_takes_a_preset_or_seconds(self, app: Backend) -> None:
        aal2 = app.begin(timeouts="aal2")["session"]
        assert (aal2["expiresIn"], aal2["idleIn"]) == (DAY / 1000, HOUR / 1000)
        brief = app.begin(timeouts={"lifetime": 90.5})["session"]
        assert (brief["expiresIn"], brief["idleIn"]) == (90.5, 90.5)

    def test_of_a_visitor_needs_nothing_at_all(self, app: Backend) -> None:
        answer = app.call("POST", BASE)
        assert (answer.status, answer.data["session"]["userId"]) == (201, None)

    def test_in_place_of_the_token_sent_along(self, app: Backend) -> None:
        """Signing in: a new token, the visitor's data kept, the old token worth nothing."""
        visitor = app.begin(None, data={"cart": [1], "seen": 1})
        signed_in = app.begin("ann", visitor["token"], data={"seen": 2})
        assert signed_in["token"] != visitor["token"]
        assert signed_in["session"]["data"] == {"cart": [1], "seen": 2}
        gone = app.check(visitor["token"])
        assert (gone.code, gone.json["endReason"]) == ("session_ended", "replaced")

    def test_in_place_of_a_session_named_by_its_id(self, app: Backend) -> None:
        first = app.begin("ann")
        app.begin("ann", replaces=first["session"]["id"])
        assert app.check(first["token"]).code == "session_ended"

    def test_with_a_token_that_is_forged_replaces_nothing(self, app: Backend) -> None:
        assert app.begin("ann", "sjs_forged")["session"]["data"] == {}

    def test_past_the_limit_says_which_sessions_there_are(self, app: Backend) -> None:
        old = app.begin("ann", device={"name": "phone"})
        app.world.clock.advance(seconds=1)
        new = app.begin("ann")
        wish = {"userId": "ann", "limit": 2, "atLimit": "ask"}
        denied = app.call("POST", BASE, json=wish)
        assert (denied.status, denied.code, denied.json["limit"]) == (409, "session_limit", 2)
        assert int(denied.header("retry-after") or 0) > 0
        shown = denied.json["sessions"]
        assert [each["id"] for each in shown] == [new["session"]["id"], old["session"]["id"]]
        assert shown[1]["device"] == {"name": "phone"}
        assert old["token"].encode() not in denied.body
        app.begin("ann", limit=2, atLimit="ask", ending=[old["session"]["id"]])
        assert app.check(old["token"]).json["endReason"] == "made_room"
        assert app.check(new["token"]).status == 200

    def test_past_the_limit_ends_the_oldest_unless_told_otherwise(self, app: Backend) -> None:
        old = app.begin("ann", limit=1)
        app.world.clock.advance(seconds=1)
        app.begin("ann", limit=1)
        gone = app.check(old["token"]).json
        assert (gone["endReason"], gone["endedBy"]) == ("session_limit", "system:limit")


class TestCheck:
    def test_touches_when_that_is_due(self, app: Backend) -> None:
        token = app.begin()["token"]
        app.world.clock.advance(seconds=59)
        assert app.check(token).data["session"]["idleIn"] == 86_400 - 59
        app.world.clock.advance(seconds=1)
        assert app.check(token, "?touch=false").data["session"]["idleIn"] == 86_400 - 60
        assert app.check(token).data["session"]["idleIn"] == 86_400

    def test_each_way_of_being_gone_has_a_code(self, app: Backend) -> None:
        idle = app.begin(timeouts={"idleTimeout": 60})
        expired = app.begin(timeouts={"lifetime": 60})
        ended = app.begin()
        app.world.clock.advance(seconds=60)
        app.world.admin("DELETE", f"{BASE}/{ended['session']['id']}")
        codes = {
            each: app.check(each).code
            for each in (
                idle["token"],
                expired["token"],
                ended["token"],
                new_token(TokenKind.SESSION),
                "sjs_forged",
            )
        }
        assert list(codes.values()) == [
            "session_idle",
            "session_expired",
            "session_ended",
            "session_absent",
            "session_forged",
        ]

    def test_says_who_ended_it_when_and_why(self, app: Backend) -> None:
        begun = app.begin()
        app.world.admin("DELETE", f"{BASE}/{begun['session']['id']}")
        gone = app.check(begun["token"])
        assert gone.status == 401
        assert gone.json["reason"] == "ended"
        assert gone.json["endReason"] == "revoked"
        assert gone.json["endedBy"].startswith("key:key_")
        assert gone.json["endedAt"] == begun["session"]["at"]

    def test_a_wrong_key_is_told_from_a_wrong_token(self, app: Backend) -> None:
        """Both are 401; code and challenge say whose proof it was."""
        token = app.begin()["token"]
        headers = [("X-Session-Token", token)]
        key = app.world.call("GET", CURRENT, bearer=new_token(TokenKind.API), headers=headers)
        person = app.check(new_token(TokenKind.SESSION))
        assert (key.status, key.code) == (401, "unauthenticated")
        assert (person.status, person.code) == (401, "session_absent")
        assert key.header("www-authenticate") == 'Bearer realm="sojourn"'
        assert person.header("www-authenticate") == 'Bearer realm="sojourn session"'

    def test_a_person_without_a_token_is_absent(self, app: Backend) -> None:
        assert app.call("GET", CURRENT).code == "session_absent"
        assert app.call("GET", CURRENT, headers=[("X-Session-Token", "")]).code == "session_absent"

    def test_a_revoked_key_stops_at_once(self, app: Backend) -> None:
        key, secret = app.world.services.keys.create("brief", Role.APP, actor="test")
        headers = [("X-Session-Token", app.begin()["token"])]
        assert app.world.call("GET", CURRENT, bearer=secret, headers=headers).status == 200
        app.world.services.keys.revoke(key.id, actor="test")
        refused = app.world.call("GET", CURRENT, bearer=secret, headers=headers)
        assert (refused.status, refused.code) == (401, "unauthenticated")


class TestSave:
    def test_changes_the_keys_it_names(self, app: Backend) -> None:
        token = app.begin(data={"a": 1, "b": 2})["token"]
        saved = app.call("PATCH", CURRENT, token, json={"set": {"c": 3}, "unset": ["a"]})
        assert saved.data == {"revision": 2}
        assert app.check(token).data["session"]["data"] == {"b": 2, "c": 3}

    def test_parallel_requests_lose_no_key(self, app: Backend) -> None:
        token = app.begin()["token"]
        headers = [("X-Session-Token", token)]
        asked = [
            send(
                app.world.app if n % 2 else app.world.app.behind,
                "PATCH",
                CURRENT,
                bearer=app.key,
                headers=headers,
                json={"set": {f"k{n}": n}},
            )
            for n in range(100)
        ]
        answers = app.world.run(gather(*asked))
        assert {answer.status for answer in answers} == {200}
        data = app.check(token).data["session"]["data"]
        assert data == {f"k{n}": n for n in range(100)}

    def test_a_batch_is_one_look_up_and_one_save(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens = [app.begin()["token"] for _ in range(50)]
        asked = counted(app.world, monkeypatch)
        saves = [
            send(
                app.world.app,
                "PATCH",
                CURRENT,
                bearer=app.key,
                headers=[("X-Session-Token", token)],
                json={"set": {"a": 1}},
            )
            for token in tokens
        ]
        answers = app.world.run(gather(*saves))
        assert {answer.status for answer in answers} == {200}
        assert asked == ["load", "save"]

    def test_never_brings_a_session_back(self, app: Backend) -> None:
        begun = app.begin()
        app.call("DELETE", CURRENT, begun["token"])
        saved = app.call("PATCH", CURRENT, begun["token"], json={"set": {"a": 1}})
        assert (saved.status, saved.code) == (401, "session_ended")
        by_id = app.call("PATCH", f"{BASE}/{begun['session']['id']}", json={"set": {"a": 1}})
        assert (by_id.status, by_id.code) == (404, "session_unknown")

    def test_a_session_that_ends_meanwhile_is_told_as_ended(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = app.begin()
        load = app.world.store.load

        def load_then_end(hashes: Any) -> Any:
            found = load(hashes)
            app.world.store.end(user_id="ann", reason="disabled", actor="user:root")
            return found

        monkeypatch.setattr(app.world.store, "load", load_then_end)
        saved = app.call("PATCH", CURRENT, begun["token"], json={"set": {"a": 1}})
        assert (saved.code, saved.json["endReason"]) == ("session_ended", "disabled")

    def test_data_that_is_too_large_is_refused(self) -> None:
        with api(body_max=1_024) as world:
            app = Backend(world)
            token = app.begin()["token"]
            most = {"a": "x" * 1_048_500}  # as in an application's own process
            assert app.call("PATCH", CURRENT, token, json={"set": most}).status == 200
            assert app.call("POST", BASE, json={"data": most}).status == 201
            huge = app.call("PATCH", CURRENT, token, json={"set": {"a": "x" * 1_200_000}})
            assert (huge.status, huge.code) == (413, "body_too_large")
            app.call("PATCH", CURRENT, token, json={"unset": ["a"]})
            large = {"a": "x" * 1_048_600}
            saved = app.call("PATCH", CURRENT, token, json={"set": large})
            assert (saved.status, saved.code) == (413, "data_too_large")
            begun = app.call("POST", BASE, json={"data": large})
            assert (begun.status, begun.code) == (413, "data_too_large")
            assert app.check(token).data["session"]["revision"] == 3


class TestRotate:
    def test_gives_a_new_token_and_leaves_the_old_one_a_grace(self, app: Backend) -> None:
        old = app.begin()["token"]
        rotated = app.call("POST", CURRENT + "/rotate", old, json={"grace": 5}).data
        assert rotated["token"] != old
        assert app.check(old).status == 200
        app.world.clock.advance(seconds=5)
        assert app.check(old).code == "session_absent"
        assert app.check(rotated["token"]).data["session"]["id"] == rotated["session"]["id"]

    def test_with_a_level_notes_a_fresh_authentication(self, app: Backend) -> None:
        begun = app.begin()
        app.world.clock.advance(seconds=30)
        stepped = app.call(
            "POST", CURRENT + "/rotate", begun["token"], json={"level": 2, "grace": 0}
        ).data["session"]
        assert stepped["level"] == 2
        assert stepped["authenticatedAt"] == stepped["at"] != begun["session"]["at"]
        assert app.check(begun["token"]).code == "session_absent"

    def test_by_id(self, app: Backend) -> None:
        begun = app.begin()
        rotated = app.call("POST", f"{BASE}/{begun['session']['id']}/rotate", json={"grace": 0})
        assert rotated.status == 200
        assert app.check(rotated.data["token"]).status == 200
        assert app.call("POST", f"{BASE}/ses_x/rotate").code == "session_unknown"


class TestEnd:
    def test_signs_out_once_and_is_content_with_twice(self, app: Backend) -> None:
        token = app.begin()["token"]
        assert app.call("DELETE", CURRENT, token).data == {"ended": 1}
        assert app.call("DELETE", CURRENT, token).data == {"ended": 0}
        (event,) = app.events()
        assert (event.actor, event.data["reason"]) == (None, "signed_out")

    def test_gives_the_sessions_seats_back(self, app: Backend) -> None:
        begun = app.begin("ann")
        seat = app.world.seat("ann", sessionId=begun["session"]["id"])
        app.call("DELETE", CURRENT, begun["token"], json={"reason": "bye"})
        lost = app.world.beat(seat["token"])
        assert (lost.status, lost.json["reason"]) == (410, "session_ended")

    def test_the_others_end_and_this_one_stays(self, app: Backend) -> None:
        mine, bobs = app.begin("ann"), app.begin("bob")
        others = [app.begin("ann")["token"] for _ in range(3)]
        assert app.call("POST", CURRENT + "/end-others", mine["token"]).data == {"ended": 3}
        assert {app.check(token).code for token in others} == {"session_ended"}
        assert app.check(mine["token"]).status == app.check(bobs["token"]).status == 200

    def test_a_visitor_has_no_others(self, app: Backend) -> None:
        visitor, other = app.begin(None), app.begin(None)
        answer = app.call("POST", CURRENT + "/end-others", visitor["token"])
        assert answer.data == {"ended": 0}
        assert app.check(other["token"]).status == 200

    def test_by_ids_or_of_a_user_but_some(self, app: Backend) -> None:
        ids = [app.begin()["session"]["id"] for _ in range(4)]
        some = app.call("POST", BASE + "/end", json={"ids": [*ids[:1], "ses_x"]})
        assert some.data == {"ended": 1, "ids": ids[:1]}
        rest = app.call("POST", BASE + "/end", json={"userId": "ann", "keep": [ids[3]]})
        assert sorted(rest.data["ids"]) == sorted(ids[1:3])

    def test_a_backend_says_who_did_it_and_others_are_named_by_their_key(
        self, app: Backend
    ) -> None:
        app.begin("ann")
        app.call("POST", BASE + "/end", json={"userId": "ann", "actor": "user:boss"})
        app.begin("ann")
        app.call("POST", BASE + "/end", json={"userId": "ann", "actor": None})
        app.begin("ann")
        operator = app.world.keys[Role.OPERATOR]
        app.world.call("POST", BASE + "/end", bearer=operator, json={"userId": "ann"})
        actors = [event.actor for event in app.events()]
        assert actors[1] is None
        assert re.fullmatch(r"app:key_\w+:user:boss", str(actors[0]))
        assert str(actors[2]).startswith("key:key_")

    @pytest.mark.parametrize("actor", ["key:key_7Hs", "system:sweep", "console", "x" * 200])
    def test_an_actor_that_an_application_names_does_not_read_like_an_operator(
        self, app: Backend, actor: str
    ) -> None:
        app.begin("ann")
        app.call("POST", BASE + "/end", json={"userId": "ann", "actor": actor})
        (event,) = app.events()
        assert re.fullmatch(rf"app:key_[\w-]+:{actor}", str(event.actor))
        too_long = app.call("POST", BASE + "/end", json={"userId": "ann", "actor": "x" * 201})
        assert too_long.status == 400
