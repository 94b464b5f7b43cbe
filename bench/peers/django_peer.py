"""Django's database sessions, saved on every request (which is how they are touched)."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

url = urlsplit(os.environ["STORE"])
settings.configure(
    SECRET_KEY=os.environ["SECRETS"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    SESSION_SAVE_EVERY_REQUEST=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "PASSWORD": url.password or "",
            "HOST": url.hostname,
            "PORT": url.port,
            "CONN_MAX_AGE": None,  # a connection per thread, kept
        }
    },
)


@csrf_exempt
def login(request: HttpRequest) -> JsonResponse:
    request.session.update({"user": "ann", "n": 0})
    return JsonResponse({})


def me(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": request.session["user"], "n": request.session["n"]})


@csrf_exempt
def put(request: HttpRequest) -> JsonResponse:
    request.session["n"] += 1
    return JsonResponse({})


urlpatterns: list[Any] = [path("login", login), path("me", me), path("set", put)]
application = get_wsgi_application()

if __name__ == "__main__":
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
