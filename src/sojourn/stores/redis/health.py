"""What a Redis or Valkey must be set to, for seats and sessions to be safe in it."""

from __future__ import annotations

from typing import Any

from sojourn.errors import SettingsError, StoreBroken
from sojourn.store import Sizes
from sojourn.stores.redis import scripts
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.faults import translated

SAMPLE = 20
LAYOUT = b"2"
"""As lua/identity.lua writes it."""
OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
POLICY_FIX = (
    "In its configuration write `maxmemory-policy noeviction`, and run: "
    "redis-cli CONFIG SET maxmemory-policy noeviction"
)


def info(db: Connection, section: str) -> dict[str, Any]:
    """Read a part of INFO; of a Cluster, that of the node which has our slot."""
    with translated():
        said = db.client.execute_command("INFO", section, **_node(db))
    if isinstance(said, bytes):
        lines = (line.partition(":") for line in said.decode().splitlines())
        return {name: value for name, colon, value in lines if colon}
    return dict(said)


def _node(db: Connection) -> dict[str, Any]:
    if not hasattr(db.client, "get_node_from_key"):
        return {}
    return {"target_nodes": db.client.get_node_from_key(db.key("m"))}


def require(db: Connection) -> None:
    """Refuse to serve on a server that may drop what it holds. Raises SettingsError."""
    policy = info(db, "memory").get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SettingsError(
            f"Redis may drop sessions and seats when its memory is full: maxmemory-policy = {policy}.",
            hint=POLICY_FIX,
        )
    server = info(db, "server")
    name, version = version_of(server)
    if version < OLDEST[name]:
        raise StoreBroken(
            f"{name.capitalize()} {'.'.join(map(str, version))} is too old.",
            hint="Redis 7.0, or Valkey 7.2 or later, is needed.",
        )


def require_layout(db: Connection) -> None:
    """Refuse keys in the layout of another version. Raises StoreBroken."""
    with translated():
        run, layout = db.client.hmget(db.key("m"), "run", "layout")
    if run is not None and layout != LAYOUT:
        raise StoreBroken(
            "Another version of Sojourn wrote what is in this Redis, and we cannot read it.",
            hint="Serve with that version, or name a `?prefix=` that is free.",
        )


def version_of(server: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    name = "valkey" if server.get("server_name") == "valkey" else "redis"
    text = str(server.get("valkey_version" if name == "valkey" else "redis_version", "0"))
    return name, tuple(int(part) for part in text.split(".") if part.isdigit())


def sizes(db: Connection) -> Sizes:
    """Say how many bytes a lease and a session take here, by a sample of each."""
    return Sizes(*db.run(scripts.SIZES, [SAMPLE, SAMPLE]))


def told(sizes: Sizes) -> list[str]:
    """Put it into words; nothing, where there is none."""
    kinds = (("lease", sizes.lease), ("session", sizes.session))
    return [f"A {name} takes about {size} bytes." for name, size in kinds if size]
