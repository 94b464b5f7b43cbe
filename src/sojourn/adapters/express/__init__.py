"""Beside Express: the sessions of an unmodified Express application, in its own table or keys.

    desk = open_desk("express+postgresql://…", secret=[…])

Who signs in there is signed in here, and the other way round; who is signed out here is signed out
there. See docs/guide/express.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sojourn.adapters.express.cookies import EXPRESS_COOKIE, ExpressCookies
from sojourn.adapters.express.options import Options, read_url
from sojourn.address import spread
from sojourn.clock import STORE_CLOCK, Clock
from sojourn.device import Device
from sojourn.doctor.examiners import Beside
from sojourn.errors import SettingsError
from sojourn.extras import installation
from sojourn.service.sessions import Complete
from sojourn.session import Sessions

if TYPE_CHECKING:
    from sojourn.finding import Examiner
    from sojourn.stores.sql.database import Database

SCHEMES = {
    "postgresql": ("psycopg", "postgres"),
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
    "valkey": ("redis", "redis"),
    "valkeys": ("redis", "redis"),
}
"""By scheme: the driver's module, and the extra that installs it."""


def as_said(device: Device) -> Device:
    """Know nothing of a device but what it says."""
    return device


def open_express(
    url: str,
    *,
    table: str | None = None,
    schema: str | None = None,
    prefix: str | None = None,
    user_path: tuple[str, ...] | None = None,
    user_number: bool | None = None,
    ttl: int | None = None,
    secure: bool | None = None,
    http_only: bool | None = None,
    same_site: str | None = None,
    domain: str | None = None,
    path: str | None = None,
    scan: bool | None = None,
    clock: Clock = STORE_CLOCK,
    complete: Complete = as_said,
) -> Sessions:
    """Open the sessions of an Express application; see `Options`, any of which may be in the URL too.

    `complete`: what is known of a device beyond what it says, and how much of its address is kept.
    Raises SettingsError, for instance when Express's time zone is another, StoreBroken when
    `sojourn express install` has not been run, and StoreUnavailable.
    """
    given = {name: value for name, value in locals().items() if name in Options.__struct_fields__}
    scheme, target, options = _read(url, given)
    if scheme.startswith("postgres"):
        from sojourn.adapters.express.postgres import PostgresSessions  # noqa: PLC0415  # if asked for
        from sojourn.adapters.express.schema import require  # noqa: PLC0415  # likewise
        from sojourn.adapters.express.zone import require_zone  # noqa: PLC0415  # likewise

        db = _database(target, clock)
        try:
            names = require(db, options)
            require_zone(db, names)
            sessions = PostgresSessions(db, names, options, complete)
        except BaseException:
            db.close()
            raise
        return sessions
    from sojourn.adapters.express.redis import open_redis  # noqa: PLC0415  # only if asked for

    return open_redis(target, options, clock, complete)


def install(
    url: str,
    *,
    table: str | None = None,
    schema: str | None = None,
    user_path: tuple[str, ...] | None = None,
) -> str:
    """Prepare the database; return the name of Express's table. Idempotent. On Redis there is nothing
    to prepare. Raises SettingsError and StoreError."""
    given = {"table": table, "schema": schema, "user_path": user_path}
    scheme, target, options = _read(url, given)
    if not scheme.startswith("postgres"):
        return f"{options.prefix}*"
    from sojourn.adapters.express import schema as tables  # noqa: PLC0415  # only if asked for

    db = _database(target, STORE_CLOCK)
    try:
        return tables.install(db, options).express
    finally:
        db.close()


def open_examiner(url: str, *, place: str) -> Examiner | None:
    """Return what looks at an Express application's table for doctor; opens nothing yet. None on Redis,
    where there is no table. Raises SettingsError."""
    scheme, target, options = _read(url, {})
    if not scheme.startswith("postgres"):
        return None
    from sojourn.adapters.express.doctor.examiner import ExpressExaminer  # noqa: PLC0415  # if asked for

    return ExpressExaminer(lambda: _database(target, STORE_CLOCK), options, place=place)


EXPRESS = Beside(open_examiner, ExpressCookies)
"""What doctor is given, to look at an Express application's store."""


def _read(url: str, given: Mapping[str, object]) -> tuple[str, str, Options]:
    scheme, target, options = read_url(url, given)
    if scheme not in SCHEMES:
        raise SettingsError(
            f"A session store of Express cannot be at {scheme + ':'!r}.",
            hint="Use express+postgresql:// for connect-pg-simple, express+redis:// for connect-redis.",
        )
    driver, extra = SCHEMES[scheme]
    if find_spec(driver) is None:
        raise SettingsError(
            f"The driver for {scheme} is not installed.",
            hint=f"Run: {installation(extra)}",
        )
    return scheme, target, options


def _database(url: str, clock: Clock) -> Database:
    """Open a pool of our own: its time zone is the server's choice for this role, as Express's is."""
    from sqlalchemy import make_url  # noqa: PLC0415  # only if asked for
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415  # likewise

    from sojourn.stores.sql.server import ServerDatabase  # noqa: PLC0415  # likewise

    if os.environ.get("PGTZ"):
        raise SettingsError(
            "PGTZ is set in the environment: we would obey it, and Express does not.",
            hint="Unset it. Set the time zone where both obey: ALTER ROLE … SET timezone.",
        )
    try:
        parsed = make_url(spread(url))
    except ArgumentError:
        raise SettingsError("The store's URL cannot be read.") from None
    return ServerDatabase(parsed, clock=clock, durable=True, marked=False)


__all__ = [
    "EXPRESS_COOKIE",
    "ExpressCookies",
    "Options",
    "install",
    "open_examiner",
    "open_express",
]
