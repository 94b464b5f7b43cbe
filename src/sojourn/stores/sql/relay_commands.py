"""Commands for relays and orders about their seats, in the ledger's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import and_, delete, func, insert, or_, select, update

from sojourn.errors import Conflict
from sojourn.relay_command import (
    ANSWERED_FOR,
    COUNTS_MAX,
    ORDERS_MAX,
    PENDING_FOR,
    PENDING_MAX,
    TOLD_MAX,
    USES_KEPT,
    CommandAnswer,
    CommandScope,
    CommandVerb,
    ForBeat,
    RegionCount,
    RegionReport,
    RegionUse,
    RelayCommand,
    RelayOrder,
)
from sojourn.store import LIST_MAX, bounded
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.events import audit
from sojourn.stores.sql.relay_tables import commands, orders, reports, uses
from sojourn.stores.sql.rows import to_json

COMMAND = [commands.c[name] for name in RelayCommand.__struct_fields__]
ORDER = [orders.c[name] for name in RelayOrder.__struct_fields__]
USE = [uses.c[name] for name in RegionUse.__struct_fields__]
LOCK = "SELECT value FROM sojourn_marks WHERE name = 'audits' {update}"
"""Two that come at once must not both be the last one; nor have the same number."""

_scope = msgspec.json.Decoder(CommandScope).decode
_answer = msgspec.json.Decoder(CommandAnswer).decode
_command, _order = commands.c, orders.c


class SqlRelayCommands:
    """Implements `sojourn.relay_command.CommandKeeper`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def send(self, command: RelayCommand) -> RelayCommand | None:
        def work(tx: Tx) -> RelayCommand | None:
            tx.rows(LOCK, {})
            now = tx.now()
            tx.core(delete(commands).where(_forgotten(now)))
            mine = select(*COMMAND).where(_command.relay == command.relay)
            waiting = [
                _command_of(row) for row in tx.core(mine.where(_command.answered_at.is_(None)))
            ]
            for each in waiting:
                if (each.verb, each.scope) == (command.verb, command.scope):
                    return each
            if len(waiting) >= PENDING_MAX:
                return None
            last = select(func.max(_command.seq)).where(_command.relay == command.relay)
            seq = max((tx.core(last).scalar_one() or 0) + 1, now)
            sent = replace(command, seq=seq, asked_at=now, answered_at=None, answer=None)
            tx.core(insert(commands), _command_row(sent))
            if sent.verb is not CommandVerb.DEBUG:
                told = {"verb": sent.verb.value, "command": sent.id, "scope": sent.scope}
                audit(tx, sent.actor, "relay.command", sent.relay, told)
            return sent

        return self._db.transaction(work)

    def for_beat(self, relay: str) -> ForBeat:
        pending = select(*COMMAND).where(_command.relay == relay, _command.answered_at.is_(None))
        pending = pending.order_by(_command.seq).limit(TOLD_MAX)
        ordered = select(*ORDER).where(_order.relay == relay).order_by(_order.pool_id)
        reported = select(reports.c.event_id).where(reports.c.relay == relay)

        def work(tx: Tx) -> ForBeat:
            found = tuple(_command_of(row) for row in tx.core(pending))
            wanted = tuple(RelayOrder(**row._mapping) for row in tx.core(ordered))  # noqa: SLF001 - SQLAlchemy's name
            taken = tx.core(reported).scalar() or 0
            return ForBeat(found, _in_force(wanted, tx.now()) if wanted else (), taken)

        return self._db.read(work)

    def answered(self, relay: str, answers: Mapping[str, CommandAnswer]) -> None:
        if not answers:
            return

        def work(tx: Tx) -> None:
            now = tx.now()
            for name, answer in sorted(answers.items()):
                mine = (_command.id == name, _command.relay == relay)
                query = update(commands).where(*mine, _command.answered_at.is_(None))
                tx.core(query.values(answered_at=now, answer=to_json(answer)))

        self._db.transaction(work)

    def commands(
        self, *, relay: str | None = None, ids: Sequence[str] | None = None, limit: int = 100
    ) -> list[RelayCommand]:
        query = (
            select(*COMMAND).order_by(_command.asked_at.desc(), _command.id).limit(bounded(limit))
        )
        if relay is not None:
            query = query.where(_command.relay == relay)
        if ids is not None:
            query = query.where(_command.id.in_(sorted(ids)[:LIST_MAX]))
        return [_command_of(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def order(self, wanted: Sequence[RelayOrder], *, lasting: int | None = None) -> None:
        def work(tx: Tx) -> None:
            tx.rows(LOCK, {})
            now = tx.now()
            tx.core(delete(orders).where(_order.until <= now))
            until = None if lasting is None else now + lasting
            for each in wanted:
                mine = and_(_order.relay == each.relay, _order.pool_id == each.pool_id)
                tx.core(delete(orders).where(mine))
                if each.least or each.most is not None:
                    count = (
                        select(func.count()).select_from(orders).where(_order.relay == each.relay)
                    )
                    if tx.core(count).scalar_one() >= ORDERS_MAX:
                        raise Conflict(f"There are {ORDERS_MAX} orders for this relay already.")
                    tx.core(insert(orders), msgspec.structs.asdict(each) | {"until": until})
                told = {"pool": each.pool_id or None, "least": each.least, "most": each.most}
                audit(tx, each.actor, "relay.order", each.relay, told)

        self._db.transaction(work)

    def reported(self, relay: str, report: RegionReport) -> int:
        mine = select(reports.c.event_id).where(reports.c.relay == relay).with_for_update()

        def work(tx: Tx) -> int:
            taken = tx.core(mine).scalar()
            if taken is None:
                tx.rows(LOCK, {})
                taken = tx.core(mine).scalar()
            if report.after != (taken or 0):
                return taken or 0
            row = {"relay": relay, "event_id": report.up_to}
            if taken is None:
                tx.core(insert(reports), row)
            else:
                tx.core(update(reports).where(reports.c.relay == relay).values(row))
            for each in report.counts[:COUNTS_MAX]:
                _add(tx, relay, each)
            return report.up_to

        return self._db.transaction(work)

    def uses(
        self, *, since: int, relay: str | None = None, license_id: str | None = None
    ) -> list[RegionUse]:
        query = select(*USE).where(uses.c.day >= since)
        if relay is not None:
            query = query.where(uses.c.relay == relay)
        if license_id is not None:
            begins = license_id + ":"
            query = query.where(uses.c.pool_id >= begins, uses.c.pool_id < license_id + ";")
        query = query.order_by(uses.c.day.desc(), uses.c.relay, uses.c.pool_id).limit(LIST_MAX)
        found = self._db.read(lambda tx: tx.core(query).all())
        return [RegionUse(**row._mapping) for row in found]  # noqa: SLF001 - SQLAlchemy's name

    def orders(self) -> list[RelayOrder]:
        query = select(*ORDER).order_by(_order.relay, _order.pool_id).limit(LIST_MAX)

        def work(tx: Tx) -> list[RelayOrder]:
            found = tuple(RelayOrder(**row._mapping) for row in tx.core(query))  # noqa: SLF001 - SQLAlchemy's name
            return list(_in_force(found, tx.now()))

        return self._db.read(work)


def _add(tx: Tx, relay: str, count: RegionCount) -> None:
    """Add what happened to what is known of that day; forget days of long ago with each that begins."""
    mine = and_(uses.c.relay == relay, uses.c.pool_id == count.pool_id, uses.c.day == count.day)
    more = {name: uses.c[name] + getattr(count, name) for name in ("granted", "denied", "ended")}
    if tx.core(update(uses).where(mine).values(more)).rowcount:
        return
    old = tx.now() - USES_KEPT
    tx.core(delete(uses).where(uses.c.relay == relay, uses.c.day < old))
    tx.core(insert(uses), {"relay": relay, **msgspec.structs.asdict(count)})


def _forgotten(now: int) -> Any:
    return or_(_command.answered_at < now - ANSWERED_FOR, _command.asked_at < now - PENDING_FOR)


def _in_force(found: Sequence[RelayOrder], now: int) -> tuple[RelayOrder, ...]:
    return tuple(each for each in found if each.until is None or now < each.until)


def _command_row(command: RelayCommand) -> dict[str, Any]:
    row = msgspec.structs.asdict(command)
    return row | {"scope": to_json(command.scope), "verb": command.verb.value, "answer": None}


def _command_of(row: Sequence[Any]) -> RelayCommand:
    values = dict(zip(RelayCommand.__struct_fields__, row, strict=True))
    values["scope"] = _scope(values["scope"])
    values["verb"] = CommandVerb(values["verb"])
    if values["answer"] is not None:
        values["answer"] = _answer(values["answer"])
    return RelayCommand(**values)
