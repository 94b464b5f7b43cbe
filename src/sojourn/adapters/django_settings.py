"""What Django's settings say of sessions, as a desk.

    SOJOURN = {
        "store": "postgresql://…",        # as for open_desk; also "key" and "trusted_proxies"
        "secret": ["…"],                  # left out: derived from SECRET_KEY and SECRET_KEY_FALLBACKS
        "rules": {"timeouts": "aal2", "limit": 5},
        "account": {…},                   # of the security page: see django_urls
        "desk": …,                        # a Desk, in the place of all the others
    }

Django's own SESSION_COOKIE_NAME, _PATH, _DOMAIN, _SAMESITE, _SECURE and SESSION_EXPIRE_AT_BROWSER_CLOSE
hold unless the rules name a cookie; SESSION_COOKIE_AGE, where it is set, unless they name timeouts.
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

from sojourn.adapters.desk import SETTINGS_FILE, Desk, LazyDesk, open_desk
from sojourn.adapters.options import make_rules
from sojourn.cookie import CookieOptions
from sojourn.errors import SettingsError
from sojourn.service.request_session import Rules
from sojourn.session import Timeouts
from sojourn.settings import Settings, check_secret, load

NAMES = ("store", "secret", "key", "trusted_proxies", "rules", "desk", "account")
INSECURE = "django-insecure-"
"""What `startproject` writes before a key that ends up in the repository."""


def open_django_desk() -> Desk:
    """Open what the settings name. Raises ImproperlyConfigured, and StoreError."""
    options: Mapping[str, Any] = getattr(settings, "SOJOURN", None) or {}
    for name in options:
        if name not in NAMES:
            raise ImproperlyConfigured(
                f"SOJOURN has no option {name!r}: there are {', '.join(NAMES)}."
            )
    desk = options.get("desk")
    if isinstance(desk, Desk):
        _handed_in.add(desk)
        return desk
    try:
        return open_desk(
            options.get("store"),
            secret=_secrets(options),
            key=options.get("key"),
            rules=_rules(options.get("rules") or {}),
            trusted_proxies=options.get("trusted_proxies"),
        )
    except SettingsError as fault:
        raise ImproperlyConfigured(f"{fault.message} {fault.hint}".strip()) from fault


def _rules(options: Mapping[str, Any] | Rules) -> Rules:
    defaults: dict[str, Any] = {"cookie": _cookie()}
    if settings.is_overridden("SESSION_COOKIE_AGE"):
        age = settings.SESSION_COOKIE_AGE * 1000
        defaults["timeouts"] = defaults["visitors"] = Timeouts(lifetime=age, idle_timeout=age)
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
    )


def _secrets(options: Mapping[str, Any]) -> list[str] | None:
    """Return what signs the cookies; None leaves it to SOJOURN_SECRET and sojourn.toml."""
    given = options.get("secret")
    if given:
        return [given] if isinstance(given, str) else list(given)
    known = _settings(options.get("store"))
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
    check_secret(text)
    if shared and text.startswith(INSECURE):
        raise SettingsError(
            f"SECRET_KEY starts with {INSECURE}: it was made for development.",
            hint="Make a good one with `sojourn secret new`; or set SOJOURN['secret'].",
        )
    return hmac.digest(text.encode(), b"sojourn django sessions v1", "sha256").hex()


_handed_in: weakref.WeakSet[Desk] = weakref.WeakSet()
lazy_desk = LazyDesk(open_django_desk)


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

__all__ = ["lazy_desk", "open_django_desk"]
