"""The data folder and the tables of a store and its ledger, for the commands that open them themselves."""

from __future__ import annotations

from sojourn.cli.failure import ExitCode, Failure, reason
from sojourn.errors import StoreError, StoreUnavailable
from sojourn.log import mask_text
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder


def open_folder(settings: Settings) -> DataFolder:
    folder = DataFolder(settings.data)
    try:
        folder.make()
    except OSError as error:
        raise Failure(
            f"The data folder {settings.data} cannot be used.",
            why=reason(error),
            todo="Name another with --data or SOJOURN_DATA, or correct its permissions.",
        ) from None
    return folder


def is_own(settings: Settings, url: str) -> bool:
    """Tell whether a database is a file in the data folder."""
    return url.startswith(f"sqlite:///{settings.data}/")


def is_fresh(settings: Settings) -> bool:
    """Tell whether there are no tables of ours at all: then making them changes nobody's data."""
    from sojourn.stores.open import schema_version

    urls = {settings.store_url, settings.ledger_url}
    return all(schema_version(url) is None for url in urls)


def bring_up_to_date(settings: Settings) -> list[str]:
    """Migrate the store, and the ledger where that is another database. Return their masked URLs."""
    from sojourn.stores.open import migrate

    urls = list(dict.fromkeys((settings.store_url, settings.ledger_url)))
    for url in urls:
        migrate(url)
    return [mask_text(url) for url in urls]


def store_failure(settings: Settings, error: StoreError) -> Failure:
    down = isinstance(error, StoreUnavailable)
    url = " with ".join(dict.fromkeys(map(mask_text, (settings.store_url, settings.ledger_url))))
    todo = (
        "Check that the database runs, and the address, user and password in --store."
        if down
        else error.hint
    )
    return Failure(
        f"The store cannot be reached: {url}" if down else f"The store cannot be used: {url}",
        why=mask_text(error.message),
        todo=todo,
        exit_code=ExitCode.UNAVAILABLE if down else ExitCode.FAILED,
    )
