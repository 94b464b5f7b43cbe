"""Can the database be reached, does it answer in time, and what time does it believe it is?"""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Iterator

from sqlalchemy import URL

from sojourn.clock import CLOCK_TOLERANCE, SECOND
from sojourn.errors import SojournError, StoreError
from sojourn.finding import Area, Check, Finding, Fix, clock_set_back, failure, ok, warning
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.faults import PERMIT
from sojourn.stores.sql.server import ServerDatabase

PROBE_TIMEOUT = 4.0  # seconds
ASKS = 9
SLOW = 50.0  # ms: a request asks a few times
TOO_SLOW = 1_000.0
PING = "SELECT 1"


def checks(source: Source) -> Iterator[Check]:
    reachable = source.id("store", "reachable")
    yield Check(
        id=reachable,
        area=Area.STORE,
        title="Can the database be reached?",
        looked_at=source.place,
        look=lambda: reach(source),
        quick=True,
    )
    yield Check(
        id=source.id("store", "latency"),
        area=Area.STORE,
        title="Does the database answer quickly?",
        looked_at=f"{ASKS} questions in a row",
        look=lambda: latency(source),
        quick=True,
        needs=(reachable,),
    )
    yield Check(
        id=source.id("store", "clock"),
        area=Area.STORE,
        title="Do the database's clock and this host's agree?",
        looked_at="both clocks",
        look=lambda: clock(source),
        quick=True,
        needs=(reachable,),
    )


def reach(source: Source) -> Finding:
    """Ask something; where that fails, find out how far we get."""
    absent = source.absent()
    if absent is not None:
        return failure(
            f"There is no database file {absent} yet.",
            means="Nothing has been kept so far; or the path is not the one that the server uses.",
            fix=Fix(
                text="Start the server, which makes it; or correct the path.",
                command="sojourn serve",
            ),
        )
    try:
        db = source.db()
        db.read(lambda tx: tx.rows(PING, {}))
    except StoreError as error:
        return _unreachable(source, error)
    except SojournError as error:  # of the settings: a folder that is missing
        return failure(error.message, fix=Fix(text=error.hint))
    return ok("The database can be reached.", source.place)


def _unreachable(source: Source, error: StoreError) -> Finding:
    said = _driver_says(error)
    evidence = [error.message, *([said] if said else [])]
    means = "Nobody can sign in or take a seat; who is signed in cannot be recognized."
    url = source.url()
    if url is None or url.host is None:
        text = error.hint or "Look at the file, its folder and their permissions."
        return failure(
            "The database cannot be used.", evidence=evidence, means=means, fix=Fix(text=text)
        )
    address = f"{url.host}:{_port(url)}"
    try:
        with contextlib.closing(
            socket.create_connection((url.host, _port(url)), timeout=PROBE_TIMEOUT)
        ):
            pass
    except socket.gaierror:
        title, text = f"There is no host {url.host}.", "Correct the host's name in the store's URL."
    except ConnectionRefusedError:
        title, text = (
            f"Nothing listens on {address}.",
            "Start the database, or correct its address.",
        )
    except TimeoutError:
        title = f"{address} does not answer."
        text = "See that its host is up, and that no firewall is between."
    except OSError as fault:
        title, text = f"{address} cannot be reached: {fault.strerror}.", "Correct its address."
    else:
        title, text = f"The server on {address} does not let us in.", PERMIT
    return failure(title, evidence=evidence, means=means, fix=Fix(text=text))


def _port(url: URL) -> int:
    return url.port or (5432 if url.get_backend_name().startswith("postgres") else 3306)


def _driver_says(error: BaseException) -> str:
    """Quote the driver: names of users and databases are in it, passwords are not."""
    cause = error.__cause__
    original = getattr(cause, "orig", None) or cause
    return " ".join(str(original).split()) if original is not None else ""


def latency(source: Source) -> Finding:
    db = source.db()

    def ask(tx: Tx) -> list[float]:
        took = []
        for _ in range(ASKS):
            began = time.perf_counter()
            tx.rows(PING, {})
            took.append((time.perf_counter() - began) * 1_000)
        return took

    took = db.read(ask)
    median = statistics.median(took)
    evidence = f"median {median:.1f} ms, slowest {max(took):.1f} ms, of {ASKS}"
    if median < SLOW:
        return ok("The database answers quickly.", evidence)
    means = "Every request that looks at a session waits for it, several times."
    fix = Fix(text="Look at the database's load, and at the network between.")
    tell = failure if median >= TOO_SLOW else warning
    return tell(
        f"The database takes {median:.0f} ms for nothing.",
        evidence=[evidence],
        means=means,
        fix=fix,
    )


def clock(source: Source) -> Finding:
    """Compare the clocks. A file's time is this host's, as long as nobody sets the clock."""
    db: Database = source.db()
    before = source.host_now()
    there = db.read(Tx.now)
    ahead = there - (before + source.host_now()) // 2
    if db.dialect.backend is Backend.SQLITE and ahead > CLOCK_TOLERANCE:
        return clock_set_back("This host's", ahead)
    shift = db.steady.shift if isinstance(db, ServerDatabase) else 0
    if shift > CLOCK_TOLERANCE:
        return clock_set_back("The database's", shift)
    if shift < -CLOCK_TOLERANCE:
        return _set_ahead(-shift)
    if abs(ahead) <= CLOCK_TOLERANCE:
        return ok(
            "The database's clock and this host's agree.",
            f"the database's is {ahead / SECOND:+.1f} s off this host's",
        )
    return warning(
        f"The database's clock differs from this host's by {abs(ahead) / SECOND:.1f} s.",
        evidence=[f"the database's is {ahead / SECOND:+.1f} s off this host's"],
        means="Expiry goes by the database's clock; cookies, logs and certificates by this host's.",
        fix=Fix(text="Let both keep time by NTP.", command="timedatectl set-ntp true"),
    )


def _set_ahead(milliseconds: int) -> Finding:
    by = f"{milliseconds / SECOND:.1f} s"
    return warning(
        f"The database's clock was set ahead by {by}; Sojourn goes on by its own time.",
        evidence=[f"it lies {by} ahead of the store's time"],
        means="Nobody loses a seat or a session by it; instants that are shown lie behind by as much.",
        fix=Fix(
            text="If it was wrong before, stop every server for a minute; else set it right, by NTP.",
            command="timedatectl set-ntp true",
        ),
    )
