"""Sessions over HTTP: tokens that are none, and what nobody would send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import CLIENT_ADDRESS, Api, api, gather, send
from tests.session_harness import BASE, CURRENT, Backend, counted

from sojourn.token import TokenKind, new_token

FOREIGN = (
    "",
    "sjs_",
    "sjs_" + "0" * 49,
    "sjs_" + "\u00e9" * 49,
    "x" * 53,
    "null",
    "a.b.c",
    "' OR 1=1 --",
    "x" * 1_048_576,
)


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.fixture
def app(world: Api) -> Backend:
    return Backend(world)


class TestBadInput:
    def test_ten_thousand_forged_tokens_never_reach_the_store(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good: str = app.begin()["token"]
        asked = counted(app.world, monkeypatch)

        def forged(n: int) -> str:
            body, digit = good[:-6], n % 53
            return (body[:digit] + "-" + body[digit + 1 :] if digit < 47 else body) + f"{n:06}"

        checks = [
            send(
                app.world.app,
                "GET",
                CURRENT,
                bearer=app.key,
                headers=[("x-session-token", forged(n))],
            )
            for n in range(10_000)
        ]
        codes = set()
        for start in range(0, len(checks), 1_000):
            answers = app.world.run(gather(*checks[start : start + 1_000]))
            codes |= {(answer.status, answer.code) for answer in answers}
        assert codes == {(401, "session_forged")}
        assert asked == []

    @pytest.mark.parametrize("token", FOREIGN)
    def test_what_is_no_token_is_refused_without_asking_the_store(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        asked = counted(app.world, monkeypatch)
        for method, path in [("GET", CURRENT), ("DELETE", CURRENT), ("POST", CURRENT + "/rotate")]:
            answer = app.call(method, path, headers=[("X-Session-Token", token)])
            assert answer.status == 401
            assert answer.code in ("session_forged", "session_absent")
        assert asked == []

    @pytest.mark.parametrize("kind", [TokenKind.API, TokenKind.LICENSE, TokenKind.LEASE])
    def test_a_token_of_another_kind_is_no_session_token(
        self, app: Backend, monkeypatch: pytest.MonkeyPatch, kind: TokenKind
    ) -> None:
        asked = counted(app.world, monkeypatch)
        assert app.check(new_token(kind)).code == "session_forged"
        assert asked == []

    def test_a_token_in_a_url_or_a_body_opens_nothing(self, app: Backend) -> None:
        token = app.begin()["token"]
        for name in ("token", "session", "X-Session-Token", "sid"):
            assert app.call("GET", f"{CURRENT}?{name}={token}").code in (
                "session_absent",
                "invalid_request",
            )
        assert app.call("PATCH", CURRENT, json={"token": token}).code == "invalid_request"

    def test_a_token_without_a_key_opens_nothing(self, app: Backend) -> None:
        token = app.begin()["token"]
        headers = [("x-session-token", token)]
        assert app.world.call("GET", CURRENT, headers=headers).code == "unauthenticated"
        assert app.world.call("GET", CURRENT, bearer=token).code == "token_wrong_kind"

    @pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000])
    def test_a_number_that_nobody_could_write_back(self, app: Backend, number: str) -> None:
        body = b'{"data": {"a": %s}}' % number.encode()
        answer = app.call("POST", BASE, body=body)
        assert (answer.status, answer.code) == (400, "invalid_request")

    def test_the_peers_address_is_not_taken_for_the_persons(self, app: Backend) -> None:
        """A backend stands between us and the person: what it does not say is not known."""
        begun = app.begin()
        assert "device" not in begun["session"]
        assert CLIENT_ADDRESS.encode() not in app.check(begun["token"]).body
