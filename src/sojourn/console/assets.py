"""The files that pages are made of: styles, scripts, the font. Each is served under a name that holds a
hash of its content, and so may be kept for ever.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from functools import cache
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


@cache
def asset(name: str) -> Asset:
    """Return one of our files, by its name in the repository. Raises FileNotFoundError."""
    path = PACKAGE / name
    if name == COMPONENT and not path.is_file():
        path = CLIENTS / "active-sessions" / name
    body = path.read_bytes()
    if path.suffix == ".css":
        body = _URL.sub(lambda found: b'url("%s")' % asset(found[1].decode()).name.encode(), body)
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())[:HASH_LENGTH].decode()
    packed = None if path.suffix in PACKED_ALREADY else gzip.compress(body, 9, mtime=0)
    served_as = f"{path.stem}.{digest}{path.suffix}"
    return Asset(served_as, TYPES[path.suffix], body, packed)


@cache
def _names() -> frozenset[str]:
    ours = (each.name for each in PACKAGE.iterdir() if each.suffix in TYPES)
    return frozenset(ours) | {COMPONENT}


def find(served_as: str) -> Asset | None:
    """Return what is served under this name; None if its content has changed since, or never was."""
    named = _HASHED.match(served_as)
    name = named["stem"] + named["suffix"] if named else ""
    if name not in _names():
        return None
    found = asset(name)
    return found if found.name == served_as else None
