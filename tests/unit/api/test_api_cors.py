"""CORS by permission: the person's calls and the component's file, for trusted origins, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import ADMIN, Answer, Api, api

from sojourn.api.app import CALLS
from sojourn.errors import SettingsError
from sojourn.people.assets import asset
from sojourn.session import Begin, Begun
from sojourn.settings import load

SHOP = "https://shop.example"
BASE = "/api/user/active-sessions"
CREDENTIALS = ("access-control-allow-origin", "access-control-allow-credentials")


@pytest.fixture
def world() -> Iterator[Api]:
    with api(trusted_origins=(SHOP,)) as world:
        yield world


def ask(world: Api, method: str, path: str, *, origin: str = SHOP, bearer: str = "") -> Answer:
    headers = [("Origin", origin), ("Host", "sojourn.test"), ("Sec-Fetch-Site", "cross-site")]
    return world.call(method, path, bearer=bearer or None, headers=headers)


def permitted(answer: Answer) -> bool:
    found = tuple(answer.header(each) for each in CREDENTIALS)
    assert found in ((SHOP, "true"), (None, None))
    return found[0] is not None


def person(world: Api) -> str:
    (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    return begun.token


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("GET", "?limit=0", 400),
        ("POST", "/logout-others", 200),
        ("DELETE", "/ses_x", 404),
    ],
)
def test_a_page_of_a_trusted_origin_reads_what_is_answered(
    world: Api, method: str, path: str, status: int
) -> None:
    """Refusals too, or it could not say what is wrong."""
    answer = ask(world, method, BASE + path, bearer=person(world))
    assert answer.status == status
    assert permitted(answer)
    assert answer.header("vary") == "Origin"
    assert (
        answer.header("access-control-expose-headers") == "Date, Idempotency-Replayed, Retry-After"
    )
    other = ask(world, method, BASE + path, bearer=person(world), origin="https://evil.example")
    assert not permitted(other)
    assert other.header("vary") == "Origin"  # a cache must not hand one answer to the other


@pytest.mark.parametrize(
    ("path", "method"), [("", "GET"), ("/logout-others", "POST"), ("/ses_x", "DELETE, PATCH")]
)
def test_a_browser_may_ask_before(world: Api, path: str, method: str) -> None:
    answer = ask(world, "OPTIONS", BASE + path)
    assert answer.status == 204
    assert permitted(answer)
    assert answer.header("access-control-allow-methods") == method
    assert "authorization" in str(answer.header("access-control-allow-headers"))
    assert not permitted(ask(world, "OPTIONS", BASE + path, origin="https://evil.example"))


@pytest.mark.parametrize(
    "origin", ["https://shop.example.evil.example", "http://shop.example", "null", "*", ""]
)
def test_what_only_looks_like_it_is_not(world: Api, origin: str) -> None:
    assert not permitted(ask(world, "GET", BASE, origin=origin, bearer=person(world)))


def test_no_other_call_is_shared(world: Api) -> None:
    """Whoever asks, for whatever, with whichever method: an operator's key is no page's business."""
    others = [each for each in CALLS if not each.path.startswith(BASE)]
    assert len(others) > 40
    for call in others:
        path = call.path.replace("{", "").replace("}", "")
        for method in (call.method, "OPTIONS"):
            answer = ask(world, method, path, bearer=ADMIN)
            assert not [k for k, _ in answer.headers if k.startswith(b"access-control")], path
    for path in ("/console", "/console/sign-in", "/account/security", "/openapi.json"):
        assert not permitted(ask(world, "GET", path))


def test_the_components_file_may_be_loaded_and_no_other(world: Api) -> None:
    component = f"/account/assets/{asset('sojourn-active-sessions.js').name}"
    answer = ask(world, "GET", component)
    assert answer.status == 200
    assert permitted(answer)
    assert answer.header("vary") == "Accept-Encoding, Origin"
    assert not permitted(ask(world, "GET", component, origin="https://evil.example"))
    for name in ("tokens.css", "theme.js", "icon.svg"):
        assert not permitted(ask(world, "GET", f"/account/assets/{asset(name).name}"))


def test_without_the_setting_nothing_is_shared() -> None:
    with api() as world:
        answer = ask(world, "GET", BASE, bearer=person(world))
        assert answer.status == 200
        assert not permitted(answer)
        assert answer.header("vary") is None


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "shop.example", "https://shop.example/", "https://shop.example/a", "https://"],
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(SettingsError, match="trusted_origins"):
        load(environ={"SOJOURN_TRUSTED_ORIGINS": origin})
