"""What a Django project that moves in must find as it was, and what `manage.py check` must say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.safestring import mark_safe
from tests.adapters import cases
from tests.adapters.cases import World, wsgi_driver

from tests.adapters.django_project import AUTH, DJANGOS, OURS, SECRET_KEY, Views, project  # isort: skip

from sojourn.adapters import django_settings
from sojourn.adapters.django import SessionStore
from sojourn.adapters.django_checks import check_sessions
from sojourn.adapters.django_keys import KEY_MAX
from sojourn.cookie import COOKIE_HEADER_MAX, LIFETIME_MAX
from sojourn.errors import StoreUnavailable
from sojourn.service.sessions import SessionService
from sojourn.stores.open import migrate, open_store


@pytest.fixture
def world(empty_sqlite: str) -> Iterator[World]:
    def make(desk: Any, hooks: Any) -> Any:
        context = project(hooks, SOJOURN={"desk": desk}, MIDDLEWARE=[OURS, AUTH])
        context.__enter__()
        contexts.append(context)
        return wsgi_driver(WSGIHandler())

    contexts: list[Any] = []
    with cases.world(empty_sqlite, make) as made:
        yield made
    for context in contexts:
        context.__exit__(None, None, None)


class Extra(Views):
    """Views with a key to show."""

    def __init__(self, hooks: Any) -> None:
        super().__init__(hooks)
        names = ("key", "create", "put", "boom_after_save")
        self.urls += tuple(path(name, getattr(self, name)) for name in names)

    def key(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({"key": request.session.session_key})

    def create(self, request: HttpRequest) -> JsonResponse:
        if not request.session.session_key:
            request.session.create()
        return self.key(request)

    def put(self, request: HttpRequest) -> JsonResponse:
        request.session["x"] = {1: mark_safe("<b>"), "pair": (1, 2)}
        return JsonResponse({})

    def boom_after_save(self, request: HttpRequest) -> JsonResponse:
        self.login(request)
        request.session.save()
        raise RuntimeError("a bug")


@pytest.fixture
def extra(world: World) -> Iterator[World]:
    with override_settings(ROOT_URLCONF=Extra(world.hooks).urls):
        world.driver = wsgi_driver(WSGIHandler())
        yield world


# The key


def test_the_key_fits_others_columns_and_opens_nothing(extra: World) -> None:
    browser = extra.signed_in()
    key = browser.get("/key").json["key"]
    assert key == extra.only()
    assert len(key) <= KEY_MAX
    thief = extra.browser()
    thief.cookies = dict.fromkeys(browser.cookies, key)
    assert thief.get("/get", key="x").json["user"] is None
    store = SessionStore()
    assert store.exists(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(SessionService, "gone")  # which sessions on a server do not have
        assert store.exists(key)
        assert not store.exists("ses_" + "0" * 22)
    store.delete(key)
    assert not store.exists(key)
    assert browser.get("/get", key="x").json["user"] is None


@pytest.mark.parametrize("basket", [False, True])
def test_receivers_of_a_sign_in_have_the_key_of_the_new_session(extra: World, basket: bool) -> None:
    seen: list[tuple[str, bool]] = []

    def receive(request: HttpRequest, **_: Any) -> None:
        key = request.session.session_key
        seen.append((key, SessionStore().exists(key)))

    browser = extra.browser()
    before = None
    if basket:
        browser.post("/set", key="basket", value="tea")
        before = extra.only()
    user_logged_in.connect(receive)
    try:
        browser.post("/login", user="ann")
    finally:
        user_logged_in.disconnect(receive)
    assert seen == [(extra.only(), True)]
    assert browser.get("/key").json["key"] == seen[0][0] != before
    assert browser.get("/get", key="basket").json["value"] == ("tea" if basket else None)


def test_a_visitors_key_is_there_once_it_is_made(extra: World) -> None:
    browser = extra.browser()
    assert browser.get("/key").json == {"key": None}
    made = browser.get("/create").json["key"]
    assert browser.get("/create").json["key"] == made == extra.only()


def test_unknown_keys_are_nothing(extra: World) -> None:
    store = SessionStore()
    for key in ("ses_unknown", "ses_" + "x" * 100, "", None, "sjs_x"):
        assert not store.exists(key)
    store.delete("ses_unknown")


# Idle time


def test_saving_every_request_slides(extra: World) -> None:
    """SESSION_COOKIE_AGE counts from the last request, whatever the page looks at."""
    options = {"SESSION_COOKIE_AGE": 600, "SESSION_SAVE_EVERY_REQUEST": True}
    with override_settings(SOJOURN={"store": "memory:"}, **options):
        rules = django_settings.lazy_desk.get().rules
    extra.desk.rules = rules
    with override_settings(SOJOURN={"desk": extra.desk}, **options):
        browser = extra.signed_in()
        for page in ("/plain", "/get", "/plain") * 3:
            extra.clock.advance(seconds=599)
            header = browser.get(page, key="x").set_cookie or ""
            assert "Max-Age=600" in header
        assert browser.get("/get", key="x").json["user"] == "ann"
        extra.clock.advance(seconds=600)
        assert browser.get("/get", key="x").json["user"] is None
        assert extra.browser().get("/plain").set_cookie is None


def test_an_age_beyond_what_browsers_keep_counts_as_that(tmp_path: Path) -> None:
    with override_settings(SOJOURN={"store": "memory:"}, SESSION_COOKIE_AGE=3_650 * 86_400):
        session = SessionStore()
        session["x"] = 1
        session.save()
        assert session.sojourn.session is not None
        assert session.sojourn.session.idle_timeout == LIFETIME_MAX


def test_the_cookie_is_called_what_the_settings_say() -> None:
    """Over HTTPS, too: others look for it by that name."""
    with override_settings(SOJOURN={"store": "memory:"}, SESSION_COOKIE_NAME="sid"):
        desk = django_settings.lazy_desk.get()
        assert desk.rules.cookie.sent_as(https=True) == "sid"


# Values and faults


def test_what_django_stores_is_stored(extra: World) -> None:
    browser = extra.browser()
    assert browser.post("/put").status == 200
    assert browser.get("/get", key="x").json["value"] == {"1": "<b>", "pair": [1, 2]}


def test_a_bug_after_a_saved_sign_in_gives_the_cookie(extra: World) -> None:
    browser = extra.browser()
    browser.post("/set", key="basket", value="tea")
    headers = {"Cookie": f"sojourn={browser.cookies['sojourn']}"}
    answer = browser.driver("POST", "/boom_after_save?user=ann", headers, https=False, peer="::1")
    assert answer.status == 500
    (given,) = [each for each in answer.all("set-cookie") if each.startswith("sojourn=")]
    browser.cookies = {"sojourn": given.partition(";")[0].partition("=")[2]}
    seen = browser.get("/get", key="basket").json
    assert (seen["user"], seen["value"]) == ("ann", "tea")


def test_a_sign_in_that_cannot_be_saved_is_a_503(extra: World) -> None:
    browser = extra.browser()
    with pytest.MonkeyPatch.context() as patch:

        def down(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        patch.setattr(extra.store, "create", down)
        assert browser.post("/login", user="ann").status == 503
    assert extra.rows() == 0


def test_too_many_cookies_are_told(extra: World) -> None:
    browser = extra.signed_in()
    browser.cookies["padding"] = "x" * COOKIE_HEADER_MAX
    answer = browser.get("/get", key="x")
    assert (answer.status, b"Too many cookies" in answer.body) == (431, True)
    assert browser.get("/plain").status == 200


def test_of_several_cookies_the_live_one_wins_and_the_others_are_cleared(extra: World) -> None:
    dead, live = extra.signed_in("ann"), extra.signed_in("bob")
    old = dict(dead.cookies)
    dead.post("/logout")
    headers = {"Cookie": f"sojourn={old['sojourn']}; sojourn={live.cookies['sojourn']}"}
    answer = extra.driver("GET", "/get?key=x", headers, https=False, peer="192.0.2.1")
    assert answer.json["user"] == "bob"
    *cleared, kept = answer.all("set-cookie")
    assert all("Max-Age=0" in each for each in cleared)
    assert len(cleared) == 2
    assert live.cookies["sojourn"] in kept


# Checks


def said(**options: Any) -> set[str]:
    defaults: dict[str, Any] = {"SOJOURN": {"store": "memory:"}, "MIDDLEWARE": [OURS, AUTH]}
    with override_settings(**{**defaults, **options}):
        return {str(message.id) for message in check_sessions()}


class OwnMiddleware(SessionBase):  # type: ignore[misc]  # Django ships no types
    """Not a middleware, but something that can be imported."""


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, set()),
        ({"MIDDLEWARE": [AUTH]}, {"sojourn.E002"}),
        ({"MIDDLEWARE": [DJANGOS, AUTH]}, {"sojourn.W001"}),
        ({"MIDDLEWARE": [f"{__name__}.OwnMiddleware"]}, {"sojourn.E002"}),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, {"sojourn.E001"}),
        (
            {"SESSION_ENGINE": "django.contrib.sessions.backends.db", "MIDDLEWARE": [DJANGOS]},
            set(),
        ),
        ({"SECRET_KEY": "short"}, {"sojourn.E003"}),
        ({"SOJOURN": {"stroe": "memory:"}}, {"sojourn.E003"}),
        ({"SOJOURN": {"store": "memory:", "rules": {"limit": 0}}}, {"sojourn.E003"}),
        ({"SOJOURN": {"store": "memory:", "secret": "short"}}, {"sojourn.E003"}),
        ({"SESSION_COOKIE_AGE": 0}, {"sojourn.E003"}),
        ({"SESSION_COOKIE_AGE": 3_650 * 86_400}, {"sojourn.W002"}),
        ({"SESSION_COOKIE_SAMESITE": "None"}, {"sojourn.W003"}),
        ({"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True}, set()),
        ({"SESSION_COOKIE_HTTPONLY": False}, {"sojourn.W004"}),
        ({"SESSION_SERIALIZER": "django.core.signing.JSONSerializer"}, {"sojourn.W004"}),
        ({"SESSION_COOKIE_NAME": "two words"}, {"sojourn.E003"}),
    ],
)
def test_checks_name_what_is_wrong(options: dict[str, Any], ids: set[str]) -> None:
    assert said(**options) == ids


def test_what_is_not_read_is_told_at_the_start_too(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(
        SOJOURN={"store": "memory:"}, SESSION_COOKIE_HTTPONLY=False, MIDDLEWARE=[OURS]
    ):
        WSGIHandler()
    assert "SESSION_COOKIE_HTTPONLY is not read" in caplog.text


def test_what_would_fail_later_stops_the_start() -> None:
    with (
        override_settings(SOJOURN={"store": "memory:"}, SECRET_KEY="short", MIDDLEWARE=[OURS]),
        pytest.raises(ImproperlyConfigured),
    ):
        WSGIHandler()


# Tests of applications

SETTINGS = f"""
SECRET_KEY = {SECRET_KEY!r}
SESSION_ENGINE = "sojourn.adapters.django"
SOJOURN = {{"store": %r}}
ROOT_URLCONF = "urls"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sojourn.adapters.django"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
MIDDLEWARE = [
    "sojourn.adapters.django.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
"""
URLS = """
from django.http import JsonResponse
from django.urls import path

def key(request):
    return JsonResponse({"key": request.session.session_key, "user": request.user.get_username()})

urlpatterns = [path("key", key)]
"""
TESTS = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.test import Client, TestCase
from sojourn.adapters.django_settings import lazy_desk

class OneTest(TestCase):
    def sign_in(self):
        keys = []
        receive = lambda request, **_: keys.append(request.session.session_key)
        user_logged_in.connect(receive)
        self.client.force_login(User.objects.create_user("ann", pk=1))
        assert lazy_desk.get().sessions.of("1"), "signed in, and kept nowhere"
        assert len(lazy_desk.get().sessions.of("1")) == 1, "the last test's session is still there"
        shown = self.client.get("/key").json()
        assert shown["user"] == "ann"
        assert shown["key"] == self.client.session.session_key == keys[0]
        session = self.client.session
        session["x"] = 1
        session.save()
        assert self.client.session["x"] == 1
        with self.settings(SECRET_KEY="short", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
            assert self.client.get("/key").json()["user"] == "ann"
        stranger = Client()
        stranger.cookies["sessionid"] = "ses_" + "0" * 22
        assert stranger.get("/key").json()["user"] == ""
        self.client.logout()
        assert self.client.get("/key").json()["user"] == ""
        self.client.force_login(User.objects.get())

    test_a = test_b = sign_in
"""


def test_a_projects_tests_have_a_store_of_their_own(tmp_path: Path) -> None:
    """`manage.py test` signs people in, and the developer's store has not one session more."""
    url = f"sqlite:///{tmp_path}/real.db"
    migrate(url)
    for name, text in (("settings", SETTINGS % url), ("urls", URLS), ("tests", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "settings"}
    for command in (["check"], ["test", "tests"]):
        ran = subprocess.run(
            [sys.executable, "-m", "django", *command],
            check=False,
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
    assert "Ran 2 tests" in ran.stderr
    store = open_store(url)
    assert SessionService(store).list() == []
    store.close()


def test_djangos_test_client_still_signs_in_outside_of_tests(world: World) -> None:
    client = Client()
    client.login(username="ann")
    assert client.get("/get", {"key": "x"}).json()["user"] == "ann"
