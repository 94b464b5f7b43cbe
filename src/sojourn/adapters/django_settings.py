"""What Django's settings say of sessions, as a desk.

    SOJOURN = {
        "store": "postgresql://…",        # as for open_desk; also "key" and "trusted_proxies"
        "database": "default",            # in the place of "store": an alias of DATABASES
        "secret": ["…"],                  # left out: derived from SECRET_KEY and SECRET_KEY_FALLBACKS
        "rules": {"timeouts": "aal2", "limit": 5},
        "account": {…},                   # of the security page: see django_urls
        "desk": …,                        # a Desk, in the place of all the others
    }

Django's own SESSION_COOKIE_NAME, _PATH, _DOMAIN, _SAMESITE, _SECURE and SESSION_EXPIRE_AT_BROWSER_CLOSE
hold unless the rules name a cookie; SESSION_COOKIE_AGE, where it is set, unless they name timeouts. With
SESSION_SAVE_EVERY_REQUEST it counts from the last request. The cookie is called what SESSION_COOKIE_NAME
says, over HTTPS, too: Channels and others look for it by that name.
"""

from __future__ import annotations

import hmac
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest

from sojourn.adapters import desk as desks
from sojourn.adapters.address import address_of, address_of_django
from sojourn.adapters.desk import SETTINGS_FILE, Desk, LazyDesk, open_desk
from sojourn.adapters.django_tests import in_tests, open_test_desk
from sojourn.adapters.options import make_rules
from sojourn.cookie import LIFETIME_MAX, CookieOptions
from sojourn.errors import SettingsError, StoreError
from sojourn.guessable import INSECURE
from sojourn.service.request_session import Rules
from sojourn.session import Timeouts
from sojourn.settings import Settings, check_secret, load

NAMES = (
    *("store", "database", "pool_size", "secret", "key", "trusted_proxies", "rules", "desk"),
    "account",
)
"""What `startproject` writes before a key that ends up in the repository."""


def read_options() -> Mapping[str, Any]:
    """Return the setting SOJOURN. Raises ImproperlyConfigured for an option that there is not."""
    options: Mapping[str, Any] = getattr(settings, "SOJOURN", None) or {}
    for name in options:
        if name not in NAMES:
            raise ImproperlyConfigured(
                f"SOJOURN has no option {name!r}: there are {', '.join(NAMES)}."
            )
    return options


def check_settings() -> None:
    """Raise ImproperlyConfigured for what would fail with the first session. Opens nothing."""
    options = read_options()
    if isinstance(options.get("desk"), Desk):
        return
    try:
        read_rules(options.get("rules") or {})
        for each in _secrets(options) or ():
            check_secret(each)
    except SettingsError as fault:
        raise ImproperlyConfigured(f"{fault.message} {fault.hint}".strip()) from fault


def open_django_desk() -> Desk:
    """Open what the settings name; in tests, a store of their own. Raises ImproperlyConfigured, and
    StoreError."""
    options = read_options()
    desk = options.get("desk")
    if isinstance(desk, Desk):
        _handed_in.add(desk)
        return desk
    try:
        if desks.instead is not None:
            made = desks.instead(read_rules(options.get("rules") or {}), ())
            _of_tests.add(made)
            return made
        if in_tests():
            made = open_test_desk(
                read_rules(options.get("rules") or {}), _secrets(options), lazy_desk.close
            )
            _of_tests.add(made)
            return made
        return open_desk(
            _store(options),
            secret=_secrets(options),
            key=options.get("key"),
            rules=read_rules(options.get("rules") or {}),
            trusted_proxies=options.get("trusted_proxies"),
            pool_size=options.get("pool_size"),
        )
    except SettingsError as fault:
        raise ImproperlyConfigured(f"{fault.message} {fault.hint}".strip()) from fault


def read_rules(options: Mapping[str, Any] | Rules) -> Rules:
    """Return the rules that the settings make. Raises SettingsError."""
    defaults: dict[str, Any] = {"cookie": _cookie()}
    sliding = settings.SESSION_SAVE_EVERY_REQUEST
    if sliding or settings.is_overridden("SESSION_COOKIE_AGE"):
        # No browser keeps a cookie for longer, so more has no effect with Django's own sessions, either.
        age = min(settings.SESSION_COOKIE_AGE * 1000, LIFETIME_MAX)
        lifetime = LIFETIME_MAX if sliding else age
        defaults["timeouts"] = defaults["visitors"] = Timeouts(lifetime=lifetime, idle_timeout=age)
    rules = make_rules(options, **defaults)
    if rules.cookie.partitioned:
        raise SettingsError("Django has no word for a Partitioned cookie.")
    return rules


def _cookie() -> CookieOptions:
    same_site: Any = (settings.SESSION_COOKIE_SAMESITE or "lax").lower()
    return CookieOptions(
        name=settings.SESSION_COOKIE_NAME,
        path=settings.SESSION_COOKIE_PATH,
        domain=settings.SESSION_COOKIE_DOMAIN,
        same_site=same_site,
        secure=True if settings.SESSION_COOKIE_SECURE else "auto",
        persistent=not settings.SESSION_EXPIRE_AT_BROWSER_CLOSE,
        host_prefix=False,
    )


def _store(options: Mapping[str, Any]) -> Any:
    alias = options.get("database")
    if alias is None:
        return options.get("store")
    if options.get("store") is not None:
        raise SettingsError("SOJOURN has both a store and a database: one of them is enough.")
    return address_of_django(settings.DATABASES, alias)


def _secrets(options: Mapping[str, Any]) -> list[str] | None:
    """Return what signs the cookies; None leaves it to SOJOURN_SECRET and sojourn.toml."""
    given = options.get("secret")
    if given:
        return [given] if isinstance(given, str) else list(given)
    known = _settings(address_of(_store(options)))
    if known.secret or known.store_url.startswith("express+"):
        return None
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    shared = bool(known.url) or not known.embedded
    return [_derived(key, shared=shared) for key in keys]


def _settings(store: str | None) -> Settings:
    file = Path(SETTINGS_FILE)
    toml = file.read_text(encoding="utf-8") if file.is_file() else None
    return load(flags={"store": store}, environ=os.environ, toml=toml).settings


def _derived(key: str | bytes, *, shared: bool) -> str:
    """Derive a secret from a SECRET_KEY, so that it never signs for two purposes."""
    text = key.decode("latin-1") if isinstance(key, bytes) else key
    if not in_tests():  # tests override it with whatever, and their sessions are in memory
        check_secret(text, development=True)
    if shared and text.startswith(INSECURE):
        raise SettingsError(
            f"SECRET_KEY starts with {INSECURE}: it was made for development.",
            hint="Make a good one with `sojourn secret new`; or set SOJOURN['secret'].",
        )
    return hmac.digest(text.encode(), b"sojourn django sessions v1", "sha256").hex()


_handed_in: weakref.WeakSet[Desk] = weakref.WeakSet()
_of_tests: weakref.WeakSet[Desk] = weakref.WeakSet()


class DjangoDesk(LazyDesk):
    """The desk of the settings. One that was opened before the tests began is not the tests'."""

    def get(self) -> Desk:
        desk = super().get()
        if in_tests() and desk not in _of_tests and desk not in _handed_in:
            self.close()
            desk = super().get()
        return desk


lazy_desk = DjangoDesk(open_django_desk)


def sent_by_header(request: HttpRequest) -> bool:
    """Tell whether a token in a header counts, and no cookie."""
    if "HTTP_AUTHORIZATION" not in request.META:
        return False
    try:
        desk = lazy_desk.get()
    except StoreError:
        return False
    return desk.token_in(request.META["HTTP_AUTHORIZATION"]) is not None


def _changed(*, setting: str, **_: Any) -> None:
    """Tests override settings; what was opened under others is closed, unless it was handed in."""
    if not setting.startswith(("SOJOURN", "SESSION_", "SECRET_KEY")):
        return
    opened = lazy_desk.opened
    if opened is not None and opened in _handed_in:
        lazy_desk.forget()
    else:
        lazy_desk.close()


setting_changed.connect(_changed, dispatch_uid="sojourn")

__all__ = ["lazy_desk", "open_django_desk", "sent_by_header"]
