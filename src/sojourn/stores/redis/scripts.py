"""The scripts: which pieces of lua/ each is made of, and how one is called.

A script is one atomic step within one hash slot. It is called by its digest; where a server does not
know it (a new one, or one that was restarted), by its text, once.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from msgspec import Struct


class Script(Struct, frozen=True):
    name: str
    text: str
    sha: str


def _script(name: str, *pieces: str) -> Script:
    folder = files(__package__) / "lua"
    text = "\n".join((folder / f"{piece}.lua").read_text() for piece in pieces)
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, digest)


_BASE = ("base", "identity", "leases")
_SEATS = (*_BASE, "grace")

ACQUIRE = _script(
    "acquire",
    *(*_SEATS, "fences", "counting", "kept", "room", "fullness", "line", "allotments", "sessions"),
    *("repeats", "seating", "acquire"),
)
RENEW = _script("renew", *_SEATS, "renew")
ENDS = _script("ends", *_SEATS, "ends")
POOLS = _script("pools", *_SEATS, "counting", "room", "line", "pools")
AUTHORITY = _script(
    "authority",
    *(*_SEATS, "fences", "counting", "kept", "room", "fullness", "line", "allotments"),
    "authority",
)
LIST = _script("list", *_BASE, "list")
VISITS = _script("visits", *_SEATS, "sessions", "repeats", "visits")
CREATE = _script("create", *_SEATS, "sessions", "repeats", "create")
ENDING = _script("ending", *_SEATS, "sessions", "repeats", "ending")
LEDGER = _script("ledger", *_SEATS, "fences", "kept", "ledger")
SWEEP = _script("sweep", *_SEATS, "kept", "sessions", "sweep")
SIZES = _script("sizes", *_SEATS, "sessions", "sizes")
FORGET = _script("forget", *_SEATS, "sessions", "forget")
DENIALS = _script("denials", "base", "identity", "denials")
