"""Is there one server that takes writes? Sentinels are asked, and the nodes of a Cluster."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sojourn.finding import Finding, Fix, failure, ok, skipped
from sojourn.stores.redis.connection import (
    SENTINEL_PORT,
    Address,
    Connection,
    asked_of,
)
from sojourn.stores.redis.faults import translated
from sojourn.stores.redis.health import info

TIMEOUT = 1.0
"""Seconds for one server that may be away; there may be many."""
MEANS = (
    "Servers of yours write to both: seats are given twice, and who signs in here is unknown there."
)


def fields(text: str | bytes | dict[str, Any]) -> dict[str, str]:
    """Read `a=1,b=2`, as INFO says of a replica; the driver has read it already, mostly."""
    if isinstance(text, dict):
        return {str(key): str(value) for key, value in text.items()}
    said = text.decode() if isinstance(text, bytes) else text
    pairs = (pair.partition("=") for pair in said.split(","))
    return {key: value for key, sign, value in pairs if sign}


def judge(db: Connection, address: Address) -> Finding:
    """Look for a second primary, where somebody could know of one."""
    if address.kind == "sentinel":
        return _by_sentinels(address)
    if address.kind == "cluster":
        return _of_cluster(db)
    known = [
        fields(value)
        for key, value in info(db, "replication").items()
        if key.startswith("slave") and key[5:].isdigit()
    ]
    if not known:
        return skipped("Redis knows no other server; only Sentinels could name another primary.")
    claims = [x for x in known if _role(x["ip"], int(x["port"]), _asked(address)) == "master"]
    if claims:
        return _two([f"{x['ip']}:{x['port']}" for x in claims])
    return ok("There is one primary of Redis, as far as it knows its replicas.")


def _by_sentinels(address: Address) -> Finding:
    """Ask every Sentinel whom it takes for the primary, and whether its other servers think so too."""
    parts = urlsplit(address.url)
    service = parts.path.strip("/").partition("/")[0]
    asked = asked_of(address.url)
    said: dict[tuple[str, int], list[str]] = {}
    for each in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = each.rpartition(":")
        place = (host or port, int(port) if host else SENTINEL_PORT)
        for primary in _told_by(place, service, asked):
            said.setdefault(primary, []).append(f"{place[0]}:{place[1]}")
    if not said:
        return skipped("None of the Sentinels answers, and nobody else knows the primaries.")
    writable = [place for place in said if _role(*place, _asked(address)) == "master"]
    if len(writable) > 1:
        return _two(
            [f"{host}:{port}, as {', '.join(said[host, port])} says" for host, port in writable]
        )
    return ok("There is one primary of Redis.", *(f"{host}:{port}" for host, port in writable))


def _told_by(place: tuple[str, int], service: str, asked: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what a Sentinel takes for the primary, and for its replicas; nothing if it is away."""
    with contextlib.suppress(redis.RedisError, OSError), _client(*place, asked) as sentinel:
        found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        others = sentinel.sentinel_slaves(service)
        places = [(_text(found[0]), int(found[1]))] if found else []
        return places + [(_text(x["ip"]), int(x["port"])) for x in others]
    return []


def _of_cluster(db: Connection) -> Finding:
    """See that each slot has one owner, whichever node is asked."""
    with translated():
        nodes = db.client.get_primaries()
        views = {
            node.name: {
                (low, high): place[0]["primary"] if isinstance(place, list) else place["primary"]
                for (low, high), place in db.client.cluster_slots(target_nodes=node).items()
            }
            for node in nodes
        }
    first = next(iter(views.values()), {})
    odd = [name for name, view in views.items() if view != first]
    if odd:
        return failure(
            "Nodes of the Cluster disagree on who owns which slots.",
            evidence=[f"{name} sees it otherwise than the first one." for name in odd],
            means=MEANS,
            fix=Fix(text="Mend the network between them; then `redis-cli --cluster check`."),
        )
    return ok(f"Each slot of the Cluster has one owner; {len(nodes)} primaries agree.")


def _two(places: list[str]) -> Finding:
    return failure(
        "There is more than one primary that takes writes.",
        evidence=places,
        means=MEANS,
        fix=Fix(
            text="Make all but one a replica of it; let a primary stop that no replica follows.",
            command="redis-cli -h HOST -p PORT REPLICAOF THE-PRIMARY ITS-PORT",
            setting="min-replicas-to-write 1\nmin-replicas-max-lag 10",
        ),
    )


def _role(host: str, port: int, asked: dict[str, Any]) -> str | None:
    with contextlib.suppress(redis.RedisError, OSError), _client(host, port, asked) as client:
        return str(client.info("replication").get("role"))
    return None


def _client(host: str, port: int, asked: dict[str, Any]) -> redis.Redis:
    bounds = {"socket_connect_timeout": TIMEOUT, "socket_timeout": TIMEOUT}
    return redis.Redis(
        **{"host": host, "port": port, "retry": Retry(NoBackoff(), 0), **asked, **bounds}
    )


def _asked(address: Address) -> dict[str, Any]:
    user, _, password = urlsplit(address.url).netloc.rpartition("@")[0].partition(":")
    login = {"username": unquote(user) or None, "password": unquote(password) or None}
    return asked_of(address.url) | login


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
