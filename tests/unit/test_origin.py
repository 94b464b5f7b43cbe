"""Who is believed about where a request comes from."""

from __future__ import annotations

import pytest

from sojourn.errors import InvalidInput, SettingsError
from sojourn.origin import (
    ORIGINS_MAX,
    Origin,
    TrustedHops,
    check_origin,
    check_origins,
    foreign_origin,
    origin_allowed,
)

CLIENT = "203.0.113.9"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "forwarded_proto", "found"),
    [
        # Nobody is trusted: headers are what anybody may write.
        ([], CLIENT, "198.51.100.1", "https", Origin(https=False, ip=CLIENT)),
        (["10.0.0.0/8"], CLIENT, "198.51.100.1", "https", Origin(https=False, ip=CLIENT)),
        # One trusted proxy.
        (["10.0.0.0/8"], "10.0.0.1", CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["private"], "192.168.1.1", CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", CLIENT, "http", Origin(https=False, ip=CLIENT)),
        # What the client wrote itself stands left of what the proxy appended.
        (["10.0.0.1"], "10.0.0.1", f"1.1.1.1, {CLIENT}", "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", CLIENT, "https, http", Origin(https=False, ip=CLIENT)),
        # Two trusted hops, each of which appends.
        (
            ["10.0.0.0/8"],
            "10.0.0.1",
            f"1.1.1.1, {CLIENT}, 10.0.0.2",
            "https, http",
            Origin(https=True, ip=CLIENT),
        ),
        # Every hop is trusted: the first is the client.
        (["10.0.0.0/8"], "10.0.0.1", "10.0.0.7", "", Origin(https=False, ip="10.0.0.7")),
        # Garbage ends what can be believed.
        (["10.0.0.1"], "10.0.0.1", f"{CLIENT}, unknown", "", Origin(https=False, ip="10.0.0.1")),
        # Forms of addresses.
        (["10.0.0.1"], "10.0.0.1", f"{CLIENT}:4711", "", Origin(https=False, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", '"[2001:db8::1]:80"', "", Origin(https=False, ip="2001:db8::1")),
        (["10.0.0.1"], "10.0.0.1", "fe80::1%<b>", "", Origin(https=False, ip="fe80::1")),
        (["10.0.0.1"], "::ffff:10.0.0.1", CLIENT, "", Origin(https=False, ip=CLIENT)),
        (["unix"], None, CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], None, CLIENT, "https", Origin(https=False, ip=None)),
        (["10.0.0.1"], "testclient", CLIENT, "https", Origin(https=False, ip="testclient")),
    ],
)
def test_origins(
    trusted: list[str],
    peer: str | None,
    forwarded_for: str,
    forwarded_proto: str,
    found: Origin,
) -> None:
    assert TrustedHops(trusted).origin(peer, "http", forwarded_for, forwarded_proto) == found


def test_the_connection_itself_is_https() -> None:
    assert TrustedHops().origin(CLIENT, "https") == Origin(https=True, ip=CLIENT)
    assert TrustedHops().origin(CLIENT, "wss") == Origin(https=True, ip=CLIENT)


@pytest.mark.parametrize("word", ["*", "everybody", "10.0.0.0/99", ""])
def test_words_that_name_nobody(word: str) -> None:
    with pytest.raises(SettingsError):
        TrustedHops([word])


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("https://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://*.app.example:8443", "https://*.app.example:8443"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_written_as_browsers_do(said: str, written: str) -> None:
    assert check_origin(said) == written
    assert check_origin(written) == written
    assert "*" in written or origin_allowed([written], written)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "null", "app.example", "https://", "https://*", "https://*.example"),
        *("http://*.app.example", "https://a.*.example", "https://*.*.app.example"),
        *("https://app.example/", "https://app.example?", "https://app.example#", "https://a b"),
        *("https://u@app.example", "https://app.example:", "https://app.example:0", "app://."),
        *("https://app.example:99999", "https://app..example", "https://app.example."),
        *("https://app.example\n", "\thttps://app.example", "https://bücher.example"),
        *(
            "file:///etc",
            "data:text/html",
            "javascript:x",
            "ws://app.example",
            "https://-a.example",
        ),
        "https://" + "a" * 400,
    ],
)
def test_texts_that_are_no_origins(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_origin(text)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.app.example", True),
        ("https://a.b.app.example", True),
        ("https://app.example", False),
        ("https://.app.example", False),
        ("https://*.app.example", False),
        ("https://evil-app.example", False),
        ("https://evil.example/.app.example", False),
        ("https://evil.example#.app.example", False),
        ("https://evil.example:1.app.example", False),
        ("https://evil.example\\.app.example", False),
        ("https://@a.app.example", False),
        ("http://a.app.example", False),
        ("https://a.app.example:8443", False),
        ("https://a.ports.example:8443", True),
        ("https://a.ports.example", False),
        ("https://A.app.example", False),  # no browser writes it so
        ("https://" + "a." * 400 + "app.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_wildcard_is_for_subdomains(origin: str, allowed: bool) -> None:
    patterns = ("https://*.app.example", "https://*.ports.example:8443")
    assert origin_allowed(patterns, origin) is allowed
    assert origin_allowed(frozenset(patterns), origin) is allowed
    assert not origin_allowed((), origin)


def test_a_license_allows_so_many_origins_and_each_once() -> None:
    many = [f"https://a{i}.example" for i in range(ORIGINS_MAX)]
    assert check_origins([*many, "https://A0.example:443"]) == tuple(many)
    with pytest.raises(InvalidInput):
        check_origins([*many, "https://more.example"])


@pytest.mark.parametrize(
    ("site", "sender", "found"),
    [
        ("", "", None),
        ("same-origin", "https://proxied.example", None),
        ("", "https://us.example", None),
        ("", "https://US.example", None),
        ("cross-site", "https://app.example", "https://app.example"),
        ("none", "chrome-extension://abc", "chrome-extension://abc"),  # one with permissions
        ("cross-site", "null", "null"),
    ],
)
def test_pages_of_elsewhere(site: str, sender: str, found: str | None) -> None:
    assert foreign_origin(host="us.example", site=site, sender=sender) == found
