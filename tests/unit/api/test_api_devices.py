"""Devices that people name, and what sessions were last used from: over HTTP, on the model of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.api_harness import Api, api

from sojourn.cookie import SignedTokens
from sojourn.device import LABEL_MAX, Device
from sojourn.session import Begin, Begun

BASE = "/api/user/active-sessions"
PAGE = "/account/security"
SECRET = "people are known by what this signs 0123"
PHONE = Device(name="Safari on iPhone", browser="Safari", os="iOS", kind="phone", ip="192.0.2.9")
HERE = [("Host", "sojourn.test"), ("Sec-Fetch-Site", "same-origin")]
FORM = ("Content-Type", "application/x-www-form-urlencoded")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


def sign_in(world: Api, user: str = "ann", **more: Any) -> Begun:
    (begun,) = world.services.sessions.begin([Begin(user_id=user, **more)])
    assert isinstance(begun, Begun)
    return begun


def cookie(begun: Begun) -> tuple[str, str]:
    return "Cookie", f"sojourn={SignedTokens([SECRET.encode()]).encode(begun.token)}"


def listed(world: Api, begun: Begun, **request: Any) -> Any:
    answer = world.call("GET", BASE, bearer=begun.token, **request)
    assert answer.status == 200, answer.body
    assert answer.json["canRename"] is True
    return {each["id"]: each for each in answer.json["data"]}


def test_a_person_names_a_device(world: Api) -> None:
    """Their own and any other of theirs; what it says of itself stays in sight; null takes it back."""
    mine, other = sign_in(world, device=PHONE), sign_in(world)
    for begun in (mine, other):
        path = f"{BASE}/{begun.session.id}"
        answer = world.call("PATCH", path, bearer=mine.token, json={"name": "  Kitchen ☕ "})
        assert (answer.status, answer.data) == (200, {"id": begun.session.id, "name": "Kitchen ☕"})
        shown = listed(world, mine)[begun.session.id]
        assert shown["name"] == "Kitchen ☕"
    assert listed(world, mine)[mine.session.id]["device"] == "Safari on iPhone"
    for nothing in (None, "", "   "):
        world.call("PATCH", path, bearer=mine.token, json={"name": "Again"})
        answer = world.call("PATCH", path, bearer=mine.token, json={"name": nothing})
        assert (answer.status, answer.data["name"]) == (200, None)
        assert listed(world, mine)[other.session.id]["name"] is None


def test_nobody_names_what_is_not_theirs(world: Api) -> None:
    """Somebody else's session is as if it were not there; who acts as somebody names nothing of theirs."""
    mine, yours = sign_in(world), sign_in(world, "bob")
    path = f"{BASE}/{mine.session.id}"
    refused = world.call("PATCH", path, bearer=yours.token, json={"name": "Mine"})
    assert (refused.status, refused.code) == (404, "session_unknown")
    nowhere = world.call("PATCH", f"{BASE}/ses_none", bearer=mine.token, json={"name": "Mine"})
    assert (nowhere.status, nowhere.code) == (404, "session_unknown")
    acting = sign_in(world, impersonator="root")
    refused = world.call("PATCH", path, bearer=acting.token, json={"name": "Mine"})
    assert (refused.status, refused.code) == (403, "forbidden")
    assert world.call("PATCH", path, json={"name": "Mine"}).status == 401
    elsewhere = [("Host", "sojourn.test"), ("Sec-Fetch-Site", "cross-site")]
    refused = world.call("PATCH", path, headers=[cookie(mine), *elsewhere], json={"name": "Mine"})
    assert (refused.status, refused.code) == (403, "cross_origin")
    assert listed(world, mine)[mine.session.id]["name"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name": "' + b"x" * (LABEL_MAX + 1) + b'"}', 400),
        ('{"name": "a\u202eb"}'.encode(), 400),
        (b'{"name": "a\\nb"}', 400),
        (b'{"name": 5}', 400),
        (b'{"names": "a"}', 400),
        (b"{}", 400),
        (b"no JSON", 400),
        (b"", 400),
        (b'{"name": "' + b"x" * 5_000 + b'"}', 413),
    ],
)
def test_a_name_that_cannot_be_is_refused(world: Api, body: bytes, status: int) -> None:
    mine = sign_in(world)
    path = f"{BASE}/{mine.session.id}"
    answer = world.call("PATCH", path, bearer=mine.token, body=body)
    assert answer.status == status, answer.body
    assert listed(world, mine)[mine.session.id]["name"] is None


def test_the_list_tells_where_each_was_last_used_from(world: Api) -> None:
    """Noted with its use, once a minute, and only where that is not where it was used before."""
    mine = sign_in(world, device=PHONE)
    agent = [("User-Agent", FIREFOX)]
    first = listed(world, mine, headers=agent)[mine.session.id]
    assert (first["lastDevice"], first["lastIpAddress"], first["lastLocation"]) == (None,) * 3
    world.clock.advance(seconds=61)
    shown = listed(world, mine, headers=agent)[mine.session.id]
    assert (shown["device"], shown["lastDevice"]) == ("Safari on iPhone", "Firefox on Linux")
    assert (shown["ipAddress"], shown["lastIpAddress"]) == ("192.0.2.9", "192.0.2.7")


def page(world: Api, begun: Begun, query: str = "", *, form: dict[str, str] | None = None) -> Any:
    headers = [cookie(begun), *HERE]
    if form is None:
        return world.call("GET", PAGE + query, headers=headers)
    body = urlencode(form).encode()
    return world.call("POST", PAGE + query, headers=[*headers, FORM], body=body)


def test_the_page_names_a_device_without_scripts(world: Api) -> None:
    """It asks, with the name that there is; a form gives another one; the list shows it and says so."""
    mine = sign_in(world, device=PHONE)
    first = page(world, mine).body.decode()
    address = f"?rename={mine.session.id}&amp;at={mine.session.created_at}"
    assert f'href="security{address}"' in first
    assert 'aria-label="Rename Safari on iPhone"' in first
    address = address.replace("&amp;", "&")
    asks = page(world, mine, address).body.decode()
    assert "What do you call Safari on iPhone?" in asks
    assert '<label for="name">Name</label>' in asks
    done = page(world, mine, address, form={"name": '<b>Büro "2"</b>'})
    assert (done.status, done.header("location")) == (303, "security")
    shown = page(world, mine).body.decode()
    assert "<bdi>&lt;b&gt;Büro &#34;2&#34;&lt;/b&gt;</bdi>" in shown
    assert "<bdi>Safari on iPhone</bdi>" in shown
    again = page(world, mine, address).body.decode()
    assert 'value="&lt;b&gt;Büro &#34;2&#34;&lt;/b&gt;"' in again
    assert page(world, mine, address, form={"name": ""}).status == 303
    assert "Büro" not in page(world, mine).body.decode()


def test_the_page_says_why_a_name_cannot_be(world: Api) -> None:
    mine, yours = sign_in(world), sign_in(world, "bob")
    address = f"?rename={mine.session.id}&at={mine.session.created_at}"
    long = page(world, mine, address, form={"name": "x" * 65})
    assert long.status == 400
    assert "takes 64 characters at most" in long.body.decode()
    assert page(world, mine, address, form={"name": "x" * 5_000}).status == 413
    assert (
        page(world, yours, address, form={"name": "Mine"}).status == 303
    )  # there is none of theirs
    assert listed(world, mine)[mine.session.id]["name"] is None
