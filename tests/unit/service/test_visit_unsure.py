"""A visit whose response may never leave, and one whose browser sends several cookies."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import COOKIE_HEADER_MAX, CookieOptions, SignedTokens
from sojourn.errors import CookiesTooLarge, InvalidInput, SettingsError
from sojourn.service.request_session import RequestSession, Rules
from sojourn.service.sessions import SessionService
from sojourn.session import AtLimit, GoneReason, Session, Timeouts
from sojourn.stores.memory import MemoryStore

CODEC = SignedTokens([b"a secret of thirty-two bytes or more"])
PLAIN = CookieOptions(host_prefix=False)


class Site:
    """An application, and what browsers hold of it."""

    def __init__(self, **rules: Any) -> None:
        self.clock = ManualClock()
        self.service = SessionService(MemoryStore(self.clock))
        self.desk = Desk(self.service, CODEC, rules=Rules(cookie=PLAIN, **rules))

    def visit(
        self,
        cookies: str = "",
        *,
        tentative: bool = True,
        path: str = "/",
        host: str = "app.example",
    ) -> RequestSession:
        visit = self.desk.visit(
            cookies=cookies,
            path=path,
            peer=None,
            scheme="https",
            header={"host": host}.get,
            tentative=tentative,
        )
        self.run(visit.open())
        return visit

    def run(self, step: Any) -> Any:
        return self.desk.run(step)

    def commit(self, visit: RequestSession, status: int = 200) -> list[str]:
        """Let the response leave; return its Set-Cookie headers."""
        headers = self.run(visit.commit(status))
        visit.sent()
        return [value for name, value in headers if name == "Set-Cookie"]

    def cookie(self, user: str | None = None, cookies: str = "", **data: Any) -> str:
        """Sign in, or begin a visitor's session; return the cookie."""
        visit = self.visit(cookies)
        visit.data.update(data)
        if user is not None:
            self.run(visit.begin(user))
        return self.commit(visit)[-1].partition(";")[0]

    def who(self, cookies: str) -> str | None:
        user: str | None = self.visit(cookies).user_id
        return user


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_sign_in_without_an_answer_leaves_the_visitor_as_he_was(site: Site) -> None:
    cookie = site.cookie(basket=["tea"])
    visit = site.visit(cookie)
    site.run(visit.begin("ann"))
    assert visit.user_id == "ann"
    assert visit.in_doubt
    site.run(visit.undo())
    assert site.service.of("ann") == []
    assert dict(site.visit(cookie).data) == {"basket": ["tea"]}


def test_an_answered_sign_in_ends_what_was_before(site: Site) -> None:
    cookie = site.cookie(basket=["tea"])
    visit = site.visit(cookie)
    visit.data["more"] = 1
    site.run(visit.begin("ann"))
    (new,) = site.commit(visit)
    assert not visit.in_doubt
    site.run(visit.undo())  # too late: nothing happens
    assert dict(site.visit(new).data) == {"basket": ["tea"], "more": 1}
    gone = site.visit(cookie).gone
    assert gone is not None
    assert gone.reason is GoneReason.ENDED


def test_what_another_tab_saves_meanwhile_is_kept(site: Site) -> None:
    cookie = site.cookie(basket=["tea"], theme="dark")
    visit = site.visit(cookie)
    site.run(visit.begin("ann"))
    visit.data["theme"] = "light"
    tab = site.visit(cookie)
    tab.data.update(seen=True, theme="blue", basket=["tea", "milk"])
    site.commit(tab)
    (new,) = site.commit(visit)
    kept = {"basket": ["tea", "milk"], "theme": "light", "seen": True}
    assert dict(site.visit(new).data) == kept


@pytest.mark.parametrize("tentative", [True, False])
def test_two_tabs_that_sign_in_at_once_keep_the_basket(site: Site, tentative: bool) -> None:
    cookie = site.cookie(basket=["tea"])
    tabs = [site.visit(cookie, tentative=tentative) for _ in range(2)]
    for tab in tabs:
        site.run(tab.begin("ann"))
    for tab in tabs:
        (new,) = site.commit(tab)
        assert dict(site.visit(new).data) == {"basket": ["tea"]}


def test_a_sign_in_without_an_answer_locks_nobody_out() -> None:
    site = Site(limit=1, at_limit=AtLimit.DENY)
    for _ in range(3):
        visit = site.visit()
        assert isinstance(site.run(visit.begin("ann")), Session)
        site.run(visit.undo())
    cookie = site.cookie("ann")
    again = site.visit(cookie)
    assert isinstance(site.run(again.begin("ann", level=2)), Session)  # its own is about to go
    (new,) = site.commit(again)
    assert (site.who(cookie), site.who(new)) == (None, "ann")
    assert len(site.service.of("ann")) == 1


def test_a_step_up_without_an_answer_changes_nothing(site: Site) -> None:
    cookie = site.cookie("ann")
    site.clock.advance(seconds=300)
    visit = site.visit(cookie)
    elevated = site.run(visit.elevate(2))
    assert elevated.level == 2
    assert visit.recent(0, level=2)
    site.run(visit.undo())
    after = site.visit(cookie)
    assert after.user_id == "ann"
    assert not after.recent(60_000)


def test_an_answered_step_up_kills_the_old_token(site: Site) -> None:
    cookie = site.cookie("ann")
    visit = site.visit(cookie)
    site.run(visit.rotate())
    site.run(visit.elevate(2))
    (new,) = site.commit(visit)
    assert site.who(cookie) is None
    assert site.visit(new).recent(0, level=2)


def test_impersonation_without_an_answer(site: Site) -> None:
    cookie = site.cookie("boss")
    visit = site.visit(cookie)
    site.run(visit.impersonate("ann"))
    site.run(visit.undo())
    assert site.who(cookie) == "boss"
    assert site.service.of("ann") == []
    visit = site.visit(cookie)
    site.run(visit.impersonate("ann"))
    (acting,) = site.commit(visit)
    back = site.visit(acting)
    site.run(back.stop_impersonating())
    site.run(back.undo())
    assert site.visit(acting).impersonator == "boss"
    back = site.visit(acting)
    site.run(back.stop_impersonating())
    (own,) = site.commit(back)
    assert (site.who(own), site.who(acting)) == ("boss", None)


def test_a_fault_keeps_the_cookie_of_a_sign_in_that_was_answered(site: Site) -> None:
    visit = site.visit(site.cookie(basket=["tea"]))
    site.run(visit.begin("ann"))
    (new,) = site.commit(visit, 500)
    assert site.who(new) == "ann"


def test_of_two_cookies_the_live_one_wins(site: Site) -> None:
    """Browsers send the one of the longer path, or the older one, first (RFC 6265, 5.4)."""
    old, live = site.cookie("ann"), site.cookie("bob")
    site.run(site.visit(old).end())
    forged = f"sojourn={SignedTokens([b'x' * 32]).encode('sjs_x')}"
    for cookies in (f"{old}; {live}", f"{live}; {old}", f"{forged}; {old}; {live}"):
        assert site.who(cookies) == "bob"
    gone = site.visit(f"{old}; {forged}").gone
    assert gone is not None
    assert gone.reason is GoneReason.ENDED


def test_the_dead_one_is_cleared_where_it_may_be(site: Site) -> None:
    old, live = site.cookie("ann"), site.cookie("bob")
    site.run(site.visit(old).end())
    visit = site.visit(f"{old}; {live}", path="/shop/cart", host="www.app.example:8443")
    *cleared, kept = site.commit(visit)
    places = {header.partition("; ")[2].partition("; Max-Age=0")[0] for header in cleared}
    assert places == {
        "Path=/shop",
        "Path=/shop/cart",
        "Domain=www.app.example; Path=/",
        "Domain=app.example; Path=/",
    }
    assert kept.startswith(live)
    assert site.commit(site.visit(live)) == []


def test_one_cookie_alone_clears_no_other_place(site: Site) -> None:
    old = site.cookie("ann")
    site.run(site.visit(old).end())
    visit = site.visit(old)
    site.run(visit.begin("ann"))
    assert len(site.commit(visit)) == 1


def test_signing_out_ends_what_the_other_cookies_open(site: Site) -> None:
    one, two = site.cookie("ann"), site.cookie("bob")
    visit = site.visit(f"{one}; {two}")
    site.run(visit.end())
    site.commit(visit)
    assert site.who(f"{one}; {two}") is None


def test_signing_in_ends_what_the_other_cookies_open(site: Site) -> None:
    """Or a cookie of a longer path would be found in its place for ever."""
    one, two = site.cookie("ann"), site.cookie("bob")
    visit = site.visit(f"{one}; {two}")
    site.run(visit.begin("eve"))
    new = site.commit(visit)[-1].partition(";")[0]
    assert site.who(f"{one}; {two}; {new}") == "eve"


def test_as_many_cookies_as_fit_cost_a_bounded_number_of_questions(site: Site) -> None:
    dead = [site.cookie("ann") for _ in range(20)]
    site.run(site.visit(dead[0]).end_all())
    asked: list[int] = []
    check = site.desk.verbs["check"]

    def counted(requests: Any) -> Any:
        asked.append(len(requests))
        return check(requests)

    site.desk.verbs = {**site.desk.verbs, "check": counted}
    assert site.who("; ".join(dead)) is None
    assert len(asked) == 8


def test_a_cookie_from_before_the_prefix_was_given_up_holds() -> None:
    site = Site()
    prefixed = "__Host-" + site.cookie("ann")
    assert site.who(prefixed) == "ann"
    strict = Desk(site.service, CODEC)  # with the prefix
    visit = strict.visit(
        cookies=prefixed.removeprefix("__Host-"), path="/", peer=None, scheme="https"
    )
    strict.run(visit.open())
    assert visit.user_id is None  # anybody beside the host can set one without


def test_more_cookies_than_are_read_are_told() -> None:
    site = Site()
    cookie = site.cookie("ann")
    padding = "; ".join(f"c{i}={'x' * 1_000}" for i in range(40))
    assert site.who(f"{padding}; {cookie}") == "ann"
    visit = site.visit(f"{'x' * COOKIE_HEADER_MAX}; {cookie}")
    assert isinstance(visit.fault, CookiesTooLarge)
    with pytest.raises(CookiesTooLarge, match="characters of cookies"):
        visit.data["x"] = 1


@pytest.mark.parametrize(
    ("given", "kept"), [(42, "42"), (UUID(int=7), str(UUID(int=7))), ("u", "u")]
)
def test_ids_of_users_become_text(site: Site, given: Any, kept: str) -> None:
    visit = site.visit()
    session = site.run(visit.begin(given))
    assert (session.user_id, visit.user_id) == (kept, kept)
    boss = site.visit(site.cookie("boss"))
    assert site.run(boss.impersonate(given)).user_id == kept


@pytest.mark.parametrize("given", [None, True, 1.5, b"ann", "", object()])
def test_what_is_no_id_is_refused_in_words(site: Site, given: Any) -> None:
    visit = site.visit()
    with pytest.raises(InvalidInput, match="user's id"):
        site.run(visit.begin(given))


def test_a_key_of_the_data_may_name_the_user() -> None:
    site = Site(user_key="user")
    cookie = site.cookie(basket=["tea"])
    visit = site.visit(cookie)
    visit.data["user"] = 7
    (new,) = site.commit(visit)
    assert (site.who(new), site.who(cookie)) == ("7", None)
    assert dict(site.visit(new).data) == {"basket": ["tea"], "user": 7}
    same = site.visit(new)
    same.data["user"] = 7
    assert site.commit(same) == []
    out = site.visit(new)
    del out.data["user"]
    (after,) = site.commit(out)
    assert (site.who(new), site.who(after)) == (None, None)
    assert dict(site.visit(after).data) == {"basket": ["tea"]}
    assert site.service.of("7") == []


def test_what_the_application_says_itself_goes_before_the_key() -> None:
    """It may know its users by other ids than the library does."""
    site = Site(user_key="user")
    visit = site.visit()
    site.run(visit.begin("a-uuid"))
    visit.data["user"] = 7
    (cookie,) = site.commit(visit)
    assert site.who(cookie) == "a-uuid"
    later = site.visit(cookie)
    later.data["seen"] = True
    assert site.commit(later) == []
    assert site.who(cookie) == "a-uuid"


def test_a_session_that_names_a_user_already_becomes_theirs() -> None:
    """As one from before the key was said to count."""
    site = Site()
    cookie = site.cookie(who="ann")
    site.desk.rules = replace(site.desk.rules, user_key="who")
    visit = site.visit(cookie)
    visit.data["seen"] = True
    (named,) = site.commit(visit)
    assert (site.who(named), site.who(cookie)) == ("ann", None)


YEARS = 3_650 * 86_400_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules(timeouts=Timeouts(lifetime=YEARS)),
        Rules(visitors=Timeouts(idle_timeout=YEARS)),
        Rules(timeouts=Timeouts(lifetime=0)),
        Rules(limit=0),
        Rules(grace=60_000),
    ],
)
def test_rules_that_would_fail_later_are_refused_at_once(rules: Rules) -> None:
    with pytest.raises(SettingsError):
        Desk(SessionService(MemoryStore(ManualClock())), CODEC, rules=rules)
