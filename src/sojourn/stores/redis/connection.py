"""Connecting to Redis or Valkey: URLs, time limits, and how a script is called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import redis
from msgspec import Struct
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import parse_url
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from sojourn.clock import SECOND, SET_RIGHT, Clock, uptime
from sojourn.errors import SettingsError
from sojourn.log import get_logger
from sojourn.stores.redis.codec import pack
from sojourn.stores.redis.faults import translated
from sojourn.stores.redis.scripts import Script

CONNECT_TIMEOUT = 4.0  # seconds
REPLY_TIMEOUT = 6.0
TOLD_WITHIN = 500
"""What the store's now was is not clear enough after an answer that took longer (ms)."""
SHIFT_TOLD = SECOND
CONNECTIONS_MAX = 64
PREFIX = "sojourn"
SENTINEL_PORT = 26379
FORMS = (
    "redis://host:6379/0, rediss://…, redis+unix:///path/to.sock, redis+cluster://host:6379, "
    "redis+sentinel://host:26379,host2:26379/service, and valkey… the same"
)


log = get_logger(__name__)


class Address(Struct, frozen=True):
    """A store's URL, read: what kind it is, the URL as the driver has it, and the keys' prefix."""

    kind: str  # single | cluster | sentinel
    url: str
    prefix: str = PREFIX
    strict: bool = (
        False  # after a failover: grant nothing new for as long as a lost holder may live
    )


def read_url(url: str) -> Address:
    """Read a store's URL; raise SettingsError where it says nothing that we can do."""
    scheme, _, rest = url.partition("://")
    secure = scheme.partition("+")[0] in ("rediss", "valkeys")
    kind = scheme.partition("+")[2]
    if kind not in ("", "unix", "cluster", "sentinel") or not rest:
        raise SettingsError("The store's URL cannot be read.", hint=f"Use one of {FORMS}.")
    driver = "unix" if kind == "unix" else "rediss" if secure else "redis"
    parts = urlsplit(f"{driver}://{rest}")
    asked = parse_qs(parts.query)
    prefix = asked.pop("prefix", [PREFIX])[-1]
    if not prefix or any(each in prefix for each in "{}"):
        raise SettingsError("The prefix of the store's keys is empty, or has braces.")
    failover = asked.pop("failover", ["lenient"])[-1]
    if failover not in ("lenient", "strict"):
        raise SettingsError("In the store's URL, failover is either lenient or strict.")
    query = urlencode({name: values[-1] for name, values in asked.items()})
    read = f"{driver}://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
    return Address("single" if kind in ("", "unix") else kind, read, prefix, failover == "strict")


NOT_THE_ONE = (ReadOnlyError, BusyLoadingError, MasterDownError, ClusterDownError)


class _Leaving:
    """A connection that ends where the server only reads, or is not ready to answer: after a failover it may
    be the old one, and its name may lead to another by now. Sentinel's connections do so by themselves."""

    def read_response(self, *asked: Any, **options: Any) -> Any:
        parent: Any = super()
        try:
            return parent.read_response(*asked, **options)
        except NOT_THE_ONE:
            parent.disconnect()
            raise


class _Plain(_Leaving, redis.Connection):
    pass


class _Secure(_Leaving, redis.SSLConnection):
    pass


class _Unix(_Leaving, redis.UnixDomainSocketConnection):
    pass


CONNECTIONS = {"redis": _Plain, "rediss": _Secure, "unix": _Unix}


def connect(address: Address) -> Any:
    """Return a client of the driver's; nothing is asked of a server before the first command.

    Nothing is tried again by itself: what a cut connection has done is unknown, and only the caller
    knows whether asking twice is harmless.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": REPLY_TIMEOUT,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.kind == "cluster":
        with translated():
            return RedisCluster.from_url(address.url, **options)
    if address.kind == "sentinel":
        return _by_sentinel(address.url, options)
    options["connection_class"] = CONNECTIONS[address.url.partition(":")[0]]
    pool = redis.BlockingConnectionPool.from_url(
        address.url, max_connections=CONNECTIONS_MAX, timeout=CONNECT_TIMEOUT, **options
    )
    return redis.Redis(connection_pool=pool)


def asked_of(url: str) -> dict[str, Any]:
    """Return what a URL says to the driver beside place, service and login: TLS, time limits."""
    parts = urlsplit(url)
    read: Any = parse_url  # untyped, as the driver has it
    asked: dict[str, Any] = dict(read(f"{parts.scheme}://?{parts.query}"))
    for name in ("connection_class", "path"):
        asked.pop(name, None)
    return asked | ({"ssl": True} if parts.scheme == "rediss" else {})


def _by_sentinel(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    named = [each.rpartition(":") for each in hosts.split(",")]
    places = [(host or port, int(port) if host else SENTINEL_PORT) for host, _, port in named]
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise SettingsError("The store's URL names no service of the Sentinels.", hint=FORMS)
    secrets = {"username": unquote(user) or None, "password": unquote(password) or None}
    options |= asked_of(url)
    sentinel: Any = Sentinel  # untyped, as the driver has it
    found = sentinel(places, sentinel_kwargs=options, **options)
    return found.master_for(service, **options | {"db": int(database or 0)}, **secrets)


class Connection:
    """A client, the keys it may write, the clock that decides. Safe from several threads."""

    def __init__(self, client: Any, address: Address, *, clock: Clock, max_pause: int) -> None:
        self.client = client
        self.clock = clock
        self.strict = address.strict
        self._max_pause = max_pause
        self.base = f"{address.prefix}:{{s}}:"
        """One hash tag, and so one slot, for all keys: see docs/adr/0016."""
        self._self = self.base + "m"
        self.ledger = ""  # the one that was attached: scripts see whether the store still knows it
        self._ahead: int | None = None  # how far the store's now is ahead of `uptime`
        self._shift = 0  # as the log knows it

    def key(self, name: str) -> str:
        return self.base + name

    def run(self, script: Script, asked: Any, *, now_in: Callable[[Any], int] | None = None) -> Any:
        """Run a script: one atomic step. `now_in` finds the store's now in its answer: by that, and by a
        clock that nobody sets, the store is told from then on what its now should be."""
        now, ahead, began = self.clock.now(), self._ahead, uptime()
        expected: int | str = "" if ahead is None else began + ahead
        own = "" if now is None else now
        head = (1, self._self, own, self._max_pause, pack(asked), expected, self.ledger)
        with translated():
            try:
                said = self._ask(script, head)
            except (
                NOT_THE_ONE
            ):  # it has done nothing: where the name leads to another by now, ask that
                said = self._ask(script, head)
        if now is None and now_in is not None and uptime() - began <= TOLD_WITHIN:
            self._ahead = now_in(said) - began
        return said

    def _ask(self, script: Script, head: Sequence[Any]) -> Any:
        try:
            return self.client.execute_command("EVALSHA", script.sha, *head)
        except NoScriptError:
            return self.client.execute_command("EVAL", script.text, *head)

    def shifted(self, shift: int) -> None:
        """Tell the log, once, that the server's clock was set, and the store's time is ahead of it by
        `shift` ms."""
        if abs(shift - self._shift) >= SHIFT_TOLD:
            log.warning("store_clock_was_set", ahead_of_it=shift / SECOND, hint=SET_RIGHT)
            self._shift = shift

    def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            self.client.close()


class Verbs:
    """The base of each noun's verbs. The store inherits all of them."""

    _db: Connection
    _ips_in_events: bool
