"""Active sessions over HTTP, on the model of a store: whose they are, what is shown, what is ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import BEAT, Answer, Api, api

from sojourn.cookie import SignedTokens
from sojourn.device import Device
from sojourn.errors import StoreUnavailable
from sojourn.session import Begin, Begun
from sojourn.token import TokenKind, new_token

BASE = "/api/user/active-sessions"
SECRET = "people are known by what this signs 0123"
PHONE = Device(name="Safari on iPhone", browser="Safari", os="iOS", kind="phone", ip="192.0.2.9")
HOST = ("Host", "sojourn.test")


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,), capacity=5) as world:
        yield world


def sign_in(world: Api, user: str | None = "ann", **more: Any) -> Begun:
    (begun,) = world.services.sessions.begin([Begin(user_id=user, **more)])
    assert isinstance(begun, Begun)
    return begun


def cookie(begun: Begun) -> tuple[str, str]:
    return "Cookie", f"other=1; sojourn={SignedTokens([SECRET.encode()]).encode(begun.token)}"


def shown(world: Api, begun: Begun, query: str = "") -> Any:
    answer = world.call("GET", BASE + query, bearer=begun.token)
    assert answer.status == 200, answer.body
    return answer.json


def ids(page: Any) -> list[str]:
    return [each["id"] for each in page["data"]]


class TestList:
    def test_a_session_is_shown_as_people_know_it(self, world: Api) -> None:
        mine = sign_in(world, device=PHONE, data={"secret": "of the application"})
        world.seat(sessionId=mine.session.id)
        page = shown(world, mine)
        assert page["success"] is True
        assert page["data"] == [
            {
                "id": mine.session.id,
                "device": "Safari on iPhone",
                "browser": "Safari",
                "os": "iOS",
                "kind": "phone",
                "name": None,
                "ipAddress": "192.0.2.9",
                "location": None,
                "lastDevice": None,
                "lastIpAddress": None,
                "lastLocation": None,
                "createdAt": page["data"][0]["createdAt"],
                "lastUsedAt": page["data"][0]["createdAt"],
                "expiresAt": page["data"][0]["expiresAt"],
                "isCurrent": True,
                "seats": 1,
            }
        ]
        assert (page["total"], page["next"]) == (1, None)
        assert page["message"].startswith("This is the only place where you are signed in.")

    def test_the_cookie_of_an_application_is_proof(self, world: Api) -> None:
        mine = sign_in(world)
        answer = world.call("GET", BASE, headers=[cookie(mine)])
        assert ids(answer.json) == [mine.session.id]
        assert answer.header("cache-control") == "no-store"

    def test_pages_tell_everything_once(self, world: Api) -> None:
        """However the pages are cut, and wherever in the list the session is that asks."""
        sessions = []
        for _ in range(5):
            sessions.append(sign_in(world))
            world.clock.advance(seconds=1)
        newest_first = [each.session.id for each in reversed(sessions)]
        for mine in sessions:
            for limit in range(1, 7):
                seen: list[str] = []
                page = shown(world, mine, f"?limit={limit}")
                assert page["data"][[x["isCurrent"] for x in page["data"]].index(True)]["id"] == (
                    mine.session.id
                )
                for _ in range(10):
                    assert page["total"] == 5
                    assert len(page["data"]) <= limit
                    seen += ids(page)
                    if page["next"] is None:
                        break
                    page = shown(world, mine, f"?limit={limit}&after={page['next']}")
                assert sorted(seen) == sorted(newest_first)
                others = [each for each in newest_first if each != mine.session.id]
                assert [each for each in seen if each != mine.session.id] == others

    def test_what_is_asked_wrongly_is_refused(self, world: Api) -> None:
        mine = sign_in(world)
        for query in (
            "limit=0",
            "limit=201",
            "limit=x",
            "after=",
            "after=x~y",
            "a=b",
            "limit=1&limit=2",
        ):
            answer = world.call("GET", f"{BASE}?{query}", bearer=mine.token)
            assert (answer.status, answer.code) == (400, "invalid_request"), query


class TestProof:
    def test_without_any_nobody_is_signed_in(self, world: Api) -> None:
        for headers in ([], [("Cookie", "other=1")], [("Authorization", "Basic YTpi")]):
            answer = world.call("GET", BASE, headers=headers)
            assert (answer.status, answer.code) == (401, "unauthenticated")
            assert answer.json["details"] == "Sign in, then come back."
            assert answer.header("www-authenticate")

    def test_what_is_over_or_forged_is_told_apart(self, world: Api) -> None:
        mine = sign_in(world)
        world.services.store.end(ids=[mine.session.id])
        for headers, code in (
            ([("Authorization", f"Bearer {mine.token}")], "session_ended"),
            ([cookie(mine)], "session_ended"),
            ([("Cookie", "sojourn=" + mine.token + "." + "A" * 43)], "session_forged"),
            ([("Authorization", f"Bearer {mine.token[:-1]}")], "session_forged"),
            ([("Authorization", f"Bearer {world.license_key}")], "token_wrong_kind"),
        ):
            answer = world.call("GET", BASE, headers=headers)
            assert (answer.status, answer.code) == (401, code)
            assert mine.token not in answer.body.decode()

    def test_a_visitor_is_nobody(self, world: Api) -> None:
        answer = world.call("GET", BASE, bearer=sign_in(world, None).token)
        assert (answer.status, answer.code) == (401, "unauthenticated")


class TestEnding:
    def test_one_ends_with_its_seats(self, world: Api) -> None:
        mine, phone = sign_in(world), sign_in(world, device=PHONE)
        seat = world.seat(sessionId=phone.session.id)
        answer = world.call("DELETE", f"{BASE}/{phone.session.id}", bearer=mine.token)
        assert answer.data == {"ended": 1, "seats": 1}
        assert answer.json["message"] == "That device is signed out. 1 seat is free again."
        assert world.call("GET", BASE, bearer=phone.token).code == "session_ended"
        lost = world.call("POST", BEAT, bearer=seat["token"], json={})
        assert (lost.status, lost.json["reason"]) == (410, "session_ended")
        again = world.call("DELETE", f"{BASE}/{phone.session.id}", bearer=mine.token)
        assert (again.status, again.code) == (404, "session_unknown")

    def test_nobody_ends_or_sees_anothers(self, world: Api) -> None:
        mine, yours = sign_in(world), sign_in(world, "bob")
        assert ids(shown(world, mine)) == [mine.session.id]
        answer = world.call("DELETE", f"{BASE}/{yours.session.id}", bearer=mine.token)
        unknown = world.call("DELETE", f"{BASE}/ses_unknown", bearer=mine.token)
        assert answer.status == unknown.status == 404
        assert answer.body == unknown.body
        others = world.call("POST", f"{BASE}/logout-others", bearer=mine.token)
        assert others.data == {"ended": 0, "seats": 0}
        assert ids(shown(world, yours)) == [yours.session.id]

    def test_ones_own_end_signs_out_and_takes_the_cookie_back(self, world: Api) -> None:
        mine = sign_in(world)
        answer = world.call("DELETE", f"{BASE}/{mine.session.id}", headers=[HOST, cookie(mine)])
        assert answer.data == {"ended": 1, "seats": 0}
        assert "sojourn=;" in str(answer.header("set-cookie"))
        assert "Max-Age=0" in str(answer.header("set-cookie"))
        by_token = sign_in(world)
        answer = world.call("DELETE", f"{BASE}/{by_token.session.id}", bearer=by_token.token)
        assert answer.header("set-cookie") is None

    def test_others_end_and_this_one_stays(self, world: Api) -> None:
        mine, *others = [sign_in(world) for _ in range(4)]
        world.seat(sessionId=others[0].session.id)
        answer = world.call("POST", f"{BASE}/logout-others", bearer=mine.token)
        assert answer.data == {"ended": 3, "seats": 1}
        assert answer.json["message"] == "3 other devices are signed out. 1 seat is free again."
        assert ids(shown(world, mine)) == [mine.session.id]

    def test_a_copy_ends_nobody_who_came_later(self, world: Api) -> None:
        """It is told what the first was; another key is another request, and so is another session's."""
        mine, other = sign_in(world), sign_in(world)
        world.seat(sessionId=other.session.id)
        once = [("Idempotency-Key", '"8e03978e-40d5-43e8-bc93-6894a57f9324"')]
        path = f"{BASE}/logout-others"
        first = world.call("POST", path, bearer=mine.token, headers=once)
        later = sign_in(world)
        world.seat(sessionId=later.session.id)
        copy = world.call("POST", path, headers=[HOST, cookie(mine), *once])
        assert (first.status, copy.status) == (200, 200)
        assert first.data == copy.data == {"ended": 1, "seats": 1}
        assert [x.header("idempotency-replayed") for x in (first, copy)] == [None, "true"]
        assert set(ids(shown(world, mine))) == {mine.session.id, later.session.id}
        theirs = world.call("POST", path, bearer=later.token, headers=once)
        assert (theirs.data["ended"], theirs.header("idempotency-replayed")) == (1, None)

    def test_a_key_is_for_one_request(self, world: Api) -> None:
        mine, other = sign_in(world), sign_in(world)
        path, once = f"{BASE}/logout-others", [("Idempotency-Key", "k")]
        assert world.call("POST", path, bearer=mine.token, headers=once).status == 200
        other = sign_in(world)
        reused = world.call("POST", path + "?a=1", bearer=mine.token, headers=once)
        assert (reused.status, reused.code) == (422, "idempotency_key_reused")
        for wrong in ([("Idempotency-Key", "no spaces")], [*once, ("Idempotency-Key", "l")]):
            refused = world.call("POST", path, bearer=mine.token, headers=wrong)
            assert (refused.status, refused.code) == (400, "invalid_request")
        assert set(ids(shown(world, mine))) == {mine.session.id, other.session.id}

    def test_an_impersonator_ends_nobody_elses(self, world: Api) -> None:
        mine = sign_in(world)
        acting = sign_in(world, impersonator="ops")
        for method, path in (("DELETE", f"/{mine.session.id}"), ("POST", "/logout-others")):
            answer = world.call(method, BASE + path, bearer=acting.token)
            assert (answer.status, answer.code) == (403, "forbidden")
        assert [x["device"] for x in shown(world, mine)["data"] if not x["isCurrent"]] == [
            "Unknown device (somebody acting for you)"
        ]


def test_a_recent_sign_in_is_asked_for_where_that_is_set() -> None:
    with api(secret=(SECRET,), reauth_within=300) as world:
        mine, other = sign_in(world), sign_in(world)
        world.clock.advance(seconds=301)
        path = f"{BASE}/{other.session.id}"
        answer = world.call("DELETE", path, bearer=mine.token)
        assert (answer.status, answer.code) == (403, "reauth_required")
        assert world.call("POST", f"{BASE}/logout-others", bearer=mine.token).status == 403
        fresh = sign_in(world)
        assert world.call("DELETE", path, bearer=fresh.token).status == 200
        own = world.call("DELETE", f"{BASE}/{mine.session.id}", bearer=mine.token)
        assert own.status == 200  # signing out takes nothing


CROSS: list[tuple[list[tuple[str, str]], int]] = [
    ([], 200),  # no browser: it would say
    ([("Sec-Fetch-Site", "same-origin"), ("Origin", "http://sojourn.test")], 200),
    ([("Sec-Fetch-Site", "none")], 200),
    ([("Origin", "http://sojourn.test")], 200),
    ([("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site")], 200),  # trusted below
    ([("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")], 403),
    ([("Sec-Fetch-Site", "same-site"), ("Origin", "http://other.sojourn.test")], 403),
    ([("Origin", "http://evil.example")], 403),
    ([("Origin", "http://sojourn.test.evil.example")], 403),
    ([("Origin", "null")], 403),
]


@pytest.mark.parametrize(("headers", "status"), CROSS)
def test_a_page_of_another_site_changes_nothing(
    headers: list[tuple[str, str]], status: int
) -> None:
    with api(secret=(SECRET,), trusted_origins=("https://app.example",)) as world:
        mine, other = sign_in(world), sign_in(world)
        path = f"{BASE}/{other.session.id}"
        answer = world.call("DELETE", path, headers=[HOST, cookie(mine), *headers])
        assert answer.status == status
        assert (answer.json.get("code") == "cross_origin") == (status == 403)
        if status == 403:  # the token of a program is no cookie that a browser adds by itself
            allowed: Answer = world.call("DELETE", path, bearer=mine.token, headers=headers)
            assert allowed.status == 200


def test_the_log_says_that_sessions_are_back_only_when_they_are(
    world: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Proofs that ask the store nothing tell nothing of it, however many come."""
    mine = sign_in(world)
    store: Any = world.store
    load, broken = store.load, StoreUnavailable("It is away.")

    def fails(*_: Any, **__: Any) -> Any:
        raise broken

    with caplog.at_level(logging.INFO, logger="sojourn"):
        store.load = fails
        for _ in range(3):
            assert world.call("GET", BASE, bearer=mine.token).status == 503
            assert world.call("GET", BASE, bearer="sjs_nonsense").status == 401
            assert world.call("GET", BASE, headers=[("Cookie", "sojourn=forged.x")]).status == 401
        assert caplog.text.count("sessions_unavailable") == 1
        assert "sessions_available_again" not in caplog.text
        store.load = load
        assert world.call("GET", BASE, bearer=new_token(TokenKind.SESSION)).status == 401
        assert caplog.text.count("sessions_available_again") == 1
