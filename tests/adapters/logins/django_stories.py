"""Django's login libraries on our sessions. Run by test_django_logins.py, in a process with settings of its
own: Django has one set of them per process, and these libraries bring applications with tables."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings

OURS = "sojourn.adapters.django.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
PASSWORD = "correct horse battery staple"
BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "social_core.backends.username.UsernameAuth",
]
APPS = ["contenttypes", "auth", "sessions", "messages"]

if not settings.configured:
    settings.configure(
        SECRET_KEY="ein langes Geheimnis, das sonst niemand kennt 8471",
        ALLOWED_HOSTS=["app.example"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}},
        INSTALLED_APPS=[
            *(f"django.contrib.{each}" for each in APPS),
            *("allauth", "allauth.account", "allauth.headless", "allauth.usersessions"),
            "allauth.socialaccount",
            "sojourn.adapters.django",
            "sojourn.adapters.allauth_app.Allauth",
            *("social_django", "user_sessions"),
        ],
        MIGRATION_MODULES=dict.fromkeys(
            [*APPS, "account", "socialaccount", "usersessions", "social_django", "user_sessions"]
        ),
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        AUTHENTICATION_BACKENDS=BACKENDS,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        MIDDLEWARE=[OURS, AUTH, MESSAGES, "allauth.account.middleware.AccountMiddleware"],
        SESSION_ENGINE="sojourn.adapters.django",
        SESSION_COOKIE_NAME="sojourn",
        ROOT_URLCONF=__name__,
        STATIC_URL="/static/",
        LOGIN_REDIRECT_URL="/who",
        ACCOUNT_LOGOUT_REDIRECT_URL="/who",
        ACCOUNT_EMAIL_VERIFICATION="none",
        ACCOUNT_RATE_LIMITS=False,
        HEADLESS_CLIENTS=("app", "browser"),
        HEADLESS_TOKEN_STRATEGY="sojourn.adapters.allauth.SessionTokens",
        USERSESSIONS_TRACK_ACTIVITY=False,
        SOCIAL_AUTH_URL_NAMESPACE="social",
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()

from allauth.socialaccount.internal import statekit  # noqa: E402  # settings come first
from allauth.usersessions.models import UserSession  # noqa: E402  # settings come first
from django.contrib.auth import authenticate, login, logout  # noqa: E402  # likewise
from django.contrib.auth.models import User  # noqa: E402  # likewise
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402  # likewise
from django.core.management import call_command  # noqa: E402  # likewise
from django.db import connection  # noqa: E402  # likewise
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402  # likewise
from django.middleware.csrf import get_token  # noqa: E402  # likewise
from django.test import RequestFactory, override_settings  # noqa: E402  # likewise
from django.urls import include, path  # noqa: E402  # likewise
from django.views.decorators.csrf import ensure_csrf_cookie  # noqa: E402  # likewise
from tests.adapters.asgi_site import World  # noqa: E402  # likewise
from tests.adapters.logins.story import PEER, SITE, WsgiTab, kept, story  # noqa: E402  # likewise

from sojourn.adapters.allauth import SessionTokens  # noqa: E402  # likewise
from sojourn.adapters.django import SessionMiddleware, SessionStore  # noqa: E402  # likewise
from sojourn.session import Begin, Begun, End  # noqa: E402  # likewise


@ensure_csrf_cookie  # type: ignore[untyped-decorator]  # Django ships no types
def csrf(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"token": get_token(request)})


def basket(request: HttpRequest) -> JsonResponse:
    request.session["basket"] = ["pen"]
    return JsonResponse({})


def who(request: HttpRequest) -> JsonResponse:
    user = str(request.user.pk) if request.user.is_authenticated else None
    return JsonResponse({"user": user, "seen": request.session.sojourn.user_id})


def others(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ended": len(request.session.sojourn.end_others())})


def sign_in(request: HttpRequest) -> JsonResponse:
    login(request, authenticate(request, username="ann", password=PASSWORD))
    return JsonResponse({})


def sign_out(request: HttpRequest) -> JsonResponse:
    logout(request)
    return JsonResponse({})


def leave_for_provider(request: HttpRequest) -> JsonResponse:
    state = {"next": "/who"}
    statekit.stash_state(request, provider_id="far", state=state, state_id="s1")
    request.session["basket"] = ["pen"]
    return JsonResponse({"key": str(request.session.session_key)})


def come_back(request: HttpRequest) -> JsonResponse:
    state = statekit.unstash_state(request, state_id="s1", provider_id="far")
    if state is not None:
        login(request, authenticate(request, username="ann", password=PASSWORD))
    return JsonResponse({"state": state, "basket": request.session.get("basket")})


urlpatterns = [
    path("leave", leave_for_provider),
    path("back", come_back),
    path("csrf", csrf),
    path("basket", basket),
    path("who", who),
    path("others", others),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    path("social/", include("social_django.urls", namespace="social")),
]


@pytest.fixture(scope="module", autouse=True)
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    connection.settings_dict["NAME"] = str(tmp_path_factory.mktemp("site") / "site.db")
    call_command("migrate", run_syncdb=True, verbosity=0)
    made = User.objects.create_user("ann", "ann@example.com", PASSWORD)
    yield str(made.pk)
    connection.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with override_settings(SOJOURN={"desk": made.desk}):
        yield made


# django-allauth


class AllauthTab(WsgiTab):
    """Signs in, out and out elsewhere by allauth's own pages."""

    def post(self, path: str, **options: Any) -> Any:
        if path.startswith("/sign-in"):
            form = {"login": "ann", "password": PASSWORD}
            if "remember" in path:
                form["remember"] = "on"
            return super().post("/accounts/login/", data=form)
        if path == "/others":
            return super().post("/accounts/sessions/")
        return super().post("/accounts/logout/" if path == "/sign-out" else path, **options)


def test_allauth(world: World, user: str) -> None:
    app = WSGIHandler()
    story(world, lambda: AllauthTab(app), user=user)
    kept(AllauthTab(app), user=user)


def test_allauths_sign_in_that_is_not_remembered_ends_with_the_browser(world: World) -> None:
    tab = AllauthTab(WSGIHandler())
    tab.post("/sign-in")
    assert not tab.lasts()


def test_allauth_lists_sessions_that_are_live(world: World, user: str) -> None:
    app = WSGIHandler()
    person = User.objects.get(pk=user)
    here, there = AllauthTab(app), AllauthTab(app)
    here.post("/sign-in")
    world.clock.advance(seconds=1)
    there.post("/sign-in")
    listed = UserSession.objects.purge_and_list(person)
    assert {each.session_key for each in listed} == {each.id for each in world.service.of(user)}
    assert all(len(each.session_key) <= 40 for each in listed)
    next(each for each in listed if each.session_key == world.service.of(user)[0].id).end()
    assert there.get("/who") == {"user": None, "seen": None}
    assert here.get("/who")["user"] == user
    person.set_password(PASSWORD)  # salted anew: what was signed in before is not, any more
    person.save()
    assert UserSession.objects.purge_and_list(person) == []


def test_allauth_goes_to_a_provider_and_comes_back(world: World, user: str) -> None:
    """It makes a store of the key of the request's own, and puts that in its place."""
    tab = WsgiTab(WSGIHandler())
    key = tab.get("/leave")["key"]
    (before,) = world.service.list()
    assert key == before.id
    assert tab.get("/back") == {"state": {"next": "/who"}, "basket": ["pen"]}
    assert tab.get("/who") == {"user": user, "seen": user}
    assert tab.get("/back") == {"state": None, "basket": ["pen"]}
    assert world.users(user) == 1


def test_a_key_opens_nothing_but_in_its_own_request(world: World, user: str) -> None:
    kept_keys: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        request.session["basket"] = ["pen"]
        request.session.save()
        key = request.session.session_key
        kept_keys.append(key)
        assert SessionStore(key).get("basket") == ["pen"]
        assert SessionStore(str(key)).get("basket") is None
        for copied in (pickle.loads(pickle.dumps(key)), copy.copy(key), copy.deepcopy(key)):
            assert type(copied) is str
            assert copied == key
        return HttpResponse()

    request = RequestFactory().get("/", headers={"host": "app.example"})
    assert SessionMiddleware(view)(request).cookies
    assert SessionStore(kept_keys[0]).get("basket") is None


def test_allauth_tells_the_token_of_a_sign_in_that_has_two_steps(world: World, user: str) -> None:
    """An app that has a token already is told the one that opens the session from now on."""
    (begun,) = world.service.begin([Begin(data={"login": 1})])
    assert isinstance(begun, Begun)
    tokens = SessionTokens()
    request = RequestFactory().get("/", headers={"x-session-token": begun.token})
    request.session = tokens.lookup_session(begun.token)
    assert request.session is not None
    assert tokens.create_session_token(request) == begun.token
    login(request, authenticate(request, username="ann", password=PASSWORD))
    token = tokens.create_session_token(request)
    found = tokens.lookup_session(token)
    assert found is not None
    assert found.sojourn.user_id == user
    assert found.get("login") == 1
    assert tokens.lookup_session(begun.token) is None


class App:
    """A mobile application, on allauth's API for such."""

    BASE = "/_allauth/app/v1/auth"

    def __init__(self, handler: Any) -> None:
        from werkzeug.test import Client  # noqa: PLC0415  # beside its tab

        self._client = Client(handler, use_cookies=False)
        self.token: str | None = None

    def ask(self, method: str, path: str, **body: Any) -> tuple[int, Any]:
        headers = {"X-Session-Token": self.token} if self.token else {}
        answer = self._client.open(
            self.BASE + path,
            method=method,
            base_url=SITE,
            headers=headers,
            json=body or None,
            environ_overrides=PEER,
        )
        said = json.loads(answer.get_data())
        self.token = said.get("meta", {}).get("session_token") or self.token
        return answer.status_code, said

    def sign_in(self) -> None:
        status, said = self.ask("POST", "/login", username="ann", password=PASSWORD)
        assert status == 200, said


def test_allauth_headless_for_apps(world: World, user: str) -> None:
    handler = WSGIHandler()
    phone, tablet = App(handler), App(handler)
    phone.sign_in()
    tablet.sign_in()
    assert phone.token is not None
    assert phone.token.startswith("sjs_")
    assert phone.ask("GET", "/session")[0] == 200
    assert {each.user_id for each in world.service.of(user)} == {user}
    status, said = phone.ask("GET", "/sessions")
    assert (status, len(said["data"])) == (200, 2)
    (other,) = [each for each in said["data"] if not each["is_current"]]
    assert phone.ask("DELETE", "/sessions", sessions=[other["id"]])[0] == 200
    assert tablet.ask("GET", "/session")[0] in {401, 410}
    assert phone.ask("DELETE", "/session")[0] == 401  # what allauth answers to a sign-out
    assert world.users(user) == 0


def test_a_public_id_is_no_token_of_an_app(world: World, user: str) -> None:
    phone, thief = App(WSGIHandler()), App(WSGIHandler())
    phone.sign_in()
    for token in (world.service.of(user)[0].id, "sjs_garbled", "x"):
        thief.token = token
        assert thief.ask("GET", "/session")[0] in {401, 410}


def test_allauth_headless_for_browsers(world: World, user: str) -> None:
    class Browser(AllauthTab):
        def post(self, path: str, **options: Any) -> Any:
            if not path.startswith("/sign-in"):
                return super().post(path, **options)
            body = {"username": "ann", "password": PASSWORD}
            return WsgiTab.post(self, "/_allauth/browser/v1/auth/login", json=body)

    handler = WSGIHandler()
    story(world, lambda: Browser(handler), user=user)


# python-social-auth


class SocialTab(WsgiTab):
    def post(self, path: str, **options: Any) -> Any:
        if path.startswith("/sign-in"):
            form = {"username": "ann", "csrfmiddlewaretoken": self.get("/csrf")["token"]}
            return super().post("/social/complete/username/", data=form)
        return super().post(path, **options)


def test_python_social_auth(world: World, user: str) -> None:
    app = WSGIHandler()
    SocialTab(app).post("/sign-in")
    ann = str(User.objects.exclude(pk=user).get().pk)  # its own, named like the other
    world.service.end([End(user_id=ann)])
    story(world, lambda: SocialTab(app), user=ann)
    kept(SocialTab(app), user=ann)


# django-user-sessions


def test_django_user_sessions(world: World, user: str) -> None:
    """Its middleware on our engine: sessions are listed with agent and address."""
    with override_settings(MIDDLEWARE=["user_sessions.middleware.SessionMiddleware", AUTH]):
        app = WSGIHandler()
    story(world, lambda: WsgiTab(app), user=user)
    tab = WsgiTab(app)
    tab.post(
        "/sign-in",
        headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Firefox/144.0"},
    )
    assert tab.lasts()
    device = world.service.of(user)[0].device
    assert device is not None
    assert (device.name, device.ip) == ("Firefox on Linux", "192.0.2.7")
