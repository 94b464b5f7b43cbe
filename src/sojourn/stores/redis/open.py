"""Opening a store on Redis or Valkey."""

from __future__ import annotations

from sojourn.clock import Clock
from sojourn.errors import SettingsError
from sojourn.stores.redis import health
from sojourn.stores.redis.connection import FORMS, Connection, connect, read_url
from sojourn.stores.redis.store import RedisStore


def open_redis(
    url: str, *, clock: Clock, max_pause: int, event_retention: int, ip_retention: int | None
) -> RedisStore:
    """Open a store. Raises SettingsError on a server that may drop what it holds."""
    try:
        address = read_url(url)
        client = connect(address)
    except ValueError:
        raise SettingsError(
            "The store's URL cannot be read.", hint=f"Use one of {FORMS}."
        ) from None
    db = Connection(client, address, clock=clock, max_pause=max_pause)
    try:
        health.require(db)
        health.require_layout(db)
    except BaseException:
        db.close()
        raise
    return RedisStore(db, event_retention=event_retention, ip_retention=ip_retention)
