"""Allotments: one value in the row of each pool, decided under its lock.

A transaction hears one beat: it locks the row of marks that has the epoch, so that beats take turns, then the
pools that the beat speaks of, in order of id, as acquires do. See docs/adr/0051.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.allotment import (
    ALLOTMENT_TTL,
    Allotment,
    Authority,
    Known,
    RelayAnswer,
    RelayBeat,
    Shares,
    check_ttl,
    counted,
    expire,
    hear,
    plain,
    restored,
    told,
)
from sojourn.event import Event
from sojourn.lease import Usage
from sojourn.seating import refusal
from sojourn.store import LIST_MAX, NO_TTLS, Action
from sojourn.stores.sql import events, outages
from sojourn.stores.sql.database import Rows, Tx, Verbs
from sojourn.stores.sql.pools import Certificate, Certificates, PoolView
from sojourn.stores.sql.rows import pool_of

EPOCH, DOUBT_UNTIL, LONGEST = "relay_epoch", "relay_doubt", "relay_longest"
"""Rows of `sojourn_marks`: the epoch, until when relays may hold what is not known, the longest ttl given.
The first is locked by whoever hears a beat."""

DOUBT = """(SELECT count(*) FROM sojourn_relays AS r
    WHERE r.epoch < (SELECT e.value FROM sojourn_marks AS e WHERE e.name = 'relay_epoch')
    AND {now} < (SELECT d.value FROM sojourn_marks AS d WHERE d.name = 'relay_doubt'))"""
"""How many relays there are that may hold more than is known."""

MARKS = "SELECT name, value FROM sojourn_marks WHERE name {in names}"
LOCK = "SELECT value FROM sojourn_marks WHERE name = 'relay_epoch' {update}"
SET_MARK = """
INSERT INTO sojourn_marks (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
SET_MARK_MYSQL = """
INSERT INTO sojourn_marks (name, value) VALUES (:name, :value)
ON DUPLICATE KEY UPDATE value = VALUES(value)
"""
BEGIN_MARK = """
INSERT INTO sojourn_marks (name, value) VALUES ('relay_epoch', 1)
ON CONFLICT (name) DO UPDATE SET value = coalesce(sojourn_marks.value, 1)
"""
BEGIN_MARK_MYSQL = """
INSERT INTO sojourn_marks (name, value) VALUES ('relay_epoch', 1)
ON DUPLICATE KEY UPDATE value = coalesce(value, 1)
"""
RELAYS = "SELECT name, life, number, epoch, heard_at FROM sojourn_relays"
HEARD = """
INSERT INTO sojourn_relays (name, life, number, epoch, heard_at)
VALUES (:name, :life, :number, :epoch, :heard_at)
ON CONFLICT (name) DO UPDATE SET life = excluded.life, number = excluded.number, epoch = excluded.epoch,
    heard_at = excluded.heard_at
"""
HEARD_MYSQL = """
INSERT INTO sojourn_relays (name, life, number, epoch, heard_at)
VALUES (:name, :life, :number, :epoch, :heard_at)
ON DUPLICATE KEY UPDATE life = VALUES(life), number = VALUES(number), epoch = VALUES(epoch),
    heard_at = VALUES(heard_at)
"""
FORGET = "DELETE FROM sojourn_relays WHERE name = :name"

LOCK_POOLS = """
SELECT id, fence, line_until, allotments, {pool} FROM sojourn_pools WHERE id {in ids}
ORDER BY id {update}
"""
NOW = "SELECT {now}, (SELECT value FROM sojourn_marks WHERE name = 'pulse')"
WRITE = "UPDATE sojourn_pools SET allotments = :allotments WHERE id = :id"
SHARED_POOLS = """
SELECT id FROM sojourn_pools WHERE allotments IS NOT NULL ORDER BY id LIMIT :limit
"""
POOLS = "SELECT id, allotments, {pool} FROM sojourn_pools WHERE id {in ids} ORDER BY id"


class _Row(Struct, frozen=True, array_like=True):
    """What a pool's row has of one relay that ever had seats of it. Over at `expires_at`; the fence stays."""

    relay: str
    fence: int
    seats: int = 0
    expires_at: int = 0
    held: int = 0
    want: int = 0


OVER = 1
"""An instant long ago, until which lives what was once seen to be over, however a clock is set back. The
stream is told of it with the next beat."""

_rows = msgspec.json.Decoder(tuple[_Row, ...])
_encode = msgspec.json.Encoder().encode


def allotted(text: str, now: int) -> int:
    """Count the seats that relays may grant."""
    return sum(each.seats for each in _rows.decode(text) if now < each.expires_at)


def over_since(text: str, now: int) -> str | None:
    """Return what the row is to have where an allotment is newly over, for the step that relies on it."""
    rows = _rows.decode(text)
    if not any(OVER < each.expires_at <= now for each in rows):
        return None
    over = (replace(x, expires_at=OVER) if 0 < x.expires_at <= now else x for x in rows)
    return _encode(tuple(over)).decode()


def shares_of(text: str | None) -> Shares:
    """Read what a pool's row has of relays."""
    rows = () if text is None else _rows.decode(text)
    return Shares(
        capacity=0,
        allotments={
            row.relay: Allotment(row.seats, row.fence, row.expires_at, row.held, row.want)
            for row in rows
            if row.expires_at
        },
        fences={row.relay: row.fence for row in rows},
    )


def text_of(shares: Shares) -> str | None:
    """Return what a pool's row is to have of relays; None if none ever had seats of it."""
    rows = []
    for relay, fence in sorted(shares.fences.items()):
        mine = shares.allotments.get(relay)
        given = () if mine is None else (mine.seats, mine.expires_at, mine.held, mine.want)
        rows.append(_Row(relay, fence, *given))
    return _encode(rows).decode() if rows else None


class AllotmentVerbs(Verbs):
    """Verbs of an authority."""

    _certificates: Certificates

    def allot(
        self,
        beats: Sequence[RelayBeat],
        *,
        ttl: int = ALLOTMENT_TTL,
        ttls: Mapping[str, int] = NO_TTLS,
    ) -> list[RelayAnswer]:
        """Hear relays' beats; see `Store.allot`."""
        for beat in beats:
            beat.check()
        for each in (ttl, *ttls.values()):
            check_ttl(each)
        answers = []
        for beat in beats:
            lasting = {wish.pool_id: ttls.get(wish.pool_id, ttl) for wish in beat.wishes}
            work = partial(
                _allot,
                certificates=self._certificates,
                beat=beat,
                ttls=lasting,
                max_pause=self._max_pause,
            )
            answer, found = self._db.transaction(work)
            for pool_id, certificate in found.items():
                self._certificates.keep(pool_id, certificate)
            answers.append(answer)
        return answers

    def authority(self, pool_ids: Sequence[str] | None = None) -> tuple[Authority, int]:
        """Read relays and what they have of which pools; see `Store.authority`."""

        def work(tx: Tx) -> tuple[Authority, int, Rows]:
            ids = pool_ids
            if ids is None:
                ids = [row[0] for row in tx.rows(SHARED_POOLS, {"limit": LIST_MAX})]
            rows = tx.rows(POOLS, {"ids": tx.dialect.keys(sorted(set(ids)))}) if ids else []
            return read_authority(tx), tx.now(), rows

        authority, now, rows = self._db.read(work)
        there = {row[0]: pool for row in rows if (pool := pool_of(row[2:])) is not None}
        used = dict(zip(there, self.usage(list(there)), strict=True))
        pools = {}
        for pool_id, text, *_ in rows:
            shares = expire(shares_of(text), now)
            pool, usage = there.get(pool_id), used.get(pool_id)
            if pool is not None and usage is not None:
                pools[pool_id] = replace(
                    shares,
                    capacity=pool.policy.capacity,
                    overdraft=pool.policy.overdraft,
                    own=usage.in_use,
                    closed=refusal(pool, now) is not None,
                )
            elif text is not None:
                pools[pool_id] = shares.dropped()
        return replace(authority, pools=pools), now

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        """See `Store.usage`."""
        raise NotImplementedError

    def begin_epoch(self, action: Action) -> int:
        """Say that the store was put back; see `Store.begin_epoch`."""
        return self._db.transaction(lambda tx: begin_epoch(tx, action))

    def forget_relay(self, relay: str, action: Action) -> bool:
        """Wait for a relay no more; see `Store.forget_relay`."""

        def work(tx: Tx) -> bool:
            _lock(tx)
            known = tx.do(FORGET, {"name": relay}) > 0
            events.append(tx, [events.action_event(action, relay=relay, known=known)], tx.now())
            return known

        return self._db.transaction(work)


def begin_epoch(tx: Tx, action: Action) -> int:
    """Begin an epoch in a transaction; it is the last thing that this does."""
    before = _lock(tx)
    now = tx.now()
    after = restored(before, now)
    _write_marks(tx, before, after)
    happened = told(before, after, now)
    events.append(tx, [*happened, events.action_event(action, epoch=after.epoch)], now)
    return after.epoch


def read_authority(tx: Tx) -> Authority:
    """Read the epoch and the relays."""
    names = tx.dialect.keys([EPOCH, DOUBT_UNTIL, LONGEST])
    marks = {row[0]: int(row[1] or 0) for row in tx.rows(MARKS, {"names": names})}
    relays = {row[0]: Known(*row[1:]) for row in tx.rows(RELAYS, {})}
    return Authority(
        relays=relays,
        epoch=marks.get(EPOCH, 1),
        doubt_until=marks.get(DOUBT_UNTIL, 0),
        longest=marks.get(LONGEST, 0),
    )


def _lock(tx: Tx) -> Authority:
    """Let no other beat be heard until this transaction is over."""
    if not tx.rows(LOCK, {}):
        begin = BEGIN_MARK
        tx.do(tx.dialect.pick(sqlite=begin, postgres=begin, mysql=BEGIN_MARK_MYSQL))
    return read_authority(tx)


def _allot(
    tx: Tx,
    certificates: Certificates,
    beat: RelayBeat,
    ttls: Mapping[str, int],
    max_pause: int,
) -> tuple[RelayAnswer, dict[str, Certificate]]:
    authority = _lock(tx)
    rows = tx.rows(LOCK_POOLS, {"ids": tx.dialect.keys(sorted(ttls))}) if ttls else []
    [(now, pulse)] = tx.rows(NOW, {"now": tx.instant})
    now = int(now)
    tx.judge(now, pulse)
    happened: list[Event] = []
    if outages.stale(pulse, now, max_pause):  # or seats are given away that are to be given back
        outage, now = outages.give_grace(tx, max_pause)
        happened += [outages.returned(outage)] if outage is not None else []
    wishes = {wish.pool_id: wish for wish in beat.wishes}
    pools: dict[str, Shares] = {}
    stored: dict[str, Shares] = {}
    found: dict[str, Certificate] = {}
    for pool_id, fence, until, text, *rest in rows:
        stored[pool_id] = shares_of(text)
        shares, pool = expire(stored[pool_id], now), pool_of(rest)
        if pool is None:
            if text is not None:
                pools[pool_id] = shares.dropped()
            continue
        view = PoolView(
            tx,
            certificates,
            pool,
            fence=fence,
            rows={},
            now=now,
            line_until=until,
            allotted=shares.allotted,
        )
        renewed = plain(shares, beat, wishes[pool_id])
        pools[pool_id] = counted(view, shares, ttls[pool_id], renewed=renewed)
        if view.certificate is not None:
            found[pool_id] = view.certificate
    before = replace(authority, pools=pools)
    after, answer = hear(before, beat, now)
    texts = {row[0]: row[3] for row in rows}
    _write(tx, before, after, beat.relay, texts)
    happened += told(replace(before, pools=stored), after, now)
    events.append(tx, happened, now)
    return answer, found


def _write(
    tx: Tx, before: Authority, after: Authority, relay: str, texts: Mapping[str, str | None]
) -> None:
    changed = [
        {"id": pool_id, "allotments": text}
        for pool_id, pool in sorted(after.pools.items())
        if (text := text_of(pool)) != texts[pool_id]
    ]
    tx.many(WRITE, changed)
    known = after.relays.get(relay)
    if known is not None and known != before.relays.get(relay):
        row = {"name": relay, **msgspec.structs.asdict(known)}
        tx.do(tx.dialect.pick(sqlite=HEARD, postgres=HEARD, mysql=HEARD_MYSQL), row)
    _write_marks(tx, before, after)


def _write_marks(tx: Tx, before: Authority, after: Authority) -> None:
    statement = tx.dialect.pick(sqlite=SET_MARK, postgres=SET_MARK, mysql=SET_MARK_MYSQL)
    for name, was, value in (
        (EPOCH, before.epoch, after.epoch),
        (DOUBT_UNTIL, before.doubt_until, after.doubt_until),
        (LONGEST, before.longest, after.longest),
    ):
        if value != was:
            tx.do(statement, {"name": name, "value": value})
