"""`sojourn migrate`: bring the tables of a store and its ledger up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from sojourn.cli import source
from sojourn.cli.command import Json
from sojourn.cli.output import Output
from sojourn.cli.source import Config
from sojourn.settings import Settings

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Store to migrate.", show_default=False),
]
Ledger = Annotated[
    str | None,
    typer.Option("--ledger", metavar="URL", help="Ledger, if it is elsewhere.", show_default=False),
]


def migrate(
    store: Store = None, ledger: Ledger = None, config: Config = None, as_json: Json = False
) -> None:
    """Bring the database up to date.

    Makes the tables that are missing and changes those of an older version; data stays. Safe to run
    again, and while servers of the version before still run. An embedded store needs none of this:
    `sojourn serve` does it.
    """
    from sojourn.cli.serve import open_folder, store_failure  # noqa: PLC0415 - serve imports this
    from sojourn.errors import StoreError  # noqa: PLC0415 - beside it

    settings = source.read({"store": store, "ledger": ledger}, config).settings
    if settings.embedded:
        open_folder(settings)
    try:
        bring_up_to_date(settings)
    except StoreError as error:
        raise store_failure(settings, error) from None


def bring_up_to_date(settings: Settings) -> None:
    from sojourn.stores.open import migrate  # noqa: PLC0415 - SQLAlchemy and Alembic are heavy

    for url in dict.fromkeys((settings.store_url, settings.ledger_url)):
        migrate(url)
