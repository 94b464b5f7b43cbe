"""The ledger on SQL: licenses, keys, the audit trail. Every change writes its audit row with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sojourn.errors import Conflict
from sojourn.event import Event
from sojourn.ledger import ApiKey, Audit, Instance, LicenseChange, Role, SweepRun
from sojourn.license import License, LicenseStatus, Policy, Pool
from sojourn.store import bounded
from sojourn.stores.sql import instances, recorded
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.events import audit as _audit
from sojourn.stores.sql.events import bump
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.relay_commands import SqlRelayCommands
from sojourn.stores.sql.rows import from_json, to_json
from sojourn.stores.sql.schema import api_keys, audits, features, licenses, marks, sweeps
from sojourn.stores.sql.sweep_plans import SqlPlans
from sojourn.stores.sql.usage import SqlUsage
from sojourn.stores.sql.webhooks import SqlBook

LICENSE = [licenses.c[name] for name in License.__struct_fields__]
KEY = [api_keys.c[name] for name in ApiKey.__struct_fields__]

LOCK = "SELECT {columns} FROM sojourn_licenses WHERE id = :id {update}".replace(
    "{columns}", ", ".join(License.__struct_fields__)
)
BY_HASH = (
    "SELECT key_hash, {columns} FROM sojourn_licenses WHERE key_hash {in_hashes hashes}".replace(
        "{columns}", ", ".join(License.__struct_fields__)
    )
)
KEY_BY_HASH = "SELECT {now}, {columns} FROM sojourn_api_keys WHERE key_hash = :hash".replace(
    "{columns}", ", ".join(ApiKey.__struct_fields__)
)
VALID_KEYS = (
    "SELECT {now}, key_hash FROM sojourn_api_keys WHERE key_hash {in_hashes hashes} AND revoked_at IS NULL "
    "AND (expires_at IS NULL OR expires_at > {now})"
)
KEYS_BY_ID = "SELECT {now}, key_hash, {columns} FROM sojourn_api_keys WHERE id {in ids}".replace(
    "{columns}", ", ".join(ApiKey.__struct_fields__)
)
NOTE_USE = """
INSERT INTO sojourn_marks (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = {max}(sojourn_marks.value, excluded.value)
"""
NOTE_USE_MYSQL = """
INSERT INTO sojourn_marks (name, value) VALUES (:name, :value)
ON DUPLICATE KEY UPDATE value = greatest(value, VALUES(value))
"""
MARK_NAME_MAX = 32
"""Characters of a mark's name. The ids that we give have fewer."""
POOL_ID = features.c.license_id + ":" + features.c.feature


class SqlLedger:
    """Implements `sojourn.analytics.keeper.MeasuredLedger` on a database whose schema is in place."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.webhooks = SqlBook(db)
        self.plans = SqlPlans(db)
        self.relay_commands = SqlRelayCommands(db)
        self.usage = SqlUsage(db, self.audits)

    # Licenses

    def create_license(
        self, license: License, features: dict[str, Policy], key_hash: bytes, *, actor: str
    ) -> License:
        def work(tx: Tx) -> License:
            created = msgspec.structs.replace(license, created_at=tx.now())
            row = _license_row(created) | {"key_hash": key_hash}
            _insert_new(tx, licenses, row, "A license with this id or key exists already.")
            for feature, policy in features.items():
                _set_feature(tx, created.id, feature, policy)
            data = {"name": created.name, "features": features}
            _audit(tx, actor, "license.create", created.id, data)
            return created

        return self._db.transaction(work)

    def license(self, license_id: str) -> License | None:
        query = select(*LICENSE).where(licenses.c.id == license_id)
        row = self._db.read(lambda tx: tx.core(query).first())
        return None if row is None else _license(row)

    def license_key_hash(self, license_id: str) -> bytes | None:
        query = select(licenses.c.key_hash).where(licenses.c.id == license_id)
        row = self._db.read(lambda tx: tx.core(query).first())
        return None if row is None else bytes(row[0])

    def licenses_by_key(self, key_hashes: Sequence[bytes]) -> list[License | None]:
        if not key_hashes:
            return []
        hashes = self._db.dialect.hashes(key_hashes)
        rows = self._db.read(lambda tx: tx.rows(BY_HASH, {"hashes": hashes}))
        found = {bytes(row[0]): _license(row[1:]) for row in rows}
        return [found.get(key_hash) for key_hash in key_hashes]

    def licenses(
        self, *, after: str | None = None, limit: int = 100, status: LicenseStatus | None = None
    ) -> list[License]:
        query = select(*LICENSE).order_by(licenses.c.id).limit(bounded(limit))
        if after is not None:
            query = query.where(licenses.c.id > after)
        if status is not None:
            query = query.where(licenses.c.status == status.value)
        return [_license(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def change_license(
        self, license_id: str, change: LicenseChange, *, actor: str
    ) -> License | None:
        changes = {
            name: value
            for name in change.__struct_fields__
            if (value := getattr(change, name)) is not UNSET
        }

        def work(tx: Tx) -> License | None:
            found = _lock(tx, license_id)
            if found is None or not changes:
                return found
            changed = msgspec.structs.replace(found, **changes)
            _update_license(tx, license_id, _stored(msgspec.to_builtins(changes)))
            _audit(tx, actor, "license.change", license_id, changes)
            return changed

        return self._db.transaction(work)

    def rotate_license_key(self, license_id: str, key_hash: bytes, *, actor: str) -> License | None:
        def work(tx: Tx) -> License | None:
            found = _lock(tx, license_id)
            if found is not None:
                _update_license(tx, license_id, {"key_hash": key_hash})
                _audit(tx, actor, "license.rotate_key", license_id, {})
            return found

        return self._db.transaction(work)

    def delete_license(self, license_id: str, *, actor: str) -> bool:
        def work(tx: Tx) -> bool:
            found = _lock(tx, license_id)
            if found is None:
                return False
            tx.core(delete(features).where(features.c.license_id == license_id))
            tx.core(delete(licenses).where(licenses.c.id == license_id))
            _audit(tx, actor, "license.delete", license_id, {"name": found.name})
            return True

        return self._db.transaction(work)

    def set_feature(
        self,
        license_id: str,
        feature: str,
        policy: Policy,
        *,
        actor: str,
        instead_of: Policy | None = None,
    ) -> bool:
        def work(tx: Tx) -> bool:
            if _lock(tx, license_id) is None:
                return False
            if instead_of is not None:
                _check_policy(tx, license_id, feature, instead_of)
            _set_feature(tx, license_id, feature, policy)
            _audit(tx, actor, "feature.set", license_id, {"feature": feature, "policy": policy})
            return True

        return self._db.transaction(work)

    def remove_feature(self, license_id: str, feature: str, *, actor: str) -> bool:
        def work(tx: Tx) -> bool:
            if _lock(tx, license_id) is None:
                return False
            if not tx.core(delete(features).where(*_named(license_id, feature))).rowcount:
                return False
            _audit(tx, actor, "feature.remove", license_id, {"feature": feature})
            return True

        return self._db.transaction(work)

    def pools(
        self, license_id: str | None = None, *, after: str | None = None, limit: int = 1_000
    ) -> list[Pool]:
        query = (
            select(features.c.feature, features.c.policy, *LICENSE)
            .join(licenses, licenses.c.id == features.c.license_id)
            .order_by(POOL_ID)
            .limit(max(0, limit))
        )
        if license_id is not None:
            query = query.where(licenses.c.id == license_id)
        if after is not None:
            query = query.where(after < POOL_ID)
        return [_pool(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def features(self, license_id: str | None = None, *, limit: int = 100) -> list[str]:
        query = select(features.c.feature).distinct().order_by(features.c.feature)
        if license_id is not None:
            query = query.where(features.c.license_id == license_id)
        query = query.limit(max(0, limit))
        return [str(row[0]) for row in self._db.read(lambda tx: tx.core(query).all())]

    def license_names(self, license_ids: Sequence[str]) -> dict[str, str]:
        ids = sorted(set(license_ids))
        if not ids:
            return {}
        query = select(licenses.c.id, licenses.c.name).where(licenses.c.id.in_(ids))
        return {row[0]: row[1] for row in self._db.read(lambda tx: tx.core(query).all())}

    def license_origins(self, license_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        if not license_ids:
            return {}
        query = select(licenses.c.id, licenses.c.allowed_origins)
        query = query.where(licenses.c.id.in_(sorted(set(license_ids))))
        rows = self._db.read(lambda tx: tx.core(query).all())
        return {row[0]: _origins(row[1]) for row in rows}

    def allowed_origins(self, *, limit: int) -> set[str]:
        column = licenses.c.allowed_origins
        query = select(column).distinct().where(column.is_not(None)).limit(limit + 1)
        found: set[str] = set()
        for row in self._db.read(lambda tx: tx.core(query).all()):
            found.update(_origins(row[0]))
        return found

    # API keys

    def create_key(self, key: ApiKey, key_hash: bytes, *, actor: str) -> ApiKey:
        def work(tx: Tx) -> ApiKey:
            created = msgspec.structs.replace(key, created_at=tx.now())
            row = msgspec.to_builtins(created) | {"key_hash": key_hash}
            _insert_new(tx, api_keys, row, "An API key with this id or secret exists already.")
            _audit(tx, actor, "key.create", key.id, {"name": key.name, "role": key.role})
            return created

        return self._db.transaction(work)

    def keys(
        self, *, after: str | None = None, limit: int = 1_000, newest: bool = False
    ) -> list[ApiKey]:
        made, name = api_keys.c.created_at, api_keys.c.id
        order = (made.desc(), name.desc()) if newest else (made, name)
        query = select(*KEY).order_by(*order).limit(bounded(limit))
        if after is not None:
            at = select(made).where(name == after).scalar_subquery()
            later, next_ = (made < at, name < after) if newest else (made > at, name > after)
            query = query.where(later | ((made == at) & next_))
        return [_key(row) for row in self._db.read(lambda tx: tx.core(query).all())]

    def key_by_hash(self, key_hash: bytes) -> tuple[ApiKey, int] | None:
        params = {"hash": key_hash}
        rows = self._db.read(lambda tx: tx.trusted(KEY_BY_HASH, params))
        return (_key(rows[0][1:]), rows[0][0]) if rows else None

    def valid_keys(self, key_hashes: Sequence[bytes]) -> set[bytes]:
        if not key_hashes:
            return set()
        hashes = self._db.dialect.hashes(key_hashes)

        def work(tx: Tx) -> set[bytes]:
            found = {bytes(row[1]) for row in tx.trusted(VALID_KEYS, {"hashes": hashes})}
            if len(found) < len(set(key_hashes)):
                tx.doubted()
            return found

        return self._db.read(work)

    def keys_by_id(self, key_ids: Sequence[str]) -> dict[str, tuple[ApiKey, bytes, int]]:
        if not key_ids:
            return {}
        ids = self._db.dialect.keys(key_ids)
        rows = self._db.read(lambda tx: tx.trusted(KEYS_BY_ID, {"ids": ids}))
        found = [(_key(row[2:]), bytes(row[1]), row[0]) for row in rows]
        return {each[0].id: each for each in found}

    def revoke_key(self, key_id: str, *, actor: str) -> ApiKey | None:
        def work(tx: Tx) -> ApiKey | None:
            mine = api_keys.c.id == key_id
            row = tx.core(select(*KEY).where(mine).with_for_update()).first()
            if row is None:
                return None
            found = _key(row)
            if found.revoked_at is not None:
                return found
            now = tx.now()
            tx.core(update(api_keys).where(mine).values(revoked_at=now))
            _audit(tx, actor, "key.revoke", key_id, {"name": found.name})
            return msgspec.structs.replace(found, revoked_at=now)

        return self._db.transaction(work)

    # What was done

    def note_key_uses(self, uses: Mapping[str, int]) -> None:
        rows = [{"name": key_id, "value": at} for key_id, at in sorted(uses.items())]
        rows = [row for row in rows if len(str(row["name"])) <= MARK_NAME_MAX]

        def work(tx: Tx) -> None:
            statement = tx.dialect.pick(
                sqlite=NOTE_USE.format(max="max"),
                postgres=NOTE_USE.format(max="greatest"),
                mysql=NOTE_USE_MYSQL,
            )
            tx.many(statement, rows)

        self._db.transaction(work)

    def key_uses(self, key_ids: Sequence[str]) -> dict[str, int]:
        if not key_ids:
            return {}
        query = select(marks.c.name, marks.c.value).where(marks.c.name.in_(list(key_ids)))
        return {row[0]: int(row[1]) for row in self._db.read(lambda tx: tx.core(query).all())}

    def record(self, audit: Audit) -> None:
        self._db.transaction(
            lambda tx: _audit(tx, audit.actor, audit.action, audit.subject, audit.data)
        )

    def audits(self, *, after: int = 0, limit: int = 100) -> list[Audit]:
        column = audits.c
        query = select(audits).where(column.id > after).order_by(column.id).limit(bounded(limit))
        return [
            Audit(
                id=row.id,
                at=row.at,
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                data=from_json(row.data),
            )
            for row in self._db.read(lambda tx: tx.core(query).all())
        ]

    def record_sweep(self, run: SweepRun) -> None:
        def work(tx: Tx) -> None:
            row = msgspec.to_builtins(run) | {"id": bump(tx, "sweeps", 1)}
            tx.core(insert(sweeps), row)

        self._db.transaction(work)

    def sweeps(self, *, limit: int = 20) -> list[SweepRun]:
        query = select(sweeps).order_by(sweeps.c.id.desc()).limit(bounded(limit))
        rows = self._db.read(lambda tx: tx.core(query).all())
        return [SweepRun(**row._mapping) for row in rows]  # noqa: SLF001  # SQLAlchemy's public API

    # Who serves

    def register(self, instance: Instance, *, stopped: bool = False) -> None:
        instances.register(self._db, instance, stopped=stopped)

    def instances(self) -> list[Instance]:
        return instances.listed(self._db)

    # The stream of a store that is not in this database

    def mark(self) -> tuple[str, int]:
        return recorded.mark(self._db)

    def append(self, events: Sequence[Event], *, after: int) -> bool:
        return recorded.append(self._db, events, after=after)

    def history(
        self, *, after: int = 0, limit: int = 1_000, pool_id: str | None = None
    ) -> list[Event]:
        return recorded.read(self._db, after=after, limit=bounded(limit), pool_id=pool_id)

    def now(self) -> int:
        return self._db.read(Tx.now)

    def close(self) -> None:
        self._db.close()


def _lock(tx: Tx, license_id: str) -> License | None:
    rows = tx.rows(LOCK, {"id": license_id})
    return _license(rows[0]) if rows else None


def _insert_new(tx: Tx, table: Any, row: dict[str, Any], taken: str) -> None:
    try:
        tx.core(insert(table), row)
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Conflict(taken) from error
        raise


def _update_license(tx: Tx, license_id: str, values: dict[str, Any]) -> None:
    try:
        tx.core(update(licenses).where(licenses.c.id == license_id).values(values))
    except IntegrityError as error:
        fault = classify(error)
        if fault is not None and fault.kind == "duplicate":
            raise Conflict("Another license has this key.") from error
        raise


def _named(license_id: str, feature: str) -> list[Any]:
    return [features.c.license_id == license_id, features.c.feature == feature]


def _set_feature(tx: Tx, license_id: str, feature: str, policy: Policy) -> None:
    """Under the lock of its license, no two do this at once."""
    text = to_json(policy)
    matched = tx.core(
        update(features).where(*_named(license_id, feature)).values(policy=text)
    ).rowcount
    if not matched:
        row = {"license_id": license_id, "feature": feature, "policy": text}
        tx.core(insert(features), row)


def _check_policy(tx: Tx, license_id: str, feature: str, expected: Policy) -> None:
    """Raise Conflict unless the feature has this policy. Under the lock of its license."""
    query = select(features.c.policy).where(*_named(license_id, feature))
    found = tx.core(query).scalar()
    if found is None or msgspec.json.decode(found, type=Policy) != expected:
        raise Conflict(
            f"{feature} was changed meanwhile. Nothing was saved.",
            hint="Read its policy again, and save what is to be changed of it.",
        )


def _license(row: Sequence[Any]) -> License:
    values = dict(zip(License.__struct_fields__, row, strict=True))
    read = {"status": LicenseStatus(values["status"])}
    return License(**values | read | {"allowed_origins": _origins(values["allowed_origins"])})


def _license_row(license: License) -> dict[str, Any]:
    return _stored(msgspec.to_builtins(license))


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    """Write a license's fields as its columns have them."""
    if "allowed_origins" in values:
        origins = values["allowed_origins"]
        values["allowed_origins"] = to_json(origins) if origins else None
    return values


def _origins(text: str | None) -> tuple[str, ...]:
    return () if text is None else msgspec.json.decode(text, type=tuple[str, ...])


def _pool(row: Sequence[Any]) -> Pool:
    license = _license(row[2:])
    return Pool(
        license_id=license.id,
        feature=row[0],
        policy=msgspec.json.decode(row[1], type=Policy),
        status=license.status,
        valid_from=license.valid_from,
        valid_until=license.valid_until,
    )


def _key(row: Sequence[Any]) -> ApiKey:
    values = dict(zip(ApiKey.__struct_fields__, row, strict=True))
    return ApiKey(**values | {"role": Role(values["role"])})
