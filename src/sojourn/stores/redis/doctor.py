"""What doctor looks at in a Redis or Valkey, in whatever state it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from sojourn.clock import SECOND, STORE_CLOCK, host_now
from sojourn.errors import StoreBroken, StoreError
from sojourn.finding import (
    Area,
    Check,
    Finding,
    Fix,
    Repair,
    clock_set_back,
    failure,
    ok,
    skipped,
    unmet,
    warning,
)
from sojourn.stores.redis import health, orphans, primaries, seats
from sojourn.stores.redis.connection import SHIFT_TOLD, Address, Connection, connect, read_url
from sojourn.stores.redis.faults import translated
from sojourn.stores.redis.health import OLDEST, POLICY_FIX, info, version_of

CLOCK_TOLERANCE = 2 * SECOND
FULL = 0.9
ASKS = 9
SLOW = 20.0  # ms
LAG_MAX = 10  # s
BEHIND_MAX = 1_048_576  # bytes that a replica has not got
HERE = "store.redis"
FIXED: dict[str, dict[tuple[int, ...], int]] = {
    # https://github.com/docker-library/official-images/pull/20011; later branches never had it:
    # https://github.com/redis/redis/pull/14485
    "redis": {(7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    # https://github.com/valkey-io/valkey/releases/tag/8.1.4, https://osv.dev/vulnerability/BIT-valkey-2025-46818
    # (mended together with it); 9.0 before it was released: …/releases/tag/9.0.0-rc3
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
"""By branch, the first release without CVE-2025-49844: who may run a script takes over the server."""

MEANS_DOWN = "Nobody can sign in or take a seat; who is signed in cannot be recognized."


class RedisExaminer:
    """Looks at a store on Redis; opens it at the first question."""

    def __init__(self, url: str, *, place: str, db: Connection | None = None) -> None:
        """`db`: one that is open already, and is not ours to close."""
        self._url = url
        self._address: Address | None = None
        self._where = place
        self._db = db
        self._ours = db is None

    def checks(self) -> Sequence[Check]:
        asked: list[tuple[str, str, Callable[[], Finding], bool, Repair | None]] = [
            ("redis", "Does Redis answer, and take writes?", self._reach, True, None),
            ("redis-version", "Is Redis new enough, and mended?", self._version, True, None),
            ("redis-eviction", "May Redis drop sessions and seats?", self._eviction, True, None),
            ("redis-memory", "Has Redis memory left?", self._memory, True, None),
            ("redis-durability", "Is what was answered kept?", self._durability, True, None),
            ("redis-replicas", "Do the replicas of Redis follow?", self._replicas, True, None),
            ("redis-primaries", "Is there one primary of Redis?", self._primaries, False, None),
            ("redis-latency", "Does Redis answer quickly?", self._latency, True, None),
            ("clock", "Do Redis's clock and this host's agree?", self._clock, True, None),
            (
                "redis-orphans",
                "Is anything left of the older layout?",
                self._orphans,
                False,
                orphans.Removal(self._open),
            ),
        ]
        return [
            Check(
                id=f"store.{name}",
                area=Area.STORE,
                title=title,
                looked_at=self._where,
                look=look,
                quick=quick,
                repair=repair,
                needs=() if name == "redis" else (HERE,),
            )
            for name, title, look, quick, repair in asked
        ]

    def close(self) -> None:
        if self._ours and self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> Connection:
        if self._db is None:
            address = self._read()
            self._db = Connection(connect(address), address, clock=STORE_CLOCK, max_pause=10_000)
        return self._db

    def _read(self) -> Address:
        if self._address is None:
            self._address = read_url(self._url)
        return self._address

    def _reach(self) -> Finding:
        try:
            server = info(self._open(), "server")
            role = info(self._open(), "replication").get("role")
        except StoreError as error:
            refused = isinstance(error, StoreBroken)
            self.close()
            return failure(
                "Redis does not let us in." if refused else "Redis cannot be reached.",
                evidence=[error.message],
                means=MEANS_DOWN,
                fix=Fix(text=error.hint),
            )
        if role == "slave":
            return failure(
                "This server is a replica: it takes no writes.",
                means=MEANS_DOWN,
                fix=Fix(text="Name the primary, or use redis+sentinel://."),
            )
        name, version = version_of(server)
        return ok(f"{name.capitalize()} {'.'.join(map(str, version))} answers, and is a primary.")

    def _version(self) -> Finding:
        name, version = version_of(info(self._open(), "server"))
        title = f"{name.capitalize()} {'.'.join(map(str, version))}"
        if version < OLDEST[name]:
            return failure(
                f"{title} is too old.",
                means="The server does not start on it.",
                fix=Fix(text="Redis 7.0, or Valkey 7.2 or later, is needed."),
            )
        first = FIXED[name].get(version[:2])
        if first is not None and version[2:3] < (first,):
            branch = ".".join(map(str, version[:2]))
            return warning(
                f"{title} has CVE-2025-49844.",
                means="Whoever may run a script on it takes over its host.",
                fix=Fix(
                    text=f"Update to {branch}.{first} or later. Let only servers of yours connect."
                ),
            )
        if name == "redis" and version[:2] == (7, 0):
            told = "Of 7.0 there is no release without CVE-2025-49844; distributions mend theirs."
            return ok(f"{title} is new enough.", told)
        return ok(f"{title} is new enough, and mended.")

    def _eviction(self) -> Finding:
        policy = info(self._open(), "memory").get("maxmemory_policy", "noeviction")
        if policy == "noeviction":
            return ok(
                "Redis drops no session and no seat by itself.", "maxmemory-policy = noeviction"
            )
        return failure(
            f"Sessions and seats may be dropped when memory is full: {policy}.",
            means="People are signed out, and seats are given twice, the more the fuller it is.",
            fix=Fix(
                text=POLICY_FIX,
                command="redis-cli CONFIG SET maxmemory-policy noeviction",
                setting="maxmemory-policy noeviction",
            ),
        )

    def _memory(self) -> Finding:
        said = info(self._open(), "memory")
        used, most = int(said.get("used_memory", 0)), int(said.get("maxmemory", 0))
        title = f"Redis uses {used / 1_048_576:.0f} MiB of memory."
        told = health.told(health.sizes(self._open()))
        if most and used > FULL * most:
            return warning(
                title,
                evidence=[f"maxmemory is {most / 1_048_576:.0f} MiB.", *told],
                means="When it is full, nobody gets a seat or signs in any more; who is in, stays in.",
                fix=Fix(text="Raise maxmemory."),
            )
        limit = f"Of {most / 1_048_576:.0f} MiB." if most else "maxmemory is not set."
        return ok(title, limit, *told)

    def _durability(self) -> Finding:
        said = info(self._open(), "persistence")
        setting = "appendonly yes\nappendfsync everysec"
        if not int(said.get("aof_enabled", 0)):
            return warning(
                "A restart of Redis may lose what was answered: there is no append-only file.",
                means="Holders of seats come back by their tokens; people are signed out.",
                fix=Fix(
                    text="Keep one.", command="redis-cli CONFIG SET appendonly yes", setting=setting
                ),
            )
        if said.get("aof_last_write_status", "ok") != "ok":
            return failure(
                "Redis cannot write its append-only file.",
                means="It soon refuses writes: nobody can sign in or take a seat.",
                fix=Fix(text="See the server's log, and its disk."),
            )
        return ok(
            "What Redis answers goes to a file.",
            "`appendfsync everysec` may lose the last second in a power cut; `always` nothing.",
        )

    def _replicas(self) -> Finding:
        said = info(self._open(), "replication")
        count = int(said.get("connected_slaves", 0))
        if not count:
            return ok("Redis has no replica: if this server is lost, so is what it held.")
        offset = int(said.get("master_repl_offset", 0))
        slow = []
        for number in range(count):
            replica = primaries.fields(said.get(f"slave{number}", ""))
            behind = offset - int(replica.get("offset", offset))
            lag = int(replica.get("lag", 0))
            if replica.get("state") != "online" or lag > LAG_MAX or behind > BEHIND_MAX:
                where = f"{replica.get('ip')}:{replica.get('port')}"
                slow.append(f"{where}: {replica.get('state')}, {behind:,} bytes and {lag} s behind")
        if slow:
            return warning(
                "A replica of Redis is behind.",
                evidence=slow,
                means="If it takes over, what was answered last is lost: people sign in again.",
                fix=Fix(text="See its log, its network and its load."),
            )
        if "min_slaves_good_slaves" not in said:
            return warning(
                "A primary that is cut off goes on taking writes, which a failover then loses.",
                evidence=[f"Replicas: {count}."],
                means="For a while, seats are given on both sides.",
                fix=Fix(
                    text="Let it stop when no replica follows.",
                    setting="min-replicas-to-write 1\nmin-replicas-max-lag 10",
                ),
            )
        return ok(f"All {count} replicas follow, at most {LAG_MAX} s behind.")

    def _primaries(self) -> Finding:
        return primaries.judge(self._open(), self._read())

    def _latency(self) -> Finding:
        db, took = self._open(), []
        for _ in range(ASKS):
            began = time.perf_counter()
            with translated():
                db.client.ping()
            took.append((time.perf_counter() - began) * 1_000)
        median = statistics.median(took)
        told = f"median {median:.1f} ms, slowest {max(took):.1f} ms, of {ASKS}"
        if median < SLOW:
            return ok("Redis answers quickly.", told)
        return warning(
            f"Redis takes {median:.0f} ms for nothing.",
            evidence=[told],
            means="Every request that looks at a session waits for it.",
            fix=Fix(text="Look at its load, at `SLOWLOG GET`, and at the network between."),
        )

    def _clock(self) -> Finding:
        db = self._open()
        if db.clock.now() is not None:
            return skipped("The clocks are not compared: a test's clock decides.")
        before = host_now()
        there, shift = seats.now(db)
        if abs(shift) >= SHIFT_TOLD:
            return _was_set(shift)
        ahead = there - (before + host_now()) // 2
        told = f"Redis's is {ahead / SECOND:+.1f} s off this host's."
        if abs(ahead) <= CLOCK_TOLERANCE:
            return ok("Redis's clock and this host's agree.", told)
        return warning(
            f"Redis's clock differs from this host's by {abs(ahead) / SECOND:.1f} s.",
            evidence=[told],
            means="Expiry goes by Redis's clock; cookies, logs and certificates by this host's.",
            fix=Fix(text="Let both keep time by NTP.", command="timedatectl set-ntp true"),
        )

    def _orphans(self) -> Finding:
        return orphans.judge(self._open())


def _was_set(shift: int) -> Finding:
    """Say that the server's clock was set, and the store's time is ahead of it by `shift` ms."""
    if shift > 0:
        return clock_set_back("The Redis server's", shift)
    by = f"{-shift / SECOND:.1f} s"
    return warning(
        f"The Redis server's clock was set ahead by {by}; Sojourn goes on by its own time.",
        evidence=[f"it lies {by} ahead of the store's time"],
        means="Nobody loses a seat or a session by it; instants that are shown lie back by as much.",
        fix=Fix(
            text="Set it right, and let it keep time by NTP. If it is right, because all of this had"
            " been asleep, stop every server for a minute: then the store goes by it again.",
            command="timedatectl set-ntp true",
        ),
    )


def quick(db: Connection) -> list[Finding]:
    """Say what the quick checks find in a server that is open. Raises what keeps us from looking."""
    info(db, "server")
    found: dict[str, Finding] = {}
    for check in RedisExaminer("", place="the store", db=db).checks():
        if check.quick and unmet(check, found) is None:
            found[check.id] = check.look()
    return list(found.values())
