"""What every adapter stands on: where sessions are kept, how the cookie is signed, whom to believe.

    open_desk()                                          settings from the environment and sojourn.toml
    open_desk("postgresql://…", secret=[…])              in this process, on a store
    open_desk(engine)                                    where a SQLAlchemy engine, or a Redis client, is
    open_desk("https://sojourn.example", key="sja_…")    against a Sojourn server
    open_desk("express+postgresql://…", secret=[…])      on the table of an Express application

A desk belongs to one process: adapters open it at the first request, so that a server may fork first.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from msgspec.structs import replace

from sojourn.adapters.address import address_of, sized
from sojourn.adapters.over import Endings
from sojourn.clock import DAY, SECOND
from sojourn.cookie import Codec, SignedTokens
from sojourn.device import Device
from sojourn.devices import Devices, Header
from sojourn.errors import InvalidToken, SettingsError
from sojourn.log import get_logger
from sojourn.origin import Origin, TrustedHops
from sojourn.people.calls import People
from sojourn.service.request_session import (
    Request,
    RequestSession,
    Rules,
    T,
    Verb,
    VisitStep,
    run,
    verbs,
)
from sojourn.service.sessions import SessionService
from sojourn.service.ticker import Ticker
from sojourn.session import Sessions
from sojourn.settings import PREFIX, Settings, check_secret, load
from sojourn.stores.folder import DataFolder, with_secret
from sojourn.text import plain
from sojourn.token import TokenKind

log = get_logger(__name__)

SETTINGS_FILE = "sojourn.toml"
BEARER_MAX = 1_024
"""Characters of a token in a header."""


def _no_header(_name: str) -> str | None:
    return None


class Desk:
    """Opens visits. Safe from several threads."""

    def __init__(
        self,
        sessions: Sessions,
        codec: Codec,
        *,
        rules: Rules | None = None,
        trusted_proxies: Sequence[str] = (),
        housekeeping: Ticker | None = None,
        devices: Devices | None = None,
        people: Mapping[str, Any] | None = None,
    ) -> None:
        self.sessions = sessions
        self.codec = codec
        self.rules = rules or Rules()
        self.rules.validate()
        self.endings = Endings(sessions)
        self.verbs: Mapping[str, Verb] = verbs(sessions)
        self._hops = TrustedHops(trusted_proxies)
        self._devices = devices or Devices()
        self.people = People(sessions, codec, rules=self.rules, **(people or {}))
        """What people may do with their own sessions, for whoever mounts it."""
        self._housekeeping = housekeeping
        if housekeeping is not None:
            housekeeping.start()

    def visit(
        self,
        *,
        cookies: str,
        path: str,
        peer: str | None,
        scheme: str,
        forwarded_for: str = "",
        forwarded_proto: str = "",
        header: Header = _no_header,
        tentative: bool = False,
    ) -> RequestSession:
        """Begin a visit; the store is asked by its `open`, not here. `header` looks up what else the
        request says, of the device it comes from, by names in lower case. `tentative`: see `Request`."""
        origin = self.origin(peer, scheme, forwarded_for, forwarded_proto)
        describe = partial(self._device, origin.ip, peer, header)
        bearer = header("authorization") if self.rules.header_tokens else None
        token = None if bearer is None else self.token_in(bearer)
        request = Request(
            cookies=cookies,
            origin=origin,
            path=path,
            token=token,
            describe=describe,
            header=header,
            tentative=tentative,
        )
        return RequestSession(self.rules, self.codec, request)

    def token_in(self, authorization: str | None) -> str | None:
        """Return the token of an Authorization header, where the rules have `header_tokens`. None: it is
        none of ours, as where it is a proxy's, or the application's own; then the cookie counts."""
        if not authorization or not self.rules.header_tokens:
            return None
        scheme, _, value = authorization.partition(" ")
        value = value.strip()
        if scheme.lower() != "bearer" or len(value) > BEARER_MAX:
            return None
        if value.startswith(TokenKind.SESSION.value):
            return value
        try:
            return self.codec.decode(value)
        except InvalidToken:
            return None

    def _device(self, ip: str | None, peer: str | None, header: Header) -> Device:
        return self._devices.of_request(
            ip=ip,
            user_agent=plain(header("user-agent")),
            header=header,
            trusted=self._hops.trusts(peer),
        )

    def origin(
        self, peer: str | None, scheme: str, forwarded_for: str = "", forwarded_proto: str = ""
    ) -> Origin:
        """Say where a request comes from, as trusted proxies report it."""
        return self._hops.origin(peer, scheme, forwarded_for, forwarded_proto)

    def run(self, step: VisitStep[T]) -> T:
        """Carry a step of a visit out, here and now. Raises StoreError."""
        return run(step, self.verbs)

    def close(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.stop()
        self.sessions.close()


class LazyDesk:
    """A desk that is opened when it is first asked for, in each process of its own."""

    def __init__(self, make: Callable[[], Desk]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._desk: Desk | None = None
        _lazy.add(self)

    @property
    def opened(self) -> Desk | None:
        """This process's desk, if it is open already."""
        return self._desk

    def get(self) -> Desk:
        """Return this process's desk. Raises SettingsError and StoreError when opening it fails."""
        desk = self._desk
        if desk is None:
            with self._lock:
                if self._desk is None:
                    self._desk = self._make()
                desk = self._desk
        return desk

    def forget(self) -> None:
        """Make another one next time. Whoever made this one closes it."""
        with self._lock:
            self._desk = None

    def put_aside(self) -> Desk | None:
        """Forget this process's desk without closing it, and return it."""
        with self._lock:
            desk, self._desk = self._desk, None
            return desk

    def put_back(self, desk: Desk | None) -> None:
        """Take a desk that was put aside again."""
        with self._lock:
            self._desk = desk

    def close(self) -> None:
        with self._lock:
            if self._desk is not None:
                self._desk.close()
            self._desk = None

    def forked(self) -> None:
        """Leave the parent's desk, and its lock, to the parent. To ask for the process's id with every
        request instead would cost a system call each time."""
        self._lock = threading.Lock()
        self._desk = None


_lazy: WeakSet[LazyDesk] = WeakSet()


def lazy_desks() -> list[LazyDesk]:
    """Return all of this process."""
    return list(_lazy)


instead: Callable[[Rules | None, Sequence[str]], Desk] | None = None
"""While tests of an application run: makes the desks, in the place of what settings and arguments name."""


def _forked() -> None:
    for desk in list(_lazy):
        desk.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def open_desk(
    store: Any = None,
    *,
    secret: str | Sequence[str] | None = None,
    key: str | None = None,
    rules: Rules | None = None,
    trusted_proxies: Sequence[str] | None = None,
    pool_size: int | None = None,
) -> Desk:
    """Open what these name; what is left out comes from `SOJOURN_…` and sojourn.toml, as for a server.

    `store`: a URL; or a SQLAlchemy engine or a client of redis-py, whose address it is then.
    `pool_size`: how many connections a process opens to the store at most.

    Raises SettingsError for a missing, short or well-known secret, and StoreError.
    """
    if instead is not None:
        return instead(rules, trusted_proxies or ())
    given = [secret] if isinstance(secret, str) else secret
    for each in given or ():
        check_secret(each)
    settings = _settings(address_of(store), given, key, trusted_proxies)
    url = sized(settings.store or settings.url or settings.store_url, pool_size)
    settings = replace(settings, store=url) if pool_size is not None else settings
    devices = Devices.from_settings(settings)
    more: dict[str, Any] = {
        "rules": rules,
        "trusted_proxies": settings.trusted_proxies,
        "devices": devices,
        "people": {
            "within": round(settings.reauth_within * SECOND) or None,
            "trusted_origins": settings.trusted_origins,
        },
    }
    if url.startswith(("http://", "https://")):
        return Desk(*_remote(url, settings, devices), **more)
    if url.startswith("express+"):
        return Desk(*_express(url, settings, devices), **(more | {"rules": _beside(rules)}))
    service, codec = _in_process(settings, devices)
    # Housekeeping is safe beside a server's, and beside that of every other process.
    ticker = Ticker("sweep", service.sweep, settings.sweep_interval)
    return Desk(service, codec, housekeeping=ticker, **more)


def _settings(
    store: str | None,
    secret: Sequence[str] | None,
    key: str | None,
    trusted_proxies: Sequence[str] | None,
) -> Settings:
    flags = {"store": store, "secret": secret, "key": key, "trusted_proxies": trusted_proxies}
    file = Path(SETTINGS_FILE)
    toml = file.read_text(encoding="utf-8") if file.is_file() else None
    _tell_misspelled(os.environ)
    return load(flags=flags, environ=os.environ, toml=toml).settings


def _tell_misspelled(environ: Mapping[str, str]) -> None:
    """Say which variables are one letter or so from a setting of ours: what they set does not hold."""
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    known |= {f"{name}_FILE" for name in known}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name.removesuffix("_FILE"), sorted(known), 1, 0.9)
            if near:
                log.warning("setting_not_read", setting=name, hint=f"Do you mean {near[0]}?")


def _in_process(settings: Settings, devices: Devices) -> tuple[SessionService, Codec]:
    from sojourn.stores.open import open_store  # noqa: PLC0415  # only if asked for

    folder = DataFolder(settings.data)
    if settings.embedded:
        folder.make()
    settings = with_secret(settings, folder)
    store = open_store(
        settings.store_url,
        migrate=settings.embedded,
        ip_retention=round(settings.ip_retention_days * DAY) or None,
    )
    return SessionService(store, complete=devices.complete), SignedTokens(
        [each.encode() for each in settings.secret]
    )


def _remote(url: str, settings: Settings, devices: Devices) -> tuple[Sessions, Codec]:
    from sojourn.client.sessions import RemoteSessions  # noqa: PLC0415  # only if asked for

    if not settings.key:
        raise SettingsError(
            "No API key is set for the Sojourn server.",
            hint="Make one with `sojourn key create --role app`, and set SOJOURN_KEY.",
        )
    if settings.secret:
        codec: Codec = SignedTokens([each.encode() for each in settings.secret])
    else:
        codec = SignedTokens([settings.key.encode()])
    return RemoteSessions(url, settings.key, complete=devices.complete), codec


def _beside(rules: Rules | None) -> Rules:
    """Take Express's cookie, unless these rules name one of their own."""
    from sojourn.adapters.express import EXPRESS_COOKIE  # noqa: PLC0415  # likewise

    if rules is None:
        return Rules(cookie=EXPRESS_COOKIE)
    return replace(rules, cookie=EXPRESS_COOKIE) if rules.cookie == Rules().cookie else rules


def _express(url: str, settings: Settings, devices: Devices) -> tuple[Sessions, Codec]:
    from sojourn.adapters.express import ExpressCookies, open_express  # noqa: PLC0415  # likewise

    if not settings.secret:
        raise SettingsError(
            "No secret is set, and the Express application signs its cookies with one.",
            hint="Set SOJOURN_SECRET to the `secret` of express-session; make a new one, for both, "
            "with `sojourn secret new`.",
        )
    if settings.ip_retention_days:
        log.warning(
            "setting_not_read",
            setting=PREFIX + "IP_RETENTION_DAYS",
            hint="Beside Express addresses are kept as long as their session. "
            f"{PREFIX}IP_SHORTEN=true keeps less of them.",
        )
    sessions = open_express(url, complete=devices.complete)
    return sessions, ExpressCookies(settings.secret)


__all__ = ["Desk", "LazyDesk", "open_desk"]
