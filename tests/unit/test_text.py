"""What strangers write is shown as it is, turns nothing around it, and steers no terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.api_harness import ADMIN, FEATURE, Api, api

from sojourn.cli.output import Column, Output
from sojourn.console.frame import Notice
from sojourn.console.render import render
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.lease import Acquire
from sojourn.ledger import Role
from sojourn.people.panel import about_one, panel
from sojourn.people.sessions import Listing
from sojourn.people.translation import ENGLISH
from sojourn.session import Begin, Session
from sojourn.text import ID_MAX, check_id, escaped, hidden, isolated, plain, simple

OVERRIDE = "\u202eenohPi no irafaS"
"""Reads "Safari on iPhone" where direction is obeyed."""
HEBREW = "\u05d8\u05dc\u05e4\u05d5\u05df"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        (OVERRIDE, "\\u202eenohPi no irafaS"),
        ("a\u200b", "a\\u200b"),
        (HEBREW, HEBREW),
        ("\u65e5\u672c\u3000\u8a9e", "\u65e5\u672c\u3000\u8a9e"),
        ("\u2068half", "\\u2068half"),
        ("\u2068whole\u2069", "\u2068whole\u2069"),
        ("\u2069\u2068", "\\u2069\\u2068"),
    ],
)
def test_what_nobody_sees_is_written_as_a_number(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(shown) == shown


def test_a_text_in_a_sentence_turns_nothing_around_it() -> None:
    assert isolated("ann") == "ann"
    assert isolated(HEBREW) == f"\u2068{HEBREW}\u2069"
    assert isolated("\u2069\u202eann") == "\u2068\\u2069\\u202eann\u2069"


def test_what_comes_along_unasked_is_cleaned_and_refuses_nobody() -> None:
    assert plain("Moz\x00illa\u202e " + "x" * 900, most=20) == "Mozilla xxxxxxxxxxxx"
    assert plain(" \x00") is None
    assert plain(FAMILY) == FAMILY
    begun = Begin(user_id="ann", device=Device(user_agent="Moz\x85illa"))
    assert begun.device == Device(user_agent="Mozilla")


@pytest.mark.parametrize("field", ["user_id", "impersonator"])
def test_who_begins_a_session_is_named_readably_wherever_it_is_kept(field: str) -> None:
    """The same for a store of ours, a server far away and an Express application's table."""
    for text in (OVERRIDE, "", "x" * 257, "a\nb"):
        with pytest.raises(InvalidInput):
            replace(Begin(user_id="ann"), **{field: text})


def test_a_terminal_shows_what_others_wrote_and_obeys_none_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Output()
    for text in ("\x1b[2Jgone", OVERRIDE, "a\rb"):
        out.table([Column("Name")], [[text]])
        out.facts([("name", text)])
        out.say(f"Removed {text}.")
        out.aside.print(text)
    said = capsys.readouterr()
    for each in ("\x1b", "\u202e", "\r"):
        assert each not in said.out + said.err
    assert said.out.count("\\x1b[2Jgone") == 3
    assert said.out.count("\\u202e") == 3


def test_json_says_the_same_in_characters_that_are_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"name": f"{OVERRIDE}{FAMILY}\x85", "lines": "a\nb"}
    for lines in (False, True):
        Output(as_json=True).json(value, lines=lines)
        said = capsys.readouterr().out
        assert json.loads(said) == value
        assert not hidden(said.replace("\n", ""))


def kept(session_id: str, **device: str) -> Session:
    """A session as it may have been stored before there was a rule."""
    return Session(
        id=session_id,
        user_id="ann",
        data={},
        revision=1,
        created_at=0,
        authenticated_at=0,
        last_used_at=0,
        idle_timeout=60_000,
        idle_at=60_000,
        expires_at=60_000,
        device=Device(**device),
    )


def test_a_page_isolates_what_strangers_wrote() -> None:
    """A device stored long ago does not read as another one, nor its address backwards."""
    old = kept("ses_1", name=OVERRIDE, place=HEBREW, ip="2001:db8::1")
    other = kept("ses_2", name=HEBREW, ip="192.0.2.7")
    listing = Listing(current=old, sessions=(old, other), seats={}, total=2, next=None)
    shown = panel(listing, ENGLISH, after="", said="")
    page = render("panel.html", panel=shown).decode()
    assert "\u202e" not in page
    assert "<bdi>enohPi no irafaS</bdi>" in page
    assert f"<bdi>{HEBREW}</bdi>" in page
    assert '<bdi dir="ltr">2001:db8::1</bdi>' in page
    assert f'aria-label="Sign out \u2068{HEBREW}\u2069"' in page
    card = about_one(shown.rows[1], ENGLISH, action="", back="")
    assert card.title == f"Sign out \u2068{HEBREW}\u2069?"
    asked = render("card.html", site_name="x", card=card).decode()
    assert card.title in asked
    assert "<bdi>192.0.2.7</bdi>" in asked
    evidence = render("_notice.html", notice=Notice(verdict=Verdict.WARNING, title=OVERRIDE))
    assert "\\u202eenohPi" in evidence.decode()


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/sessions", {"userId": OVERRIDE}),
        ("/api/sessions", {"userId": "ann", "device": {"name": OVERRIDE}}),
        ("/api/sessions", {"userId": "ann", "device": {"place": "a\x85"}}),
        ("/api/licenses", {"name": OVERRIDE, "features": {}}),
        ("/api/keys", {"name": OVERRIDE, "role": "viewer"}),
        ("/api/webhooks", {"url": "https://example.org/", "description": OVERRIDE}),
    ],
)
def test_the_api_refuses_it(world: Api, path: str, body: dict[str, object]) -> None:
    key = world.keys[Role.APP] if path == "/api/sessions" else ADMIN
    answer = world.call("POST", path, bearer=key, json=body)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "\u202e" not in answer.body.decode()


def test_whoever_is_called_so_from_before_can_be_asked_about_and_ended(world: Api) -> None:
    """An operator addresses every session and lease there is."""
    name = quote(OVERRIDE)
    asked = world.admin("GET", f"/api/licenses/sessions/debug?userId={name}&feature={FEATURE}")
    assert asked.status == 200
    assert "\u202e" not in asked.json["message"]
    ended = world.admin("DELETE", f"/api/licenses/sessions/force-cleanup/{name}/{FEATURE}")
    assert ended.status == 200
    assert world.admin("GET", f"/api/sessions?userId={name}").status == 200
    assert world.admin("DELETE", f"/api/sessions?userId={name}").status == 200


@given(
    st.lists(st.text(max_size=100) | st.text("ab\x00\x7f\u202e\u00e9", max_size=100), max_size=4)
)
def test_what_is_simple_together_is_fine_one_by_one(texts: list[str]) -> None:
    fine = all(x.isascii() and not hidden(x) for x in texts) and len("".join(texts)) <= ID_MAX
    assert simple(texts, ID_MAX) == fine
    if fine:
        for text in filter(None, texts):
            check_id("id", text)


@pytest.mark.parametrize("field", ["lease_id", "user_id", "client_id"])
@pytest.mark.parametrize("odd", ["", "a\u200b", "a\x7f", "a\nb", OVERRIDE, "x" * (ID_MAX + 1), 7])
def test_an_odd_name_is_refused_in_each_place(field: str, odd: object) -> None:
    said: dict[str, Any] = {"pool_id": "lic:f", "lease_id": "lse", "user_id": "u", "client_id": "c"}
    with pytest.raises((InvalidInput, TypeError)):
        Acquire(**said | {field: odd})
    longest = Acquire(**said | {field: HEBREW * (ID_MAX // len(HEBREW))})
    assert longest == replace(longest)
