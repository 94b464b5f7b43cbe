"""What `manage.py check` says of sessions. Registered where `sojourn.adapters.django` is imported: put it
into INSTALLED_APPS, so that `check` sees it before anything else does."""

from __future__ import annotations

from typing import Any

from django.conf import global_settings, settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  # Django's name
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from sojourn.adapters.django_settings import check_settings
from sojourn.cookie import LIFETIME_MAX

ENGINE = "sojourn.adapters.django"
MIDDLEWARE = "sojourn.adapters.django.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
NOT_READ = {
    "SESSION_COOKIE_HTTPONLY": "The cookie is always HttpOnly.",
    "SESSION_SERIALIZER": "Values are JSON.",
    "SESSION_CACHE_ALIAS": "Sessions are kept in SOJOURN['store'].",
    "SESSION_FILE_PATH": "Sessions are kept in SOJOURN['store'].",
}


@register("sojourn")  # type: ignore[untyped-decorator]  # Django ships no types
def check_sessions(**_: Any) -> list[CheckMessage]:
    """Name every setting that would surprise somebody later."""
    if settings.SESSION_ENGINE != ENGINE:
        if not any(_is(path, MIDDLEWARE) for path in settings.MIDDLEWARE):
            return []  # installed, and not in use
        hint = f'Set SESSION_ENGINE = "{ENGINE}".'
        return [
            Error("Sojourn's middleware is installed without its engine.", hint, id="sojourn.E001")
        ]
    found = _middleware()
    try:
        check_settings()
    except ImproperlyConfigured as fault:
        found.append(Error(str(fault), id="sojourn.E003"))
    return found + _cookie() + _not_read()


def _middleware() -> list[CheckMessage]:
    hint = f'Put "{MIDDLEWARE}" in the place of Django\'s own.'
    if any(_is(path, MIDDLEWARE) for path in settings.MIDDLEWARE):
        return []
    if any(_is(path, DJANGOS) for path in settings.MIDDLEWARE):
        said = "Sessions run under Django's own middleware: an outage is a 500, and session_key a secret."
        return [Warning(said, hint, id="sojourn.W001")]
    return [
        Error(
            "SESSION_ENGINE is Sojourn's, and no middleware opens sessions.",
            hint,
            id="sojourn.E002",
        )
    ]


def _cookie() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.SESSION_COOKIE_AGE * 1000 > LIFETIME_MAX:
        said = "SESSION_COOKIE_AGE is more than 400 days; browsers keep no cookie for longer."
        found.append(Warning(said, "It counts as 400 days.", id="sojourn.W002"))
    same_site = settings.SESSION_COOKIE_SAMESITE
    if (
        str(same_site).lower() == "none"
        and same_site is not None
        and not settings.SESSION_COOKIE_SECURE
    ):
        said = "SESSION_COOKIE_SAMESITE is 'None' without SESSION_COOKIE_SECURE: browsers drop the cookie."
        hint = "Serve over HTTPS, and set SESSION_COOKIE_SECURE = True."
        found.append(Warning(said, hint, id="sojourn.W003"))
    return found


def _not_read() -> list[CheckMessage]:
    return [
        Warning(f"{name} is not read.", hint, id="sojourn.W004")
        for name, hint in NOT_READ.items()
        if getattr(settings, name) != getattr(global_settings, name)
    ]


def _is(path: str, wanted: str) -> bool:
    """Tell whether a middleware is one, or made from it."""
    if path == wanted:
        return True
    try:
        found, base = import_string(path), import_string(wanted)
    except ImportError:
        return False  # Django says so itself
    if wanted == DJANGOS and _is(path, MIDDLEWARE):
        return False
    return isinstance(found, type) and issubclass(found, base)
