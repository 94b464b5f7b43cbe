"""`sojourn reconcile`: compare a Redis store with its ledger, and mend what a plan says."""

from __future__ import annotations

from typing import Annotated

import typer

from sojourn.cli import source
from sojourn.cli.adopt import Secret
from sojourn.cli.command import Json
from sojourn.cli.options import Folder, given
from sojourn.cli.output import Column, Output, count
from sojourn.cli.source import Config
from sojourn.errors import SettingsError

ACTOR = "system:reconcile"

Store = Annotated[
    str | None,
    given("--store", "URL", "Store to compare."),
]
Ledger = Annotated[
    str | None,
    given("--ledger", "URL", "Ledger to compare with."),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Do what the plan says.", show_default=False)
]


def reconcile(
    store: Store = None,
    ledger: Ledger = None,
    data: Folder = None,
    secret: Secret = None,
    repair: Repair = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare seats in Redis with the record.

    Brings the ledger up to date first, then says of which leases the two tell different things, why,
    and what would mend it. Changes nothing without --repair, and then only what is still so. Safe while
    servers run.
    """
    from contextlib import closing

    from sojourn.store import Recorded
    from sojourn.stores.open import open_ledger, open_store
    from sojourn.stores.reconcile import Reconciler
    from sojourn.stores.recorder import LedgerRecorder

    settings = source.read(
        {"store": store, "ledger": ledger, "data": data, "secret": secret}, config
    ).settings
    out = Output(as_json=as_json)
    with (
        closing(open_store(settings.store_url)) as live,
        closing(open_ledger(settings.ledger_url)) as record,
    ):
        if not isinstance(live, Recorded):
            raise SettingsError(
                "This store and its ledger are one database: they cannot differ.",
                hint="Give a Redis or Valkey with --store.",
            )
        reconciler = Reconciler(live, live, record, LedgerRecorder(live, live, record))
        plan = reconciler.compare()
        mended = reconciler.repair(plan, actor=ACTOR) if repair and plan else 0
    if as_json:
        rows = [
            {"pool": x.pool_id, "lease": x.lease_id, "why": x.why, "fix": x.repair} for x in plan
        ]
        out.json({"differences": rows, "mended": mended})
        return
    if not plan:
        out.say("Store and ledger agree.")
        return
    columns = [Column("pool"), Column("lease"), Column("why"), Column("to mend it")]
    out.table(columns, [(x.pool_id, x.lease_id, x.why.value, x.repair) for x in plan])
    if repair:
        out.say(f"{count(mended, 'difference')} mended.")
    else:
        out.say("Nothing was changed. To mend them: --repair")
