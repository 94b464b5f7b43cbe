"""Where an address is: from a MaxMind-format file of one's own, or from headers of trusted proxies.

Nobody outside is asked. The file is read into memory, so that replacing or truncating it under us harms
nobody, and again when it has changed. A file that is broken or missing costs the place, and a line in the
log; never a sign-in.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sojourn.log import get_logger

log = get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between looks at whether the file has changed."""
PLACE_MAX = 120
NOWHERE = frozenset({"", "XX", "T1", "ZZ", "-"})
"""What proxies say of an address that they do not know, or that hides."""


class Places:
    """A database of places. Safe from several threads."""

    def __init__(self, path: str, *, look_every: float = LOOK_EVERY) -> None:
        self._path = path
        self._look_every = look_every
        self._lock = threading.Lock()
        self._reader: Any = None
        self._seen: tuple[int, int, int] | None = None  # the file that was read, or failed to be
        self._look_at = 0.0

    def of(self, ip: str) -> str | None:
        """Name the place of an address: "Berlin, Germany". None where it is not known."""
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return None
        reader = self._current()
        if reader is None:
            return None
        try:
            record = reader.get(address)
        except Exception as fault:  # noqa: BLE001 - a broken file must cost the place alone
            self._warn(fault)
            return None
        return place_of(record)

    def _current(self) -> Any:
        """Return the reader of the file as it is now; None if there is none that can be read."""
        now = time.monotonic()
        if now < self._look_at:
            return self._reader
        with self._lock:
            if now >= self._look_at:
                self._look_at = now + self._look_every
                self._look()
        return self._reader

    def _look(self) -> None:
        try:
            found = Path(self._path).stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError as fault:
            if self._seen != (0, 0, 0):
                self._seen, self._reader = (0, 0, 0), None
                self._warn(fault)
            return
        if state == self._seen:
            return
        self._seen = state
        try:
            import maxminddb  # noqa: PLC0415  # the extra `geo`, only if a file is named

            self._reader = maxminddb.open_database(self._path, maxminddb.MODE_MEMORY)
        except Exception as fault:  # noqa: BLE001 - likewise
            self._reader = None
            self._warn(fault)

    def _warn(self, fault: Exception) -> None:
        log.warning(
            "geo_database_unusable",
            path=self._path,
            error=type(fault).__name__,
            hint="Put a MaxMind-format database (.mmdb) there, and install sojourn[geo]; until then "
            "devices have no place.",
        )


def place_of(record: Any) -> str | None:
    """Read a record of GeoLite2's City or Country, or of what has the same fields."""
    if not isinstance(record, dict):
        return None
    names = [_name(record.get(kind)) for kind in ("city", "country")]
    found = ", ".join(name for name in names if name)
    return found[:PLACE_MAX] or None


def _name(part: Any) -> str | None:
    names = part.get("names") if isinstance(part, dict) else None
    name = names.get("en") if isinstance(names, dict) else None
    return name if isinstance(name, str) and name.isprintable() else None


def place_in_headers(names: Sequence[str], header: Callable[[str], str | None]) -> str | None:
    """Read what a trusted proxy says, the finest first: "Berlin, DE"."""
    said = (unquote(header(name) or "").strip() for name in names)
    found = [text for text in said if text not in NOWHERE and text.isprintable()]
    return ", ".join(dict.fromkeys(found))[:PLACE_MAX] or None
