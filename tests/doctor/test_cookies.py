"""Applications that misbehave, each for real on loopback: doctor names what is wrong, and nothing else."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.doctor.app import GOOD, HOST, LOGIN, SECRET, App, balanced, certificate, serving

from sojourn.cookie import SignedTokens
from sojourn.doctor.browser import login as visits
from sojourn.doctor.browser.cookies import CookieExaminer
from sojourn.doctor.browser.jar import read
from sojourn.doctor.browser.login import BrowserLogin, read_login
from sojourn.doctor.browser.probe import Probe
from sojourn.doctor.doctor import Doctor
from sojourn.errors import SettingsError
from sojourn.finding import Finding, Verdict

HTTPS = GOOD + "; Secure"
OTHER = "https://front.test"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        visits, "PATIENCE", 0.0
    )  # the small application saves late, but not by time


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certificate(tmp_path_factory.mktemp("tls"))


def examine(
    where: str,
    *,
    context: ssl.SSLContext | None = None,
    origin: str | None = None,
    page: str | None = "/me",
) -> dict[str, Finding]:
    """Return every finding that is not fine, by check."""
    scheme = "http" if context is None else "https"
    probe = Probe(f"{scheme}://{HOST}/", via=where, context=context)
    opens = {"Sojourn's": SignedTokens([SECRET.encode()]).decode}
    examiner = CookieExaminer(
        BrowserLogin(probe, login=LOGIN, page=page, names=("sid",)), origin=origin, openers=opens
    )
    seen = Doctor([examiner], nullcontext).examine()
    return {x.check.id: x.finding for x in seen if x.finding.verdict is not Verdict.OK}


def wrong(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict.rank}


FAULTS: dict[str, tuple[bool, Callable[[], App], set[str]]] = {
    # by name: over HTTPS or not, the application, what doctor must say
    "healthy": (True, lambda: App(attributes=HTTPS), set()),
    "healthy, with a prefix": (
        True,
        lambda: App(name="__Host-sid", attributes=HTTPS),
        set(),
    ),
    "down": (True, lambda: App(down=True), {"cookies.address"}),
    "plain http": (False, App, {"cookies.secure"}),
    "secure cookie on plain http": (
        False,
        lambda: App(attributes=HTTPS),
        {"cookies.secure", "cookies.returns"},
    ),
    "not secure": (True, App, {"cookies.secure"}),
    "another domain": (
        True,
        lambda: App(attributes=HTTPS + "; Domain=example.org"),
        {"cookies.domain", "cookies.returns"},
    ),
    "a wide domain": (
        True,
        lambda: App(attributes=HTTPS + "; Domain=.app.test"),
        {"cookies.domain"},
    ),
    "no path": (
        True,
        lambda: App(attributes="Path=/login; Secure; HttpOnly; SameSite=Lax"),
        {"cookies.path", "cookies.returns"},
    ),
    "readable by scripts": (
        True,
        lambda: App(attributes="Path=/; Secure; SameSite=Lax"),
        {"cookies.http-only"},
    ),
    "no SameSite": (
        True,
        lambda: App(attributes="Path=/; Secure; HttpOnly"),
        {"cookies.same-site"},
    ),
    "SameSite=None, not secure": (
        False,
        lambda: App(attributes="Path=/; HttpOnly; SameSite=None"),
        {"cookies.same-site", "cookies.returns", "cookies.secure"},
    ),
    "a prefix that is not kept": (
        True,
        lambda: App(name="__Host-sid", attributes="Path=/app; Secure; HttpOnly; SameSite=Lax"),
        {"cookies.prefix", "cookies.path", "cookies.returns"},
    ),
    "too large": (
        True,
        lambda: App(attributes=HTTPS, padding=4_000),
        {"cookies.size", "cookies.returns"},
    ),
    "nearly too large": (True, lambda: App(attributes=HTTPS, padding=3_200), {"cookies.size"}),
    "twice": (
        True,
        lambda: App(attributes=HTTPS, twice="Path=/me; Secure; HttpOnly; SameSite=Lax"),
        {"cookies.duplicates", "cookies.path"},
    ),
    "expired on arrival": (
        True,
        lambda: App(attributes="Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
        {"cookies.lifetime", "cookies.returns"},
    ),
    "a proxy that hides HTTPS": (
        True,
        lambda: App(attributes=HTTPS, only_https=True, behind_proxy=True),
        {"cookies.set"},
    ),
    "a proxy that hides HTTPS from `auto`": (
        True,
        lambda: App(auto=True, behind_proxy=True),
        {"cookies.proxy", "cookies.secure"},
    ),
    "back to http": (
        True,
        lambda: App(attributes=HTTPS, insists=f"http://{HOST}/me"),
        {"cookies.proxy"},
    ),
    "cached": (
        True,
        lambda: App(attributes=HTTPS, headers={"Cache-Control": "public, max-age=600"}),
        {"cookies.cached"},
    ),
    "not renewed": (True, lambda: App(attributes=HTTPS, keeps=True), {"cookies.renewed"}),
    "saved after the redirect": (
        True,
        lambda: App(attributes=HTTPS, late=True),
        {"cookies.redirect"},
    ),
    "never saved": (True, lambda: App(attributes=HTTPS, forgets=True), {"cookies.returns"}),
    "fails for who is signed in": (
        True,
        lambda: App(attributes=HTTPS, broken=True),
        {"cookies.returns"},
    ),
    "signed elsewhere": (
        True,
        lambda: App(attributes=HTTPS, secret="another-secret-of-forty-characters-012345"),
        {"secrets.cookie"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    https, make, expected = FAULTS[name]
    server, client = tls
    with serving(make(), context=server if https else None) as where:
        found = examine(where, context=client if https else None)
    assert wrong(found) == expected, found
    for each in found.values():
        assert "correct horse" not in str(each)
        assert "sjs_" not in str(each)


CROSSING: dict[str, tuple[dict[str, str], str | None]] = {
    "reflects anybody": (
        {"Access-Control-Allow-Origin": "{origin}", "Access-Control-Allow-Credentials": "true"},
        None,
    ),
    "a star": ({"Access-Control-Allow-Origin": "*"}, OTHER),
    "a star with credentials": (
        {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"},
        None,
    ),
    "no credentials": ({"Access-Control-Allow-Origin": OTHER, "Vary": "Origin"}, OTHER),
    "nothing": ({}, OTHER),
    "no Vary": (
        {"Access-Control-Allow-Origin": OTHER, "Access-Control-Allow-Credentials": "true"},
        OTHER,
    ),
}


@pytest.mark.parametrize("name", CROSSING)
def test_other_sites(name: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    headers, origin = CROSSING[name]
    server, client = tls
    with serving(App(attributes=HTTPS, headers=headers), context=server) as where:
        assert wrong(examine(where, context=client, origin=origin)) == {"cookies.cors"}


def test_another_site_let_in(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    good = {
        "Access-Control-Allow-Origin": OTHER,
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }
    server, client = tls
    with serving(App(attributes=HTTPS, headers=good), context=server) as where:
        assert wrong(examine(where, context=client, origin=OTHER)) == set()


def test_two_servers_with_different_secrets(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The mission's story, from outside: people are signed out at random, and doctor says why."""
    server, client = tls
    known: dict[str, str] = {}
    one = App(attributes=HTTPS, known=known)
    two = App(attributes=HTTPS, known=known, secret="another-secret-of-forty-characters-012345")
    with (
        serving(one, context=server) as first,
        serving(two, context=server) as second,
        balanced(first, second, second) as where,  # so that signing in meets the first
    ):
        found = examine(where, context=client)
    assert "cookies.instances" in wrong(found)
    assert "different secrets" in found["cookies.instances"].means
    assert "cookies.redirect" not in wrong(found)


def test_nobody_there() -> None:
    found = examine("127.0.0.1:1")
    assert wrong(found) == {"cookies.address"}
    assert all(
        finding.verdict is Verdict.SKIPPED for name, finding in found.items() if "set" in name
    )


def test_a_login_request_is_read() -> None:
    login = read_login("POST /sign-in HTTP/1.1\r\nX-App: a: b\r\n\r\nname=x&password=y\r\n")
    assert (login.method, login.path, login.body) == ("POST", "/sign-in", "name=x&password=y")
    assert login.headers == (("X-App", "a: b"),)
    for text in ("", "POST", "POST login", "POST /login\nno colon\n\n"):
        with pytest.raises(SettingsError):
            read_login(text)


def test_a_sign_in_that_leads_elsewhere(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The cookie is judged by the application's own pages, not by where people go on to."""
    server, client = tls
    app = App(attributes=HTTPS, insists="https://elsewhere.test/welcome")
    with serving(app, context=server) as where:
        assert wrong(examine(where, context=client, page=None)) == set()


@pytest.mark.parametrize(("said", "kept"), [("-5", -5), ("0", 0), ("--5", None), ("²", None)])
def test_an_odd_age(said: str, kept: int | None) -> None:
    assert read(f"sid=x; Max-Age={said}", "https://app.test/").max_age == kept


@pytest.mark.parametrize("url", ["https://app.test:x/", "ftp://app.test/", "https:///"])
def test_no_address(url: str) -> None:
    with pytest.raises(SettingsError):
        Probe(url)


def test_a_certificate_that_nobody_trusts(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, _ = tls
    with serving(App(attributes=HTTPS), context=server) as where:
        found = examine(where, context=ssl.create_default_context())
    assert wrong(found) == {"cookies.address"}
    assert "certificate" in found["cookies.address"].title


def test_a_certificate_of_another_name(tmp_path: Path) -> None:
    """A certificate for another name is refused, as a browser would."""
    server, client = certificate(tmp_path, "other.test")
    with serving(App(attributes=HTTPS), context=server) as where:
        assert wrong(examine(where, context=client)) == {"cookies.address"}
