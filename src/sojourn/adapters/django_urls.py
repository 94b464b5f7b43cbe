"""The page `/account/security` and the calls behind it, for Django.

    urlpatterns = [path("", include("sojourn.adapters.django_urls")), …]
    SOJOURN = {"account": {"site_name": "Acme", "sign_in_url": "/sign-in"}, …}      all of it optional

They look at sessions themselves, whether or not the middleware is installed.
"""

from __future__ import annotations

from sojourn.extras import need

need("django", "django", "sojourn.adapters.django_urls")

from functools import cache

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from sojourn.adapters.account import READ, Account, Mount, make_account
from sojourn.adapters.django_settings import lazy_desk
from sojourn.errors import Overloaded, StoreError
from sojourn.people.account import PATHS
from sojourn.people.outage import outage


@cache
def _mount() -> Mount:
    options = getattr(settings, "SOJOURN", None) or {}
    return Mount(make_account(options.get("account")) or Account())


@csrf_exempt  # type: ignore[untyped-decorator]  # Django ships no types
def answer(request: HttpRequest, *, route: str, name: str = "") -> HttpResponse:
    """Answer one of our paths. What changes something is refused to pages of other origins by us."""
    ours = route.replace("{name}", name)
    meta = request.META
    try:
        desk = lazy_desk.get()
        asked = _mount().read(
            desk,
            method=request.method,
            path=ours,
            query=meta.get("QUERY_STRING", ""),
            peer=meta.get("REMOTE_ADDR"),
            scheme=request.scheme,  # Django's own word, SECURE_PROXY_SSL_HEADER included
            header=request.headers.get,
            body=request.read(READ),
        )
        encoding = request.headers.get("Accept-Encoding", "")
        prefix = request.path.removesuffix(ours)
        found = _mount().respond(desk, asked, prefix=prefix, accept_encoding=encoding)
    except (StoreError, Overloaded) as fault:  # the desk cannot be opened
        found = outage(fault, request.headers.get("Accept", ""))
    if found is None:
        raise Http404
    status, headers, body = found
    response = HttpResponse(body, status=status)
    del response["Content-Type"]
    for key, value in headers:
        if key.lower() == "set-cookie":
            response.cookies.load(value)
        else:
            response[key] = value
    return response


def _pattern(route: str) -> URLPattern:
    return path(route[1:].replace("{name}", "<str:name>"), answer, {"route": route})


urlpatterns = [_pattern(each) for each in PATHS]
