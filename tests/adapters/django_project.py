"""A Django project whose application answers what `cases` asks for. Import it before anything of Django's
that needs settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings

SECRET_KEY = "ein langes Geheimnis, das sonst niemand kennt 8471"
OURS = "sojourn.adapters.django.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
BACKEND = "tests.adapters.people.models.Everybody"

if not settings.configured:
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        ALLOWED_HOSTS=["app.example", "testserver"],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "tests.adapters.people",
        ],
        AUTH_USER_MODEL="people.Person",
        AUTHENTICATION_BACKENDS=[BACKEND],
        MIDDLEWARE=[OURS, AUTH],
        SESSION_ENGINE="sojourn.adapters.django",
        SESSION_COOKIE_NAME="sojourn",
        ROOT_URLCONF=(),
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()

from django.contrib.auth import login, logout  # noqa: E402  # settings come first
from django.http import HttpRequest, JsonResponse  # noqa: E402  # likewise
from django.test import override_settings  # noqa: E402  # likewise
from django.urls import path  # noqa: E402  # likewise
from tests.adapters.cases import Hooks  # noqa: E402  # likewise
from tests.adapters.people.models import Everybody, Person  # noqa: E402  # likewise


class Views:
    """The views, around the hooks of one test."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        names = [
            "login",
            "set",
            "append",
            "get",
            "plain",
            "logout",
            "others",
            "rotate",
            "boom",
            "impersonate",
            "back",
        ]
        names += ["asynchronous"]
        self.urls = tuple(path(name, getattr(self, name)) for name in names)

    def login(self, request: HttpRequest) -> JsonResponse:
        login(request, Everybody().get_user(request.GET["user"]))
        return JsonResponse({})

    def set(self, request: HttpRequest) -> JsonResponse:
        request.session.get("x")
        self.hooks.during()
        request.session[request.GET["key"]] = request.GET.get("value")
        return JsonResponse({})

    def append(self, request: HttpRequest) -> JsonResponse:
        request.session.setdefault("list", []).append(request.GET["value"])
        return JsonResponse({})

    def get(self, request: HttpRequest) -> JsonResponse:
        found = request.session.sojourn.session
        user = request.session.get("_auth_user_id")
        assert user == (request.user.get_username() or None)
        return JsonResponse(
            {
                "value": request.session.get(request.GET["key"]),
                "user": user,
                "id": None if found is None else found.id,
            }
        )

    def plain(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({})

    def logout(self, request: HttpRequest) -> JsonResponse:
        logout(request)
        return JsonResponse({})

    def others(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({"ended": len(request.session.sojourn.end_others())})

    def rotate(self, request: HttpRequest) -> JsonResponse:
        request.sojourn.rotate()
        return JsonResponse({})

    def boom(self, request: HttpRequest) -> JsonResponse:
        request.session["boom"] = 1
        raise RuntimeError("boom")

    def impersonate(self, request: HttpRequest) -> JsonResponse:
        request.sojourn.impersonate(Person(username=request.GET["user"], password="x"))
        return JsonResponse({"really": request.sojourn.impersonator})

    def back(self, request: HttpRequest) -> JsonResponse:
        request.sojourn.stop_impersonating()
        return JsonResponse({"really": request.sojourn.impersonator})

    async def asynchronous(self, request: HttpRequest) -> JsonResponse:
        user = await request.auser()
        seen = await request.session.aget("seen", 0)
        await request.session.aset("seen", seen + 1)
        return JsonResponse({"seen": seen, "user": user.get_username()})


@contextmanager
def project(hooks: Hooks, **options: Any) -> Iterator[None]:
    """Serve these views under these settings."""
    with override_settings(ROOT_URLCONF=Views(hooks).urls, **options):
        yield
