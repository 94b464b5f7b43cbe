"""What a browser keeps of a Set-Cookie line, and what it sends back: as Chromium and Firefox do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sojourn.doctor.browser.jar import Jar, cookie_date, is_public_suffix, read

HTTPS = "https://shop.example.com/account/page"
HTTP = "http://shop.example.com/account/page"


@pytest.mark.parametrize(
    ("domain", "public"),
    [
        ("com", True),
        ("co.uk", True),
        ("github.io", True),
        ("herokuapp.com", True),
        ("vercel.app", True),
        ("pages.dev", True),
        ("s3.amazonaws.com", True),
        ("anything.ck", True),  # a wildcard
        ("www.ck", False),  # and its exception
        ("unheard-of", True),
        ("example.com", False),
        ("shop.github.io", False),
        ("192.0.2.7", False),
        ("xn--p1ai", True),
        ("", False),
    ],
)
def test_public_suffixes(domain: str, public: bool) -> None:
    assert is_public_suffix(domain) is public


@pytest.mark.parametrize(
    ("line", "url", "dropped"),
    [
        ("a=1; Domain=.github.io", "https://me.github.io/", "public-suffix"),
        ("a=1; Domain=co.uk", "https://shop.co.uk/", "public-suffix"),
        ("a=1; Domain=com", HTTPS, "public-suffix"),
        ("a=1; Domain=example.com", HTTPS, ""),
        ("a=1; Domain=github.io", "https://github.io/", ""),
        ("a=1; Domain=other.com", HTTPS, "domain"),
        ("a=1; Domain=..example.com", HTTPS, "domain"),
        ("a=1; Domain=", HTTPS, ""),
        ("__Http-a=1; Secure; HttpOnly", HTTPS, ""),
        ("__Http-a=1; Secure", HTTPS, "prefix"),
        ("__http-a=1; HttpOnly", HTTPS, "prefix"),
        ("__Host-Http-a=1; Secure; HttpOnly; Path=/", HTTPS, ""),
        ("__Host-Http-a=1; Secure; Path=/", HTTPS, "prefix"),
        ("__Host-Http-a=1; Secure; HttpOnly", HTTPS, "prefix"),
        ("__Host-a=1; Secure; Path=/", HTTPS, ""),
        ("__Host-a=1; Secure; Path=/; Domain=example.com", HTTPS, "prefix"),
        ("__SECURE-a=1", HTTPS, "prefix"),
        ("=__Host-a=1; Secure; Path=/", HTTPS, "prefix"),
        ("__Secure-a; Secure", HTTPS, "prefix"),
        ("a=1; Secure", HTTP, "secure"),
        ("a=1; Secure", "http://localhost:3000/", ""),
        ("a=1; SameSite=None", HTTPS, "same-site"),
        ("a=1; Partitioned", HTTPS, "same-site"),
        ("a=" + "x" * 4_096, HTTPS, "size"),
        ("a=\x01", HTTPS, "control"),
        ("=", HTTPS, "prefix"),
        ("alone", HTTPS, ""),
    ],
)
def test_what_is_dropped(line: str, url: str, dropped: str) -> None:
    assert read(line, url).dropped == dropped


def test_a_site_with_the_name_of_a_suffix_keeps_its_own() -> None:
    cookie = read("a=1; Domain=github.io", "https://github.io/")
    assert cookie.domain is None
    assert not cookie.sent_to("https://me.github.io/")


@pytest.mark.parametrize(
    ("attributes", "stays"),
    [
        ("Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("Expires=Thu, 01-Jan-70 00:00:01 GMT", False),
        ("expires=Wed, 31 Dec 2025 23:59:59 GMT", False),
        ("Expires=Fri, 31 Dec 9999 23:59:59 GMT", True),
        ("Expires=soon", True),
        ("Max-Age=0", False),
        ("Max-Age=-5", False),
        ("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
        ("Max-Age=0; Expires=Fri, 31 Dec 9999 23:59:59 GMT", False),
        ("Max-Age=soon; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("Max-Age=99999999999999999999999", True),
        ("", True),
    ],
)
def test_what_takes_a_cookie_away(attributes: str, stays: bool) -> None:
    """As frameworks sign people out: with an end in the past."""
    jar = Jar()
    jar.take(["sid=abc; Path=/"], HTTPS)
    jar.take([f"sid=new; Path=/; {attributes}"], HTTPS)
    assert jar.header(HTTPS) == ("sid=new" if stays else "")
    assert len(jar.sent(HTTPS)) == stays


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("1994 november 6 8:49:7", datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)),
        ("6 Nov 24 08:49:37 +0200", datetime(2024, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("31 Feb 2024 00:00:00", None),
        ("6 Nov 2024 24:00:00", None),
        ("6 Nov 2024", None),
        ("", None),
    ],
)
def test_dates_are_read_as_browsers_do(text: str, instant: datetime | None) -> None:
    assert cookie_date(text) == instant


def test_plain_http_does_not_take_the_place_of_a_cookie_of_https() -> None:
    jar = Jar()
    jar.take(["sid=good; Secure; Path=/"], HTTPS)
    (planted,) = jar.take(["sid=planted; Path=/"], HTTP)
    assert planted.dropped == "secure"
    (beside,) = jar.take(["sid=planted; Domain=example.com; Path=/"], HTTP)
    assert beside.dropped == "secure"
    assert jar.header(HTTPS) == "sid=good"
