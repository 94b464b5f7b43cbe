"""Sign in, count, sign out everywhere else. Run: python docs/examples/django_app.py, first with `migrate`
and `createsuperuser`, then with `runserver`."""

# ruff: noqa: E402 - Django wants its settings before these imports
import os
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    DEBUG=True,
    SECRET_KEY=os.environ.get("SECRET_KEY", "django-insecure-for-this-example-only-4f1c"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "users.db"}},
    SESSION_ENGINE="sojourn.adapters.django",
    SOJOURN={
        "store": os.environ.get("SOJOURN_STORE"),
        "rules": {"limit": 10},
        "account": {"site_name": "Counter", "sign_in_url": "/"},  # of /account/security
    },
    MIDDLEWARE=[
        "sojourn.adapters.django.SessionMiddleware",  # in the place of Django's own
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
)
django.setup()

from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import include, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe


def form(request, url, fields=""):
    token = format_html(
        '<input type="hidden" name="csrfmiddlewaretoken" value="{}">', get_token(request)
    )
    return format_html(
        '<form method="post" action="/{0}">{1}{2}<button>{0}</button></form>', url, token, fields
    )


def home(request):
    if not request.user.is_authenticated:
        fields = mark_safe('<input name="user"><input name="password" type="password">')
        return HttpResponse(form(request, "sign-in", fields))
    devices = [
        (each.device.user_agent if each.device else "unknown",) for each in request.sojourn.others()
    ]
    return HttpResponse(
        format_html(
            "<p>Hello {}, you have counted to {}.</p><p>Also signed in on:</p><ul>{}</ul>{}{}{}",
            request.user.get_username(),
            request.session.get("count", 0),
            format_html_join("", "<li>{}</li>", devices),
            *(form(request, url) for url in ("count", "sign-out-others", "sign-out")),
        )
    )


def sign_in(request):
    user = authenticate(request, username=request.POST["user"], password=request.POST["password"])
    if user is None:
        return HttpResponseForbidden("Wrong name or password.")
    login(request, user)
    return redirect("/")


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return redirect("/")


def sign_out_others(request):
    return JsonResponse({"ended": len(request.sojourn.end_others())})


def sign_out(request):
    logout(request)
    return redirect("/")


urlpatterns = [path("", home), path("sign-in", sign_in), path("count", count)]
urlpatterns += [path("sign-out-others", sign_out_others), path("sign-out", sign_out)]
urlpatterns += [path("", include("sojourn.adapters.django_urls"))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
