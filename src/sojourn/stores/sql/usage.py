"""Measures of how seats were used, in the ledger's database.

All rows change together with the one of `sojourn_usage_cursor`, under its revision: whoever finds another
revision than it has read writes nothing. So each event is counted once, whatever is killed, and however
many servers measure at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from sojourn.analytics.buckets import Before, Bucket
from sojourn.analytics.counts import Counts
from sojourn.analytics.holds import Hold, PolicyAt
from sojourn.analytics.incidents import Refusals
from sojourn.analytics.keeper import (
    INCIDENTS_MAX,
    KEPT,
    SHARES_MAX,
    STEPS_KEPT,
    Changes,
    Cursor,
    PoolHours,
    Shares,
    Span,
)
from sojourn.analytics.levels import Levels, Step
from sojourn.clock import DAY, HOUR
from sojourn.ledger import Audit
from sojourn.license import Policy
from sojourn.stores.sql import usage_shares as shares
from sojourn.stores.sql import usage_tables as tables
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.rows import to_json

T = TypeVar("T")

UNITS = {HOUR: "hour", DAY: "day"}
NAME = "usage"
PIECE = 500
"""Rows that are named in one statement."""
FORGET_WITHIN = 40 * DAY
"""How far back a step looks for rows that are too old: a pool in which nothing happened for longer keeps a
few of them."""

_levels = msgspec.json.Decoder(Levels).decode
_counts = msgspec.json.Decoder(Counts).decode
_steps = msgspec.json.Decoder(list[int]).decode
_past = msgspec.json.Decoder(tuple[tuple[int, int], ...]).decode
_numbers = msgspec.json.Decoder(dict[str, int]).decode
_policy = msgspec.json.Decoder(Policy).decode

_cursor, _bucket, _step = tables.cursor.c, tables.buckets.c, tables.steps.c
_hold, _share = tables.holds.c, tables.shares.c
_incident, _policies = tables.incidents.c, tables.policies.c

BUCKET = (
    *(_bucket.pool_id, _bucket.at, _bucket.level, _bucket.last, _bucket.stepped_at),
    *(_bucket.levels, _bucket.counts),
)
HOLD = [_hold[name] for name in Hold.__struct_fields__]
CURSOR = [_cursor[name] for name in Cursor.__struct_fields__]


class SqlUsage:
    """Implements `sojourn.analytics.keeper.UsageKeeper`."""

    def __init__(self, db: Database, audits: Callable[..., list[Audit]]) -> None:
        self._db = db
        self._audits = audits
        added = db.dialect.pick(
            sqlite=shares.ADDED, postgres=shares.ADDED, mysql=shares.ADDED_MYSQL
        )
        self._add_share = shares.ADD + added

    def cursor(self) -> Cursor | None:
        row = self._db.read(lambda tx: tx.core(select(*CURSOR)).first())
        return None if row is None else _cursor_of(row)

    def oldest(self, pool_id: str | None = None) -> int | None:
        query = select(func.min(_bucket.at)).where(_bucket.unit == "hour")
        if pool_id is not None:
            query = query.where(_bucket.pool_id == pool_id)
        found = self._db.read(lambda tx: tx.core(query).scalar_one())
        return None if found is None else int(found)

    def newest(self) -> int | None:
        query = select(func.max(_bucket.at)).where(_bucket.unit == "hour")
        found = self._db.read(lambda tx: tx.core(query).scalar_one())
        return None if found is None else int(found)

    def begin(self, before: Cursor | None, *, since: int) -> bool:
        hour, day = since // HOUR * HOUR, since // DAY * DAY
        revision = 1 if before is None else before.revision + 1
        begun = Cursor(since=since, at=since, revision=revision)

        def work(tx: Tx) -> bool:
            if not _move(tx, before, begun):
                return False
            tx.patiently()
            for unit, edge in (("hour", hour), ("day", day)):
                old = (_bucket.unit == unit, _bucket.at >= edge)
                tx.core(delete(tables.buckets).where(*old))
            tx.core(delete(tables.steps).where(_step.at >= hour))
            shares.forget(tx, since=day)
            tx.core(delete(tables.incidents).where(_incident.started_at >= since))
            tx.core(delete(tables.holds))
            tx.core(delete(tables.policies))
            return True

        return self._db.transaction(work)

    def holds(self, ids: Sequence[str], seats: Sequence[str]) -> list[Hold]:
        def work(tx: Tx) -> dict[str, Hold]:
            found: dict[str, Hold] = {}
            for column, names in ((_hold.id, ids), (_hold.seat, seats)):
                for piece in _pieces(names):
                    rows = tx.core(select(*HOLD).where(column.in_(piece)))
                    found |= {row[0]: _hold_of(row) for row in rows}
            return found

        return list(self._db.read(work).values())

    def policies(self, pool_ids: Sequence[str]) -> dict[str, list[PolicyAt]]:
        def work(tx: Tx) -> dict[str, list[PolicyAt]]:
            found: dict[str, list[PolicyAt]] = {pool: [] for pool in pool_ids}
            for piece in _pieces(pool_ids):
                query = select(_policies.pool_id, _policies.at, _policies.policy)
                query = query.where(_policies.pool_id.in_(piece)).order_by(_policies.at)
                for pool, at, policy in tx.core(query):
                    told = None if policy is None else _policy(policy)
                    found[pool].append(PolicyAt(at, told))
            return found

        return self._db.read(work)

    def audits(self, *, after: int, limit: int) -> list[Audit]:
        return self._audits(after=after, limit=limit)

    def pool_hours(self, pool_id: str, since: int) -> PoolHours:
        mine = (_bucket.pool_id == pool_id, _bucket.unit == "hour")
        latest = select(_bucket.at).where(*mine, _bucket.at < since).order_by(_bucket.at.desc())

        def work(tx: Tx) -> PoolHours:
            earlier = tx.core(latest.limit(1)).scalar_one_or_none()
            edge = (since if earlier is None else int(earlier)) // DAY * DAY
            rows = tx.core(select(*BUCKET).where(*mine, _bucket.at >= edge)).all()
            return PoolHours({row[1]: _bucket_of(row) for row in rows}, _before(tx, pool_id, edge))

        return self._db.read(work)

    def steps(self, pool_id: str, hours: Sequence[int]) -> dict[int, list[Step]]:
        def work(tx: Tx) -> dict[int, list[Step]]:
            found: dict[int, list[Step]] = {hour: [] for hour in hours}
            for piece in _pieces(hours):
                query = select(_step.at, _step.steps)
                query = query.where(_step.pool_id == pool_id, _step.at.in_(piece))
                for hour, told in tx.core(query):
                    flat = _steps(told)
                    pairs = zip(flat[::2], flat[1::2], strict=True)
                    found[hour] += [(hour + late, change) for late, change in pairs]
            return found

        return self._db.read(work)

    def latest_incidents(self, pool_ids: Sequence[str]) -> dict[str, Refusals]:
        def work(tx: Tx) -> dict[str, Refusals]:
            found: dict[str, Refusals] = {}
            for piece in _pieces(pool_ids):
                latest = select(_incident.pool_id, func.max(_incident.started_at).label("at"))
                of_each = latest.where(_incident.pool_id.in_(piece)).group_by(_incident.pool_id)
                last = of_each.subquery()
                query = select(tables.incidents).join(
                    last,
                    (last.c.pool_id == _incident.pool_id) & (last.c.at == _incident.started_at),
                )
                found |= {row.pool_id: _incident_of(row) for row in tx.core(query)}
            return found

        return self._db.read(work)

    def commit(self, before: Cursor, changes: Changes) -> bool:
        def work(tx: Tx) -> bool:
            if not _move(tx, before, changes.cursor):
                return False
            gone = [*changes.forgotten, *(hold.id for hold in changes.holds)]
            for piece in _pieces(gone):
                tx.core(delete(tables.holds).where(_hold.id.in_(piece)))
            _insert(tx, tables.holds, [_hold_row(hold) for hold in changes.holds])
            for unit, buckets in ((HOUR, changes.hours), (DAY, changes.days)):
                _replace(tx, unit, buckets)
            _insert(tx, tables.steps, _step_rows(changes))
            shares.add(tx, self._add_share, changes.shares, at=changes.cursor.at)
            for incident in changes.incidents:
                key = (
                    _incident.pool_id == incident.pool_id,
                    _incident.started_at == incident.started_at,
                )
                tx.core(delete(tables.incidents).where(*key))
            _insert(tx, tables.incidents, [_incident_row(each) for each in changes.incidents])
            for pool, policy in changes.policies:
                same = (_policies.pool_id == pool, _policies.at == policy.at)
                tx.core(delete(tables.policies).where(*same))
                _insert(tx, tables.policies, [_policy_row(pool, policy)])
            for pool in sorted({day.pool_id for day in changes.days}):
                shares.roll(tx, pool, at=changes.cursor.at)
                _forget(tx, pool, changes.cursor.at)
            return True

        return self._db.transaction(work)

    # What is asked

    def span(self, pool_id: str, since: int, until: int, *, by_day: bool) -> Span:
        def of(unit: str, edge: int) -> Any:
            mine = (_bucket.pool_id == pool_id, _bucket.unit == unit)
            return select(*BUCKET).where(*mine, _bucket.at >= edge, _bucket.at < until)

        def work(tx: Tx) -> Span:
            days = [_bucket_of(row) for row in tx.core(of("day", since))] if by_day else []
            edge = max((day.at for day in days), default=since - DAY) + DAY if by_day else since
            hours = [_bucket_of(row) for row in tx.core(of("hour", edge))]
            return Span(
                hours={hour.at: hour for hour in hours},
                days={day.at: day for day in days},
                before=_before(tx, pool_id, since),
            )

        return self._db.read(work)

    def open_holds(self, pool_id: str, *, limit: int) -> list[Hold]:
        query = select(*HOLD).where(_hold.pool_id == pool_id, _hold.ended_at.is_(None))
        query = query.order_by(_hold.id).limit(limit)
        return [_hold_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def marks(self, pool_id: str, since: int, until: int) -> list[tuple[int, int, int, int]]:
        mine = (_bucket.pool_id == pool_id, _bucket.unit == "hour")
        told = (_bucket.at, _bucket.last, _bucket.peak, _bucket.seat_time)
        before = select(*told).where(*mine, _bucket.at < since).order_by(_bucket.at.desc()).limit(1)
        within = select(*told).where(*mine, _bucket.at >= since, _bucket.at < until)

        def work(tx: Tx) -> list[tuple[int, int, int, int]]:
            rows = [*tx.core(before).all(), *tx.core(within.order_by(_bucket.at)).all()]
            return [(int(at), int(last), int(most), int(held)) for at, last, most, held in rows]

        return self._db.read(work)

    def shares(
        self, pool_id: str, kind: str, since: int, until: int, *, limit: int = SHARES_MAX
    ) -> Shares:
        def work(tx: Tx) -> Shares:
            cursor = tx.core(select(_cursor.since)).scalar_one_or_none()
            known = max(since, int(cursor or 0))
            return shares.found(tx, pool_id, kind, (since, until), known=known, limit=limit)

        return self._db.read(work)

    def incidents(
        self, pool_id: str | None, since: int, until: int, *, limit: int = INCIDENTS_MAX
    ) -> list[Refusals]:
        query = select(tables.incidents)
        query = query.where(_incident.started_at >= since, _incident.started_at < until)
        if pool_id is not None:
            query = query.where(_incident.pool_id == pool_id)
        query = query.order_by(_incident.started_at.desc(), _incident.pool_id).limit(limit)
        return [_incident_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]


def _move(tx: Tx, before: Cursor | None, after: Cursor) -> bool:
    """Put the cursor where it is to be, if it is where it is taken to be."""
    row = {"name": NAME} | msgspec.structs.asdict(after)
    if before is not None:
        unchanged = (_cursor.name == NAME, _cursor.revision == before.revision)
        return bool(tx.core(update(tables.cursor).where(*unchanged).values(row)).rowcount)
    if tx.core(select(_cursor.revision)).first() is not None:
        return False
    try:
        tx.core(insert(tables.cursor), row)
    except IntegrityError as error:
        raise Again from error  # somebody else was faster
    return True


def _before(tx: Tx, pool_id: str, at: int) -> Before:
    query = select(_bucket.at, _bucket.last).where(_bucket.pool_id == pool_id)
    query = query.where(_bucket.unit == "hour", _bucket.at < at)
    row = tx.core(query.order_by(_bucket.at.desc()).limit(1)).first()
    return Before() if row is None else Before(int(row[0]), int(row[1]))


def _replace(tx: Tx, unit: int, buckets: Sequence[Bucket]) -> None:
    by_pool: dict[str, list[int]] = {}
    for bucket in buckets:
        by_pool.setdefault(bucket.pool_id, []).append(bucket.at)
    for pool, instants in by_pool.items():
        for piece in _pieces(instants):
            same = (_bucket.pool_id == pool, _bucket.unit == UNITS[unit], _bucket.at.in_(piece))
            tx.core(delete(tables.buckets).where(*same))
    _insert(tx, tables.buckets, [_bucket_row(UNITS[unit], bucket) for bucket in buckets])


def _forget(tx: Tx, pool_id: str, at: int) -> None:
    """Forget what is too old of a pool. Steps of hours in which its policy changed are kept for as long as
    the hours: a stretch of such an hour is judged by the capacity that it had."""
    old = (_step.pool_id == pool_id, _step.at < at - STEPS_KEPT)
    here = (_policies.pool_id == pool_id, _policies.at >= _step.at, _policies.at < _step.at + HOUR)
    changed = select(_policies.at).where(*here).exists()
    recent = _step.at >= at - STEPS_KEPT - FORGET_WITHIN
    tx.core(delete(tables.steps).where(*old, recent, ~changed))
    edge = at - KEPT
    for table, column in (
        (tables.steps, _step.at),
        (tables.shares, _share.at),
        (tables.incidents, _incident.started_at),
        (tables.buckets, _bucket.at),
    ):
        among = (table.c.pool_id == pool_id, column < edge, column >= edge - FORGET_WITHIN)
        tx.core(delete(table).where(*among))


def _insert(tx: Tx, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        tx.core(insert(table), rows)


def _pieces(values: Iterable[T]) -> Iterable[list[T]]:
    whole = list(values)
    return (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))


def _cursor_of(row: Sequence[Any]) -> Cursor:
    return Cursor(**dict(zip(Cursor.__struct_fields__, map(int, row), strict=True)))


def _bucket_of(row: Sequence[Any]) -> Bucket:
    pool_id, at, level, last, stepped_at, levels, counts = row
    return Bucket(
        pool_id=pool_id,
        at=at,
        level=level,
        last=last,
        stepped_at=stepped_at,
        levels=_levels(levels),
        counts=_counts(counts),
    )


def _bucket_row(unit: str, bucket: Bucket) -> dict[str, Any]:
    return {
        "pool_id": bucket.pool_id,
        "unit": unit,
        "at": bucket.at,
        "level": bucket.level,
        "last": bucket.last,
        "peak": bucket.peak,
        "seat_time": bucket.seat_time,
        "stepped_at": bucket.stepped_at,
        "levels": to_json(bucket.levels),
        "counts": to_json(bucket.counts),
    }


def _step_rows(changes: Changes) -> list[dict[str, Any]]:
    return [
        {
            "pool_id": pool,
            "at": hour,
            "revision": changes.cursor.revision,
            "steps": to_json([x for at, change in steps for x in (at - hour, change)]),
        }
        for (pool, hour), steps in changes.steps.items()
    ]


def _hold_of(row: Sequence[Any]) -> Hold:
    values = dict(zip(Hold.__struct_fields__, row, strict=True))
    return Hold(**values | {"resumed": bool(values["resumed"]), "past": _past(values["past"])})


def _hold_row(hold: Hold) -> dict[str, Any]:
    return msgspec.structs.asdict(hold) | {"past": to_json(hold.past)}


def _incident_of(row: Any) -> Refusals:
    return Refusals(
        pool_id=row.pool_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        times=row.times,
        users=_numbers(row.users),
        unnamed=row.unnamed,
        reasons=_numbers(row.reasons),
        limit=row.seats,
        in_use=row.in_use,
    )


def _incident_row(incident: Refusals) -> dict[str, Any]:
    row = msgspec.structs.asdict(incident)
    row["seats"] = row.pop("limit")
    return row | {"users": to_json(incident.users), "reasons": to_json(incident.reasons)}


def _policy_row(pool: str, policy: PolicyAt) -> dict[str, Any]:
    told = None if policy.policy is None else to_json(policy.policy)
    return {"pool_id": pool, "at": policy.at, "policy": told}
