"""`sojourn migrate`: bring the tables of a store and its ledger up to date."""

from __future__ import annotations

from typing import Annotated

from sojourn.cli import source
from sojourn.cli.command import Json
from sojourn.cli.database import bring_up_to_date, is_own, open_folder, store_failure
from sojourn.cli.options import Folder, Ledger, given
from sojourn.cli.output import Output
from sojourn.cli.source import Config

Store = Annotated[
    str | None,
    given("--store", "URL", "Store to migrate."),
]


def migrate(
    store: Store = None,
    ledger: Ledger = None,
    data: Folder = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bring the database up to date.

    Makes the tables that are missing and changes those of an older version; data stays. Safe to run
    again, and while servers of the version before still run. An embedded store needs none of this:
    `sojourn serve` does it.
    """
    from sojourn.errors import StoreError

    settings = source.read({"store": store, "ledger": ledger, "data": data}, config).settings
    if any(is_own(settings, url) for url in (settings.store_url, settings.ledger_url)):
        open_folder(settings)  # or it would be made where nothing is to be kept in it
    try:
        urls = bring_up_to_date(settings)
    except StoreError as error:
        raise store_failure(settings, error) from None
    out = Output(as_json=as_json)
    if as_json:
        out.json({"migrated": urls})
        return
    out.say("The database is up to date.")
    out.facts([("store", urls[0]), *(("ledger", url) for url in urls[1:])])
