"""HTTP to the letter: what a request must be before anybody looks at what it wants, in whichever lane.

Two parties on the way may read one request differently, and then one of them is deceived. So what can be read
in two ways is refused: RFC 9112, 3.2 (Host), and the same for proofs; and a path has one spelling.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sojourn.wire.reply import Headers

ONCE = (
    b"host",
    b"authorization",
    b"x-session-token",
    b"content-type",
    b"idempotency-key",
    b"origin",
)
"""Headers that come once, if at all; even one that is empty counts."""
HOST_MAX = 261
"""Bytes of a name of 255 and a port."""
_HOST = re.compile(
    rb"(?:[0-9A-Za-z._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?"
)


class Flawed(Exception):
    """A request that is not to be carried out. Its words are for its sender."""


def check_head(headers: Headers, version: str) -> dict[bytes, bytes]:
    """Return headers by their names. Raises Flawed for what could be read in two ways."""
    by_name = dict(headers)
    if len(by_name) != len(headers):
        names = [name for name, _ in headers]
        for name in ONCE:
            if names.count(name) > 1:
                raise Flawed(f"{name.decode().title()}: given more than once.")
    host = by_name.get(b"host")
    if host is None:
        if version != "1.0":
            raise Flawed("Host: missing.")
    elif len(host) > HOST_MAX or not _is_host(host):
        raise Flawed("Host: no name of a host.")
    return by_name


@lru_cache(maxsize=256)
def _is_host(name: bytes) -> bool:
    """Tell whether this may be the name of a host. Most requests name the one that was named before."""
    return _HOST.fullmatch(name) is not None


def is_spelled_right(path: str) -> bool:
    """Tell whether a path is one that may reach a handler: without empty pieces, and without a slash at
    its end."""
    return path == "/" or (path[:1] == "/" and path[-1:] != "/" and "//" not in path)
