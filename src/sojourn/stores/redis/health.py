"""What a Redis or Valkey must be set to, for seats and sessions to be safe in it."""

from __future__ import annotations

from typing import Any

from sojourn.errors import SettingsError, StoreBroken
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.faults import translated

SAMPLE = 20
INDEX = 60
"""Bytes of a lease's entry in the small hashes that find it by its holder."""
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


def version_of(server: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    name = "valkey" if server.get("server_name") == "valkey" else "redis"
    text = str(server.get("valkey_version" if name == "valkey" else "redis_version", "0"))
    return name, tuple(int(part) for part in text.split(".") if part.isdigit())


def sizes(db: Connection) -> str:
    """Say how many bytes a lease and a session take here, by a sample of each."""
    leases, lease_bytes, session_bytes = 0, 0, []
    with translated():
        for pool_id in db.client.srandmember(db.key("pools"), SAMPLE):
            name = pool_id.decode()
            leases += db.client.zcard(db.key(f"z:{name}"))
            for kind in ("l", "z"):
                used = db.client.memory_usage(db.key(f"{kind}:{name}"), samples=100)
                lease_bytes += used or 0
        for session_id in db.client.zrandmember(db.key("i"), SAMPLE) or ():
            used = db.client.memory_usage(db.key(f"s:{session_id.decode()}"), samples=0)
            session_bytes.append(used or 0)
    said = []
    if leases:
        said.append(f"A lease takes about {lease_bytes // leases + INDEX} bytes.")
    if session_bytes:
        said.append(f"A session takes about {sum(session_bytes) // len(session_bytes)} bytes.")
    return " ".join(said)
