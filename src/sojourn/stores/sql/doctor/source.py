"""The database that doctor looks at: opened at the first look, whatever state it is in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL

from sojourn.clock import host_now
from sojourn.stores.sql.database import Database


class DiskUsage(Protocol):
    """As shutil tells it, in bytes."""

    @property
    def total(self) -> int: ...

    @property
    def free(self) -> int: ...


class Source:
    """Hands out the database; opening it is tried anew with every look, until it succeeds.

    Attributes:
        place: its address as people may see it, without a password.
        prefix: of the nouns of checks' ids: "ledger-" where the ledger is a database of its own.
        host_now: this host's clock.
        disk_usage: what says how full the disk of a folder is.
        path: the file, where it is one.
    """

    def __init__(
        self,
        opener: Callable[[], Database],
        *,
        place: str,
        prefix: str = "",
        url: URL | None = None,
        path: Path | None = None,
        host_now: Callable[[], int] = host_now,
        disk_usage: Callable[[Path], DiskUsage] = shutil.disk_usage,
    ) -> None:
        self.place = place
        self.prefix = prefix
        self.path = path
        self.host_now = host_now
        self.disk_usage = disk_usage
        self._url = url
        self._opener = opener
        self._db: Database | None = None
        self._opening = threading.Lock()

    def db(self) -> Database:
        """Return the open database. Raises StoreError, or SettingsError where its folder is missing."""
        with self._opening:
            if self._db is None:
                self._db = self._opener()
            return self._db

    def url(self) -> URL | None:
        """Return the server's address; None for a file."""
        return self._url

    def absent(self) -> Path | None:
        """Return the path of a file that is not there: opening would make it."""
        return self.path if self.path is not None and not self.path.exists() else None

    def close(self) -> None:
        """Close it; another look opens it again."""
        with self._opening:
            if self._db is not None:
                self._db.close()
            self._db = None

    def id(self, area: str, noun: str) -> str:
        return f"{area}.{self.prefix}{noun}"
