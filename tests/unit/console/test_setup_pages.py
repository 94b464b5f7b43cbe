"""Licenses, settings, finding anything, and sample sessions at the console, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace
from tests.api_harness import Answer, Api, api
from tests.unit.console.test_console import SECRET, get, post, sign_in

from sojourn.api.context import Given
from sojourn.console.find import HITS_MAX
from sojourn.console.settings import settings_view
from sojourn.console.words import brief, span
from sojourn.cookie import SignedTokens
from sojourn.ledger import Role
from sojourn.license import CountBy, Policy, Reservation, WhenFull, pool_id
from sojourn.service.effective import effective
from sojourn.session import Begin, Begun
from sojourn.settings import SECRETS, Settings
from sojourn.testing import builders

ROLES = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,), metrics_key="m" * 20 + "etrics-key-of-a-test") as world:
        yield world


def read(answer: Answer) -> str:
    """Return what a page says, without its marks."""
    text = re.sub(r"(?s)<(script|template|dialog|nav|head).*?</\1>", " ", answer.body.decode())
    text = re.sub(r"</?bdi[^>]*>", "", text)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def save(world: Api, cookie: str, license_id: str, seats: int, feature: str = "desk") -> Answer:
    """Ask what a capacity means, and send the form that the page then shows."""
    where = urlencode({"license": license_id, "feature": feature, "capacity": seats})
    return post(world, "licenses", cookie, **question(get(world, f"licenses?{where}", cookie)))


def question(page: Answer) -> dict[str, str]:
    """Return the fields of the form that a page of a license asks with."""
    form = re.search(r'(?s)<form class="question[^>]*>(.*?)</form>', page.body.decode())
    assert form is not None, read(page)
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[1])
    return {name: unescape(value) for name, value in fields}


def make(world: Api, policy: Policy, name: str = "Northwind") -> tuple[str, str]:
    """Make a license with the feature `desk`; return its id and that of the pool."""
    license_, _ = world.services.licenses.create(name, {"desk": policy}, actor="test")
    return license_.id, pool_id(license_.id, "desk")


SUPPORT = Reservation(name="support", seats=2, users=("ann",), groups=("staff",))


class TestReservationsAndOverdraft:
    @pytest.fixture
    def pool(self, world: Api) -> tuple[str, str]:
        return make(world, Policy(capacity=3, overdraft=1, reservations=(SUPPORT,)))

    def test_stand_on_the_pages_of_seats_and_licenses(
        self, world: Api, pool: tuple[str, str]
    ) -> None:
        license_id, name = pool
        for user in ("ann", "edsger", "hedy"):
            builders.take(world.store, user, pool_id=name)
        cookie = sign_in(world)
        where = urlencode({"license": license_id, "feature": "desk"})
        page = read(get(world, f"seats?{where}", cookie))
        assert "support for user ann; group staff 1 of 2" in page
        assert "1 of 1 seat above the capacity is used." in page
        assert "Above capacity" in page
        assert "Free, and reserved" in page
        one = read(get(world, f"licenses?license={license_id}", cookie))
        assert "support reserved for user ann; group staff 1 of 2" in one
        assert "1 of 1 seat above the capacity is used." in one
        pools = read(get(world, "seats", cookie))
        assert "1 of 2 reserved free · 1 of 1 above capacity" in pools

    def test_who_waits_says_for_which_reservation(self, world: Api, pool: tuple[str, str]) -> None:
        license_id, name = pool
        for number, user in enumerate(("ann", "ann", "edsger", "hedy")):
            builders.take(world.store, user, f"c{number}", pool_id=name)
        world.store.acquire([builders.acquire("ann", "c9", pool_id=name, wait=True)])
        where = urlencode({"license": license_id, "feature": "desk"})
        page = read(get(world, f"seats?{where}", sign_in(world)))
        assert "in line for 0 s · counts into support" in page


class TestALicense:
    def test_says_its_policy_in_words(self, world: Api) -> None:
        policy = Policy(
            capacity=5,
            count_by=CountBy.USER,
            when_full=WhenFull.EVICT_IDLE,
            idle_after=15 * 60_000,
            max_lease=8 * 3_600_000,
        )
        license_id, _ = make(world, policy)
        page = read(get(world, f"licenses?license={license_id}", sign_in(world)))
        assert "A person uses one seat, on however many devices." in page
        assert (
            "Who is silent for 60 s is suspect; who is silent for 90 s has lost the seat." in page
        )
        assert "then who has been idle for 15 min." in page
        assert "Nobody holds a seat for longer than 8 h." in page

    def test_says_what_a_capacity_means_before_it_is_saved(self, world: Api) -> None:
        license_id, name = make(world, Policy(capacity=3))
        for user in ("ann", "bob", "eve"):
            builders.take(world.store, user, pool_id=name)
        cookie = sign_in(world)
        asks = f"licenses?license={license_id}&feature=desk&capacity="
        assert "nobody gets one until 2 have come back" in read(get(world, f"{asks}2", cookie))
        assert "2 more seats can be taken at once." in read(get(world, f"{asks}5", cookie))
        assert "is no number of seats" in read(get(world, f"{asks}many", cookie))
        assert world.services.licenses.get(license_id)[1][0].policy.capacity == 3
        done = save(world, cookie, license_id, 5)
        assert "desk has 5 seats now. It had 3." in read(done)
        assert world.services.licenses.get(license_id)[1][0].policy.capacity == 5

    def test_says_what_would_have_happened_last_week(self, world: Api) -> None:
        license_id, name = make(world, Policy(capacity=1))
        lease = builders.take(world.store, "ann", pool_id=name)
        builders.refused(world.store, "bob", pool_id=name)
        world.clock.advance(seconds=5)
        assert builders.give_back(world.store, lease)
        world.clock.advance(seconds=5)
        world.services.sweeper.run(actor="test")
        cookie = sign_in(world)
        asks = f"licenses?license={license_id}&feature=desk&capacity="
        page = read(get(world, f"{asks}2", cookie))
        assert "With 1 seat more, nobody would have been refused (1 were)." in page
        assert "Last week:" not in read(get(world, f"{asks}1", cookie))

    def test_a_capacity_keeps_the_rest_of_the_policy(self, world: Api) -> None:
        license_id, _ = make(world, Policy(capacity=3, overdraft=1, reservations=(SUPPORT,)))
        cookie = sign_in(world)
        save(world, cookie, license_id, 4)
        policy = world.services.licenses.get(license_id)[1][0].policy
        assert (policy.capacity, policy.overdraft, policy.reservations) == (4, 1, (SUPPORT,))
        refused = read(save(world, cookie, license_id, 1))
        assert "2 seats are reserved: more than the capacity of 1." in refused
        form = {"do": "capacity", "license": license_id}
        assert "no such feature" in read(
            post(world, "licenses", cookie, **form, feature="x", capacity="4")
        )

    @pytest.mark.parametrize(
        "meanwhile", [Policy(capacity=9), Policy(capacity=3, lost_after=300_000)]
    )
    def test_is_not_overwritten_by_a_page_that_showed_another_policy(
        self, world: Api, meanwhile: Policy
    ) -> None:
        license_id, _ = make(world, Policy(capacity=3))
        licenses, cookie = world.services.licenses, sign_in(world)
        asks = f"licenses?license={license_id}&feature=desk&capacity=5"
        drawn = question(get(world, asks, cookie))
        licenses.set_feature(license_id, "desk", meanwhile, actor="key:another")
        refused = post(world, "licenses", cookie, **drawn)
        assert "desk was changed while this page was open. Nothing was saved." in read(refused)
        assert licenses.get(license_id)[1][0].policy == meanwhile
        asked_again = question(refused)  # with what is so now
        assert f"from {meanwhile.capacity} to 5 seats?" in read(refused)
        post(world, "licenses", cookie, **asked_again)
        assert licenses.get(license_id)[1][0].policy == replace(meanwhile, capacity=5)

    def test_a_form_that_does_not_say_what_it_showed_saves_nothing(self, world: Api) -> None:
        license_id, _ = make(world, Policy(capacity=3))
        form = {"do": "capacity", "license": license_id, "feature": "desk", "capacity": "5"}
        assert "Nothing was saved" in read(post(world, "licenses", sign_in(world), **form))
        assert world.services.licenses.get(license_id)[1][0].policy.capacity == 3

    def test_is_suspended_and_resumed(self, world: Api) -> None:
        license_id, _ = make(world, Policy(capacity=3))
        cookie = sign_in(world, world.keys[Role.OPERATOR])
        asked = read(get(world, f"licenses?license={license_id}&ask=suspend", cookie))
        assert "Suspend Northwind?" in asked
        done = read(post(world, "licenses", cookie, do="suspend", license=license_id))
        assert "Northwind is suspended." in done
        assert "It is suspended: nobody gets a seat." in done
        done = read(post(world, "licenses", cookie, do="resume", license=license_id))
        assert "Northwind is active again." in done

    def test_one_that_is_not_there_leads_to_all(self, world: Api) -> None:
        page = get(world, "licenses?license=lic_none", sign_in(world))
        assert page.status == 404
        assert "There is no such license." in read(page)

    @pytest.mark.parametrize("role", ROLES)
    def test_roles_hide_actions_and_never_facts(self, world: Api, role: Role) -> None:
        license_id, name = make(world, Policy(capacity=3, reservations=(SUPPORT,)))
        lease = builders.take(world.store, "ann", pool_id=name)
        cookie = sign_in(world, world.keys[role])
        page = read(get(world, f"licenses?license={license_id}&feature=desk&capacity=4", cookie))
        assert "support reserved for user ann; group staff 1 of 2" in page
        may = role is not Role.VIEWER
        assert ("Save 4 seats" in page) is may
        drawn = f"licenses?license={license_id}&feature=desk&capacity=4"
        form = question(get(world, drawn, sign_in(world)))
        done = read(post(world, "licenses", cookie, **form))
        assert ("may look, and not do this" in done) is not may
        assert world.services.licenses.get(license_id)[1][0].policy.capacity == (4 if may else 3)
        where = urlencode({"license": license_id, "feature": "desk", "ask": lease.id})
        seats = read(get(world, f"seats?{where}", cookie))
        assert "took a desk seat" in seats  # its timeline
        assert ("Free the desk seat of" in seats) is may


class TestSeveralSeats:
    def test_are_asked_about_by_name_and_freed_together(self, world: Api) -> None:
        license_id, name = make(world, Policy(capacity=5))
        leases = [builders.take(world.store, user, pool_id=name) for user in ("ann", "bob", "eve")]
        cookie = sign_in(world)
        query = [("license", license_id), ("feature", "desk")]
        query += [("ask", lease.id) for lease in leases[:2]]
        page = read(get(world, f"seats?{urlencode(query)}", cookie))
        assert "Free 2 desk seats of Northwind? They are of ann, bob." in page
        form = {"do": "free", "license": license_id, "feature": "desk"}
        body = urlencode([*form.items(), *(("lease", x.id) for x in leases[:2])]).encode()
        headers = [("host", "sojourn.test"), ("sec-fetch-site", "same-origin")]
        headers += [("cookie", f"sojourn-console={cookie}")]
        headers += [("content-type", "application/x-www-form-urlencoded")]
        done = read(world.call("POST", "/console/seats", body=body, headers=headers))
        assert "2 desk seats of ann, bob are free." in done
        assert builders.usage(world.store, name).in_use == 1
        again = read(world.call("POST", "/console/seats", body=body, headers=headers))
        assert "Those seats were free already." in again


class TestFinding:
    def where(self, world: Api, words: str, *, role: Role = Role.VIEWER) -> str | None:
        answer = get(world, f"find?{urlencode({'q': words})}", sign_in(world, world.keys[role]))
        return answer.header("location") if answer.status == 303 else None

    def test_one_thing_is_led_to(self, world: Api) -> None:
        license_id, name = make(world, Policy(capacity=5))
        lease = builders.take(world.store, "ann.marie", pool_id=name)
        (begun,) = world.services.sessions.begin([Begin(user_id="bob")])
        assert isinstance(begun, Begun)
        assert self.where(world, "ann.marie") == "people?user=ann.marie"
        assert self.where(world, "desk") == f"seats?license={license_id}&feature=desk"
        assert self.where(world, begun.session.id) == "people?user=bob"
        assert self.where(world, license_id) == f"licenses?license={license_id}"
        assert self.where(world, "northWIND") == f"licenses?license={license_id}"
        found = self.where(world, lease.id)
        assert found is not None
        assert found.endswith(f"ask={lease.id}#asked")
        assert self.where(world, "Doctor") == "doctor"

    @pytest.mark.parametrize("words", ["marie", "North", "des", "Doct"])
    def test_what_is_merely_alike_is_shown_and_not_led_to(self, world: Api, words: str) -> None:
        """The one whose name has these words in it may be somebody else: `ann` is not `joanna`."""
        _, name = make(world, Policy(capacity=5))
        builders.take(world.store, "ann.marie", pool_id=name)
        page = get(world, f"find?q={words}", sign_in(world))
        assert page.status == 200
        assert "1 thing found." in read(page)

    def test_what_is_not_there_is_said(self, world: Api) -> None:
        for words in ("nobody-at-all", "ses_0000000000000000000000", "lse_0000000000000000000000"):
            assert self.where(world, words) is None
            page = get(world, f"find?q={words}", sign_in(world))
            assert page.status == 200
            assert "Nothing is called" in read(page)

    def test_several_are_listed_and_no_more_than_there_is_room_for(self, world: Api) -> None:
        _, name = make(world, Policy(capacity=50))
        for number in range(20):
            builders.take(world.store, f"user-{number:02}", pool_id=name)
        page = get(world, "find?q=user-", sign_in(world)).body.decode()
        assert page.count('href="people?user=user-') == HITS_MAX
        exact = self.where(world, "user-19")
        assert exact == "people?user=user-19"

    def test_an_ended_seat_leads_to_its_person(self, world: Api) -> None:
        _, name = make(world, Policy(capacity=5))
        lease = builders.take(world.store, "ann", pool_id=name)
        assert builders.give_back(world.store, lease)
        assert self.where(world, lease.id) == "people?user=ann"

    def test_nobody_finds_pages_that_they_may_not_see(self, world: Api) -> None:
        assert self.where(world, "keys") is None
        assert self.where(world, "keys", role=Role.ADMIN) == "keys"

    def test_who_is_not_signed_in_is_told_nothing(self, world: Api) -> None:
        make(world, Policy(capacity=5))
        answer = get(world, "find?q=northwind")
        assert answer.status == 401
        assert b"Northwind" not in answer.body

    def test_somebody_like_it_is_named(self, world: Api) -> None:
        _, name = make(world, Policy(capacity=5))
        builders.take(world.store, "maximiliane", pool_id=name)
        page = read(get(world, "people?user=maxi", sign_in(world)))
        assert "Did you mean" in page
        assert "maximiliane" in page


class TestSettings:
    def test_shows_no_secret(self, world: Api) -> None:
        for role in ROLES:
            page = get(world, "settings", sign_in(world, world.keys[role]))
            assert page.status == 200
            for name in SECRETS:
                value = getattr(world.settings, name)
                for each in (value,) if isinstance(value, str) else value:
                    assert not each or each.encode() not in page.body
            assert "Set, never shown." in read(page)

    def test_says_where_each_came_from(self, world: Api) -> None:
        origins = {"site_name": "SOJOURN_SITE_NAME", "port": "default", "dev": "--dev"}
        words = {"port": ("Where", "PORT", "Port to listen on.")}
        world.app.context.given = Given(origins=origins, words=words)
        cookie = sign_in(world)
        page = read(get(world, "settings", cookie))
        assert "SOJOURN_SITE_NAME" in page
        assert "SOJOURN_SITE_NAME" in page
        assert "Port to listen on." in page
        changed = get(world, "settings?show=changed", cookie).body.decode()
        assert re.findall(r'id="setting-(\w+)"', changed) == [
            "dev",
            "secret",
            "metrics_key",
            "site_name",
            "doctor_interval",
            "plan_interval",
            "webhook_interval",
        ]
        found = get(world, "settings?q=listen+on", cookie).body.decode()
        assert re.findall(r'id="setting-(\w+)"', found) == ["port"]

    def test_has_the_fingerprints_that_nodes_have(self, world: Api) -> None:
        world.services.presence.register()
        page = read(get(world, "settings?q=secret", sign_in(world)))
        fingerprints = re.findall(r"\b[0-9a-f]{16}\b", page)
        assert len(fingerprints) == 1
        assert SECRET not in page

    def test_passwords_in_urls_are_masked(self) -> None:
        settings = Settings(store="postgresql://ann:hunter22222@db/sojourn", geo_headers=("A b",))
        view = settings_view(effective(settings, {"store": "--store"}), settings, {})
        said = repr(view)
        assert "hunter22222" not in said
        assert "SOJOURN_STORE='postgresql://" in view.variables or "SOJOURN_STORE=postgres" in said

    def test_what_is_risky_is_said(self) -> None:
        settings = Settings(dev=True, host="0.0.0.0", webhook_reach="private")
        view = settings_view(effective(settings, {}), settings, {})
        risky = {row.name for _, inside in view.sections for row in inside if row.risk}
        assert risky == {"dev", "metrics_key", "webhook_reach"}
        assert view.answer.bad == "3 of them deserve a look."


class TestSamples:
    @pytest.fixture
    def world(self) -> Iterator[Api]:
        with api(secret=(SECRET,), dev=True) as world:
            yield world

    def test_are_made_opened_as_and_taken_away(self, world: Api) -> None:
        cookie = sign_in(world)
        done = read(post(world, "sessions", cookie, do="sample", user="ada", count="3"))
        assert "3 sample sessions of ada made." in done
        opened = post(world, "sessions", cookie, do="open-sample", user="ada")
        assert opened.status == 303
        assert opened.header("location") == "../account/security"
        given = opened.header("set-cookie")
        assert given is not None
        name, _, value = given.partition(";")[0].partition("=")
        assert name == world.settings.cookie_name
        listed = world.call(
            "GET",
            "/api/user/active-sessions",
            headers=[("host", "sojourn.test"), ("cookie", f"{name}={value}")],
        )
        assert listed.status == 200
        assert len(listed.json["data"]) == 4
        (kept,) = world.services.sessions.begin([Begin(user_id="ada")])
        assert isinstance(kept, Begun)
        gone = read(post(world, "sessions", cookie, do="remove-samples"))
        assert "4 sample sessions taken away." in gone
        assert [each.id for each in world.services.sessions.of("ada")] == [kept.session.id]

    @pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
    def test_are_made_by_administrators_alone(self, world: Api, role: Role) -> None:
        cookie = sign_in(world, world.keys[role])
        for wish in ("sample", "open-sample"):
            answer = post(world, "sessions", cookie, do=wish, user="ada")
            assert "may look, and not do this" in read(answer)
            assert answer.header("set-cookie") is None
        assert world.services.sessions.of("ada") == []

    def test_need_a_server_for_developing(self) -> None:
        with api(secret=(SECRET,)) as world:
            cookie = sign_in(world)
            assert "Samples, to try pages out" not in read(get(world, "sessions", cookie))
            answer = post(world, "sessions", cookie, do="open-sample", user="ada")
            assert "made by a server for developing only" in read(answer)
            assert answer.header("set-cookie") is None
            assert world.services.sessions.of("ada") == []


@pytest.mark.parametrize("role", ROLES)
def test_one_session_is_signed_out(world: Api, role: Role) -> None:
    begun = world.services.sessions.begin([Begin(user_id="ada"), Begin(user_id="ada")])
    ids = [each.session.id for each in begun if isinstance(each, Begun)]
    cookie = sign_in(world, world.keys[role])
    may = role is not Role.VIEWER
    page = read(get(world, f"sessions?ask={ids[0]}", cookie))
    assert ("Sign ada out of" in page) is may
    post(world, "sessions", cookie, do="sign-out", session=ids[0])
    assert len(world.services.sessions.of("ada")) == (1 if may else 2)
    post(world, "people", cookie, do="sign-out-one", user="ada", session=ids[1])
    assert len(world.services.sessions.of("ada")) == (0 if may else 2)


@pytest.mark.parametrize(
    ("ms", "short", "set_"),
    [
        (87_000, "87 s", "87 s"),
        (90_000, "90 s", "90 s"),
        (500, "0 s", "0.5 s"),
        (150_000, "2 min", "2 min 30 s"),
        (900_000, "15 min", "15 min"),
        (8 * 3_600_000, "8 h", "8 h"),
        (50 * 3_600_000, "2 d", "2 d 2 h"),
    ],
)
def test_short_durations(ms: int, short: str, set_: str) -> None:
    assert (brief(ms), span(ms)) == (short, set_)


def test_operators_see_and_end_their_own_sign_ins(world: Api) -> None:
    """Those with the same key, and nobody else's."""
    here, there, viewer = sign_in(world), sign_in(world), sign_in(world, world.keys[Role.VIEWER])
    page = read(get(world, "security", here))
    assert "You are signed in, and 1 other session with this key." in page
    assert "2 active sessions." in page
    assert "You alone are signed in with this key." in read(get(world, "security", viewer))
    (own,) = world.services.sessions.of("operator:" + viewer.partition(".")[0])
    refused = read(post(world, "security", here, session=own.id))
    assert "That was signed out already." in refused  # of another key: there is none
    assert get(world, "security", viewer).status == 200
    done = read(post(world, "security", here, session="others"))
    assert "1 other session is signed out." in done
    assert get(world, "security", there).status == 401
    assert get(world, "security", here).status == 200
    (mine,) = world.services.sessions.of("operator:" + here.partition(".")[0])
    assert post(world, "security", here, session=mine.id).header("location") == "sign-in"
    assert get(world, "security", here).status == 401


def test_people_are_told_that_operators_signed_them_out(world: Api) -> None:
    (begun,) = world.services.sessions.begin([Begin(user_id="ada")])
    assert isinstance(begun, Begun)
    cookie = SignedTokens([SECRET.encode()]).encode(begun.token)
    sent = [("host", "sojourn.test"), ("cookie", f"{world.settings.cookie_name}={cookie}")]
    assert world.call("GET", "/account/security", headers=sent).status == 200
    post(world, "sessions", sign_in(world), do="sign-out", session=begun.session.id)
    answer = world.call("GET", "/account/security", headers=sent)
    assert answer.status == 401
    assert "The site’s operators signed this device out." in answer.body.decode()
