"""What `sojourn adopt` works with: where the old sessions are, their secrets and time zone, the store,
and the run itself."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from msgspec import Struct

from sojourn.address import spelled, spread
from sojourn.cli.failure import ExitCode, Failure, by_interrupt, reason
from sojourn.cli.output import Output
from sojourn.settings import Settings

if TYPE_CHECKING:
    from sojourn.adopt.rows import Pairs, Tally, Terms
    from sojourn.stores.sql.adopt import AdoptedSessions

Rows = Sequence[Mapping[str, Any]]

SECRET = "SOJOURN_ADOPT_SECRET"  # noqa: S105 - the name of a variable
SEATS = "license-sessions"
SAMPLE = 1_000  # rows that tell the time zone
REHEARSED = 250  # rows


class AdoptedFrom(Struct, frozen=True, kw_only=True):
    """Where the old sessions come from."""

    kind: str
    name: str  # of the table, or the keys
    identity: str  # the same whenever this source is meant
    total: int | None
    zone: str
    batches: Callable[[], Iterator[Rows]]
    counters: Callable[[], Sequence[Any]] = (
        list  # what a feature's counter says, where there are any
    )


def usage(why: str, todo: str) -> Failure:
    return Failure("Nothing was adopted.", why=why, todo=todo, exit_code=ExitCode.USAGE)


@contextlib.contextmanager
def opened(url: str, table: str | None, kind: str | None, prefix: str) -> Iterator[AdoptedFrom]:
    """Open the old sessions, and say what they are."""
    url = spelled(url)
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in ("redis", "rediss", "valkey", "valkeys"):
        if kind not in (None, "flask-session", SEATS):
            raise usage(
                "On Redis, only Flask-Session's sessions and an older license backend's are known.",
                "Leave --kind out.",
            )
        with _opened_redis(url, prefix, kind) as origin:
            yield origin
        return
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    from sojourn.stores.open import scheme_of
    from sojourn.stores.sql.foreign import SqlSource

    known = scheme_of(url)
    if known == "memory":
        raise usage("Nothing can be adopted from memory:.", "Name a database with --from.")
    try:
        parsed = make_url(spread(url))
    except ArgumentError:
        raise usage("--from cannot be read as a URL.", "It is like postgresql://…/db") from None
    old = SqlSource(parsed)
    try:
        old.open()
        found = old.choose(table, kind)
        # Of connect-pg-simple, and of Flask-Session on psycopg2, times are in the writer's zone.
        naive = found.kind == "connect-pg-simple" or "created" in found.columns
        local = naive and found.kind in ("connect-pg-simple", "flask-session")
        local |= found.kind == SEATS  # whoever beats writes with NOW(), mostly
        place = f"{parsed.host}:{parsed.port}/{parsed.database}/{found.name}"
        yield AdoptedFrom(
            kind=found.kind,
            name=f"table {found.name}",
            identity=place,
            total=old.count(found),
            zone=old.zone if local else "UTC",
            batches=lambda: old.batches(found),
        )
    finally:
        old.close()


@contextlib.contextmanager
def _opened_redis(url: str, prefix: str, kind: str | None) -> Iterator[AdoptedFrom]:
    from importlib.util import find_spec

    if find_spec("redis") is None:
        raise usage("The driver for redis is not installed.", "Run: pip install 'sojourn[redis]'")
    from sojourn.stores.redis.adopt import RedisSource

    try:
        old = RedisSource(url, prefix)
    except ValueError:
        raise usage("--from cannot be read as a URL.", "It is like redis://host:6379/0") from None
    try:
        old.open()
        if kind == SEATS or (kind is None and old.has_seats()):
            yield AdoptedFrom(
                kind=SEATS,
                name="session keys that name a feature",
                identity=f"{url.rpartition('@')[2]}/seats",
                total=None,
                zone="UTC",
                batches=old.seats,
                counters=old.counters,
            )
            return
        yield AdoptedFrom(
            kind="flask-session",
            name=f"keys {prefix}*",
            identity=f"{url.rpartition('@')[2]}/{prefix}",
            total=None,
            zone="UTC",
            batches=old.batches,
        )
    finally:
        old.close()


def zone_of(given: str | None, origin: AdoptedFrom) -> tuple[Any, str]:
    """Choose the zone of times that name none; return it, and how it is known."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from sojourn.adopt.rows import zone_of as told_by

    name = given or origin.zone
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise usage(
            f"There is no time zone {name!r}.", "Name one with --timezone, as UTC."
        ) from None
    if origin.kind != "connect-pg-simple":
        return zone, name
    rows = itertools.chain.from_iterable(origin.batches())
    found, votes = told_by(itertools.islice(rows, SAMPLE), zone)
    if given is not None:
        return zone, name if found is zone else f"{name}, though {votes:,} rows were in {found}"
    if found is zone:
        return zone, f"{name}, as {votes:,} rows tell" if votes else f"{name}, the database's"
    return found, f"{found}, as {votes:,} rows tell; the database's is {name}"


def secrets_of(file: Path | None) -> tuple[str, ...]:
    """Get what Django signs with: never from the command line, which everybody on the host can read."""
    text = os.environ.get(SECRET, "")
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = reason(error) if isinstance(error, OSError) else "It is not UTF-8 text."
            raise usage(f"{file} cannot be read: {why}", "Correct --secret-file.") from None
    elif not text and sys.stdin.isatty():
        text = typer.prompt("Django's SECRET_KEY", hide_input=True, err=True)
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise usage(
            "Django's sessions are signed, and its SECRET_KEY is not known.",
            f"Put it into a file and name that with --secret-file, or into {SECRET}.",
        )
    return found


@contextlib.contextmanager
def target_of(settings: Settings, *, write: bool) -> Iterator[AdoptedSessions]:
    """Open the store to adopt into. One that is not there yet is made to write, and never by a dry run."""
    from sojourn.cli.database import (
        bring_up_to_date,
        is_fresh,
        open_folder,
        store_failure,
    )
    from sojourn.errors import StoreError
    from sojourn.stores.open import open_store, scheme_of
    from sojourn.stores.sql.adopt import AdoptedSessions
    from sojourn.stores.sql.store import SqlStore

    url = settings.store_url
    if scheme_of(url) == "memory":
        raise usage("memory: keeps nothing.", "Name the store that your servers use: --store.")
    try:
        if write:
            if settings.embedded:
                open_folder(settings)
            if settings.embedded or is_fresh(settings):
                bring_up_to_date(settings)
        elif (settings.embedded and not _file_of(url).exists()) or is_fresh(settings):
            url = "sqlite:///:memory:"
        opened_store = open_store(url)
    except StoreError as error:
        raise store_failure(settings, error) from None
    with contextlib.closing(opened_store):
        if not isinstance(opened_store, SqlStore):
            raise usage("Sessions are adopted into SQL stores only.", "Name one with --store.")
        yield AdoptedSessions(opened_store)


def _file_of(url: str) -> Path:
    from sqlalchemy import make_url

    return Path(str(make_url(url).database)).expanduser()


def guard(target: AdoptedSessions, origin: AdoptedFrom, *, again: bool) -> None:
    """Refuse to revive what was ended, and forgotten, since this source was first adopted from."""
    from sojourn.stores.sql.adopt import REPEAT_WITHIN

    identity = hashlib.sha256(f"{origin.kind} {origin.identity}".encode()).hexdigest()[:16]
    mark = f"adopt:{identity}"
    first = target.first_adopted(mark)
    if first is not None and target.now() - first >= REPEAT_WITHIN and not again:
        raise Failure(
            "Nothing was adopted: this was done more than a day ago.",
            why="Sojourn remembers for a day which sessions were ended. Those ended before, and still "
            "in the old table, would come back.",
            todo="If the old site still signs people in, and that may be, add --again.",
        )
    target.note(mark)


def run(
    out: Output,
    origin: AdoptedFrom,
    target: AdoptedSessions,
    terms: Terms,
    tally: Tally,
    *,
    write: bool,
) -> tuple[bool, float, float | None]:
    """Adopt. Return whether it came to its end, how long it took, and how long writing may take.

    Somebody who presses Ctrl-C gets the report too. Whatever else ends it, what was taken is safe.
    """
    started = time.monotonic()
    try:
        complete = _take(out, origin, target, terms, tally, write=write)
    except BaseException:
        if tally.taken and write:
            out.aside.print(f"{tally.taken:,} sessions were adopted; run it again to go on.")
        raise
    seconds = time.monotonic() - started
    estimate = None if write or not complete else _estimate(origin, target, terms, tally, seconds)
    return complete, round(seconds, 3), estimate


def _take(
    out: Output,
    origin: AdoptedFrom,
    target: AdoptedSessions,
    terms: Terms,
    tally: Tally,
    *,
    write: bool,
) -> bool:
    """Adopt, showing how far it is. False: somebody pressed Ctrl-C."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from sojourn.adopt.rows import adopt as take

    shown = out.aside.is_terminal and not out.as_json
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns, TimeRemainingColumn(), console=out.aside, disable=not shown, transient=True
    ) as bar:
        task = bar.add_task("Adopting" if write else "Reading", total=origin.total)
        try:
            take(
                origin.batches(),
                target,
                terms,
                tally,
                write=write,
                progress=lambda: bar.update(task, completed=tally.read),
            )
        except (Exception, KeyboardInterrupt) as error:
            if not by_interrupt(error):
                raise
            return False
    return True


def _estimate(
    origin: AdoptedFrom, target: AdoptedSessions, terms: Terms, tally: Tally, took: float
) -> float | None:
    """Say how long --apply may take: as long as reading has, and writing at the pace of a rehearsal."""
    from sojourn.adopt.rows import Tally as Scratch
    from sojourn.adopt.rows import adopt as take

    class Rehearsal:
        spent = 0.0
        rows = 0

        def now(self) -> int:
            return target.now()

        def put(self, pairs: Pairs, *, write: bool) -> list[bool | None]:
            del write
            started = time.monotonic()
            target.rehearse(pairs)
            self.spent += time.monotonic() - started
            self.rows += len(pairs)
            return [True] * len(pairs)

    if not tally.taken:
        return round(took, 1)
    rehearsal = Rehearsal()
    batches: Iterable[Rows] = origin.batches()
    for rows in itertools.islice(batches, 8):
        take([rows], rehearsal, terms, Scratch(), write=False)
        if rehearsal.rows >= REHEARSED:
            break
    return round(took + tally.taken * rehearsal.spent / max(rehearsal.rows, 1), 1)
