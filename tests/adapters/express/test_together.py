"""One person, one browser, two applications: Express, unmodified, and Python."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.adapters.express.node import OTHER_SECRET, SECRET, Both, Browser, both

from sojourn.session import Begin, Check, End, Gone, GoneReason, Save, Session

WRITES = 200


@pytest.fixture
def browser(together: Both) -> Iterator[Browser]:
    with together.browser() as one:
        yield one


def test_from_node_to_python_and_back(browser: Browser) -> None:
    """Signed in on Node: Python knows, writes, and ends it; Node sees all of that."""
    sid = browser.sign_in_to_node("ann")
    browser.node("POST", "/set", cart=[1, {"n": 2.5}], name="Ä€😀")
    visit = browser.visit()
    assert visit.user_id == "ann"
    assert visit.data["cart"] == [1, {"n": 2.5}]
    assert visit.data["name"] == "Ä€😀"
    visit.data["cart"].append("three")
    visit.data["from_python"] = {"deep": [None, True]}
    browser.commit(visit)
    me = browser.me()
    assert me["id"] == sid
    assert me["data"]["cart"] == [1, {"n": 2.5}, "three"]
    assert me["data"]["from_python"] == {"deep": [None, True]}
    assert me["data"]["name"] == "Ä€😀"

    visit = browser.visit()
    browser.desk.run(visit.end())
    assert browser.me()["user"] is None
    assert browser.visit().user_id is None


def test_from_python_to_node_and_back(browser: Browser) -> None:
    """Signed in in Python: Node knows, writes, and ends it; Python sees all of that."""
    browser.sign_in_to_python("ben")
    sid = browser.sid
    me = browser.me()
    assert (me["id"], me["user"]) == (sid, "ben")
    browser.node("POST", "/set", theme="dark")
    assert browser.visit().data["theme"] == "dark"
    browser.node("POST", "/logout")
    visit = browser.visit()
    assert visit.user_id is None
    assert visit.gone is not None
    assert browser.desk.sessions.of("ben") == []


def test_listed_whoever_began_it(together: Both) -> None:
    """A user's list has sessions of both, and ending the others leaves this one alone."""
    with together.browser() as one, together.browser() as two, together.browser() as three:
        one.sign_in_to_node("ann")
        two.sign_in_to_python("ann")
        three.sign_in_to_node("bob")
        found = together.desk.sessions.of("ann")
        assert len(found) == 2
        assert all(x.id.startswith("exp_") for x in found)
        assert one.sid not in repr(found)
        own = one.visit()
        ended = together.desk.run(own.end_others())
        assert len(ended) == 1
        assert one.me()["user"] == "ann"
        assert two.me()["user"] is None
        assert three.me()["user"] == "bob"


def test_signing_in_replaces_the_visitors_sid(browser: Browser) -> None:
    """What a visitor's session on Node held is kept, under a sid that nobody knew before (fixation)."""
    browser.node("POST", "/set", cart=["tea"])
    before = browser.sid
    browser.sign_in_to_python("ann")
    assert browser.sid != before
    me = browser.me()
    assert (me["user"], me["data"]["cart"]) == ("ann", ["tea"])
    assert isinstance(browser.desk.sessions.check([Check(before)])[0], Gone)


def test_a_chosen_sid_is_never_adopted(browser: Browser) -> None:
    """Even one that is properly signed: it opens nothing, and signing in does not keep it."""
    chosen = "chosen-by-an-attacker-0123456789"
    browser.take(browser.desk.codec.encode(chosen))
    visit = browser.visit()
    assert visit.gone is not None
    assert visit.gone.reason is GoneReason.ABSENT
    visit.data["x"] = 1
    browser.commit(visit)
    assert browser.sid != chosen
    browser.sign_in_to_python("ann")
    assert browser.sid != chosen
    assert isinstance(browser.desk.sessions.check([Check(chosen)])[0], Gone)


def test_cookie_of_another_secret_asks_no_store(
    node_app: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with both(node_app, store, SECRETS=OTHER_SECRET) as applications:
        monkeypatch.setattr(applications.desk, "verbs", {})  # asking would be a KeyError
        with applications.browser() as browser:
            browser.sign_in_to_node("ann")
            visit = browser.visit()
            assert visit.gone is not None
            assert visit.gone.reason is GoneReason.FORGED


def test_a_rotated_secret_signs_nobody_out(node_app: Path, store: str) -> None:
    """Secrets of express-session are a list too: the first signs, all verify."""
    with (
        both(node_app, store, SECRETS=f"{OTHER_SECRET},{SECRET}") as applications,
        applications.browser() as browser,
    ):
        browser.sign_in_to_python("ann")
        assert browser.me()["user"] == "ann"


def test_rotation_keeps_everything_but_the_sid(browser: Browser) -> None:
    """Node follows the new cookie; the old one opens nothing there, and for a short grace here."""
    browser.sign_in_to_node("ann")
    browser.node("POST", "/set", a=1)
    old = browser.sid
    visit = browser.visit()
    browser.desk.run(visit.rotate())
    browser.commit(visit)
    assert browser.sid != old
    me = browser.me()
    assert (me["user"], me["data"]["a"]) == ("ann", 1)
    found = browser.desk.sessions.check([Check(old)])[0]
    assert isinstance(found, Session)
    assert found.id == browser.visit().session.id  # type: ignore[union-attr]  # it is live
    assert len(browser.desk.sessions.of("ann")) == 1


def test_elevation_has_no_grace(browser: Browser) -> None:
    browser.sign_in_to_python("ann")
    old = browser.sid
    visit = browser.visit()
    browser.desk.run(visit.elevate(2))
    browser.commit(visit)
    answer = browser.desk.sessions.check([Check(old)])[0]
    assert isinstance(answer, Gone)
    assert (answer.reason, answer.end_reason) == (GoneReason.ENDED, "rotated")
    now = browser.visit()
    assert now.session is not None
    assert now.session.level == 2
    assert now.recent(60_000, level=2)


def test_another_user_on_the_same_sid_inherits_no_level(browser: Browser) -> None:
    """Express may sign somebody else in without a new sid; what was proved before is void."""
    browser.sign_in_to_python("ann")
    visit = browser.visit()
    browser.desk.run(visit.elevate(3))
    browser.commit(visit)
    browser.node("POST", "/set", passport={"user": "bob"})
    visit = browser.visit()
    assert visit.session is not None
    assert (visit.user_id, visit.session.level) == ("bob", 1)
    assert browser.desk.sessions.of("ann") == []
    assert len(browser.desk.sessions.of("bob")) == 1


def test_parallel_writes_of_different_keys_lose_nothing(together: Both) -> None:
    """Two threads, 200 keys each, one session."""
    sessions = together.desk.sessions
    with together.browser() as browser:
        browser.sign_in_to_node("ann")
        session = browser.visit().session
        assert session is not None
        ready = threading.Barrier(2)

        def write(name: str) -> list[int | None]:
            ready.wait(10)
            return [
                sessions.save([Save(id=session.id, set={f"{name}{n}": n})])[0]
                for n in range(WRITES)
            ]

        with ThreadPoolExecutor(2) as pool:
            answers = [x for each in pool.map(write, "ab") for x in each]
        assert None not in answers
        data = browser.me()["data"]
        assert {f"{name}{n}" for name in "ab" for n in range(WRITES)} <= set(data)


def test_python_keeps_expiry_as_express_has_it(browser: Browser) -> None:
    """A session begun in Python has a whole cookie, which Express puts off and re-issues as its own."""
    browser.sign_in_to_python("ann")
    cookie = browser.me()["cookie"]
    assert cookie["originalMaxAge"] == 86_400_000
    assert cookie["httpOnly"] is True
    assert (cookie["path"], cookie["secure"]) == ("/", False)


def test_ended_user_is_signed_out_everywhere(together: Both) -> None:
    """Ending by user finds sessions that Python has never seen."""
    with together.browser() as one, together.browser() as two:
        one.sign_in_to_node(106)
        two.sign_in_to_node("106")
        ended = together.desk.sessions.end([End(user_id="106", reason="fired", actor="boss")])[0]
        assert len(ended) == 2
        assert one.me()["user"] is None
        answer = two.visit().gone
        assert answer is not None
        assert (answer.end_reason, answer.ended_by) == ("fired", "boss")


def test_save_after_an_end_revives_nothing(together: Both) -> None:
    sessions = together.desk.sessions
    with together.browser() as browser:
        browser.sign_in_to_node("ann")
        session = browser.visit().session
        assert session is not None
        assert sessions.end([End(ids=(session.id,))]) == [[session.id]]
        assert sessions.end([End(ids=(session.id,))]) == [[]]
        assert sessions.save([Save(id=session.id, set={"a": 1})]) == [None]
        assert browser.me()["user"] is None


def test_visitors_who_store_nothing_leave_no_row(browser: Browser) -> None:
    visit = browser.visit()
    browser.commit(visit)
    assert browser.cookie is None


def test_begin_counts_sessions_of_both(together: Both) -> None:
    """A limit ends the oldest, whoever began them."""
    with together.browser() as one:
        one.sign_in_to_node("ann")
        assert one.visit().user_id == "ann"
        begun = together.desk.sessions.begin([Begin(user_id="ann", limit=1)])[0]
        assert isinstance(begun.session if hasattr(begun, "session") else begun, Session)
        assert one.me()["user"] is None
        assert len(together.desk.sessions.of("ann")) == 1
