"""What every adapter is held to, whatever the framework.

An adapter's test file provides a fixture `driver_for`, a function from (desk, hooks) to a `Driver` of an
application that offers these; parameters are in the query, answers are JSON:

    POST /login?user=     begin a session for the user
    POST /set?key=&value= put a value into the session, calling `hooks.during` after the session was read
    POST /append?value=   append to a list inside the session, in place
    GET  /get?key=        {"value", "user", "id"}: what the session holds, whose it is, its public id
    GET  /plain           a page that does not look at its session
    POST /logout          end the session
    POST /others          {"ended": n}: end the user's other sessions
    POST /rotate          give the session a new token (POST /cycle where frameworks differ)
    POST /boom            put `boom` into the session, then fail
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlencode

import pytest
from msgspec import Struct, field
from sqlalchemy import Engine, event

from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.token import TokenKind, new_token

SECRET = b"a secret of this test, and of none other"
OTHER_SECRET = b"a secret of somebody else, who has no part here"
PROXY = "10.0.0.7"
WRITES = 500 if os.environ.get("SOJOURN_CAMPAIGN") else 100
"""By each of two threads; `make campaign-parallel` has a thousand in all, and more."""
BOOKKEEPING = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SET ", "SAVEPOINT")


class Answer(Struct):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value.strip() for key, value in self.headers if key.lower() == name]

    @property
    def set_cookie(self) -> str | None:
        """The session's Set-Cookie, if there is one."""
        found = self.all("set-cookie")
        assert len(found) <= 1
        return found[0] if found else None


class Driver(Protocol):
    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], *, https: bool, peer: str
    ) -> Answer: ...


class Hooks(Struct):
    """`during` is called by /set between reading the session and changing it."""

    during: Callable[[], object] = lambda: None


class Browser:
    """Keeps cookies as browsers do: `__Host-` ones only if they are Secure, and over HTTPS."""

    def __init__(self, driver: Driver, *, https: bool = False, peer: str = "192.0.2.1") -> None:
        self.driver = driver
        self.https = https
        self.peer = peer
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def get(self, path: str, **query: str) -> Answer:
        return self.send("GET", path, **query)

    def post(self, path: str, **query: str) -> Answer:
        return self.send("POST", path, **query)

    def send(self, method: str, path: str, **query: str) -> Answer:
        headers = dict(self.headers)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        url = f"{path}?{urlencode(query)}" if query else path
        answer = self.driver(method, url, headers, https=self.https, peer=self.peer)
        if (header := answer.set_cookie) is not None:
            pair, *attributes = header.split("; ")
            name, _, value = pair.partition("=")
            if "Max-Age=0" in attributes or not value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def forget(self) -> None:
        self.cookies.clear()


class World(Struct):
    """An application on a store of its own."""

    store: Store
    clock: ManualClock
    desk: Desk
    hooks: Hooks
    driver: Driver
    statements: list[str] = field(default_factory=list)

    def browser(self, **options: Any) -> Browser:
        return Browser(self.driver, **options)

    def signed_in(self, user: str = "ann", **options: Any) -> Browser:
        browser = self.browser(**options)
        assert browser.post("/login", user=user).status == 200
        return browser

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Collect the statements that are run meanwhile, transactions' own left out."""
        found: list[str] = []

        def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            if not statement.lstrip().upper().startswith(BOOKKEEPING):
                found.append(" ".join(statement.split()))

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            event.remove(Engine, "before_cursor_execute", note)

    def rows(self) -> int:
        return len(self.store.sessions(limit=1000))

    def only(self) -> str:
        (session,) = self.store.sessions()
        return session.id


MakeDriver = Callable[[Desk, Hooks], Driver]


@contextmanager
def world(
    url: str, make_driver: MakeDriver, *, rules: Rules | None = None, durable: bool = True
) -> Iterator[World]:
    clock = ManualClock()
    store = open_store(url, clock=clock, migrate=True, durable=durable)
    desk = Desk(SessionService(store), SignedTokens([SECRET]), rules=rules, trusted_proxies=[PROXY])
    hooks = Hooks()
    try:
        yield World(store, clock, desk, hooks, make_driver(desk, hooks))
    finally:
        desk.close()


def wsgi_driver(app: Any) -> Driver:
    """Drive any WSGI application, in this thread."""
    from werkzeug.test import Client  # noqa: PLC0415  # only adapters for WSGI need it

    def drive(
        method: str, url: str, headers: Mapping[str, str], *, https: bool, peer: str
    ) -> Answer:
        answer = Client(app, use_cookies=False).open(
            url,
            method=method,
            headers=list(headers.items()),
            base_url="https://app.example/" if https else "http://app.example/",
            environ_overrides={"REMOTE_ADDR": peer},
        )
        return Answer(answer.status_code, list(answer.headers.items()), answer.get_data())

    return drive


class AdapterCases:
    """Inherit, and provide `driver_for`."""

    cookie_name = "sojourn"
    sends_again = False
    """Whether the framework sends the same cookie again whenever something was assigned."""

    @pytest.fixture
    def world(self, empty_sqlite: str, driver_for: MakeDriver) -> Iterator[World]:
        with world(empty_sqlite, driver_for) as made:
            yield made

    # What it costs

    def test_reading_costs_one_statement_and_sets_no_cookie(self, world: World) -> None:
        browser = world.signed_in()
        with world.counting() as statements:
            answer = browser.get("/get", key="x")
        assert len(statements) == 1, statements
        assert answer.json["user"] == "ann"
        assert answer.set_cookie is None
        assert any("Cookie" in value for value in answer.all("vary"))

    def test_use_is_written_once_per_threshold(self, world: World) -> None:
        browser = world.signed_in()
        world.clock.advance(seconds=61)
        with world.counting() as statements:
            for _ in range(5):
                assert browser.get("/get", key="x").set_cookie is None
        assert len(statements) == 6, statements
        assert sum(each.startswith("UPDATE sojourn_sessions") for each in statements) == 1

    def test_a_visit_without_a_session_asks_nothing(self, world: World) -> None:
        with world.counting() as statements:
            answer = world.browser().get("/get", key="x")
        assert statements == []
        assert answer.json == {"value": None, "user": None, "id": None}
        assert answer.set_cookie is None
        assert world.rows() == 0

    def test_changing_nothing_writes_nothing(self, world: World) -> None:
        """Setting a value to what it was is no change."""
        browser = world.signed_in()
        browser.post("/set", key="x", value="1")
        with world.counting() as statements:
            answer = browser.post("/set", key="x", value="1")
        assert len(statements) == 1, statements
        assert answer.set_cookie is None or self.sends_again

    def test_deep_changes_are_saved(self, world: World) -> None:
        browser = world.signed_in()
        for value in "ab":
            answer = browser.post("/append", value=value)
            assert answer.set_cookie is None or self.sends_again
        assert browser.get("/get", key="list").json["value"] == ["a", "b"]

    # Visitors, sign-in, sign-out

    def test_a_visitors_first_data_begins_a_session(self, world: World) -> None:
        browser = world.browser()
        assert browser.post("/set", key="x", value="1").set_cookie is not None
        assert browser.get("/get", key="x").json["value"] == "1"
        assert world.rows() == 1

    def test_signing_in_changes_the_token_keeps_the_data_and_kills_the_old_one(
        self, world: World
    ) -> None:
        browser = world.browser()
        browser.post("/set", key="cart", value="7")
        before = dict(browser.cookies)
        browser.post("/login", user="ann")
        assert browser.cookies != before
        assert browser.get("/get", key="cart").json["value"] == "7"
        assert world.rows() == len(world.store.of("ann")) == 1
        browser.cookies = before
        assert browser.get("/get", key="cart").json == {"value": None, "user": None, "id": None}

    def test_a_chosen_cookie_is_never_adopted(self, world: World) -> None:
        chosen = new_token(TokenKind.SESSION)
        for value in ("chosen-by-mallory", chosen, world.desk.codec.encode(chosen)):
            browser = world.browser()
            browser.cookies = {self.cookie_name: value}
            answer = browser.post("/login", user="ann")
            assert answer.set_cookie is not None
            assert browser.cookies[self.cookie_name] != value
            thief = world.browser()
            thief.cookies = {self.cookie_name: value}
            assert thief.get("/get", key="x").json["user"] is None

    def test_signing_out_takes_the_cookie_back_and_no_replay_works(self, world: World) -> None:
        browser = world.signed_in()
        stolen = dict(browser.cookies)
        answer = browser.post("/logout")
        assert answer.set_cookie is not None
        assert "Max-Age=0" in answer.set_cookie
        assert browser.cookies == {}
        browser.cookies = stolen
        assert browser.get("/get", key="x").json["user"] is None
        assert world.rows() == 0

    def test_signing_out_elsewhere_ends_the_others_alone(self, world: World) -> None:
        here, there, other = world.signed_in(), world.signed_in(), world.signed_in("bob")
        assert here.post("/others").json == {"ended": 1}
        users = [b.get("/get", key="x").json["user"] for b in (here, there, other)]
        assert users == ["ann", None, "bob"]

    def test_signing_in_as_somebody_else_takes_nothing_along(self, world: World) -> None:
        browser = world.signed_in()
        browser.post("/set", key="secret", value="ann's")
        browser.post("/login", user="bob")
        assert browser.get("/get", key="secret").json["value"] is None
        assert world.store.of("ann") == []
        assert len(world.store.of("bob")) == 1

    # Races

    def test_a_save_that_races_an_end_revives_nothing(self, world: World) -> None:
        browser = world.signed_in()
        session_id = world.only()
        world.hooks.during = lambda: world.store.end(ids=[session_id], reason="elsewhere")
        answer = browser.post("/set", key="x", value="1")
        world.hooks.during = lambda: None
        assert answer.status in (200, 400)
        assert answer.set_cookie is None or "Max-Age=0" in answer.set_cookie
        assert world.rows() == 0
        assert browser.get("/get", key="x").json["user"] is None

    # Faults

    def test_a_response_that_reports_a_fault_saves_nothing(self, world: World) -> None:
        browser = world.signed_in()
        with world.counting() as statements:
            answer = browser.post("/boom")
        assert answer.status == 500
        assert len(statements) == 1, statements
        assert browser.get("/get", key="boom").json["value"] is None
        visitor = world.browser()
        assert visitor.post("/boom").set_cookie is None
        assert world.rows() == 1

    def test_a_cookie_signed_elsewhere_asks_nothing(self, world: World) -> None:
        token = new_token(TokenKind.SESSION)
        browser = world.browser()
        browser.cookies = {self.cookie_name: SignedTokens([OTHER_SECRET]).encode(token)}
        with world.counting() as statements:
            assert browser.get("/get", key="x").json["user"] is None
        assert statements == []

    def test_forged_cookies_ask_nothing_and_leave_nothing(self, world: World) -> None:
        forger = SignedTokens([OTHER_SECRET])
        tokens = [new_token(TokenKind.SESSION) for _ in range(100)]
        desk = world.desk
        with world.counting() as statements:
            for i in range(10_000):
                token = tokens[i % 100]
                value = (forger.encode(token), token, f"{token}.{i:043}", f"{i}")[i % 4]
                visit = desk.visit(
                    cookies=f"{self.cookie_name}={value}", path="/", peer=None, scheme="http"
                )
                desk.run(visit.open())
                assert visit.session is None
            browser = world.browser()
            for token in tokens:
                browser.cookies = {self.cookie_name: forger.encode(token)}
                assert browser.get("/get", key="x").json["user"] is None
        assert statements == []
        assert world.rows() == 0

    def test_a_cookie_of_a_megabyte_is_no_trouble(self, world: World) -> None:
        browser = world.browser()
        browser.cookies = {self.cookie_name: "x" * 1_048_576}
        with world.counting() as statements:
            answer = browser.get("/get", key="x")
        assert answer.status in (200, 400, 431)
        assert statements == []


class CookieCases:
    """For adapters that write the cookie themselves, and know who sent the request."""

    cookie_name = "sojourn"

    def test_over_http_the_cookie_is_plain(self, world: World) -> None:
        header = world.browser().post("/login", user="ann").set_cookie or ""
        assert header.startswith(f"{self.cookie_name}=sjs_")
        assert attributes(header) == {"path=/", "max-age=604800", "httponly", "samesite=lax"}

    def test_over_https_the_cookie_is_bound_to_the_host(self, world: World) -> None:
        browser = world.browser(https=True)
        header = browser.post("/login", user="ann").set_cookie or ""
        assert header.startswith(f"__Host-{self.cookie_name}=sjs_")
        assert attributes(header) == {
            *("path=/", "max-age=604800", "httponly", "secure", "samesite=lax"),
        }
        assert browser.get("/get", key="x").json["user"] == "ann"

    def test_a_trusted_proxy_tells_the_scheme(self, world: World) -> None:
        browser = world.browser(peer=PROXY)
        browser.headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        header = browser.post("/login", user="ann").set_cookie or ""
        assert header.startswith(f"__Host-{self.cookie_name}=")
        assert "secure" in attributes(header)
        (session,) = world.store.of("ann")
        assert session.device is not None
        assert session.device.ip == "203.0.113.9"

    def test_nobody_else_does(self, world: World) -> None:
        browser = world.browser(peer="198.51.100.2")
        browser.headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        header = browser.post("/login", user="ann").set_cookie or ""
        assert header.startswith(f"{self.cookie_name}=")
        assert "secure" not in attributes(header)
        (session,) = world.store.of("ann")
        assert session.device is not None
        assert session.device.ip == "198.51.100.2"


class RotationCases:
    """For frameworks whose rotation leaves the old token a short grace."""

    def test_a_rotated_token_works_within_the_grace_only(self, world: World) -> None:
        browser = world.signed_in()
        old = dict(browser.cookies)
        assert browser.post("/rotate").set_cookie is not None
        tab = world.browser()
        tab.cookies = old
        assert tab.get("/get", key="x").json["user"] == "ann"
        world.clock.advance(seconds=21)
        assert tab.get("/get", key="x").json["user"] is None
        assert browser.get("/get", key="x").json["user"] == "ann"


class ParallelCases:
    """On every database: writes of one session from two threads lose nothing."""

    @pytest.fixture(params=["empty_sqlite", "empty_postgres", "empty_mariadb"])
    def shared(self, request: pytest.FixtureRequest, driver_for: MakeDriver) -> Iterator[World]:
        with world(request.getfixturevalue(request.param), driver_for, durable=False) as made:
            yield made

    def test_parallel_writes_lose_nothing(self, shared: World) -> None:
        browser = shared.signed_in()
        faults: list[Answer] = []

        def write(name: str) -> None:
            writer = shared.browser()
            writer.cookies = dict(browser.cookies)
            for i in range(WRITES):
                answer = writer.post("/set", key=f"{name}{i}", value=str(i))
                if answer.status != 200:
                    faults.append(answer)

        threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        (session,) = shared.store.of("ann")
        kept = {key for key in session.data if key[0] in "ab" and key[1:].isdigit()}
        assert kept == {f"{name}{i}" for name in "ab" for i in range(WRITES)}

    def test_no_end_is_undone_by_parallel_writes(self, shared: World) -> None:
        """Sign-outs, each beside a write of the same session: none comes back."""
        for turn in range(WRITES // 5):
            browser = shared.signed_in(f"user{turn}")
            writer = shared.browser()
            writer.cookies = dict(browser.cookies)
            thread = threading.Thread(target=writer.post, args=("/set",), kwargs={"key": "x"})
            thread.start()
            browser.post("/logout")
            thread.join()
            assert shared.store.of(f"user{turn}") == []


def attributes(header: str) -> set[str]:
    """A Set-Cookie's attributes, in lower case. Django adds Expires to Max-Age; that is well."""
    found = {part.strip().lower() for part in header.split(";")[1:]}
    return {each for each in found if not each.startswith("expires=")}
