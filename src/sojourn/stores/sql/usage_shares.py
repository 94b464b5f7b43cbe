"""Shares of users and clients in the ledger's database: by day, and by month once the month is over.

Rows of a month are the sums of its days, so that a year is read from a dozen months. A row of `OTHERS`
marks a month that is summed up; of any other the days are read. A day and a month are bounded in names:
those with the least are added to `OTHERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Select, case, delete, func, insert, literal, select, union_all

from sojourn.analytics.counts import Share
from sojourn.analytics.holds import ShareKey
from sojourn.analytics.keeper import NAMES_KEPT, NAMES_MAX, OTHERS, Named, Shares
from sojourn.clock import DAY
from sojourn.stores.sql import usage_tables as tables
from sojourn.stores.sql.database import Tx

PIECE = 500
"""Names that one statement has."""
MONTHLY = {"user": "user_m", "client": "client_m"}
"""The kinds of rows of months, by those of days."""

ADD = """
INSERT INTO sojourn_usage_shares (pool_id, kind, at, name, held, granted, denied)
VALUES (:pool_id, :kind, :at, :name, :held, :granted, :denied)
"""
ADDED = """ON CONFLICT (pool_id, kind, at, name) DO UPDATE SET
held = sojourn_usage_shares.held + excluded.held,
granted = sojourn_usage_shares.granted + excluded.granted,
denied = sojourn_usage_shares.denied + excluded.denied"""
ADDED_MYSQL = """ON DUPLICATE KEY UPDATE
held = held + VALUES(held), granted = granted + VALUES(granted), denied = denied + VALUES(denied)"""

_share, _hold = tables.shares.c, tables.holds.c

Place = tuple[str, str, int]
"""Pool, kind, and when the day or the month begins."""


def month_of(at: int) -> int:
    """Return when the month of an instant began, UTC."""
    began = datetime.fromtimestamp(at / 1_000, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return int(began.timestamp()) * 1_000


def month_after(month: int) -> int:
    """Return when the month after one that began at `month` begins."""
    return month_of(month + 31 * DAY)


def months_within(since: int, until: int) -> list[int]:
    """Return when the months begin that lie wholly within a stretch of time."""
    month = month_of(since)
    if month < since:
        month = month_after(month)
    found: list[int] = []
    while month_after(month) <= until:
        found.append(month)
        month = month_after(month)
    return found


def add(tx: Tx, statement: str, shares: Mapping[ShareKey, Share], *, at: int) -> None:
    """Add to the shares that are there. `at`: the latest event that was measured; months before its own
    get rows of their own."""
    whole: dict[ShareKey, Share] = dict(shares)
    for place in sorted({(pool, kind, month_of(day)) for pool, day, kind, _ in shares}):
        pool, kind, month = place
        if month < month_of(at) and _has_rows(tx, (pool, MONTHLY[kind], month)):
            _add_to_month(whole, shares, place)
    rows = [
        {"pool_id": pool, "kind": kind, "at": day, "name": name} | msgspec.structs.asdict(share)
        for (pool, day, kind, name), share in sorted(whole.items())
    ]
    tx.many(statement, rows)
    for place in sorted({(pool, kind, day) for pool, day, kind, _ in whole}):
        _fold(tx, place)


def _add_to_month(
    whole: dict[ShareKey, Share], shares: Mapping[ShareKey, Share], place: Place
) -> None:
    pool, kind, month = place
    for (of_pool, day, of_kind, name), share in shares.items():
        if (of_pool, of_kind, month_of(day)) == place:
            whole.setdefault((pool, month, MONTHLY[kind], name), Share()).add(share)


def roll(tx: Tx, pool_id: str, *, at: int) -> None:
    """Sum the month before that of an instant up, if that is still to be done."""
    month = month_of(month_of(at) - DAY)
    for kind, monthly in MONTHLY.items():
        place = (pool_id, monthly, month)
        if _has_rows(tx, place):
            continue
        days = (
            *(_share.pool_id == pool_id, _share.kind == kind),
            *(_share.at >= month, _share.at < month_after(month)),
        )
        summed = select(
            _share.pool_id,
            literal(monthly),
            literal(month, BigInteger),
            _share.name,
            *(func.sum(_share[name]) for name in ("held", "granted", "denied")),
        )
        summed = summed.where(*days).group_by(_share.pool_id, _share.name)
        names = ["pool_id", "kind", "at", "name", "held", "granted", "denied"]
        tx.core(insert(tables.shares).from_select(names, summed))
        if not _has_rows(tx, place):
            tx.core(insert(tables.shares), [_row(place, OTHERS, Share())])
        _fold(tx, place)


def forget(tx: Tx, *, since: int) -> None:
    """Forget the shares of a day and of those after it. Its month is read from its days again."""
    tx.core(delete(tables.shares).where(_share.kind.in_(MONTHLY), _share.at >= since))
    monthly = _share.kind.in_(MONTHLY.values())
    tx.core(delete(tables.shares).where(monthly, _share.at >= month_of(since)))


def found(
    tx: Tx, pool_id: str, kind: str, span: tuple[int, int], *, known: int, limit: int
) -> Shares:
    """Return who held a pool for the longest on the days from `span[0]` on until `span[1]`; who holds a seat
    still counts from `known` on."""
    since, until = span
    rows = union_all(*_parts(tx, pool_id, kind, since, until), _open(pool_id, kind, until, known))
    each = rows.subquery()
    held, denied = func.sum(each.c.held).label("held"), func.sum(each.c.denied).label("denied")
    of_name = select(each.c.name, held, func.sum(each.c.granted), denied)
    of_name = of_name.where(each.c.name != OTHERS).group_by(each.c.name)
    of_name = of_name.order_by(held.desc(), denied.desc(), each.c.name).limit(limit)
    items = [
        Named(name=name, held=int(time), granted=int(granted), denied=int(refused))
        for name, time, granted, refused in tx.core(of_name)
    ]
    sums = (func.sum(each.c[name]) for name in ("held", "granted", "denied"))
    told = [int(number or 0) for number in tx.core(select(*sums)).one()]
    return Shares.of(items, Share(held=told[0], granted=told[1], denied=told[2]))


def _parts(tx: Tx, pool_id: str, kind: str, since: int, until: int) -> Iterator[Select[Any]]:
    """Select the rows of whole months where there are such, and of the days between them."""
    months = [
        month
        for month in months_within(since, until)
        if _has_rows(tx, (pool_id, MONTHLY[kind], month))
    ]
    columns = (_share.name, _share.held, _share.granted, _share.denied)
    mine = select(*columns).where(_share.pool_id == pool_id)
    if months:
        yield mine.where(_share.kind == MONTHLY[kind], _share.at.in_(months))
    left = since
    for month in [*months, until]:
        if left < month:
            yield mine.where(_share.kind == kind, _share.at >= left, _share.at < month)
        left = month_after(month)


def _open(pool_id: str, kind: str, until: int, known: int) -> Select[Any]:
    """Select those who hold a seat still."""
    name = _hold.user_id if kind == "user" else _hold.client_id
    began = case((_hold.started_at > known, _hold.started_at), else_=literal(known, BigInteger))
    time = literal(until, BigInteger) - began
    none = literal(0, BigInteger)
    mine = (_hold.pool_id == pool_id, _hold.ended_at.is_(None), _hold.started_at < until)
    return select(name.label("name"), time.label("held"), none, none).where(*mine)


def _has_rows(tx: Tx, place: Place) -> bool:
    return (
        tx.core(select(_share.held).where(*_at(place), _share.name == OTHERS)).first() is not None
    )


def _at(place: Place) -> tuple[Any, ...]:
    pool_id, kind, at = place
    return (_share.pool_id == pool_id, _share.kind == kind, _share.at == at)


def _fold(tx: Tx, place: Place) -> None:
    """Keep the names that held for the longest, and add the others together, if there are too many."""
    here = _at(place)
    if tx.core(select(_share.name).where(*here).offset(NAMES_MAX).limit(1)).first() is None:
        return
    columns = (_share.name, _share.held, _share.granted, _share.denied)
    query = select(*columns).where(*here)
    query = query.order_by(_share.held.desc(), _share.denied.desc(), _share.name)
    rows = [row for row in tx.core(query) if row.name != OTHERS]
    others = Share()
    for row in rows[NAMES_KEPT:]:
        others.add(Share(held=row.held, granted=row.granted, denied=row.denied))
    for row in tx.core(select(*columns).where(*here, _share.name == OTHERS)):
        others.add(Share(held=row.held, granted=row.granted, denied=row.denied))
    for piece in _pieces([OTHERS, *(row.name for row in rows[NAMES_KEPT:])]):
        tx.core(delete(tables.shares).where(*here, _share.name.in_(piece)))
    tx.core(insert(tables.shares), [_row(place, OTHERS, others)])


def _row(place: Place, name: str, share: Share) -> dict[str, Any]:
    pool_id, kind, at = place
    return {"pool_id": pool_id, "kind": kind, "at": at, "name": name} | msgspec.structs.asdict(
        share
    )


def _pieces(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + PIECE] for start in range(0, len(names), PIECE))
