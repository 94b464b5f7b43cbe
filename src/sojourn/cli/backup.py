"""`sojourn backup` and `sojourn restore`: the database of an embedded server, while it runs and back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sojourn.cli import source
from sojourn.cli.command import Json, Yes, confirm
from sojourn.cli.database import open_folder
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.options import Folder, Ledger, given
from sojourn.cli.output import Output, count
from sojourn.cli.source import Config
from sojourn.settings import Settings
from sojourn.store import Action

ACTOR = "system:restore"
REASON = "restored"

Store = Annotated[str | None, given("--store", "URL", "Store of the server.")]
BackupFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="File to write; it must not be there.")
]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="File that `sojourn backup` wrote.")]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep-sessions",
        help="Sign nobody out. Sessions that ended after the backup are live again.",
        show_default=False,
    ),
]


def backup(
    target: BackupFile,
    store: Store = None,
    ledger: Ledger = None,
    data: Folder = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy the SQLite database of a server while it runs.

    The copy is of one instant, is checked before it gets its name, and is readable by its owner
    alone. Keep the secret, too: it is in the data folder, or where SOJOURN_SECRET_FILE says. Other
    databases have tools of their own: pg_dump, mariadb-dump, Valkey's append-only file.
    """
    from sojourn.stores.sql.backup import back_up

    settings = source.read({"store": store, "ledger": ledger, "data": data}, config).settings
    copy = back_up(_database(settings), target.expanduser())
    out = Output(as_json=as_json)
    if as_json:
        out.json(_told(copy))
        return
    out.say(f"{copy.path} holds all of it, and is whole.")
    out.facts([("size", f"{copy.size:,} bytes"), *_rows(copy)])


def restore(
    file: Source,
    keep_sessions: Keep = False,
    store: Store = None,
    ledger: Ledger = None,
    data: Folder = None,
    config: Config = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of a SQLite database.

    Whatever has it open must be stopped. Everybody is signed out, for the backup does not know which sessions
    have ended since; --keep-sessions takes that risk. The database of before is kept beside it.
    Whoever got a seat after the backup is told with the next heartbeat, and acquires again.
    """
    from sojourn.stores.sql.backup import look_at, put_back

    settings = source.read({"store": store, "ledger": ledger, "data": data}, config).settings
    database = _database(settings)
    here = settings.store_url.startswith("sqlite:")  # where sessions are kept
    copy = look_at(file.expanduser())
    folder = open_folder(settings)
    if not folder.claim():
        raise Failure(
            f"A server of the data folder {settings.data} runs.",
            why="It has the database open.",
            todo="Stop it, then restore.",
        )
    try:
        confirm(f"Put {copy.path} in the place of {database}?", yes=yes)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = put_back(
            copy.path,
            database,
            stamp=stamp,
            prepare=lambda part: _prepare(part, settings, here=here, sign_out=not keep_sessions),
        )
    finally:
        folder.give_up()
    out = Output(as_json=as_json)
    if as_json:
        out.json({**_told(copy), "database": str(database), "before": aside and str(aside)})
        return
    out.say(f"{database} is as it was when {copy.path} was written.")
    kept = [("before", str(aside))] if aside else []
    out.facts([*_rows(copy), *kept])
    if not here:
        out.say("Sessions are not kept in it: nobody was signed out.")
    elif not keep_sessions:
        out.say("Everybody has to sign in again.")


def _prepare(part: Path, settings: Settings, *, here: bool, sign_out: bool) -> None:
    """Make a copy ready before it gets the database's name: broken off here, it revives nobody, and gives
    no seat that a relay may have got since. `here`: the store is in it."""
    from sojourn.stores.open import migrate, open_store

    url = f"sqlite:///{part}"
    for each in dict.fromkeys((settings.store_url, settings.ledger_url)):
        migrate(url if each.startswith("sqlite:") else each)
    if here:
        with contextlib.closing(open_store(url)) as opened:
            if sign_out:
                opened.cut_off(None, reason=REASON, actor=ACTOR)
            if opened.authority()[0].relays:
                opened.begin_epoch(Action(actor=ACTOR, name=REASON))


def _database(settings: Settings) -> Path:
    """Return the one SQLite file that these settings keep something in. Raises Failure."""
    urls = dict.fromkeys((settings.store_url, settings.ledger_url))
    files = [url.partition(":///")[2] for url in urls if url.startswith("sqlite:///")]
    if len(files) != 1 or not files[0] or files[0] == ":memory:":
        raise Failure(
            "There is no SQLite file to copy."
            if not files
            else "Store and ledger are in two SQLite files.",
            why="These commands copy one file, and put one in its place.",
            todo="Use the database's own tools, as docs/guide/backup.md says; or name one file with --store.",
            exit_code=ExitCode.USAGE,
        )
    return Path(files[0]).expanduser().resolve()


def _rows(copy: Any) -> list[tuple[str, str]]:
    return [
        ("sessions", count(copy.sessions, "row")),
        ("leases", count(copy.leases, "row")),
    ]


def _told(copy: Any) -> dict[str, Any]:
    return {
        "file": str(copy.path),
        "size": copy.size,
        "sessions": copy.sessions,
        "leases": copy.leases,
    }
