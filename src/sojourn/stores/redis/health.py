"""What a Redis or Valkey must be set to, for seats and sessions to be safe in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sojourn.clock import SECOND, host_now
from sojourn.errors import SettingsError, StoreBroken
from sojourn.finding import Finding, Fix, Verdict
from sojourn.stores.redis import scripts
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.faults import translated

SAMPLE = 20
INDEX = 60
"""Bytes of a lease's entry in the small hashes that find it by its holder."""
CLOCK_TOLERANCE = 2 * SECOND
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
    name, version = _version(server)
    if version < OLDEST[name]:
        raise StoreBroken(
            f"{name.capitalize()} {'.'.join(map(str, version))} is too old.",
            hint="Redis 7.0, or Valkey 7.2 or later, is needed.",
        )


def _version(server: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    name = "valkey" if server.get("server_name") == "valkey" else "redis"
    text = str(server.get("valkey_version" if name == "valkey" else "redis_version", "0"))
    return name, tuple(int(part) for part in text.split(".") if part.isdigit())


def check(db: Connection) -> list[Finding]:
    """Say what is wrong, or might be. Raises what keeps us from looking."""
    found = [*_server(db), *_memory(db), *_durability(db), *_replicas(db)]
    if db.clock.now() is None:
        found += _clock(db)
    return found


def _finding(verdict: Verdict, title: str, detail: str = "", fix: str = "") -> Finding:
    return Finding(verdict=verdict, title=title, means=detail, fix=Fix(text=fix) if fix else None)


def _server(db: Connection) -> Iterator[Finding]:
    name, version = _version(info(db, "server"))
    title = f"{name.capitalize()} {'.'.join(map(str, version))}."
    if version < OLDEST[name]:
        fix = "Redis 7.0, or Valkey 7.2 or later, is needed."
        yield _finding(Verdict.FAILURE, title, fix=fix)
    else:
        yield _finding(Verdict.OK, title)
    if info(db, "replication").get("role") == "slave":
        title = "This server is a replica: it takes no writes."
        fix = "Name the primary, or use redis+sentinel://."
        yield _finding(Verdict.FAILURE, title, fix=fix)


def _memory(db: Connection) -> Iterator[Finding]:
    said = info(db, "memory")
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        title = f"Sessions and seats may be dropped when memory is full: {policy}."
        yield _finding(Verdict.FAILURE, title, fix=POLICY_FIX)
    used, most = int(said.get("used_memory", 0)), int(said.get("maxmemory", 0))
    title = f"{used / 1_048_576:.0f} MiB of memory are in use."
    if most and used > 0.9 * most:
        detail = "When it is full, nobody gets a seat or signs in any more; who is in, stays in."
        yield _finding(Verdict.WARNING, title, detail, "Raise maxmemory.")
    else:
        yield _finding(Verdict.OK, title, _sizes(db))


def _sizes(db: Connection) -> str:
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


def _durability(db: Connection) -> Iterator[Finding]:
    said = info(db, "persistence")
    if not int(said.get("aof_enabled", 0)):
        yield _finding(
            Verdict.WARNING,
            "A restart may lose what was answered: there is no append-only file.",
            "Holders come back by their tokens, but sessions do not.",
            "In its configuration write `appendonly yes` and `appendfsync everysec`.",
        )
    elif said.get("aof_last_write_status", "ok") != "ok":
        title = "The append-only file cannot be written."
        yield _finding(Verdict.FAILURE, title, fix="See the server's log and disk.")
    else:
        detail = "`appendfsync everysec` may lose the last second in a power cut; `always` nothing."
        yield _finding(Verdict.OK, "What is answered goes to a file.", detail)


def _replicas(db: Connection) -> Iterator[Finding]:
    said = info(db, "replication")
    replicas = int(said.get("connected_slaves", 0))
    if replicas and "min_slaves_good_slaves" not in said:
        yield _finding(
            Verdict.WARNING,
            "A primary that is cut off goes on taking writes, which a failover then loses.",
            f"Replicas: {replicas}.",
            "In its configuration write `min-replicas-to-write 1` and `min-replicas-max-lag 10`.",
        )


def _clock(db: Connection) -> Iterator[Finding]:
    before = host_now()
    there = int(db.run(scripts.POOLS, ["now", []]))
    ahead = there - (before + host_now()) // 2
    if abs(ahead) > CLOCK_TOLERANCE:
        yield _finding(
            Verdict.WARNING,
            f"Redis's clock differs from this host's by {abs(ahead) / SECOND:.1f} s.",
            "Expiry goes by Redis's clock; logs and certificates by this host's.",
            "Let both keep time by NTP.",
        )
    else:
        yield _finding(Verdict.OK, "Redis's clock agrees with this host's.")
