"""The security page in the language that a browser asks for, over HTTP: each of its answers."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api

from sojourn.cookie import SignedTokens
from sojourn.people.translation import words_of
from sojourn.session import Begin, Begun

PAGE = "/account/security"
SECRET = "people are known by what this signs 0123"
FORM = ("Content-Type", "application/x-www-form-urlencoded")
GERMAN = ("Accept-Language", "de-CH, en;q=0.5")
DE = words_of("de")


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


def begun(world: Api) -> Begun:
    (made,) = world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(made, Begun)
    return made


def asked(world: Api, method: str, query: str, person: Begun, *more: tuple[str, str]) -> Any:
    cookies = f"sojourn={SignedTokens([SECRET.encode()]).encode(person.token)}"
    cookies += "".join(f"; {value.split(';')[0]}" for name, value in more if name == "Set-Cookie")
    headers = [("Host", "sojourn.test"), ("Sec-Fetch-Site", "same-origin"), GERMAN, FORM]
    body = b"name=K%C3%BCche" if method == "POST" else b""
    return world.call(method, PAGE + query, headers=[*headers, ("Cookie", cookies)], body=body)


def text(answer: Any) -> str:
    return html.unescape(answer.body.decode())


def test_whom_nobody_knows(world: Api) -> None:
    answer = world.call("GET", PAGE, headers=[GERMAN])
    assert answer.status == 401
    assert answer.header("content-language") == "de"
    assert answer.header("vary") == "Cookie, Accept-Language"
    assert '<html lang="de">' in text(answer)
    assert f"<h1>{DE.text('signInTitle')}</h1>" in text(answer)
    assert DE.text("notSignedIn") in text(answer)
    assert "<h1>Please sign in</h1>" in text(world.call("GET", PAGE))


def test_a_list_and_what_is_done_there(world: Api) -> None:
    """Asked for, asked back, done, and said: in one language."""
    me, other = begun(world), begun(world)
    answer = asked(world, "GET", "", me)
    assert (answer.status, answer.header("content-language")) == (200, "de")
    assert f"{DE.text('count', n=2)}. {DE.text('intro')}" in text(answer)
    assert DE.text("unknownDevice") in text(answer)
    where = f"={other.session.id}&at={other.session.created_at}"
    question = text(asked(world, "GET", f"?end{where}", me))
    assert DE.text("askEffect") in question
    assert f">{DE.text('cancel')}<" in question
    assert DE.text("askName", device=DE.text("unknownDevice")) in text(
        asked(world, "GET", f"?rename{where}", me)
    )
    for query, said in (
        (f"?rename{where}", DE.text("named", device=DE.text("unknownDevice"), name="Küche")),
        (f"?end{where}", DE.text("done", device="Küche")),
    ):
        done = asked(world, "POST", query, me)
        assert done.status == 303
        told = ("Set-Cookie", str(done.header("set-cookie")))
        assert said in text(asked(world, "GET", "", me, told))
    assert asked(world, "GET", f"?end{where}", me).status == 303  # it is gone already


def test_right_to_left(world: Api) -> None:
    answer = world.call("GET", PAGE, headers=[("Accept-Language", "ar")])
    assert '<html lang="ar" dir="rtl">' in text(answer)
