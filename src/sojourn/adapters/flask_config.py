"""What a Flask application's configuration says of sessions, and how Flask keeps what JSON has no word
for."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from flask import Flask
from flask.json.tag import TaggedJSONSerializer
from werkzeug.http import http_date

from sojourn.adapters.desk import Desk, open_desk
from sojourn.adapters.options import NAMES, make_rules
from sojourn.errors import SettingsError
from sojourn.log import get_logger
from sojourn.service.request_session import Rules
from sojourn.settings import Settings

log = get_logger("sojourn.adapters.flask")

PREFIX = "SOJOURN_"
USER_KEY = "_user_id"
"""The key of Flask-Login, and of what stands on it, such as Flask-Security."""
READ = frozenset(
    (
        *("STORE", "SECRET", "KEY", "TRUSTED_PROXIES", "RULES", "ACCOUNT", "SIGN_IN_URL"),
        *("USER_KEY", "POOL_SIZE"),
    )
)
COOKIE = {
    "SESSION_COOKIE_NAME": "name",
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_PATH": "path",
    "SESSION_COOKIE_SECURE": "secure",
    "SESSION_COOKIE_SAMESITE": "same_site",
    "SESSION_COOKIE_PARTITIONED": "partitioned",
}
"""Flask's own settings that hold unless SOJOURN_COOKIE or SOJOURN_RULES say otherwise."""
INSTEAD = {
    "SESSION_COOKIE_HTTPONLY": "The cookie is always HttpOnly.",
    "PERMANENT_SESSION_LIFETIME": "Set SOJOURN_TIMEOUTS.",
    "SESSION_REFRESH_EACH_REQUEST": "A use is noted on the server; the cookie is not sent again.",
    "MAX_COOKIE_SIZE": "The data is not in the cookie.",
}


def opener(config: Mapping[str, Any]) -> Callable[[], Desk]:
    """Read the configuration now; open what it names later. Raises SettingsError."""
    check_names(config)
    rules = config.get(f"{PREFIX}RULES", {})
    if not isinstance(rules, Rules):
        single = {name: config.get(PREFIX + name.upper()) for name in NAMES}
        rules = {**{k: v for k, v in single.items() if v is not None}, **rules}
    obeyed = () if isinstance(rules, Rules) or "cookie" in rules else tuple(COOKIE)
    cookie = {COOKIE[name]: config[name] for name in obeyed if _changed(config, name)}
    if obeyed and "path" not in cookie and _changed(config, "APPLICATION_ROOT"):
        cookie["path"] = config["APPLICATION_ROOT"]  # as Flask does
    if "same_site" in cookie:
        cookie["same_site"] = str(cookie["same_site"]).lower()
    made = make_rules(rules, **({"cookie": cookie} if cookie else {})).validate()
    tell_unread(config, obeyed)
    proxies: Sequence[str] | str | None = config.get(f"{PREFIX}TRUSTED_PROXIES")
    return functools.partial(
        open_desk,
        config.get(f"{PREFIX}STORE"),
        secret=config.get(f"{PREFIX}SECRET"),
        key=config.get(f"{PREFIX}KEY"),
        rules=made,
        trusted_proxies=[proxies] if isinstance(proxies, str) else proxies,
        pool_size=config.get(f"{PREFIX}POOL_SIZE"),
    )


def check_names(config: Mapping[str, Any]) -> None:
    """Refuse a setting of ours that there is not: it was meant for something. Raises SettingsError."""
    known = READ | {name.upper() for name in NAMES}
    for full in config:
        name = full.removeprefix(PREFIX)
        if name == full or name in known:
            continue
        if (
            name.lower() in Settings.__struct_fields__
        ):  # read from the environment and sojourn.toml alone
            log.warning("setting_not_read", setting=full, hint="Set it in the environment.")
            continue
        near = difflib.get_close_matches(name, sorted(known), 1)
        raise SettingsError(
            f"There is no setting {full}.",
            hint=f"Do you mean {PREFIX}{near[0]}?" if near else "See docs/guide/flask.md.",
        )


def tell_unread(config: Mapping[str, Any], obeyed: Sequence[str] = ()) -> None:
    """Say which settings of Flask's, or of an extension that kept sessions before, are not read."""
    for name in sorted(config):
        if name in obeyed or not _changed(config, name):
            continue
        if name in COOKIE:
            hint = "The rules name a cookie: set it there (SOJOURN_COOKIE)."
        elif name in INSTEAD:
            hint = INSTEAD[name]
        elif name.startswith("SESSION_"):
            hint = "It was another extension's. Remove it."
        else:
            continue
        log.warning("setting_not_read", setting=name, hint=hint)


def _changed(config: Mapping[str, Any], name: str) -> bool:
    return name in config and config[name] != Flask.default_config.get(name, ...)


class FlaskTags:
    """Tagged JSON, as in Flask's own sessions: tuples, bytes, Markup, UUIDs and datetimes come back as they
    were. A date and a Decimal come back as text, as there."""

    def __init__(self) -> None:
        self.serializer = TaggedJSONSerializer()

    def pack(self, value: Any) -> Any:
        return _as_flask_does(self.serializer.tag(value))

    def unpack(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self.serializer.untag({k: self.unpack(v) for k, v in value.items()})
        if isinstance(value, list):
            return [self.unpack(each) for each in value]
        return value


def _as_flask_does(value: Any) -> Any:
    """Write what Flask's JSON provider writes as text."""
    if isinstance(value, dict):
        return {k: _as_flask_does(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_flask_does(each) for each in value]
    if isinstance(value, date):
        return http_date(value)
    return str(value) if isinstance(value, Decimal) else value
