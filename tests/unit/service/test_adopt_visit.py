"""After the move the old cookie signs in once more, and ours takes its place."""

from __future__ import annotations

import secrets

import pytest

from sojourn.adapters.express.cookies import ExpressCookies
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.errors import InvalidInput
from sojourn.origin import Origin
from sojourn.service.request_session import (
    AdoptedCookie,
    RawTokens,
    Request,
    RequestSession,
    Rules,
    run,
    verbs,
)
from sojourn.service.sessions import SessionService
from sojourn.session import Check, End, Gone, GoneReason, NewSession, Rotate, Session
from sojourn.stores.memory import MemoryStore
from sojourn.token import FOREIGN_MAX, TokenKind, hash_token, new_token

CODEC = SignedTokens([b"s" * 32])
EXPRESS = ExpressCookies(["keyboard cat"])
RULES = Rules(
    adopted=(AdoptedCookie("sessionid", RawTokens()), AdoptedCookie("connect.sid", EXPRESS))
)
OLD = "abcdefghijklmnopqrstuvwxyz012345"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock, max_pause=10_000, event_retention=10**9)
        self.service = SessionService(self.store)
        self.store.create([NewSession(id="ses_1", token_hash=hash_token(OLD), user_id="ann")])

    def visit(self, cookies: str, rules: Rules = RULES, *, https: bool = True) -> RequestSession:
        visit = RequestSession(
            rules, CODEC, Request(cookies=cookies, origin=Origin(ip=None, https=https))
        )
        run(visit.open(), verbs(self.service))
        return visit

    def headers(self, visit: RequestSession) -> list[str]:
        said = run(visit.commit(), verbs(self.service))
        return [value for name, value in said if name == "Set-Cookie"]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("cookie", [f"sessionid={OLD}", f"connect.sid={EXPRESS.encode(OLD)}"])
def test_the_old_cookie_signs_in_and_is_replaced(world: World, cookie: str) -> None:
    visit = world.visit(f"theme=dark; {cookie}")
    assert visit.user_id == "ann"
    ours, cleared = world.headers(visit)
    assert ours.startswith("__Host-sojourn=sjs_")
    assert cleared.startswith(cookie.partition("=")[0] + "=;")
    assert "Max-Age=0" in cleared
    later = world.visit(ours.partition(";")[0])
    assert (later.user_id, world.headers(later)) == ("ann", [])


def test_without_a_response_the_old_cookie_goes_on(world: World) -> None:
    """The browser was not told of ours: nothing may have changed for it, however late it comes back."""
    request = Request(
        cookies=f"sessionid={OLD}", origin=Origin(ip=None, https=True), tentative=True
    )
    for status in (500, None):
        visit = RequestSession(RULES, CODEC, request)
        run(visit.open(), verbs(world.service))
        assert visit.user_id == "ann"
        if status is None:
            run(visit.undo(), verbs(world.service))
        else:
            assert not [
                n for n, _ in run(visit.commit(status), verbs(world.service)) if n != "Vary"
            ]
        world.clock.advance(seconds=3_600)
    visit = RequestSession(RULES, CODEC, request)
    run(visit.open(), verbs(world.service))
    ours, cleared = world.headers(visit)
    assert (ours.startswith("__Host-sojourn="), "Max-Age=0" in cleared) == (True, True)
    world.clock.advance(seconds=60)
    assert world.visit(f"sessionid={OLD}").session is None


def test_the_old_cookie_dies_after_the_grace(world: World) -> None:
    world.visit(f"sessionid={OLD}")
    world.clock.advance(milliseconds=RULES.grace)
    visit = world.visit(f"sessionid={OLD}")
    assert visit.session is None
    assert visit.gone == Gone(reason=GoneReason.ABSENT)
    assert world.headers(visit) == []


def test_requests_in_parallel_get_the_same_cookie(world: World) -> None:
    """A page sends several requests with the old cookie; whichever answer comes last, it holds."""
    visits = [world.visit(f"sessionid={OLD}") for _ in range(5)]
    cookies = {world.headers(visit)[0] for visit in visits}
    assert len(cookies) == 1
    world.clock.advance(seconds=60)
    assert world.visit(cookies.pop().partition(";")[0]).user_id == "ann"


def test_the_successor_is_a_secret_of_ours(world: World) -> None:
    """Who knows the old token cannot tell the new one without our secret."""
    ours = world.visit(f"sessionid={OLD}").token
    other = World()
    visit = RequestSession(
        RULES,
        SignedTokens([b"t" * 32]),
        Request(cookies=f"sessionid={OLD}", origin=Origin(ip=None, https=True)),
    )
    run(visit.open(), verbs(other.service))
    assert visit.token is not None
    assert ours is not None
    assert visit.token != ours


def test_our_own_cookie_comes_first(world: World) -> None:
    ours = world.headers(world.visit(f"sessionid={OLD}"))[0].partition(";")[0]
    visit = world.visit(f"{ours}; sessionid=somebody-elses-old-cookie")
    assert visit.user_id == "ann"
    assert world.headers(visit) == []


def test_our_cookie_of_the_same_name_replaces_the_old_one(world: World) -> None:
    """Where Django's name is kept, there is nothing to clear."""
    kept = RULES.cookie.__class__(name="sessionid", host_prefix=False)
    rules = Rules(cookie=kept, adopted=RULES.adopted)
    (ours,) = world.headers(world.visit(f"sessionid={OLD}", rules))
    assert ours.startswith("sessionid=sjs_")


def test_one_nobody_knows_is_left_in_the_browser(world: World) -> None:
    """Its session may be adopted yet."""
    visit = world.visit("sessionid=not-yet-adopted-but-soon")
    assert visit.session is None
    assert world.headers(visit) == []


def test_one_that_was_ended_stays_ended_and_is_cleared(world: World) -> None:
    world.service.end([End(ids=("ses_1",))])
    visit = world.visit(f"sessionid={OLD}")
    assert visit.session is None
    (cleared,) = world.headers(visit)
    assert "Max-Age=0" in cleared


def test_a_forged_express_cookie_is_refused(world: World) -> None:
    forged = ExpressCookies(["another secret"]).encode(OLD)
    assert world.visit(f"connect.sid={forged}").session is None


def test_a_token_of_ours_needs_our_cookie(world: World) -> None:
    """An unsigned old cookie carries no token of ours."""
    ours = world.visit(f"sessionid={OLD}").token
    assert ours is not None
    assert world.visit(f"sessionid={ours}").session is None
    (answer,) = world.service.check([Check(ours, adopted=True)])
    assert answer == Gone(reason=GoneReason.FORGED)


@pytest.mark.parametrize(
    "token", ["", "x" * (FOREIGN_MAX + 1), "a\nb-and-more-of-it", "\ud800" * 20]
)
def test_what_is_no_token_asks_no_store(world: World, token: str) -> None:
    assert world.service.check([Check(token, adopted=True)]) == [Gone(reason=GoneReason.FORGED)]


def test_without_adopted_a_foreign_token_is_forged(world: World) -> None:
    assert world.service.check([Check(OLD)]) == [Gone(reason=GoneReason.FORGED)]
    (found,) = world.service.check([Check(OLD, adopted=True)])
    assert isinstance(found, Session)


def test_a_chosen_successor_is_whole_and_nobody_elses(world: World) -> None:
    taken = new_token(TokenKind.SESSION)
    world.store.create([NewSession(id="ses_2", token_hash=hash_token(taken), user_id="bob")])
    from sojourn.errors import Conflict  # noqa: PLC0415 - for this alone

    with pytest.raises(Conflict):
        world.service.rotate([Rotate(id="ses_1", token=taken)])
    with pytest.raises(InvalidInput):
        world.service.rotate([Rotate(id="ses_1", token=secrets.token_hex())])
