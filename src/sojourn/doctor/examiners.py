"""Puts doctor together: what there is to look at for given settings, and the lock of its repairs.

Every part of doctor adds its examiners here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sojourn.cookie import Codec
from sojourn.errors import SettingsError
from sojourn.finding import Examiner
from sojourn.log import mask_text
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder

if TYPE_CHECKING:
    from sojourn.doctor.doctor import Doctor
    from sojourn.store import Store
    from sojourn.token import Keyring
    from sojourn.webhook_store import HookedLedger

NO_FAULTS: Mapping[str, SettingsError] = MappingProxyType({})

CONFIG = Path("sojourn.toml")


class Outside(Struct, frozen=True, kw_only=True):
    """An address to look at as a browser does.

    Attributes:
        login: the request that signs a canary in, as text: see `browser.login.read_login`.
        page: one that is another for who is signed in.
        origin: another site whose pages may ask with cookies.
        via: `host:port` to connect to, whatever the address says.
    """

    url: str
    login: str | None = None
    page: str | None = None
    origin: str | None = None
    via: str | None = None


class Beside(Struct, frozen=True):
    """How an Express application's store is looked at: handed in by what wires, for adapters are above."""

    open_examiner: Callable[..., Examiner | None]
    cookies: Callable[[Sequence[str]], Codec]


class Opened:
    """The store and the ledger of some settings, opened when somebody first looks at them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._ledger: HookedLedger | None = None

    def store(self) -> Store:
        """Raises StoreError."""
        from sojourn.stores.open import open_store

        if self._store is None:
            self._store = open_store(self._settings.store_url)
        return self._store

    def ledger(self) -> HookedLedger:
        """Raises StoreError."""
        from sojourn.stores.open import open_ledger

        if self._ledger is None:
            self._ledger = open_ledger(self._settings.ledger_url)
        return self._ledger

    def keyring(self) -> Keyring:
        """Raises SettingsError if there is none."""
        from sojourn.token import Keyring

        return Keyring([each.encode() for each in secrets_of(self._settings)])

    def close(self) -> None:
        for each in (self._store, self._ledger):
            if each is not None:
                each.close()
        self._store = self._ledger = None


class Closing:
    """Examines nothing; closes what the others have opened, last."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def checks(self) -> list[Any]:
        return []

    def close(self) -> None:
        self._opened.close()


def doctor(
    settings: Settings,
    outside: Outside | None = None,
    faults: Mapping[str, SettingsError] = NO_FAULTS,
    *,
    express: Beside,
    again: Callable[[str], str] = str,
    config: Path = CONFIG,
) -> Doctor:
    """Return a doctor; it opens nothing before it looks, and is to be closed. `again`: see `Doctor`.
    `config`: the file that settings are read from."""
    from sojourn.doctor.doctor import Doctor
    from sojourn.stores.open import repair_lock

    found = examiners(settings, outside, faults, express=express, config=config)
    return Doctor(found, lambda: repair_lock(settings.ledger_url), again=again)


def examiners(
    settings: Settings,
    outside: Outside | None = None,
    faults: Mapping[str, SettingsError] = NO_FAULTS,
    *,
    express: Beside,
    config: Path = CONFIG,
) -> list[Examiner]:
    """Say who looks, in the order in which they do. `faults`: what is wrong with the settings."""
    from sojourn.doctor.settings import FILE, WHERE, SettingsExaminer
    from sojourn.stores.open import open_examiner

    store, ledger, beside = settings.store_url, settings.ledger_url, settings.express
    amiss = dict(faults)

    def tried(name: str, examiner: Callable[[], Examiner | None]) -> list[Examiner | None]:
        try:
            return [examiner()]
        except SettingsError as fault:
            amiss[name] = fault
            return []

    found = tried("store", lambda: open_examiner(store, place=mask_text(store)))
    if ledger != store:
        place = mask_text(ledger)
        found += tried("ledger", lambda: open_examiner(ledger, place=place, ledger=True))
    if beside:
        place = mask_text(beside)
        found += tried("express", lambda: express.open_examiner(beside, place=place))
    blind = any(name in amiss for name in WHERE) or (FILE in amiss and not settings.store)
    said = SettingsExaminer(amiss, blind=blind)
    if blind:
        return [said]
    opened = Opened(settings)
    found.append(_secrets(settings, opened, config))
    if outside is not None:
        found += _outside(settings, opened, outside, express)
    found += [_round_trip(settings, opened), _seats(settings, opened), _relays(settings, opened)]
    found.append(Closing(opened))
    return [said, *(examiner for examiner in found if examiner is not None)]


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the secrets that a server with these settings has."""
    if settings.secret or not settings.embedded:
        return settings.secret
    file = DataFolder(settings.data).secret_file
    try:
        return (file.read_text().strip(),)
    except OSError:
        return ()  # none has been made yet


def needs_of(settings: Settings) -> tuple[str, ...]:
    """Name the checks without which nothing can be asked of store and ledger."""
    names = ["store.reachable", "schema.tables"]
    if settings.ledger_url != settings.store_url:
        names += ["store.ledger-reachable", "schema.ledger-tables", "store.redis"]
    return tuple(names)


def _secrets(settings: Settings, opened: Opened, config: Path) -> Examiner:
    from sojourn.doctor.secrets import SecretsExaminer

    folder = DataFolder(settings.data)
    urls = (settings.store, settings.ledger, settings.express)
    values = (settings.admin_key, settings.metrics_key, settings.key)
    return SecretsExaminer(
        secrets_of(settings),
        made=settings.embedded,
        files=[folder.secret_file, folder.server_file],
        beside=[config, Path(".env")],
        values=[*values, *(url for url in urls if mask_text(url) != url)],
        ledger=opened.ledger,
        needs=needs_of(settings),
    )


def _round_trip(settings: Settings, opened: Opened) -> Examiner | None:
    from sojourn.doctor.roundtrip import RoundTripExaminer

    if settings.store_url.startswith("memory:"):
        return None  # of a process of its own: a trip through it would prove nothing
    needs = needs_of(settings)
    place = mask_text(settings.store_url)
    return RoundTripExaminer(opened.store, opened.keyring, place=place, needs=needs)


def _seats(settings: Settings, opened: Opened) -> Examiner | None:
    from sojourn.doctor.seats import SeatExaminer

    if settings.store_url.startswith("memory:"):
        return None
    return SeatExaminer(
        opened.store,
        opened.ledger,
        sweep_interval=settings.sweep_interval,
        place=mask_text(settings.store_url),
        needs=needs_of(settings),
    )


def _relays(settings: Settings, opened: Opened) -> Examiner | None:
    from sojourn.doctor.relays import RelayExaminer

    if settings.role == "relay" or settings.store_url.startswith("memory:"):
        return None
    return RelayExaminer(
        opened.store,
        opened.ledger,
        place=mask_text(settings.store_url),
        needs=needs_of(settings),
    )


def _outside(
    settings: Settings, opened: Opened, outside: Outside, express: Beside
) -> list[Examiner]:
    from sojourn.cookie import SignedTokens
    from sojourn.doctor.browser.cookies import CookieExaminer, Opener
    from sojourn.doctor.browser.login import BrowserLogin, read_login
    from sojourn.doctor.browser.probe import Probe
    from sojourn.doctor.browser.server import ServerExaminer

    probe = Probe(outside.url, via=outside.via)
    login = None if outside.login is None else read_login(outside.login)
    visit = BrowserLogin(probe, login=login, page=outside.page, names=(settings.cookie_name,))
    opens: dict[str, Opener] = {}
    if secrets := secrets_of(settings):
        opens["Sojourn's"] = _opener(lambda: SignedTokens([each.encode() for each in secrets]))
        opens["Express's"] = _opener(lambda: express.cookies(secrets))
    known = DataFolder(settings.data).recall()
    # The remembered key is for the remembered server; the settings' admin key is one to make, for none.
    key = settings.key or (known.key if probe.ours(known.url) else "")
    server = ServerExaminer(
        probe, key=key, store=opened.store, keyring=opened.keyring, needs=needs_of(settings)
    )
    return [CookieExaminer(visit, origin=outside.origin, openers=opens), server]


def _opener(make: Callable[[], Any]) -> Callable[[str], str]:
    """Make the codec when it is first needed: a bad secret is another check's finding."""
    from sojourn.errors import InvalidToken, SettingsError

    def opens(value: str) -> str:
        try:
            return str(make().decode(value))
        except SettingsError as error:
            raise InvalidToken(error.message) from error

    return opens
