"""The files that pages are made of: styles, scripts, the font. Each is served under a name that holds a
hash of its content, and so may be kept for ever.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from functools import cached_property
from pathlib import Path

from msgspec import Struct

PACKAGE = Path(__file__).parent / "static"
CLIENTS = Path(__file__).parents[3] / "clients"
"""In a checkout, where the web component is written; a built package has it among its own files."""
COMPONENT = "sojourn-active-sessions.js"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
HASH_LENGTH = 12
PACKED_ALREADY = frozenset({".woff2"})

_URL = re.compile(rb'url\("([\w.-]+)"\)')
_HASHED = re.compile(rf"(?P<stem>[\w.-]+)\.[\w-]{{{HASH_LENGTH}}}(?P<suffix>\.\w+)\Z")


class Asset(Struct, frozen=True):
    """Attributes: name: what it is served as; packed: its body, gzipped, where that is worth it."""

    name: str
    content_type: str
    body: bytes
    packed: bytes | None


class Assets:
    """The files of some folders; the first that has one of a name gives it. Safe from several threads."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._made: dict[str, Asset] = {}

    def asset(self, name: str) -> Asset:
        """Return one of the files, by its name in the repository. Raises FileNotFoundError."""
        made = self._made.get(name)
        return made if made is not None else self._made.setdefault(name, self._make(name))

    def find(self, served_as: str) -> Asset | None:
        """Return the file with this name; None if no file has it. Names hold a hash of the content."""
        named = _HASHED.match(served_as)
        name = named["stem"] + named["suffix"] if named else ""
        if name not in self._names:
            return None
        found = self.asset(name)
        return found if found.name == served_as else None

    @cached_property
    def _names(self) -> frozenset[str]:
        files = (each for folder in self._folders for each in folder.iterdir())
        return frozenset(each.name for each in files if each.suffix in TYPES) | {COMPONENT}

    def _make(self, name: str) -> Asset:
        path = self._path(name)
        body = path.read_bytes()
        if path.suffix == ".css":
            body = _URL.sub(lambda url: b'url("%s")' % self._url(url[1]), body)
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())[:HASH_LENGTH].decode()
        packed = None if path.suffix in PACKED_ALREADY else gzip.compress(body, 9, mtime=0)
        served_as = f"{path.stem}.{digest}{path.suffix}"
        return Asset(served_as, TYPES[path.suffix], body, packed)

    def _url(self, name: bytes) -> bytes:
        return self.asset(name.decode()).name.encode()

    def _path(self, name: str) -> Path:
        there = (folder / name for folder in self._folders)
        path = next((each for each in there if each.is_file()), self._folders[0] / name)
        if name == COMPONENT and not path.is_file():
            return CLIENTS / "active-sessions" / name
        return path


ASSETS = Assets(PACKAGE)
"""What the pages for people are made of."""
asset, find = ASSETS.asset, ASSETS.find
