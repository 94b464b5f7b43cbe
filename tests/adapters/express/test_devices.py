"""Devices beside Express: what people call them, and what sessions were last used from, on either store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from tests.adapters.express import node
from tests.adapters.express.test_rules import begin, live

from sojourn.adapters.desk import Desk
from sojourn.adapters.express import EXPRESS_COOKIE, ExpressCookies, open_express
from sojourn.clock import HOUR, ManualClock
from sojourn.device import Device
from sojourn.devices import Devices
from sojourn.errors import InvalidInput
from sojourn.people.calls import asked
from sojourn.service.request_session import Rules
from sojourn.session import Check, End, Rename, Rotate, Save, Session, Sessions, Timeouts

HOME = Device(name="Chrome on Windows", kind="desktop", ip="192.0.2.7", user_agent="Chrome/1")
TRAIN = Device(name="Chrome on Windows", kind="desktop", ip="192.0.2.99", user_agent="Chrome/1")
PHONE = Device(name="Safari on iPhone", kind="phone", ip="2001:db8::1", user_agent='"Safari"\\2')
WEEK = Timeouts(24 * HOUR, HOUR)


@pytest.fixture
def later(store: str, clock: ManualClock) -> Callable[[], None]:
    """Let a minute and a half go by. Redis counts time to live by its own clock."""

    def advance() -> None:
        clock.advance(seconds=90)
        if not store.startswith("postgres"):
            with redis.Redis.from_url(store) as client:
                for key in client.scan_iter("sess:*"):
                    client.pexpire(key, client.pttl(key) - 90_000)

    return advance


@pytest.fixture
def sessions(store: str, clock: ManualClock) -> Iterator[Sessions]:
    opened = open_express(f"express+{store}", clock=clock)
    yield opened
    opened.close()


def name(sessions: Sessions, session_id: str, label: str | None, user: str = "ann") -> bool:
    return sessions.rename(Rename(id=session_id, user_id=user, label=label))


def used(sessions: Sessions, token: str, device: Device | None, **more: Any) -> Session:
    describe: Callable[[], Device] | None = None if device is None else lambda: device
    (found,) = sessions.check([Check(token, describe=describe, **more)])
    assert isinstance(found, Session)
    return found


def test_a_device_is_called_what_its_user_says(sessions: Sessions) -> None:
    """It is shown wherever the session is, and None takes it back."""
    mine, other = begin(sessions, device=HOME), begin(sessions, device=HOME)
    assert mine.session.label is None
    assert name(sessions, mine.session.id, "Büro \N{GRINNING FACE}")
    assert name(sessions, mine.session.id, 'It\'s "mine" \\ %s :at')
    assert live(sessions, mine.token).label == 'It\'s "mine" \\ %s :at'
    assert {x.id: x.label for x in sessions.of("ann")} == {
        mine.session.id: 'It\'s "mine" \\ %s :at',
        other.session.id: None,
    }
    assert live(sessions, mine.token).device == HOME
    assert name(sessions, mine.session.id, None)
    assert live(sessions, mine.token).label is None


def test_a_name_stays_with_its_session(sessions: Sessions, later: Callable[[], None]) -> None:
    """Use, a save and a new token leave it as it is, and what it was last used from."""
    mine = begin(sessions, device=HOME, timeouts=WEEK)
    name(sessions, mine.session.id, "Office")
    later()
    used(sessions, mine.token, PHONE)
    sessions.save([Save(id=mine.session.id, set={"a": 1})])
    (rotated,) = sessions.rotate([Rotate(id=mine.session.id)])
    assert rotated is not None
    for found in (rotated.session, live(sessions, rotated.token), live(sessions, mine.token)):
        assert (found.label, found.device, found.last_device) == ("Office", HOME, PHONE)


def test_nobody_names_devices_of_others(sessions: Sessions) -> None:
    """Nor what is over, nor what never was."""
    mine = begin(sessions)
    assert not name(sessions, mine.session.id, "Mine", user="Ann")
    assert not name(sessions, "exp_none", "Mine")
    assert live(sessions, mine.token).label is None
    sessions.end([End(ids=(mine.session.id,))])
    assert not name(sessions, mine.session.id, "Mine")


@pytest.mark.parametrize("label", ["", " ", "x" * 65, "a\nb", "a\u202eb", "a\0"])
def test_a_name_can_be_read(sessions: Sessions, label: str) -> None:
    mine = begin(sessions)
    with pytest.raises(InvalidInput):
        name(sessions, mine.session.id, label)
    assert live(sessions, mine.token).label is None


def test_a_sign_in_in_its_place_keeps_the_name(sessions: Sessions) -> None:
    """Of the same user alone, and of nobody who acts as them."""
    mine = begin(sessions)
    name(sessions, mine.session.id, "Office")
    again = begin(sessions, replaces=mine.session.id)
    assert (again.session.label, live(sessions, again.token).label) == ("Office", "Office")
    acting = begin(sessions, replaces=again.session.id, impersonator="root")
    assert live(sessions, acting.token).label is None
    mine = begin(sessions)
    name(sessions, mine.session.id, "Office")
    bob = begin(sessions, "bob", replaces=mine.session.id)
    assert live(sessions, bob.token).label is None


def test_use_tells_what_it_came_from(sessions: Sessions, later: Callable[[], None]) -> None:
    """Once a minute, and only where it is not what was known."""
    mine = begin(sessions, device=HOME, timeouts=WEEK)
    used(sessions, mine.token, PHONE)
    assert live(sessions, mine.token).last_device is None
    for device, last in ((None, None), (HOME, None), (TRAIN, TRAIN), (PHONE, PHONE), (HOME, HOME)):
        later()
        found = used(sessions, mine.token, device)
        assert (found.device, found.last_device) == (HOME, last)
        found = live(sessions, mine.token)
        assert (found.device, found.last_device) == (HOME, last)
    later()
    used(sessions, mine.token, PHONE, touch=False)
    assert live(sessions, mine.token).last_device == HOME


def test_what_a_request_may_not_say_is_not_kept(
    sessions: Sessions, later: Callable[[], None]
) -> None:
    mine = begin(sessions, device=HOME, timeouts=WEEK)
    later()
    assert used(sessions, mine.token, Device(name="a\u202eb", ip="192.0.2.1")).last_device is None


def test_each_session_of_a_batch_has_its_own(sessions: Sessions, later: Callable[[], None]) -> None:
    begun = [begin(sessions, user, device=HOME, timeouts=WEEK) for user in ("ann", "bob", "cid")]
    later()
    devices = (PHONE, HOME, TRAIN)
    checks = [
        Check(each.token, describe=lambda device=device: device)  # type: ignore[misc]  # mypy does not infer defaults
        for each, device in zip(begun, devices, strict=True)
    ]
    sessions.check([*checks, checks[0]])
    assert [live(sessions, x.token).last_device for x in begun] == [PHONE, None, TRAIN]


def test_addresses_are_kept_as_the_settings_say(
    store: str, clock: ManualClock, later: Callable[[], None]
) -> None:
    """Shortened, of the sign-in and of the last use alike."""
    complete = Devices(ip_shorten=True).complete
    sessions = open_express(f"express+{store}", clock=clock, complete=complete)
    try:
        mine = begin(sessions, device=HOME, timeouts=WEEK)
        assert mine.session.device is not None
        assert mine.session.device.ip == "192.0.2.0"
        later()
        assert used(sessions, mine.token, TRAIN).last_device is None  # the same street
        later()
        last = used(sessions, mine.token, PHONE).last_device
        assert last is not None
        assert (last.name, last.ip) == ("Safari on iPhone", "2001:db8::")
    finally:
        sessions.close()


def test_what_express_began_is_known_from_its_first_use_here(together: node.Both) -> None:
    """Express tells nobody of devices; the browser that holds the cookie does, with its first request."""
    sessions = together.desk.sessions
    with together.browser() as browser:
        browser.sign_in_to_node("ann")
        (session,) = sessions.of("ann")
        assert session.device is None
        assert used(sessions, browser.sid, PHONE).device == PHONE
        found = live(sessions, browser.sid)
        assert (found.device, found.last_device) == (PHONE, None)
        assert name(sessions, found.id, "Kitchen")
        assert browser.me()["user"] == "ann"


def test_a_name_is_its_users_alone_when_express_changes_who_it_is(together: node.Both) -> None:
    """Also where Express gives the same session to somebody else."""
    sessions = together.desk.sessions
    with together.browser() as browser:
        browser.sign_in_to_node("ann")
        sid = browser.sid
        assert name(sessions, live(sessions, sid).id, "Kitchen")
        assert live(sessions, sid).label == "Kitchen"
        browser.node("POST", "/set", passport={"user": "bob"})
        found = live(sessions, sid)
        assert (found.user_id, found.label) == ("bob", None)
        assert [x.label for x in sessions.of("bob")] == [None]


def test_the_page_of_active_sessions_has_names(store: str, clock: ManualClock) -> None:
    """What people see and do there is what local stores offer."""
    sessions = open_express(f"express+{store}", clock=clock)
    codec = ExpressCookies(["a secret of express-session's, long enough"])
    desk = Desk(sessions, codec, rules=Rules(cookie=EXPRESS_COOKIE))
    mine = begin(sessions, device=HOME)
    headers = {
        "cookie": f"connect.sid={codec.encode(mine.token)}",
        "sec-fetch-site": "same-origin",
        "host": "site.example",
        "content-type": "application/json",
    }
    calls, origin = "/api/user/active-sessions", desk.origin("192.0.2.7", "http")

    def ask(method: str, path: str = calls, body: bytes = b"") -> tuple[int, bytes]:
        request = asked(method, path, "", headers.get, origin, body=body)
        status, _, said = desk.people.respond(request)
        return status, said

    status, said = ask("GET")
    assert (status, b'"canRename":true' in said) == (200, True), said
    status, said = ask("PATCH", f"{calls}/{mine.session.id}", '{"name": "Küche"}'.encode())
    assert status == 200, said
    assert '"name":"Küche"' in ask("GET")[1].decode()
    sessions.close()
