"""Cookies: signed values, names, attributes, headers."""

from __future__ import annotations

import pytest

from sojourn.cookie import (
    COOKIE_HEADER_MAX,
    PLACES_MAX,
    VALUES_MAX,
    CookieOptions,
    SignedTokens,
    cookie_values,
    other_places,
)
from sojourn.errors import CookiesTooLarge, InvalidToken, SettingsError
from sojourn.token import TokenKind, new_token

OLD, NEW = b"old secret, 32 bytes and then some", b"new secret, 32 bytes and then some"


def test_a_value_comes_back_as_its_token() -> None:
    codec, token = SignedTokens([NEW]), new_token(TokenKind.SESSION)
    assert codec.decode(codec.encode(token)) == token


def test_secrets_rotate_without_sign_outs() -> None:
    token = new_token(TokenKind.SESSION)
    before = SignedTokens([OLD]).encode(token)
    both = SignedTokens([NEW, OLD])
    assert both.decode(before) == token
    assert both.encode(token) == SignedTokens([NEW]).encode(token) != before


def test_a_cookie_of_another_secret_is_refused() -> None:
    value = SignedTokens([OLD]).encode(new_token(TokenKind.SESSION))
    with pytest.raises(InvalidToken) as refused:
        SignedTokens([NEW]).decode(value)
    assert refused.value.code == "token_forged"


@pytest.mark.parametrize(
    "garble",
    [
        lambda v: "",
        lambda v: ".",
        lambda v: v[:-1],
        lambda v: v + "x",
        lambda v: v.swapcase(),
        lambda v: v.partition(".")[0],
        lambda v: "sja_" + v[4:],
        lambda v: v.replace(".", ".é", 1)[: len(v)],
        lambda v: v[:10] + ("a" if v[10] != "a" else "b") + v[11:],
        lambda v: "x" * 1_000_000,
        lambda v: "." * 200,
    ],
)
def test_what_is_garbled_is_refused(garble: object) -> None:
    codec = SignedTokens([NEW])
    value = codec.encode(new_token(TokenKind.SESSION))
    with pytest.raises(InvalidToken):
        codec.decode(garble(value))  # type: ignore[operator]  # a function, as parametrized


@pytest.mark.parametrize("secret_list", [[], [b"short"], [NEW, b"short"]])
def test_weak_secrets_stop_the_start(secret_list: list[bytes]) -> None:
    with pytest.raises(SettingsError) as refused:
        SignedTokens(secret_list)
    assert "sojourn secret new" in refused.value.hint


def test_the_cookie_of_a_secure_site() -> None:
    options = CookieOptions()
    assert options.set("v", https=True, max_age=60) == (
        "__Host-sojourn=v; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"
    )
    assert options.clear(https=True) == (
        "__Host-sojourn=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
    )


def test_the_cookie_of_a_laptop() -> None:
    assert CookieOptions().set("v", https=False, max_age=60) == (
        "sojourn=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
    )


def test_every_attribute() -> None:
    options = CookieOptions(
        name="s",
        path="/app",
        domain="example.org",
        same_site="none",
        secure=True,
        persistent=False,
        partitioned=True,
    ).validate()
    assert options.set("v", https=False, max_age=60) == (
        "s=v; Domain=example.org; Path=/app; HttpOnly; Secure; Partitioned; SameSite=None"
    )


@pytest.mark.parametrize(
    "options",
    [
        CookieOptions(same_site="none", secure=False),
        CookieOptions(partitioned=True, secure=False),
        CookieOptions(name="__Host-s", domain="example.org"),
        CookieOptions(name="__Host-s", path="/app"),
        CookieOptions(name="__Host-s", secure=False),
        CookieOptions(name="__Secure-s", secure=False),
        CookieOptions(name="two words"),
        CookieOptions(name="a=b"),
        CookieOptions(name=""),
        CookieOptions(path="app"),
        CookieOptions(path="/a; Domain=evil.example"),
        CookieOptions(domain="example.org; Secure"),
        CookieOptions(domain="a\r\nb"),
        CookieOptions(domain="com"),
        CookieOptions(domain=".co.uk"),
        CookieOptions(domain="herokuapp.com"),
        CookieOptions(domain=".GitHub.io"),
    ],
)
def test_what_browsers_drop_is_refused(options: CookieOptions) -> None:
    with pytest.raises(SettingsError):
        options.validate()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ("s=1", ["1"]),
        ("a=0; s=1; s=2", ["1", "2"]),
        ('s="1"', ["1"]),
        (" s = 1 ;x=2", ["1"]),
        ("ss=1; xs=2; s", []),
        ("s=a=b", ["a=b"]),
        ("s=", [""]),
        ('s="', ['"']),
        ("pad=" + "x" * 60_000 + "; s=1", ["1"]),
        ("s=1; " * 100, ["1"] * VALUES_MAX),
    ],
)
def test_reading_a_header(header: str, found: list[str]) -> None:
    assert list(cookie_values(header, "s")) == found


def test_a_header_beyond_what_is_looked_at_says_so() -> None:
    with pytest.raises(CookiesTooLarge, match="at most 65536"):
        list(cookie_values("s=1; pad=" + "x" * COOKIE_HEADER_MAX, "s"))


@pytest.mark.parametrize(
    ("options", "host", "path", "places"),
    [
        (CookieOptions(), "app.example", "/a", []),  # __Host-: there is one place
        (CookieOptions(host_prefix=False), "127.0.0.1:8000", "/", []),
        (CookieOptions(host_prefix=False), "[::1]:8000", "/", []),
        (CookieOptions(host_prefix=False), "localhost", "/a", ["Path=/a"]),
        (CookieOptions(path="/a"), "localhost", "/a/b", ["Path=/", "Path=/a/b"]),
        (
            CookieOptions(domain=".app.example"),
            "w.app.example",
            "/",
            ["Path=/", "Domain=w.app.example; Path=/"],
        ),
    ],
)
def test_where_an_older_cookie_may_have_been_set(
    options: CookieOptions, host: str, path: str, places: list[str]
) -> None:
    written = other_places(options, https=True, host=host, path=path)
    assert [each.partition("; ")[2].partition("; Max-Age=0")[0] for each in written] == places


def test_a_path_of_many_steps_clears_a_bounded_number_of_places() -> None:
    options = CookieOptions(host_prefix=False)
    written = other_places(options, https=True, host="a.b.c.d.example", path="/x" * 500)
    assert len(written) == PLACES_MAX
