"""How a policy that was lowered reaches the leases that live: `lease.Shortening`, in SQL.

It is done in the step that changes the policy, under the pool's lock, so that no count sees one without the
other. Heartbeats do not take that lock: one that was on its way may have read the policy of before, and
waits for its lease's row meanwhile. So where a ghost would keep its seat for it, leases are looked at once
more when the step is committed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

import msgspec

from sojourn.errors import StoreUnavailable
from sojourn.lease import Shortening
from sojourn.license import Pool
from sojourn.stores.sql import fullness
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.rows import pool_of

LOCK_POOLS = "SELECT id, {pool} FROM sojourn_pools WHERE id {in ids} ORDER BY id {update}"

GOODBYE = "(suspect_at <= last_beat_at AND expires_at <= last_beat_at + :lingered)"
HEARD = "{greatest}(last_beat_at, coalesce(graced_at, 0))"
TOLD = "CASE WHEN expires_at - {heard} <= :before THEN {heard} + :lost_after ELSE expires_at END"
EXPIRES = """CASE WHEN {goodbye} THEN last_beat_at + :linger WHEN :max_lease IS NULL THEN {told}
    ELSE {least}({told}, {greatest}(acquired_at + :max_lease, {heard} + :interval)) END"""
SUSPECT = """CASE WHEN {goodbye} THEN suspect_at ELSE {heard} + {least}(:lost_after, :suspect_after
    + {greatest}(0, suspect_at - {heard} - :suspected_after)) END"""
MEANT = """
pool_id = :pool AND ended_at IS NULL AND NOT lapsed AND expires_at > :at
AND ({suspect} < suspect_at OR {expires} < expires_at)
"""
# MySQL assigns from left to right: what the expiry hangs on must not have changed by then.
SHORTEN = """
UPDATE sojourn_leases SET expires_at = {least}(expires_at, {greatest}({expires}, :at)),
    suspect_at = {least}(suspect_at, {suspect})
WHERE {meant}
"""
IN_ORDER = """
UPDATE sojourn_leases SET expires_at = {least}(expires_at, {greatest}({expires}, :at)),
    suspect_at = {least}(suspect_at, {suspect})
WHERE id IN (SELECT id FROM sojourn_leases WHERE {meant} ORDER BY id FOR UPDATE) AND {meant}
"""


def _spelled(template: str, postgres: bool) -> str:
    pieces = (
        ("{meant}", MEANT),
        ("{expires}", EXPIRES),
        ("{suspect}", SUSPECT),
        ("{told}", TOLD),
        ("{goodbye}", GOODBYE),
        ("{heard}", HEARD),
        (":max_lease", ":max_lease::bigint" if postgres else ":max_lease"),
    )
    for name, text in pieces:
        template = template.replace(name, text)
    return template


# Only who has beaten since under the old policy lives longer than the new one lets him.
LATE = "AND expires_at > {heard} + :lost_after AND expires_at - {heard} <= :before\n"

FIRST, FIRST_POSTGRES = _spelled(SHORTEN, postgres=False), _spelled(IN_ORDER, postgres=True)
AGAIN = _spelled(SHORTEN.replace("{meant}", MEANT + LATE), postgres=False)
AGAIN_POSTGRES = _spelled(IN_ORDER.replace("{meant}", MEANT + LATE), postgres=True)

LOOK_AFTER = (0.02, 0.1)
"""Seconds until leases are looked at once more, and again. A beat that waited for its row while the policy
was changed is through as soon as that is committed; one that waits for something else, too, may come later,
and its lease then has the old time once."""

Shorter = Sequence[tuple[str, Shortening]]


def lowered(there: dict[str, Pool], pools: dict[str, Pool]) -> Shorter:
    """Return which of the pools that are there are about to be lowered, by id, in order."""
    found = [
        (name, Shortening.between(before.policy, pools[name].policy))
        for name, before in sorted(there.items())
    ]
    return [(name, shorter) for name, shorter in found if shorter is not None]


def lock(tx: Tx, ids: Iterable[str]) -> dict[str, Pool]:
    """Lock those of these pools that exist, and return them by id."""
    rows = tx.rows(LOCK_POOLS, {"ids": tx.dialect.keys(sorted(ids))})
    return {row[0]: pool for row in rows if (pool := pool_of(row[1:])) is not None}


def shorten(tx: Tx, shorter: Shorter) -> None:
    """Let the leases of these pools live for no longer than their new policy says."""
    if shorter:
        tx.patiently()
        first = tx.dialect.pick(sqlite=FIRST, postgres=FIRST_POSTGRES, mysql=FIRST)
        _shorten(tx, shorter, first)


def once_more(db: Database, defined: dict[str, Pool], shorter: Shorter) -> None:
    """Do so again for beats that had read the policy of before, unless a pool has another by now. The policy
    is in force, whether or not the store is there for this."""
    again = db.dialect.pick(sqlite=AGAIN, postgres=AGAIN_POSTGRES, mysql=AGAIN)
    doubtful = [each for each in shorter if each[1].lost_after < each[1].before]
    if not doubtful or db.dialect.one_writer:
        return

    def work(tx: Tx) -> None:
        there = lock(tx, [name for name, _ in doubtful])
        same = [x for x in doubtful if x[0] in there and there[x[0]].policy == defined[x[0]].policy]
        _shorten(tx, same, again)

    for pause in LOOK_AFTER:
        time.sleep(pause)
        with contextlib.suppress(StoreUnavailable):
            db.transaction(work)


def _shorten(tx: Tx, shorter: Shorter, statement: str) -> None:
    now = tx.now()
    shortened = 0
    for pool, times in shorter:
        shortened += tx.do(statement, {"pool": pool, "at": now, **msgspec.to_builtins(times)})
    if shortened:
        fullness.changed(tx)
