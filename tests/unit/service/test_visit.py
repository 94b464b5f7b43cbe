"""One request's session, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import CookieOptions, SignedTokens
from sojourn.errors import Conflict, InvalidInput, StoreUnavailable, Unauthenticated
from sojourn.service.request_session import RequestSession, Rules
from sojourn.service.sessions import SessionService
from sojourn.session import (
    AtLimit,
    Begin,
    Begun,
    End,
    GoneReason,
    Session,
    Timeouts,
    TooMany,
)
from sojourn.stores.memory import MemoryStore

CODEC = SignedTokens([b"a secret of thirty-two bytes or more"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service(clock: ManualClock) -> SessionService:
    return SessionService(MemoryStore(clock))


class Browser:
    """Keeps one cookie, as a browser does."""

    def __init__(self, service: SessionService, rules: Rules | None = None) -> None:
        self.desk = Desk(service, CODEC, rules=rules)
        self.cookie = ""
        self.headers: list[tuple[str, str]] = []

    def visit(self) -> RequestSession:
        visit = self.desk.visit(cookies=self.cookie, path="/", peer="192.0.2.1", scheme="https")
        self.desk.run(visit.open())
        return visit

    def commit(self, visit: RequestSession, status: int = 200) -> None:
        self.headers = self.desk.run(visit.commit(status))
        for name, value in self.headers:
            if name == "Set-Cookie":
                pair, _, attributes = value.partition(";")
                self.cookie = "" if "Max-Age=0" in attributes else pair

    def sign_in(self, user: str, **options: Any) -> Session:
        visit = self.visit()
        session = self.desk.run(visit.begin(user, **options))
        assert isinstance(session, Session)
        self.commit(visit)
        return session


@pytest.fixture
def browser(service: SessionService) -> Browser:
    return Browser(service)


def test_a_late_save_revives_nothing(browser: Browser) -> None:
    browser.sign_in("ann")
    slow = browser.visit()
    other = browser.visit()
    browser.desk.run(other.end())
    slow.data["late"] = True
    headers = browser.desk.run(slow.commit())
    assert "Set-Cookie" not in dict(headers)
    assert slow.session is None
    assert not slow.data
    seen = browser.visit()
    assert seen.gone is not None
    assert seen.gone.reason is GoneReason.ENDED


def test_what_is_pending_goes_along_into_the_sign_in(browser: Browser) -> None:
    first = browser.visit()
    first.data.update(basket=["tea"], draft="x")
    browser.commit(first)
    second = browser.visit()
    second.data["basket"].append("milk")
    del second.data["draft"]
    second.data["fresh"] = 1
    browser.desk.run(second.begin("ann"))
    browser.commit(second)
    assert dict(browser.visit().data) == {"basket": ["tea", "milk"], "fresh": 1}


def test_signing_in_again_keeps_the_data_and_ends_the_old_session(browser: Browser) -> None:
    first = browser.sign_in("ann")
    visit = browser.visit()
    visit.data["kept"] = 1
    browser.commit(visit)
    second = browser.sign_in("ann", level=2)
    assert second.id != first.id
    visit = browser.visit()
    assert dict(visit.data) == {"kept": 1}
    assert browser.desk.run(visit.others()) == []


def test_too_many_changes_nothing(service: SessionService) -> None:
    rules = Rules(limit=1, at_limit=AtLimit.DENY)
    Browser(service, rules).sign_in("ann")
    browser = Browser(service, rules)
    visit = browser.visit()
    visit.data["basket"] = ["tea"]
    answer = browser.desk.run(visit.begin("ann"))
    assert isinstance(answer, TooMany)
    assert (answer.limit, len(answer.sessions)) == (1, 1)
    browser.commit(visit)
    assert dict(browser.visit().data) == {"basket": ["tea"]}
    again = browser.visit()
    chosen = browser.desk.run(again.begin("ann", ending=[answer.sessions[0].id]))
    assert isinstance(chosen, Session)
    assert again.user_id == "ann"


def test_a_recent_sign_in(browser: Browser, clock: ManualClock) -> None:
    browser.sign_in("ann")
    clock.advance(seconds=300)
    visit = browser.visit()
    assert visit.recent(300_000)
    assert not visit.recent(299_999)
    assert not visit.recent(300_000, level=2)
    old = browser.cookie
    browser.desk.run(visit.elevate(2))
    browser.commit(visit)
    assert browser.visit().recent(0, level=2)
    browser.cookie = old
    assert browser.visit().session is None  # the token from before the step-up died at once


def test_rotation_leaves_parallel_tabs_a_grace(browser: Browser, clock: ManualClock) -> None:
    browser.sign_in("ann")
    old = browser.cookie
    visit = browser.visit()
    browser.desk.run(visit.rotate())
    browser.commit(visit)
    new, browser.cookie = browser.cookie, old
    assert new != old
    clock.advance(seconds=19)
    assert browser.visit().user_id == "ann"
    clock.advance(seconds=1)
    assert browser.visit().session is None
    browser.cookie = new
    assert browser.visit().user_id == "ann"


def test_ends_elsewhere_and_everywhere(service: SessionService) -> None:
    one, two, three = (Browser(service) for _ in range(3))
    for each in (one, two, three):
        each.sign_in("ann")
    visit = one.visit()
    assert len(one.desk.run(visit.others())) == 2
    assert len(one.desk.run(visit.end_others())) == 2
    assert two.visit().session is None
    assert len(one.desk.run(visit.end_all())) == 1
    one.commit(visit)
    assert one.cookie == ""


def test_only_the_signed_in_can(browser: Browser) -> None:
    visit = browser.visit()
    for step in (
        visit.end_others(),
        visit.end_all(),
        visit.others(),
        visit.elevate(2),
        visit.rotate(),
        visit.impersonate("bob"),
        visit.stop_impersonating(),
    ):
        with pytest.raises(Unauthenticated):
            browser.desk.run(step)
    browser.desk.run(visit.end())  # signing out twice is no mistake


def test_after_the_response_no_token_can_be_given(browser: Browser) -> None:
    browser.sign_in("ann")
    visit = browser.visit()
    browser.commit(visit)
    steps: list[Callable[[], Any]] = [
        lambda: visit.begin("ann"),
        visit.rotate,
        lambda: visit.elevate(2),
        lambda: visit.impersonate("bob"),
    ]
    for step in steps:
        with pytest.raises(Conflict, match="response has started"):
            browser.desk.run(step())


def test_coming_back_from_an_impersonation_that_outlived_ones_own_session(
    browser: Browser, service: SessionService
) -> None:
    own = browser.sign_in("boss")
    visit = browser.visit()
    browser.desk.run(visit.impersonate("ann"))
    browser.commit(visit)
    service.end([End(ids=(own.id,), reason="revoked")])
    visit = browser.visit()
    assert (visit.user_id, visit.impersonator) == ("ann", "boss")
    assert browser.desk.run(visit.stop_impersonating()) is None
    browser.commit(visit)
    assert browser.cookie == ""


def test_an_impersonator_who_signs_in_takes_nothing_along(browser: Browser) -> None:
    browser.sign_in("boss")
    visit = browser.visit()
    browser.desk.run(visit.impersonate("ann"))
    visit.data["seen"] = "private"
    browser.commit(visit)
    visit = browser.visit()
    browser.desk.run(visit.begin("ann"))
    browser.commit(visit)
    visit = browser.visit()
    assert (dict(visit.data), visit.impersonator) == ({}, None)


def test_own_timeouts(browser: Browser, clock: ManualClock) -> None:
    browser.sign_in("ann", timeouts=Timeouts(10_000, 5_000))
    assert "Max-Age=10;" in dict(browser.headers)["Set-Cookie"]
    clock.advance(milliseconds=4_999)
    assert browser.visit().session is not None
    clock.advance(milliseconds=5_000)
    gone = browser.visit().gone
    assert gone is not None
    assert gone.reason is GoneReason.IDLE


def test_a_fault_in_the_middle_is_seen_where_it_happened(browser: Browser) -> None:
    def down(_: Sequence[Begin]) -> list[Begun | TooMany]:
        raise StoreUnavailable("down")

    visit = browser.visit()
    browser.desk.verbs = {**browser.desk.verbs, "begin": down}
    with pytest.raises(StoreUnavailable):
        browser.desk.run(visit.begin("ann"))
    assert visit.session is None
    with pytest.raises(InvalidInput):
        browser.desk.run(visit.begin(""))


@pytest.mark.parametrize(
    "cookie",
    [
        CookieOptions(secure=True),
        CookieOptions(same_site="none"),
        CookieOptions(same_site="none", partitioned=True),
        CookieOptions(name="__Secure-id"),
    ],
)
def test_a_cookie_that_browsers_drop_over_http_is_reported(
    service: SessionService, caplog: pytest.LogCaptureFixture, cookie: CookieOptions
) -> None:
    desk = Desk(service, CODEC, rules=Rules(cookie=cookie))
    visit = desk.visit(cookies="", path="/", peer="192.0.2.1", scheme="https")
    desk.run(visit.begin("ann"))
    assert "cookie_will_be_dropped" not in caplog.text
    visit = desk.visit(cookies="", path="/", peer="192.0.2.1", scheme="http")
    desk.run(visit.begin("ann"))
    assert f"cookie_will_be_dropped name={cookie.name} " in caplog.text


def test_impersonation_never_outlasts_an_hour(browser: Browser) -> None:
    browser.sign_in("boss", timeouts=Timeouts(90 * 86_400_000, 90 * 86_400_000))
    visit = browser.visit()
    session = browser.desk.run(visit.impersonate("ann"))
    assert session.expires_at - session.created_at == 3_600_000
    with pytest.raises(Conflict):
        browser.desk.run(visit.impersonate("bob"))
