"""`sojourn serve`: settings, data folder, database, first admin key, then listen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from sojourn import __version__
from sojourn.cli import source
from sojourn.cli.database import bring_up_to_date, is_fresh, open_folder, store_failure
from sojourn.cli.failure import Failure
from sojourn.cli.output import Output, count
from sojourn.cli.source import Config, with_settings
from sojourn.errors import SettingsError, SojournError, StoreError
from sojourn.log import get_logger, mask_text
from sojourn.settings import Settings
from sojourn.stores.folder import RELAY_FILE, DataFolder, Remembered, with_secret

if TYPE_CHECKING:
    from sojourn.service.services import Services

Migrate = Annotated[
    bool,
    typer.Option(
        "--migrate",
        help="Bring a shared store's tables up to date first; an embedded store's always are.",
        rich_help_panel=source.STORE,
        show_default=False,
    ),
]


@with_settings
def serve(flags: dict[str, Any], config: Config = None, migrate: Migrate = False) -> None:
    """Start the server.

    Every setting is a flag, SOJOURN_<NAME> in the environment, or a line of sojourn.toml,
    in that order; `sojourn settings` shows each value and where it came from.

    The first start makes what is missing: the data folder, the database of an embedded store, a
    secret, and an admin key, which is printed once. When the server answers, it prints a line
    beginning with READY. SIGTERM lets requests under way finish; leases live on in the store.
    """
    from sojourn.cli import logs

    loaded = source.read(flags, config)
    settings = loaded.settings
    logs.configure(settings)
    folder = open_folder(settings)
    settings = check(settings, folder)
    start(settings, folder, loaded.origins, migrate=migrate or settings.dev)


def check(settings: Settings, folder: DataFolder) -> Settings:
    """Refuse what cannot be served; see to the secret. Raises SettingsError."""
    from sojourn.stores.open import scheme_of

    for url in (settings.store_url, settings.ledger_url):
        scheme_of(url)  # or a typo in it would be reported as a missing secret
    if settings.workers > 1 and settings.embedded:
        kind = settings.store_url.partition(":")[0]
        raise SettingsError(
            f"{settings.workers} workers need a shared store, and this one is {kind}: "
            + (
                "it lives in one process."
                if kind == "memory"
                else "its writers take turns, so more would only wait for each other."
            ),
            hint="Leave --workers out, or use --store postgresql://… or mysql://…",
        )
    check_role(settings, folder)
    return with_secret(settings, folder)


def check_role(settings: Settings, folder: DataFolder) -> None:
    """Refuse a relay that could not keep its promises, and an authority in a relay's folder. Raises
    SettingsError."""
    if settings.role != "relay":
        if (folder.path / RELAY_FILE).exists():
            raise SettingsError(
                f"The data folder {folder.path} is a relay's: its licenses belong to another server.",
                hint="Serve it with --role relay, or use another folder: --data DIR.",
            )
        return
    if not settings.embedded or settings.ledger_url != settings.store_url:
        raise SettingsError(
            "A relay keeps its seats in a store of its own: SQLite, or memory.",
            hint="Leave --store and --ledger out; the database is then in the data folder.",
        )


def start(
    settings: Settings, folder: DataFolder, origins: Mapping[str, str], *, migrate: bool
) -> None:
    """Listen, prepare, say so, serve."""
    from sojourn.api.context import metrics_folder
    from sojourn.api.server import server_config
    from sojourn.api.shared_metrics import SharedMetrics
    from sojourn.cli import listen, wiring

    listener = listen.bind(settings)  # first: a taken port must not make keys or tables
    listeners = [listener]
    try:
        if settings.metrics_listen:
            listeners.append(listen.bind_metrics(settings))
            where = listen.address(listeners[1]).removeprefix("http://")  # port 0 is a free one
            settings = replace(settings, metrics_listen=where)
        claim(settings, folder)
        url = listen.address(listener)
        services = prepare(settings, migrate=migrate)
        secret = first_key(services, settings, folder, url)
        announce(settings, url, secret, folder)
        ready = _ready(url)
        options = server_config(settings)
        if settings.workers == 1:
            listen.run(wiring.build_app(services, settings, origins), options, listeners, ready)
        else:
            services.close()  # the workers open their own
            wiring.findings(settings).clear()  # of the last time it ran
            SharedMetrics(metrics_folder(settings)).clear()
            handed = wiring.HandedOver(settings, dict(origins))
            listen.run_workers(handed, options, listeners, ready)
        get_logger(__name__).info("stopped", url=url)
    finally:
        for each in listeners:
            each.close()
        folder.forget_process(os.getpid())
        folder.give_up()


def claim(settings: Settings, folder: DataFolder) -> None:
    """Be the server that the folder remembers. Another one on a shared store may serve beside it; on an
    embedded one it is a mistake, by which commands would lose the first. Raises Failure."""
    if folder.claim() or not settings.embedded:
        return
    known = folder.recall()
    where = f" at {known.url}" if known.url else ""
    raise Failure(
        f"A server of the data folder {settings.data} runs already{where}.",
        why=f"It is process {known.pid}." if known.pid else "It holds the folder's lock.",
        todo="Stop it first, or serve another folder: --data DIR.",
    )


def prepare(settings: Settings, *, migrate: bool) -> Services:
    """Bring the tables up to date where that is ours to do, and open everything. Raises Failure."""
    from sojourn.cli import wiring

    try:
        if migrate or settings.embedded or is_fresh(settings):
            bring_up_to_date(settings)
        return wiring.build_services(settings)
    except StoreError as error:
        raise store_failure(settings, error) from None


def first_key(services: Services, settings: Settings, folder: DataFolder, url: str) -> str | None:
    """See to an admin key, and let this host's commands know it. Return it if it was made now."""
    made = services.keys.ensure_admin(settings.admin_key or None)
    known = folder.recall()
    key = settings.admin_key or made or known.key
    if key and not _accepted(services, key):
        key = ""  # of a store that this folder served before
    if folder.claimed:  # else it remembers the server that was there before
        folder.remember(Remembered(url=url, key=key, pid=os.getpid()))
    return made


def _accepted(services: Services, key: str) -> bool:
    try:
        services.keys.authenticate(key)
    except StoreError:
        raise
    except SojournError:
        return False
    return True


def announce(settings: Settings, url: str, secret: str | None, folder: DataFolder) -> None:
    """Say what runs, and show a new admin key this once."""
    out = Output()
    out.say(f"Sojourn {__version__}", style="bold")
    facts = [
        ("address", url),
        ("console", f"{url}/console"),
        ("people", f"{url}/account/security"),
        ("API", f"{url}/docs"),
        ("store", mask_text(settings.store_url)),
        ("data", str(folder.path)),
    ]
    if settings.ledger_url != settings.store_url:
        facts.insert(-1, ("ledger", mask_text(settings.ledger_url)))
    if settings.role == "relay":
        facts.insert(1, ("relay of", mask_text(settings.authority)))
    if settings.metrics_listen:
        facts.insert(4, ("metrics", f"http://{settings.metrics_listen}/metrics"))
    if settings.workers > 1:
        facts.append(("serving", count(settings.workers, "process", "processes")))
    if not folder.recall().key:
        facts.append(("key", "not known here: set SOJOURN_KEY for this host's commands"))
    out.facts(facts)
    if secret is not None:
        show_key(out, secret, folder)


def show_key(out: Output, secret: str, folder: DataFolder) -> None:
    """Draw a box around the first admin key; where it does not fit, the key still stays whole."""
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    note = f"Shown this once; kept in {folder.server_file} for commands on this host."
    if out.console.width < len(secret) + 6:
        out.say("First admin key, shown this once:", style="bold")
        out.console.print(secret, soft_wrap=True)
        return
    width = min(out.console.width, max(len(secret), len(note)) + 4)
    text = Text.assemble((secret, "bold"), "\n", (note, "dim"))
    out.say()
    out.console.print(
        Panel(text, title="First admin key", title_align="left", box=box.ROUNDED, width=width)
    )


def _ready(url: str) -> Callable[[], None]:
    """Return what to do once requests are answered: say so, to scripts and in the log."""

    def ready() -> None:
        get_logger(__name__).info("serving", url=url)
        with contextlib.suppress(BrokenPipeError):  # whoever started this does not wait for it
            typer.echo(f"READY {url} pid {os.getpid()}")

    return ready
