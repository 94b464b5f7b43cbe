"""Server processes over this ledger, as they have registered themselves."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sojourn.ledger import INSTANCE_KEPT, INSTANCES_MAX, Instance
from sojourn.stores.sql import migrations
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.rows import to_json
from sojourn.stores.sql.schema import instances


def register(db: Database, instance: Instance, *, stopped: bool) -> None:
    """Note that it runs, or has stopped; forget what is long gone."""

    def work(tx: Tx) -> None:
        now = tx.now()
        row = {
            "host": instance.host,
            "pid": instance.pid,
            "version": instance.version,
            "fingerprints": to_json(instance.fingerprints),
            "seen_at": now,
            "stopped_at": now if stopped else None,
            "schema_version": migrations.head(),
        }
        tx.core(delete(instances).where(instances.c.seen_at < now - INSTANCE_KEPT))
        if tx.core(update(instances).where(instances.c.id == instance.id).values(row)).rowcount:
            return
        try:
            tx.core(insert(instances), {"id": instance.id, "started_at": now, **row})
        except IntegrityError as error:
            raise Again from error

    db.transaction(work)


def listed(db: Database) -> list[Instance]:
    """Return what is known, the latest seen first."""
    columns = [instances.c[name] for name in Instance.__struct_fields__]
    query = select(*columns).order_by(instances.c.seen_at.desc(), instances.c.id)
    rows = db.read(lambda tx: tx.core(query.limit(INSTANCES_MAX)).all())
    found = [dict(zip(Instance.__struct_fields__, row, strict=True)) for row in rows]
    for row in found:
        row["fingerprints"] = tuple(msgspec.json.decode(row["fingerprints"], type=list[str]))
    return [Instance(**row) for row in found]
