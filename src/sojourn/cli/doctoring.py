"""Puts doctor together: what there is to look at for given settings, and the lock of its repairs.

Every part of doctor adds its examiners here, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sojourn.cli.logs import mask_text
from sojourn.settings import Settings

if TYPE_CHECKING:
    from sojourn.finding import Examiner
    from sojourn.service.doctor.doctor import Doctor


def doctor(settings: Settings) -> Doctor:
    """Return a doctor; it opens nothing before it looks, and is to be closed."""
    from sojourn.service.doctor.doctor import Doctor
    from sojourn.stores.open import repair_lock

    return Doctor(examiners(settings), lambda: repair_lock(settings.ledger_url))


def examiners(settings: Settings) -> list[Examiner]:
    """Say who looks, in the order in which they do. Raises SettingsError for a URL that nothing opens."""
    from sojourn.stores.open import open_examiner

    store, ledger = settings.store_url, settings.ledger_url
    found = [open_examiner(store, place=mask_text(store))]
    if ledger != store:
        found.append(open_examiner(ledger, place=mask_text(ledger), ledger=True))
    return [examiner for examiner in found if examiner is not None]
