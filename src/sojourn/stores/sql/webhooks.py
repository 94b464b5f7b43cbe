"""Webhooks and their deliveries, in the ledger's database.

A webhook's row is locked before its deliveries, and webhooks in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Select, case, delete, func, insert, select, update

from sojourn.errors import Conflict
from sojourn.store import bounded
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.events import audit
from sojourn.stores.sql.rows import to_json
from sojourn.stores.sql.schema import webhook_deliveries, webhooks
from sojourn.webhook import (
    DEAD_KEPT,
    DELIVERED_KEPT,
    DELIVERED_KEPT_MAX,
    SECRETS_MAX,
    WEBHOOKS_MAX,
    Delivery,
    DeliveryState,
    Letter,
    Outcome,
    Secret,
    Webhook,
    WebhookChange,
)
from sojourn.webhook_store import Backlog, Batch, Claim

HOOK = [webhooks.c[name] for name in Webhook.__struct_fields__]
SENT = [webhook_deliveries.c[name] for name in Delivery.__struct_fields__]
ERROR_MAX = 500
LOCK_CREATE = "SELECT value FROM sojourn_marks WHERE name = 'audits' {update}"

_kinds = msgspec.json.Decoder(tuple[str, ...]).decode
_secrets = msgspec.json.Decoder(tuple[Secret, ...]).decode
_row = webhook_deliveries.c


class SqlBook:
    """Implements `sojourn.webhook_store.Book`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # What operators do

    def create(self, webhook: Webhook, *, actor: str) -> Webhook:
        def work(tx: Tx) -> Webhook:
            tx.rows(LOCK_CREATE, {})  # two that come at once must not both be the last one
            if tx.core(select(func.count()).select_from(webhooks)).scalar_one() >= WEBHOOKS_MAX:
                raise Conflict(
                    f"There are {WEBHOOKS_MAX} webhooks already.",
                    hint="Delete one, or let one receiver pass events on.",
                )
            created = msgspec.structs.replace(webhook, created_at=tx.now())
            row = _hook_row(created) | {"last_seq": 0, "claimed_until": 0}
            tx.core(insert(webhooks), row)
            data = {"url": created.url, "kinds": created.kinds}
            audit(tx, actor, "webhook.create", created.id, data)
            return created

        return self._db.transaction(work)

    def get(self, webhook_id: str) -> Webhook | None:
        query = select(*HOOK).where(webhooks.c.id == webhook_id)
        row = self._db.read(lambda tx: tx.core(query).first())
        return None if row is None else _hook(row)

    def all(self) -> list[Webhook]:
        query = select(*HOOK).order_by(webhooks.c.created_at, webhooks.c.id)
        return [_hook(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def change(self, webhook_id: str, change: WebhookChange, *, actor: str) -> Webhook | None:
        changes: dict[str, Any] = {
            name: value
            for name in change.__struct_fields__
            if (value := getattr(change, name)) is not UNSET
        }

        def work(tx: Tx) -> Webhook | None:
            found = _lock(tx, webhook_id)
            if found is None or not changes:
                return found
            if "enabled" in changes:
                changes["disabled_because"] = None
            changed = msgspec.structs.replace(found, **changes, hold_until=0)
            _update(tx, changed)
            audit(tx, actor, "webhook.change", webhook_id, changes)
            return changed

        return self._db.transaction(work)

    def delete(self, webhook_id: str, *, actor: str) -> bool:
        def work(tx: Tx) -> bool:
            found = _lock(tx, webhook_id)
            if found is None:
                return False
            tx.core(delete(webhook_deliveries).where(_row.webhook_id == webhook_id))
            tx.core(delete(webhooks).where(webhooks.c.id == webhook_id))
            audit(tx, actor, "webhook.delete", webhook_id, {"url": found.url})
            return True

        return self._db.transaction(work)

    def rotate(self, webhook_id: str, secret: Secret, *, grace: int, actor: str) -> Webhook | None:
        def work(tx: Tx) -> Webhook | None:
            found = _lock(tx, webhook_id)
            if found is None:
                return None
            now = tx.now()
            older = [
                Secret(
                    text=x.text, until=now + grace if x.until is None else min(x.until, now + grace)
                )
                for x in found.secrets
                if x.until is None or x.until > now
            ]
            kept = (secret, *(x for x in older if grace))[:SECRETS_MAX]
            changed = msgspec.structs.replace(found, secrets=kept)
            _update(tx, changed)
            audit(tx, actor, "webhook.rotate_secret", webhook_id, {"grace": grace // 1000})
            return changed

        return self._db.transaction(work)

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: DeliveryState | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        query = select(*SENT).where(_row.webhook_id == webhook_id).order_by(_row.seq.desc())
        if state is not None:
            query = query.where(_row.state == state.value)
        if after is not None:
            query = query.where(_row.seq < after)
        found = self._db.read(lambda tx: tx.core(query.limit(bounded(limit))).all())
        return [_delivery(row) for row in found]

    def replay(self, webhook_id: str, *, seq: int | None = None, actor: str) -> int | None:
        which = _row.state == DeliveryState.DEAD.value if seq is None else _row.seq == seq

        def work(tx: Tx) -> int | None:
            if _lock(tx, webhook_id) is None:
                return None
            again = {"state": DeliveryState.PENDING.value, "attempts": 0, "next_at": tx.now()}
            mine = (_row.webhook_id == webhook_id, which)
            count = tx.core(update(webhook_deliveries).where(*mine).values(again)).rowcount
            if count:
                _let_go(tx, webhook_id)
                data = {"count": count} if seq is None else {"delivery": seq}
                audit(tx, actor, "webhook.replay", webhook_id, data)
            return count

        return self._db.transaction(work)

    def replay_from(self, webhook_id: str, event_id: int, *, actor: str) -> bool:
        def work(tx: Tx) -> bool:
            found = _lock(tx, webhook_id)
            if found is None:
                return False
            later = (_row.webhook_id == webhook_id, _row.event_id >= event_id)
            tx.core(delete(webhook_deliveries).where(*later))
            position = min(found.position, event_id - 1)
            _update(tx, msgspec.structs.replace(found, position=position, hold_until=0))
            audit(tx, actor, "webhook.replay", webhook_id, {"fromEvent": event_id})
            return True

        return self._db.transaction(work)

    def try_out(self, webhook_id: str, letter: Letter, *, actor: str) -> Delivery | None:
        def work(tx: Tx) -> Delivery | None:
            now = tx.now()
            if not tx.core(
                update(webhooks)
                .where(webhooks.c.id == webhook_id)
                .values(last_seq=webhooks.c.last_seq + 1, hold_until=0)
            ).rowcount:
                return None
            letter_now = msgspec.structs.replace(letter, at=now)
            (row,) = _insert(tx, webhook_id, [letter_now], now)
            audit(tx, actor, "webhook.test", webhook_id, {"delivery": row["seq"]})
            return _delivery([row[name] for name in Delivery.__struct_fields__])

        return self._db.transaction(work)

    # Delivering

    def enqueue(self, batches: Sequence[Batch]) -> int:
        def work(tx: Tx) -> int:
            made = 0
            now = tx.now()
            for batch in sorted(batches, key=lambda x: x.webhook_id):
                moved = tx.core(
                    update(webhooks)
                    .where(
                        webhooks.c.id == batch.webhook_id,
                        webhooks.c.position == batch.position,
                        webhooks.c.enabled,
                    )
                    .values(
                        position=batch.read_to,
                        last_seq=webhooks.c.last_seq + len(batch.letters),
                    )
                ).rowcount
                if moved and batch.letters:
                    made += len(_insert(tx, batch.webhook_id, batch.letters, now))
            return made

        return self._db.transaction(work)

    def rewind(self, webhook_id: str, position: int) -> None:
        where = (webhooks.c.id == webhook_id, webhooks.c.position == position)
        self._db.transaction(
            lambda tx: tx.core(update(webhooks).where(*where).values(position=0)).rowcount
        )

    def backlogs(self) -> list[Backlog]:
        query = (
            select(
                _row.webhook_id,
                func.count(),
                func.sum(case((_row.attempts == 0, 1), else_=0)),
                func.min(_row.event_at),
                func.min(_row.next_at),
                webhooks.c.enabled,
                webhooks.c.hold_until,
                webhooks.c.claimed_until,
            )
            .join(webhooks, webhooks.c.id == _row.webhook_id)
            .where(_row.state == DeliveryState.PENDING.value)
            .group_by(
                _row.webhook_id,
                webhooks.c.enabled,
                webhooks.c.hold_until,
                webhooks.c.claimed_until,
            )
        )

        def work(tx: Tx) -> list[Backlog]:
            rows = tx.core(query).all()
            now = tx.now() if rows else 0
            return [
                Backlog(
                    webhook_id=row[0],
                    pending=row[1],
                    fresh=int(row[2]),
                    oldest_at=row[3],
                    enabled=bool(row[5]),
                    due=bool(row[5]) and max(row[4], row[6], row[7]) <= now,
                )
                for row in rows
            ]

        return self._db.read(work)

    def claim(self, webhook_id: str, owner: str, *, lease: int, limit: int) -> Claim | None:
        def work(tx: Tx) -> Claim | None:
            now = tx.now()
            free = (
                webhooks.c.id == webhook_id,
                webhooks.c.enabled,
                webhooks.c.claimed_until <= now,
                webhooks.c.hold_until <= now,
            )
            claimed = {"claimed_by": owner, "claimed_until": now + lease}
            if not tx.core(update(webhooks).where(*free).values(claimed)).rowcount:
                return None
            hook = tx.core(select(*HOOK).where(webhooks.c.id == webhook_id)).one()
            found = tx.core(_due(webhook_id, now).limit(limit)).all()
            if not found:
                _give_back(tx, webhook_id)
                return None
            return Claim(webhook=_hook(hook), deliveries=tuple(map(_delivery, found)), at=now)

        return self._db.transaction(work)

    def settle(self, claim: Claim, owner: str, outcomes: Sequence[Outcome], *, lease: int) -> bool:
        webhook_id = claim.webhook.id
        before = {each.seq: each.attempts for each in claim.deliveries}

        def work(tx: Tx) -> bool:
            now = tx.now()
            until = now + lease if lease else 0
            mine = (webhooks.c.id == webhook_id, webhooks.c.claimed_by == owner)
            changes: dict[str, Any] = {"claimed_until": until}
            hold = max((each.hold for each in outcomes), default=0)
            if hold:
                changes["hold_until"] = now + hold
            if gone := any(each.gone for each in outcomes):
                changes |= {"enabled": False, "disabled_because": "The receiver answered 410."}
            ours = tx.core(update(webhooks).where(*mine).values(changes)).rowcount
            for outcome in outcomes:
                _note(tx, webhook_id, outcome, before[outcome.seq], now)
            if gone and ours:
                audit(tx, "system:webhooks", "webhook.disable", webhook_id, {"status": 410})
            return bool(ours) and not hold and not gone

        return self._db.transaction(work)

    def dead(self) -> int:
        query = select(func.count()).where(_row.state == DeliveryState.DEAD.value)
        return int(self._db.read(lambda tx: tx.core(query).scalar_one()))

    def tidy(self, limit: int) -> int:
        """Forget a webhook at a time; those of a webhook that is gone have gone with it."""

        def due(tx: Tx) -> list[tuple[str, list[int]]]:
            now, found = tx.now(), []
            last = select(webhooks.c.id, webhooks.c.last_seq).order_by(webhooks.c.id)
            for hook_id, last_seq in tx.core(last).all():
                delivered = (_row.seq <= last_seq - DELIVERED_KEPT_MAX) | (
                    _row.last_at <= now - DELIVERED_KEPT
                )
                for state, old in (
                    (DeliveryState.DELIVERED, delivered),
                    (DeliveryState.DEAD, _row.last_at <= now - DEAD_KEPT),
                ):
                    found.append(
                        (hook_id, list(tx.core(_old(hook_id, state, old, limit)).scalars()))
                    )
            return found

        forgotten = 0
        for hook_id, seqs in self._db.read(due):
            if seqs:
                these = (
                    _row.webhook_id == hook_id,
                    _row.seq.in_(seqs),
                    _row.state != DeliveryState.PENDING.value,  # replayed meanwhile
                )
                forgotten += self._db.transaction(
                    lambda tx, these=these: (
                        tx.core(delete(webhook_deliveries).where(*these)).rowcount
                    )  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                )
        return forgotten


def _old(
    hook_id: str, state: DeliveryState, old: ColumnElement[bool], limit: int
) -> Select[tuple[Any]]:
    mine = (_row.state == state.value, _row.webhook_id == hook_id, old)
    return select(_row.seq).where(*mine).order_by(_row.seq).limit(limit)


def _due(webhook_id: str, now: int) -> Select[Any]:
    pending = _row.state == DeliveryState.PENDING.value
    mine = (pending, _row.webhook_id == webhook_id, _row.next_at <= now)
    return select(*SENT).where(*mine).order_by(_row.seq)


def _note(tx: Tx, webhook_id: str, outcome: Outcome, before: int, now: int) -> None:
    """Write down an attempt, unless another has written one since: a replay, or who took the claim."""
    same = (
        _row.webhook_id == webhook_id,
        _row.seq == outcome.seq,
        _row.state == DeliveryState.PENDING.value,
        _row.attempts == before,
    )
    values = {
        "state": outcome.state.value,
        "attempts": outcome.attempts,
        "next_at": now + outcome.wait,
        "last_at": now,
        "last_status": outcome.status,
        "last_error": None if outcome.error is None else outcome.error[:ERROR_MAX],
    }
    tx.core(update(webhook_deliveries).where(*same).values(values))


def _insert(tx: Tx, webhook_id: str, letters: Sequence[Letter], now: int) -> list[dict[str, Any]]:
    """Insert deliveries, for which `last_seq` has been moved on already, in this transaction."""
    last = tx.core(select(webhooks.c.last_seq).where(webhooks.c.id == webhook_id)).scalar_one()
    rows = [
        {
            "webhook_id": webhook_id,
            "seq": last - len(letters) + number,
            "kind": letter.kind,
            "event_id": letter.event_id,
            "event_at": letter.at,
            "body": letter.body,
            "state": DeliveryState.PENDING.value,
            "attempts": 0,
            "next_at": now,
            "last_at": None,
            "last_status": None,
            "last_error": None,
        }
        for number, letter in enumerate(letters, 1)
    ]
    tx.core(insert(webhook_deliveries), rows)
    return rows


def _lock(tx: Tx, webhook_id: str) -> Webhook | None:
    query = select(*HOOK).where(webhooks.c.id == webhook_id).with_for_update()
    row = tx.core(query).first()
    return None if row is None else _hook(row)


def _update(tx: Tx, webhook: Webhook) -> None:
    tx.core(update(webhooks).where(webhooks.c.id == webhook.id).values(_hook_row(webhook)))


def _let_go(tx: Tx, webhook_id: str) -> None:
    tx.core(update(webhooks).where(webhooks.c.id == webhook_id).values(hold_until=0))


def _give_back(tx: Tx, webhook_id: str) -> None:
    tx.core(update(webhooks).where(webhooks.c.id == webhook_id).values(claimed_until=0))


def _hook(row: Sequence[Any]) -> Webhook:
    values = dict(zip(Webhook.__struct_fields__, row, strict=True))
    values["kinds"] = _kinds(values["kinds"])
    values["secrets"] = _secrets(values["secrets"])
    values["enabled"] = bool(values["enabled"])
    return Webhook(**values)


def _hook_row(webhook: Webhook) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.structs.asdict(webhook)
    return row | {"kinds": to_json(webhook.kinds), "secrets": to_json(webhook.secrets)}


def _delivery(row: Sequence[Any]) -> Delivery:
    values = dict(zip(Delivery.__struct_fields__, row, strict=True))
    return Delivery(**values | {"state": DeliveryState(values["state"])})
