"""What may be stored so that Express, and JavaScript, give back the same."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sojourn.adapters.express import Options, payload
from sojourn.adapters.express.options import iso, read_url
from sojourn.errors import InvalidInput, SettingsError
from sojourn.session import Save

OPTIONS = Options()


@pytest.mark.parametrize("key", sorted(payload.RESERVED))
def test_keys_that_express_drops_are_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        payload.encoded({key: 1})


@pytest.mark.parametrize(
    "value",
    [
        *(2**53, -(2**53), math.nan, math.inf, "a\0b", {"\0": 1}, ["x", {"y": "\0"}]),
        *({"n": 2**60}, {1: 2}, "\ud800", b"x", object()),
    ],
)
def test_values_that_javascript_changes_are_refused(value: Any) -> None:
    """The error names the key."""
    with pytest.raises(InvalidInput, match="cart"):
        payload.encoded({"cart": value})


@pytest.mark.parametrize(
    "value", [2**53 - 1, -(2**53) + 1, 1.5, True, None, "ä😀", [], {}, {"a": [{}]}]
)
def test_other_values_are_taken(value: Any) -> None:
    assert payload.value_of(payload.encoded({"k": value})["k"]) == value


def test_too_much_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        payload.write(payload.encoded({"k": "x" * 1_048_576}))


def test_what_nobody_changes_is_copied_as_it_stands() -> None:
    """Numbers that Python would round, odd escapes, and the order of keys."""
    text = '{"z":1.00000000000000001,"cookie":{"originalMaxAge":null},"s":"\\ud800","u":"\\u0000","a":[ 1 ]}'
    merged = payload.merged(text, Save(id="x", unset=("a",)), payload.encoded({"n": 1}), {})
    assert merged == (
        '{"z":1.00000000000000001,"cookie":{"originalMaxAge":null},"s":"\\ud800","u":"\\u0000","n":1}'
    )
    parts = payload.read(text)
    assert parts is not None
    assert payload.data_of(parts)["s"] == "?"


def test_cookie_cannot_be_taken_away() -> None:
    text = '{"cookie":{"originalMaxAge":5},"a":1}'
    assert payload.merged(text, Save(id="x", unset=("cookie", "a")), {}, {}) == (
        '{"cookie":{"originalMaxAge":5}}'
    )


def test_missing_cookie_is_completed() -> None:
    cookie = Options(secure=True, same_site="lax", domain="a.example").cookie(
        5_000, 1_795_317_119_988
    )
    assert list(cookie) == [
        *("originalMaxAge", "expires", "secure", "httpOnly", "domain", "path", "sameSite")
    ]
    assert cookie["expires"] == "2026-11-22T03:11:59.988Z"
    merged = payload.merged('{"a":1}', Save(id="x"), {}, cookie)
    assert merged.startswith('{"cookie":{"originalMaxAge":5000,')
    assert merged.endswith(',"a":1}')


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ('{"passport":{"user":"ann"}}', "ann"),
        ('{"passport":{"user":106}}', "106"),
        ('{"passport":{"user":1.5}}', None),
        ('{"passport":{"user":true}}', None),
        ('{"passport":{"user":null}}', None),
        ('{"passport":{"user":{"id":1}}}', None),
        ('{"passport":{"user":""}}', None),
        ('{"passport":{}}', None),
        ('{"passport":"x"}', None),
        ("{}", None),
    ],
)
def test_user_of(text: str, user: str | None) -> None:
    assert payload.user_of(payload.read(text) or {}, OPTIONS.user_path) == user


def test_user_beside_what_else_is_there() -> None:
    parts = payload.encoded({"passport": {"user": "old", "strategy": "saml"}})
    after = payload.with_user(parts, "new", OPTIONS)
    assert payload.data_of(after) == {"passport": {"user": "new", "strategy": "saml"}}
    flat = payload.with_user({}, "7", Options(user_path=("userId",), user_number=True))
    assert payload.data_of(flat) == {"userId": 7}
    assert payload.user_of(flat, ("userId",)) == "7"
    with pytest.raises(InvalidInput):
        payload.with_user({}, "ann", Options(user_number=True))


def test_options_in_the_url() -> None:
    scheme, target, options = read_url(
        "express+postgresql://u:p%40@h:5/db?table=user_sessions&user_path=user.id&secure=1"
        "&same_site=none&options=-c%20TimeZone%3DUTC&ttl=60",
        {"schema": "web"},
    )
    assert scheme == "postgresql"
    assert target == "postgresql://u:p%40@h:5/db?options=-c+TimeZone%3DUTC"
    assert (options.table, options.schema, options.user_path) == (
        "user_sessions",
        "web",
        ("user", "id"),
    )
    assert (options.secure, options.same_site, options.ttl) == (True, "none", 60)


@pytest.mark.parametrize(
    "query",
    [
        *("table=", "table=a%3Ab", "table=" + "x" * 41, "user_path=", "user_path=cookie.x"),
        *("same_site=strange", "same_site=none", "secure=perhaps", "ttl=0", "ttl=x"),
    ],
)
def test_options_refused(query: str) -> None:
    with pytest.raises(SettingsError):
        read_url(f"express+postgresql://h/db?{query}", {})


def test_instants_as_javascript_writes_them() -> None:
    assert iso(1_795_320_095_004) == "2026-11-22T04:01:35.004Z"


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '"x"', "{", '{"a"}', '{"a":1,}', '{"a":1 "b":2}', "null"]
)
def test_what_is_no_object_is_no_session(text: str) -> None:
    assert payload.read(text) is None


def test_odd_strings_are_read_anywhere() -> None:
    text = ' { "a" : [ "\\udc00" , {"b":1} ] , "c":"}" ,"d":{} } '
    parts = payload.read(text)
    assert parts is not None
    assert list(parts) == ["a", "c", "d"]
    assert payload.data_of(parts) == {"a": ["?", {"b": 1}], "c": "}", "d": {}}
