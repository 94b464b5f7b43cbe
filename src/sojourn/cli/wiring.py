"""Puts everything together: settings become a store, a ledger, services, an application.

Imports are inside the functions: what serves is heavy, and most commands serve nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct

from sojourn.cli import logs
from sojourn.cli.called import of_server
from sojourn.cli.source import HELP, keep_quiet
from sojourn.clock import DAY, SECOND
from sojourn.errors import InvalidInput, SettingsError
from sojourn.settings import Settings

if TYPE_CHECKING:
    from sojourn.doctor.findings import FindingsFolder
    from sojourn.ledger import Ledger
    from sojourn.region.region import Region
    from sojourn.service.services import Services
    from sojourn.store import Store

WORKER_VARIABLE = "SOJOURN_WORKER_SETTINGS"
"""How `serve --workers` hands every worker the settings as they were read: as JSON, in the environment."""


class HandedOver(Struct, frozen=True):
    """What a worker is told: the settings, and where each came from."""

    settings: Settings
    origins: dict[str, str]


def build_services(settings: Settings) -> Services:
    """Open the store and the ledger, and put the services over them. Raises StoreError."""
    from sojourn.devices import Devices
    from sojourn.service.services import Services
    from sojourn.stores.open import open_ledger, open_store, recorder_of
    from sojourn.token import Keyring

    store = open_store(
        settings.store_url,
        max_pause=round(settings.max_pause * SECOND),
        event_retention=round(settings.event_retention_days * DAY),
        ip_retention=round(settings.ip_retention_days * DAY) or None,
    )
    try:
        ledger = open_ledger(settings.ledger_url)
    except BaseException:
        store.close()
        raise
    region = None
    if settings.role == "relay":
        region, store = build_region(store, ledger, settings)
    return Services(
        store,
        ledger,
        Keyring([secret.encode() for secret in settings.secret]),
        sweep_interval=settings.sweep_interval,
        pulse_interval=settings.pulse_interval,
        queue_max=settings.queue_max,
        recorder=recorder_of(store, ledger),
        complete=Devices.from_settings(settings).complete,
        region=region,
        allotment_ttl=round(settings.allotment_ttl * SECOND),
    )


def build_region(store: Store, ledger: Ledger, settings: Settings) -> tuple[Region, Store]:
    """Make a relay's side of the protocol, and the store that keeps to it. Raises SettingsError."""
    from sojourn.region.gate import GatedStore
    from sojourn.region.holding import Holding
    from sojourn.region.region import Region
    from sojourn.region.state import StateFile
    from sojourn.region.uplink import HttpUplink
    from sojourn.token import hash_token

    try:
        uplink = HttpUplink(settings.authority, settings.relay_key)
    except InvalidInput as fault:
        raise SettingsError(f"authority: {fault.message}", hint=fault.hint) from None
    holding = Holding(
        store,
        ledger,
        StateFile(Path(settings.data)),
        authority=uplink.name,
        max_pause=round(settings.max_pause * SECOND),
    )
    region = Region(
        holding,
        uplink,
        authority=uplink.name,
        key_hash=hash_token(settings.relay_key),
        interval=settings.relay_interval,
    )
    return region, cast("Store", GatedStore(store, region.gate))


def build_app(services: Services, settings: Settings, origins: Mapping[str, str]) -> Any:
    """Put the application together. `origins`: where each setting came from."""
    from sojourn.adapters.express import EXPRESS
    from sojourn.api.app import create_app
    from sojourn.api.context import Given
    from sojourn.api.server import settle_down
    from sojourn.doctor.examiners import doctor

    board = findings(settings) if settings.workers > 1 else None
    made = doctor(settings, express=EXPRESS, again=of_server(settings).again)
    app = create_app(services, settings, made, board, given=Given(origins=origins, words=HELP))
    settle_down()
    return app


def findings(settings: Settings) -> FindingsFolder:
    """Return where the workers of a server show each other what doctor found."""
    from sojourn.doctor.findings import FindingsFolder

    return FindingsFolder(Path(settings.data) / "findings")


def worker_app() -> Any:
    """Make the application in a worker process; uvicorn imports this by name."""
    text = os.environ.get(WORKER_VARIABLE)
    if text is None:
        raise SettingsError("This is started by `sojourn serve --workers N` only.")
    loaded = msgspec.json.decode(text, type=HandedOver)
    settings = loaded.settings
    logs.configure(settings)
    keep_quiet(settings)
    threading.Thread(target=_end_with_parent, name="sojourn-parent", daemon=True).start()
    return build_app(build_services(settings), settings, loaded.origins)


def _end_with_parent() -> None:
    """Stop, gracefully, when the process that started this one has died: nobody else could."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
