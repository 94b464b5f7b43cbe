"""The cookie of express-session, byte by byte."""

from __future__ import annotations

import pytest

from sojourn.adapters.express import ExpressCookies
from sojourn.adapters.express.cookies import sign
from sojourn.errors import InvalidToken, SettingsError

SIGNED = "hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI"
ENCODED = "s%3Ahello.DGDUkGlIkCzPz%2BC0B064FNgHdEjox7ch8tOBGslZ5QI"


def codec(*secrets: str) -> ExpressCookies:
    return ExpressCookies(secrets or ("tobiiscool",))


def test_vectors_of_cookie_signature() -> None:
    """node-cookie-signature, test/index.js."""
    assert f"hello.{sign('hello', b'tobiiscool')}" == SIGNED
    key = bytes.fromhex("A0ABBC0C")
    assert sign("hello", key) == "hIvljrKw5oOZtHHSq5u+MlL27cgnPKX77y7F+x5r1to"


def test_written_as_express_writes_it() -> None:
    assert codec().encode("hello") == ENCODED
    assert codec().encode("a/b c~(x)*!'é").startswith("s%3Aa%2Fb%20c~(x)*!'%C3%A9.")


@pytest.mark.parametrize("value", [ENCODED, f"s:{SIGNED}", ENCODED.replace("%3A", "%3a")])
def test_read_encoded_or_not(value: str) -> None:
    assert codec().decode(value) == "hello"


def test_plus_is_a_plus() -> None:
    """A signature's + that nobody encoded is not a space."""
    assert codec().decode(f"s:{SIGNED}") == "hello"
    assert "+" in SIGNED


def test_sid_with_dots_is_split_at_the_last() -> None:
    sid = "user.42.x"
    assert codec().decode(codec().encode(sid)) == sid


def test_first_secret_signs_all_verify() -> None:
    old, new = codec("the old one"), codec("the new one", "the old one")
    assert new.decode(old.encode("sid")) == "sid"
    assert codec("the new one").decode(new.encode("sid")) == "sid"
    with pytest.raises(InvalidToken):
        old.decode(new.encode("sid"))


@pytest.mark.parametrize(
    "value",
    [
        *("", "s:", "s:.", "s%3A", "hello", SIGNED, f"j:{SIGNED}", "s:hello", "s:hello."),
        *(f"s:{SIGNED}=", f"s:{SIGNED[:-1]}", f"s:{SIGNED}\0", f"s:x{SIGNED}", "%", "%zz", "%ff"),
        f"s:{'x' * 600}.{sign('x' * 600, b'tobiiscool')}",
        f"s:.{sign('', b'tobiiscool')}",
        "s:hello.é",
        "s:\udc80.x",
    ],
)
def test_refused(value: str) -> None:
    with pytest.raises(InvalidToken):
        codec().decode(value)


def test_another_secret_is_forged() -> None:
    with pytest.raises(InvalidToken) as caught:
        codec("somebody else's").decode(ENCODED)
    assert caught.value.code == "token_forged"


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_no_start(secrets: list[str]) -> None:
    with pytest.raises(SettingsError):
        ExpressCookies(secrets)
