"""What an error of a Redis or Valkey means, by its code and never by its words.

An error's code is its first word in capitals. Whatever is not known to pass by itself is `StoreBroken`:
trying again would only hide it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as driver

from sojourn.errors import StoreBroken, StoreUnavailable

PASSING = frozenset(
    {
        *("LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK"),
        *("READONLY", "NOREPLICAS", "MISCONF", "OOM", "UNBLOCKED", "NOGOODSLAVE", "FAILOVER"),
        "SETTLING",  # our own: see lua/identity.lua
    }
)
"""Passes by itself, or when somebody has seen to the server."""
DENIED = frozenset({"NOAUTH", "WRONGPASS", "NOPERM", "DENIED"})
HINTS = {
    "OOM": "The server's memory is full: raise `maxmemory`. Nothing was lost.",
    "MISCONF": "The server cannot write to its disk: see its log.",
    "READONLY": "This server is a replica: name the primary, or use redis+sentinel://.",
    "NOREPLICAS": "Too few replicas are connected for `min-replicas-to-write`.",
    "SETTLING": "The server was replaced; the ledger first tells it what it has lost. Ask again at once.",
    "CLUSTERDOWN": "Part of the Cluster has no primary: see `CLUSTER INFO`.",
}
PERMIT = "Check the user, the password and the ACL of the store's URL: see the guide to Redis."
CERTIFICATE = (
    "TLS did not come about: check `ssl_ca_certs`, and `ssl_certfile` and `ssl_keyfile` if the server "
    "asks for a certificate, in the store's URL."
)
BROKEN = "Run `sojourn doctor`, and look at the server's log."
_BY_CLASS: dict[type[Exception], str] = {
    driver.ReadOnlyError: "READONLY",
    driver.BusyLoadingError: "LOADING",
    driver.OutOfMemoryError: "OOM",
    driver.ClusterDownError: "CLUSTERDOWN",
    driver.MasterDownError: "MASTERDOWN",
    driver.TryAgainError: "TRYAGAIN",
    driver.MovedError: "MOVED",
    driver.AskError: "ASK",
    driver.AuthenticationWrongNumberOfArgsError: "NOAUTH",
    driver.NoPermissionError: "NOPERM",
    driver.AuthenticationError: "NOAUTH",
}
"""The driver cuts the codes off that it knows."""


def code_of(error: BaseException) -> str:
    """Return an error's code, or an empty text where no server spoke."""
    for kind, code in _BY_CLASS.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, driver.ResponseError):
        word = str(error).partition(" ")[0]
        return word if word.isupper() else "ERR"
    return ""


def _distrusted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def translate(error: Exception) -> Exception:
    """Return what the store's caller is to see."""
    cause = error.__cause__
    if isinstance(error, driver.RedisClusterException) and isinstance(cause, driver.RedisError):
        return translate(cause)  # what a node of it said
    code = code_of(error)
    if code in PASSING:
        return StoreUnavailable(f"Redis is not available ({code}).", hint=HINTS.get(code))
    if code in DENIED:
        return StoreBroken(f"Redis refuses us ({code}).", hint=PERMIT)
    if code:
        return StoreBroken(f"Redis is not as it must be ({code}).", hint=BROKEN)
    if isinstance(error, (driver.RedisClusterException, driver.RedisError, OSError)):
        # No server spoke: it is down, the connection was cut, or an answer never came.
        hint = CERTIFICATE if _distrusted(error) else None
        return StoreUnavailable(f"Redis is not available ({type(error).__name__}).", hint=hint)
    return error


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except (driver.RedisError, driver.RedisClusterException, OSError) as error:
        raise translate(error) from error
