"""Columns that later versions of the schema brought: doctor can put each of them back, or says why not."""

from __future__ import annotations

import importlib

from sojourn.stores.sql import schema
from sojourn.stores.sql.doctor.values import derivable

FIRST = importlib.import_module("sojourn.stores.sql.migrations.versions.0001_first").metadata
LOST: dict[str, dict[str, str]] = {
    "which row it is: nothing else in the table tells": {
        "sojourn_waiting": "pool_id user_id client_id id",
        "sojourn_requests": "digest",
        "sojourn_webhooks": "id",
        "sojourn_webhook_deliveries": "webhook_id seq event_id",
        "sojourn_instances": "id host pid",
        "sojourn_sweep_plans": "id name",
        "sojourn_sweep_runs": "id actor",
        "sojourn_relays": "name",
        "sojourn_relay_commands": "id relay",
        "sojourn_relay_orders": "relay pool_id",
        "sojourn_relay_reports": "relay",
        "sojourn_relay_uses": "relay pool_id",
        "sojourn_usage_cursor": "name",
        "sojourn_usage_buckets": "pool_id unit",
        "sojourn_usage_steps": "pool_id revision",
        "sojourn_usage_holds": "id seat pool_id lease_id user_id client_id",
        "sojourn_usage_shares": "pool_id kind name",
        "sojourn_usage_incidents": "pool_id",
        "sojourn_usage_policies": "pool_id",
    },
    "what somebody asked for or was answered: a guess would be acted upon": {
        "sojourn_requests": "fingerprint note answer",
        "sojourn_webhooks": "url kinds secrets enabled",
        "sojourn_webhook_deliveries": "kind body state attempts",
        "sojourn_instances": "version fingerprints",
        "sojourn_sweep_plans": "scope schedule",
        "sojourn_sweep_runs": "scope state",
        "sojourn_relays": "life",
        "sojourn_relay_commands": "verb scope",
        "sojourn_relay_orders": "most",
        "sojourn_relay_uses": "granted denied ended",
        "sojourn_usage_buckets": "level last peak seat_time levels counts",
        "sojourn_usage_steps": "steps",
        "sojourn_usage_holds": "resumed past",
        "sojourn_usage_shares": "held granted denied",
        "sojourn_usage_incidents": "times users unnamed reasons seats in_use",
        "sojourn_usage_policies": "policy",
    },
    "when it was, or how far it got: a guess would lose or repeat some of it": {
        "sojourn_waiting": "since expires_at",
        "sojourn_requests": "at",
        "sojourn_webhooks": "created_at position last_seq",
        "sojourn_webhook_deliveries": "event_at next_at",
        "sojourn_instances": "started_at seen_at stopped_at",
        "sojourn_sweep_plans": "created_at",
        "sojourn_sweep_runs": "started_at",
        "sojourn_relays": "number epoch heard_at",
        "sojourn_relay_commands": "seq asked_at",
        "sojourn_relay_orders": "until",
        "sojourn_relay_reports": "event_id",
        "sojourn_relay_uses": "day",
        "sojourn_usage_cursor": "event_id audit_id since at revision",
        "sojourn_usage_buckets": "at stepped_at",
        "sojourn_usage_steps": "at",
        "sojourn_usage_holds": "started_at ended_at",
        "sojourn_usage_shares": "at",
        "sojourn_usage_incidents": "started_at ended_at",
        "sojourn_usage_policies": "at",
    },
}
"""Columns that were made together with their table, and that only a backup has: by the reason."""


def test_what_was_added_since_the_first_schema_can_be_put_back() -> None:
    later = {
        (table.name, column.name): column
        for table in schema.metadata.sorted_tables
        for column in table.columns
        if table.name not in FIRST.tables or column.name not in FIRST.tables[table.name].columns
    }
    lost = {
        name
        for name, column in later.items()
        if not derivable(column, {each.name for each in column.table.columns} - {column.name})
    }
    named = [
        (table, column)
        for tables in LOST.values()
        for table, columns in tables.items()
        for column in columns.split()
    ]
    assert len(named) == len(set(named))
    assert lost == set(named)
    assert not {table for table, _ in named} & FIRST.tables.keys()
