"""The console without a browser: who gets in, by which cookie, and from where; what the probe makes of a
browser's answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from html import unescape
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from sqlalchemy import text
from tests.api_harness import ADMIN, Answer, Api, api, gather, send
from tests.patient import MISSING, Patient

from sojourn.api.console import COOKIE
from sojourn.clock import HOUR, MINUTE
from sojourn.console.doctor import event
from sojourn.console.probe import Sent, judge
from sojourn.console.words import ago
from sojourn.cookie import CookieOptions
from sojourn.errors import StoreBroken
from sojourn.finding import Verdict
from sojourn.ledger import Role
from sojourn.service.operators import Operators
from sojourn.session import Begin, Begun, Gone, Rotate

HERE = [("host", "sojourn.test"), ("sec-fetch-site", "same-origin")]
FORM = ("content-type", "application/x-www-form-urlencoded")
SECRET = "a-secret-for-tests-0123456789-abcdefghij"
NAME = "sojourn-console"


@pytest.fixture
def patient() -> Patient:
    return Patient(schema_tables=MISSING)


@pytest.fixture
def world(patient: Patient) -> Iterator[Api]:
    with api(doctor=patient.doctor(), secret=(SECRET,)) as world:
        yield world


def post(world: Api, path: str, cookie: str = "", *, headers: Any = HERE, **form: str) -> Answer:
    sent = [*headers, FORM, *([("cookie", f"{NAME}={cookie}")] if cookie else [])]
    return world.call("POST", f"/console/{path}", body=urlencode(form).encode(), headers=sent)


def get(world: Api, path: str, cookie: str = "") -> Answer:
    sent = [*HERE, *([("cookie", f"{NAME}={cookie}")] if cookie else [])]
    return world.call("GET", f"/console/{path}", headers=sent)


def test_the_address_that_serve_prints_leads_to_the_console(world: Api) -> None:
    answer = world.call("GET", "/")
    assert answer.status == 303
    assert dict(answer.headers)[b"location"] == b"console"


def sign_in(world: Api, key: str = ADMIN) -> str:
    """Return the cookie's value."""
    answer = post(world, "sign-in", key=key)
    assert answer.status == 303, answer.body
    given = answer.header("set-cookie")
    assert given is not None
    assert given.endswith("; Path=/; Max-Age=28800; HttpOnly; SameSite=Lax")
    return given.partition(";")[0].removeprefix(f"{NAME}=")


class TestSigningIn:
    def test_begins_a_session_of_ours_and_hides_the_key(
        self, world: Api, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            cookie = sign_in(world)
            post(world, "sign-in", key="sja_this-is-no-key-at-all")
        key_id = cookie.partition(".")[0]
        (session,) = world.services.sessions.of(f"operator:{key_id}")
        assert session.expires_at - session.at == 8 * HOUR
        assert session.idle_timeout == 30 * MINUTE
        page = get(world, "doctor", cookie)
        assert page.status == 200
        said = capsys.readouterr().out + caplog.text + cookie + page.body.decode() + repr(session)
        assert ADMIN not in said
        assert "this-is-no-key" not in said

    def test_leads_to_where_it_is_seen_that_the_cookie_came_back(self, world: Api) -> None:
        answer = post(world, "sign-in", key=ADMIN)
        assert answer.header("location") == "sign-in?back=1"
        assert get(world, "sign-in?back=1", sign_in(world)).header("location") == "overview"
        assert b"did not send the cookie back" in get(world, "sign-in?back=1").body

    @pytest.mark.parametrize("role", Role)
    def test_takes_a_role_that_may_look(self, world: Api, role: Role) -> None:
        answer = post(world, "sign-in", key=world.keys[role])
        assert answer.status == (403 if role in (Role.APP, Role.RELAY) else 303)

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.VIEWER])
    def test_ends_the_session_that_was_there(self, world: Api, role: Role) -> None:
        """Whoever's it was: nobody holds its cookie any more, and nobody else should."""
        before = sign_in(world)
        key = ADMIN if role is Role.ADMIN else world.keys[role]
        answer = post(world, "sign-in", before, key=key)
        assert answer.status == 303
        assert get(world, "doctor", before).status == 401
        after = str(answer.header("set-cookie")).partition(";")[0].removeprefix(f"{NAME}=")
        assert get(world, "doctor", after).status == 200

    def test_that_fails_leaves_the_session_that_was_there(self, world: Api) -> None:
        before = sign_in(world)
        assert post(world, "sign-in", before, key="wrong").status == 401
        assert get(world, "doctor", before).status == 200

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("sja_" + "A" * 47, "This API key is mistyped, or not whole."),
            ("sja_" + "A" * 49, "This API key is mistyped, or not whole."),
            ("sjs_" + "A" * 49, "This call needs an API key (sja_…)."),
            ("nobody's key", "This API key is not known, or no longer valid."),
            (Role.APP, "It takes a key of role viewer, operator or admin."),
            (Role.RELAY, "It takes a key of role viewer, operator or admin."),
        ],
    )
    def test_speaks_of_the_key_and_says_which_ones_can(
        self, world: Api, key: str | Role, said: str
    ) -> None:
        """In the words of the label: nobody there knows of tokens and grants."""
        page = post(world, "sign-in", key=world.keys[key] if isinstance(key, Role) else key)
        text = re.sub(r"<[^>]+>", " ", unescape(page.body.decode()))
        assert said in text
        assert not re.search(r"token|grant", text, re.IGNORECASE)

    @pytest.mark.parametrize("path", ["sign-in", "sign-out", "doctor"])
    def test_takes_no_form_of_more_fields_than_a_page_has(self, world: Api, path: str) -> None:
        """From nobody: it is no fault of ours, and fills no log."""
        form = "&".join("a=1" for _ in range(251)).encode()
        answer = world.call("POST", f"/console/{path}", body=form, headers=[*HERE, FORM])
        assert (answer.status, answer.code) == (413, "body_too_large")

    @pytest.mark.parametrize("key", ["", "wrong", "sjs_x", "sja_garbled", "ü"])
    def test_refuses_what_is_no_key(self, world: Api, key: str) -> None:
        answer = post(world, "sign-in", key=key)
        assert answer.status == 401
        assert answer.header("set-cookie") is None

    def test_the_page_says_what_it_may_load_and_is_not_kept(self, world: Api) -> None:
        answer = get(world, "sign-in")
        policy = answer.header("content-security-policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert answer.header("cache-control") == "no-store"
        assert answer.header("referrer-policy") == "same-origin"
        assert b"<style" not in answer.body
        assert b" style=" not in answer.body


def test_over_https_the_cookie_is_this_hosts_alone() -> None:
    assert COOKIE.set("x", https=True, max_age=1) == (
        "__Host-sojourn-console=x; Path=/; Max-Age=1; HttpOnly; Secure; SameSite=Lax"
    )


class TestWhereAChangeComesFrom:
    @pytest.mark.parametrize(
        "headers",
        [
            [("host", "sojourn.test")],
            [("host", "sojourn.test"), ("sec-fetch-site", "cross-site")],
            [("host", "sojourn.test"), ("sec-fetch-site", "same-site")],
            [("host", "sojourn.test"), ("origin", "https://evil.example")],
            [("host", "sojourn.test"), ("origin", "null")],
        ],
    )
    def test_nothing_is_done_for_another_site(
        self, world: Api, patient: Patient, headers: Any
    ) -> None:
        cookie = sign_in(world)
        for path, form in (
            ("sign-in", {"key": ADMIN}),
            ("sign-out", {}),
            ("doctor", {"do": "repair"}),
        ):
            answer = post(world, path, cookie, headers=headers, **form)
            assert answer.status == 403
            assert answer.header("set-cookie") is None
        assert "schema.tables" in patient.wrong
        assert get(world, "doctor", cookie).status == 200

    def test_an_old_browser_names_the_origin_alone(self, world: Api) -> None:
        headers = [("host", "sojourn.test"), ("origin", "http://sojourn.test")]
        assert post(world, "sign-in", headers=headers, key=ADMIN).status == 303


class TestWhoIsLetIn:
    def test_a_revoked_key_opens_nothing_and_its_sessions_end(self, world: Api) -> None:
        key, secret = world.services.keys.create("ops", Role.OPERATOR, actor="test")
        cookie = sign_in(world, secret)
        assert get(world, "doctor", cookie).status == 200
        world.admin("DELETE", f"/api/keys/{key.id}")
        answer = get(world, "doctor", cookie)
        assert answer.status == 401
        assert b"your API key was revoked" in answer.body
        assert world.services.sessions.of(f"operator:{key.id}") == []

    def test_an_expired_key_or_session_opens_nothing(self, world: Api) -> None:
        expires_at = world.clock.now() + HOUR
        _, secret = world.services.keys.create(
            "brief", Role.VIEWER, expires_at=expires_at, actor="test"
        )
        brief, long = sign_in(world, secret), sign_in(world)
        world.clock.advance(seconds=29 * 60)
        assert get(world, "doctor", long).status == get(world, "doctor", brief).status == 200
        world.clock.advance(seconds=29 * 60)
        assert get(world, "doctor", brief).status == 200
        world.clock.advance(seconds=3 * 60)
        assert b"revoked, or has expired" in get(world, "doctor", brief).body
        world.clock.advance(seconds=30 * 60)
        assert b"half an hour" in get(world, "doctor", long).body

    def test_signing_out_ends_the_session_and_takes_the_cookie_back(self, world: Api) -> None:
        cookie = sign_in(world)
        answer = post(world, "sign-out", cookie)
        assert answer.header("set-cookie") == (
            f"{NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        )
        assert get(world, "doctor", cookie).status == 401

    def test_of_several_cookies_the_live_one_opens(self, world: Api) -> None:
        """An older one of a longer path comes first, and signing in again would never help."""
        dead = sign_in(world)
        post(world, "sign-out", dead)
        live = sign_in(world)
        for cookies in (f"{dead}; {NAME}={live}", f"garbled; {NAME}={dead}; {NAME}={live}"):
            assert get(world, "doctor", cookies).status == 200
        assert get(world, "doctor", f"{dead}; {NAME}=garbled").status == 401

    def test_an_application_makes_no_operator(self, world: Api) -> None:
        """It may begin and rotate any session, and may share the secret: but not the hash of a key."""
        cookie = sign_in(world)
        key_id = cookie.partition(".")[0]
        sessions = world.services.sessions
        (begun,) = sessions.begin([Begin(user_id=f"operator:{key_id}")])
        assert isinstance(begun, Begun)
        (rotated,) = sessions.rotate(
            [Rotate(id=sessions.of(f"operator:{key_id}")[-1].id, grace=30_000)]
        )
        assert rotated is not None
        secret = SECRET.encode()
        for stolen in (begun.token, rotated.token):
            for guess in (b"", key_id.encode(), b"\0" * 32):
                app = Operators(world.services.keys, sessions, [secret])
                forged = app._write(key_id, stolen, guess)
                assert app.admit(forged) == Gone(reason="forged")  # type: ignore[arg-type]  # a StrEnum
                assert get(world, "doctor", forged).status == 401

    @pytest.mark.parametrize("change", ["key", "token", "mac", "until", "parts"])
    def test_a_cookie_is_taken_whole_or_not_at_all(self, world: Api, change: str) -> None:
        cookie = sign_in(world)
        other = sign_in(world, world.keys[Role.VIEWER]).split(".")
        key, token, mac = cookie.split(".")
        forged = {
            "key": f"{other[0]}.{token}.{mac}",
            "token": f"{key}.{other[1]}.{mac}",
            "mac": f"{key}.{token}.{mac[:-1]}",
            "until": f"{key}.until-99999999999999.{mac}",
            "parts": f"{cookie}.{mac}",
        }[change]
        assert get(world, "doctor", forged).status == 401


class TestMadeUpCookies:
    """Whoever makes cookies up costs the ledger few questions, and none of what shows it at sight."""

    @pytest.fixture
    def asked(self, world: Api, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        asked: list[list[str]] = []
        keys_by_id = world.ledger.keys_by_id

        def noted(key_ids: Sequence[str]) -> Any:
            asked.append(list(key_ids))
            return keys_by_id(key_ids)

        monkeypatch.setattr(world.ledger, "keys_by_id", noted)
        return asked

    @pytest.mark.parametrize(
        "cookie",
        [
            "x",
            "a.b.c",
            "key_1.until-99999999999999",
            "key_1.until-99999999999999." + "A" * 42,
            "key_1.until-x." + "A" * 43,
            "key_1.sjs_" + "A" * 49 + "." + "A" * 43,
            "nobody.until-99999999999999." + "A" * 43,
            "key_" + "1" * 600 + ".until-99999999999999." + "A" * 43,
        ],
    )
    def test_what_is_not_written_like_one_asks_nobody(
        self, world: Api, asked: list[list[str]], cookie: str
    ) -> None:
        assert get(world, "doctor", cookie).status == 401
        assert asked == []

    def test_many_are_one_question(self, world: Api, asked: list[list[str]]) -> None:
        sent = [
            [*HERE, ("cookie", f"{NAME}=key_{i:022}.until-99999999999999.{'A' * 43}")]
            for i in range(60)
        ]
        look = partial(send, world.app, "GET", "/console/doctor")
        answers = world.run(gather(*(look(headers=each) for each in sent)))
        assert {each.status for each in answers} == {401}
        assert sum(map(len, asked)) == 60  # each once
        assert len(asked) <= 2

    def test_what_is_over_is_told_again_without_asking(
        self, world: Api, asked: list[list[str]]
    ) -> None:
        cookie = sign_in(world)
        world.clock.advance(seconds=31 * 60)
        asked.clear()
        first, second = get(world, "doctor", cookie), get(world, "doctor", cookie)
        assert first.status == second.status == 401
        assert first.body == second.body
        assert b"the console had not been used for half an hour" in first.body
        assert len(asked) == 1


class TestWithoutSessions:
    """While the table of sessions is missing, a key still opens the console."""

    @pytest.fixture(autouse=True)
    def no_sessions(self, world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise StoreBroken("The table sojourn_sessions is missing.")

        monkeypatch.setattr(world.store, "create", broken)
        monkeypatch.setattr(world.store, "load", broken)

    def enter(self, world: Api) -> str:
        given = post(world, "sign-in", key=ADMIN).header("set-cookie")
        assert given is not None
        assert "Max-Age=900" in given
        return given.partition(";")[0].removeprefix(f"{NAME}=")

    def test_it_looks_and_repairs(self, world: Api, patient: Patient) -> None:
        cookie = self.enter(world)
        assert get(world, "doctor", cookie).status == 200
        answer = post(world, "doctor", cookie, do="repair", check="schema.tables")
        assert b"Repaired. 2 steps carried out" in answer.body
        assert patient.wrong == {}
        assert (
            b"Not tried: sessions cannot be kept" in post(world, "doctor", cookie, do="probe").body
        )

    def test_for_a_quarter_of_an_hour(self, world: Api) -> None:
        cookie = self.enter(world)
        world.clock.advance(seconds=14 * 60)
        assert get(world, "doctor", cookie).status == 200
        world.clock.advance(seconds=60)
        assert get(world, "doctor", cookie).status == 401

    def test_whoever_was_signed_in_is_asked_for_the_key(
        self, world: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()
        cookie = sign_in(world)
        self.no_sessions.__wrapped__(self, world, monkeypatch)  # type: ignore[attr-defined]  # the fixture's function
        answer = get(world, "doctor", cookie)
        assert answer.status == 503
        assert b"you have to show your key again" in answer.body


def test_without_the_ledger_nobody_is_recognized(world: Api) -> None:
    cookie = sign_in(world)
    database = world.ledger._db  # type: ignore[attr-defined]  # it is SQL
    database.transaction(lambda tx: tx.core(text("ALTER TABLE sojourn_api_keys RENAME TO gone")))
    for answer in (get(world, "doctor", cookie), post(world, "sign-in", key=ADMIN)):
        assert answer.status == 503
        assert b"The store cannot be used" in answer.body
    assert b"nobody can be recognized" in get(world, "banner", cookie).body


def test_what_is_no_form_of_ours_is_refused(world: Api) -> None:
    cookie = sign_in(world)
    assert post(world, "doctor", cookie, do="dance").status == 400
    big = world.call("POST", "/console/sign-in", body=b"key=" + b"x" * 9_000, headers=[*HERE, FORM])
    assert big.status == 413
    assert world.call("GET", "/console/assets/nothing.css").status == 404


def test_markup_is_text(world: Api, patient: Patient) -> None:
    """Findings may hold anything: names of tables, answers of servers."""
    evil = '</code><script>alert("1")</script>'
    patient.wrong["schema.tables"] = msgspec.structs.replace(
        MISSING, title=evil, evidence=(evil,), means=f"`{evil}`"
    )
    body = post(world, "doctor", sign_in(world), do="look").body.decode()
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert" in body


def test_an_event_keeps_its_lines() -> None:
    assert event("<p>a\r\nb</p>", "<hr>") == b"data: <p>a\ndata: b</p><hr>\n\n"


def test_how_long_ago() -> None:
    said = [ago(ms) for ms in (0, 44_000, 46_000, 3_599_000, 3_600_000, 86_400_000, 172_800_000)]
    assert said == [
        "just now",
        "just now",
        "1 minute ago",
        "59 minutes ago",
        "1 hour ago",
        "1 day ago",
        "2 days ago",
    ]


class TestProbe:
    cookie = CookieOptions(name="app")

    def judge(self, cookies: str, cookie: CookieOptions | None = None, **sent: Any) -> Any:
        facts: dict[str, Any] = {
            "nonce": "n",
            "https": False,
            "host": "localhost:8700",
            "sender": "",
        } | sent
        return judge(Sent(**facts), cookies, cookie or self.cookie)

    def test_fine(self) -> None:
        assert self.judge("app-probe=n").verdict is Verdict.OK
        secure: dict[str, Any] = {
            "https": True,
            "host": "app.example",
            "sender": "https://app.example",
        }
        assert self.judge("__Host-app-probe=n", **secure).verdict is Verdict.OK

    @pytest.mark.parametrize(
        ("cookies", "sent", "words"),
        [
            ("", {}, "did not send the cookie back"),
            ("app-probe=other", {}, "did not send the cookie back"),
            (
                "app-probe=n",
                {"host": "app.example", "sender": "https://app.example"},
                "a proxy hides it",
            ),
            ("", {"host": "app.example", "sender": "https://app.example"}, "a proxy hides it"),
            ("app-probe=n", {"host": "app.example", "sender": "http://app.example"}, "by HTTP"),
            ("app-probe=n; app=1; app=2", {}, "2 cookies called app"),
            ("app-probe=n; x=" + "y" * 8_000, {}, "bytes of cookies"),
        ],
    )
    def test_what_is_wrong_is_named(self, cookies: str, sent: Any, words: str) -> None:
        found = self.judge(cookies, **sent)
        assert words in found.title
        assert found.fix is not None

    def test_a_domain_that_does_not_cover_the_host(self) -> None:
        cookie = CookieOptions(name="app", domain="example.org")
        found = self.judge("", cookie, host="shop.example.com")
        assert "example.org does not cover shop.example.com" in found.title
