"""The page on a real server, with real sessions: its headers, a table that goes missing, two browsers."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Error as PlaywrightError
from tests.browser.person import CALM, LAPTOP, PAGE, PHONE, Person
from tests.serving import Served, new_client, served

from sojourn.device import Device
from sojourn.session import NewSession
from sojourn.stores.open import open_store
from sojourn.testing.builders import token_hash
from sojourn.testing.servers import Server, fresh_database

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
MANY = 10_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on SQLite, where "max" is signed in ten thousand times already."""
    folder = tmp_path_factory.mktemp("page")
    store = open_store(f"sqlite:///{folder}/sojourn.db", migrate=True, durable=False)
    device = Device(name="Chrome on Linux", kind="desktop")
    for start in range(0, MANY, 1_000):
        names = [f"ses_{number:05}" for number in range(start, min(start + 1_000, MANY - 1))]
        store.create(
            [
                NewSession(id=n, token_hash=token_hash(n), user_id="max", device=device)
                for n in names
            ]
        )
    store.close()
    environ = {"SOJOURN_SITE_NAME": "Acme", "SOJOURN_SIGN_IN_URL": "/sign-in"}
    with served(folder, environ=environ) as running:
        yield running


@pytest.fixture
def people(chromium: Browser, server: Served) -> Iterator[Any]:
    made: list[Person] = []

    def make(user: str, device: dict[str, Any]) -> Person:
        made.append(Person(chromium, server))
        made[-1].sign_in(user, device)
        return made[-1]

    yield make
    for person in made:
        person.context.close()


def test_headers(server: Served, people: Any) -> None:
    """The page may load nothing from elsewhere, and is not kept; what it is made of is kept for ever."""
    with new_client() as http:
        answer = http.get(server.url + PAGE)
        assert answer.status_code == 401
        assert 'href="/sign-in?next=%2Faccount%2Fsecurity"' in answer.text
        assert answer.headers["content-security-policy"] == POLICY
        names = re.findall(r'"(assets/[^"]+)"', answer.text)
        found = {name: http.get(f"{server.url}/account/{name}") for name in names}
        assert http.get(f"{server.url}/account/assets/nothing.js").status_code == 404
        assert http.get(f"{server.url}/account/assets/theme.aaaaaaaaaaaa.js").status_code == 404
    assert {
        re.sub(r"\.[\w-]{12}\.", ".", n): a.headers["content-type"] for n, a in found.items()
    } == {
        "assets/icon.svg": "image/svg+xml",
        "assets/inter-latin.woff2": "font/woff2",
        "assets/tokens.css": "text/css; charset=utf-8",
        "assets/console.css": "text/css; charset=utf-8",
        "assets/theme.js": "text/javascript; charset=utf-8",
    }
    for asset in found.values():
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["x-content-type-options"] == "nosniff"
    ann = people("headers", LAPTOP)
    answer = ann.page.goto(PAGE)
    assert answer is not None
    assert answer.status == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    expect(ann.part).to_contain_text("This is the only place where you are signed in.")
    assert ann.page.evaluate("document.fonts.check('14px Inter')")
    assert ann.said == []


def test_two_browsers(people: Any) -> None:
    """ "Sign out other devices" in one ends the other's requests and its socket within a second."""
    here, there = people("ann", LAPTOP), people("ann", PHONE)
    for person in (here, there):
        person.open()
        expect(person.part.get_by_role("listitem")).to_have_count(2)
    there.page.evaluate(
        "() => { window.left = new Promise((done) => addEventListener('sojourn:signed-out',"
        " (event) => done([Date.now(), event.detail.reason]))); }"
    )
    here.page.evaluate(
        "() => { window.ended = new Promise((done) =>"
        " addEventListener('sojourn:ended', () => done(Date.now()))); }"
    )
    here.part.get_by_role("button", name="Sign out other devices").click()
    here.part.get_by_role("button", name="Sign out", exact=True).click()
    answered = here.page.evaluate("ended")
    status = there.page.evaluate("fetch('/api/user/active-sessions').then((a) => a.status)")
    assert status == 401
    told, reason = there.page.evaluate("left")
    assert told - answered < 1_000
    assert reason == "signed_out_elsewhere"
    expect(there.part).to_contain_text("This device was signed out from another one.")
    expect(here.part.get_by_role("listitem")).to_have_count(1)
    expect(here.part).to_contain_text("1 other device is signed out.")


def test_a_table_that_goes_missing(server: Served, people: Any) -> None:
    """The page stands and says so; once the table is back, so is the list, without a restart."""
    eve = people("eve", LAPTOP)
    eve.open()
    expect(eve.part.get_by_role("listitem")).to_have_count(1)
    with contextlib.closing(
        sqlite3.connect(server.data / "sojourn.db", isolation_level=None)
    ) as database:
        made = (
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'sojourn_sessions' AND sql IS NOT NULL"
        )
        schema = [sql for (sql,) in database.execute(made)]
        database.execute("CREATE TABLE kept AS SELECT * FROM sojourn_sessions")
        database.execute("DROP TABLE sojourn_sessions")
        answer = eve.page.reload()
        assert answer is not None
        assert answer.status == 200
        expect(eve.part).to_contain_text("Active sessions have not been set up on this site yet")
        expect(eve.part.get_by_role("heading", name="No active sessions")).to_be_visible()
        assert "sessions_table_missing" in server.log.read_text()
        database.execute("BEGIN IMMEDIATE")  # a table without its rows would sign everybody out
        for sql in schema:
            database.execute(sql)
        database.execute("INSERT INTO sojourn_sessions SELECT * FROM kept")
        database.execute("COMMIT")
    refresh, item = eve.part.get_by_role("button", name="Refresh"), eve.part.get_by_role("listitem")
    expect(refresh.or_(item).first).to_be_visible()
    with contextlib.suppress(
        PlaywrightError
    ):  # the page may have heard of it, and read again by itself
        refresh.click(timeout=2_000)
    expect(item).to_have_count(1)
    assert [line for line in eve.said if "Content Security" in line] == []


def test_a_store_that_dies(chromium: Browser, own_postgres: Server, tmp_path: Path) -> None:
    """The list stays, marked; a page that is opened meanwhile stands, and mends itself afterwards."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_database(own_postgres))
        open_store(url, migrate=True).close()
        server = stack.enter_context(served(tmp_path, store=url))
        eve = Person(chromium, server)
        try:
            eve.sign_in("eve", LAPTOP)
            eve.open()
            expect(eve.part.get_by_role("listitem")).to_have_count(1)
            own_postgres.kill()
            eve.part.get_by_role("button", name="Refresh").click()
            expect(eve.part).to_contain_text("This list may be out of date.")
            expect(eve.part.get_by_role("listitem")).to_have_count(1)
            answer = eve.page.reload()
            assert answer is not None
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            expect(eve.part).to_contain_text("Your sessions can’t be shown right now")
            expect(eve.part).to_contain_text("You are not signed out by it. Trying again in")
            without_scripts(eve)
        finally:
            own_postgres.start()
        expect(eve.part.get_by_role("listitem")).to_have_count(1, timeout=20_000)
        eve.context.close()


def without_scripts(eve: Person) -> None:
    """The same outage, as it is told to a browser without scripts."""
    plain = eve.again(scripts=False)
    plain.page.goto(PAGE)
    expect(
        plain.page.get_by_role("heading", name="Your sessions can’t be shown right now")
    ).to_be_visible()
    expect(plain.page.get_by_role("main")).to_contain_text(
        "You are not signed out by it. Try again in a few seconds."
    )
    expect(plain.page.get_by_role("link", name="Try again")).to_be_visible()
    assert plain.looks() == CALM
    plain.context.close()


def test_ten_thousand_sessions(people: Any) -> None:
    """Somebody who is signed in ten thousand times sees the newest at once, this device among them."""
    somebody = people("max", PHONE)
    somebody.page.goto(PAGE)
    expect(somebody.part).to_contain_text("10,000 active sessions.")
    rows = somebody.part.get_by_role("listitem")
    expect(rows).to_have_count(2)  # this device, and all others, which are of its kind
    somebody.part.get_by_text("Show each of them").click()
    expect(rows).to_have_count(2 + 49)
    expect(rows.first).to_contain_text("This device")
    size = somebody.page.evaluate(
        "() => performance.getEntriesByType('resource')"
        ".filter((e) => e.name.includes('active-sessions?')).at(-1).decodedBodySize"
    )
    assert size < 25_000
    somebody.part.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(2 + 99)
