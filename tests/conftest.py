"""Real servers, fresh databases, and a watch on what tests leave behind.

| fixture                           | is                                                              |
|-----------------------------------|-----------------------------------------------------------------|
| postgres_url mariadb_url          | an empty database of one's own on the run's shared server       |
| sqlite_url                        | a database file that does not exist yet                         |
| empty_postgres empty_mariadb      | a database with our schema and no rows; leave its schema alone  |
| empty_sqlite                      | the same as a file of one's own                                 |
| postgres_server mariadb_server    | the run's shared server: never stop, kill or pause it           |
| own_postgres own_mariadb          | a server for one test alone, to be killed and started at will   |
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests import quick
from tests.databases import Reused, copied, migrated_file
from tests.slowest import slowest_parts

from sojourn.testing import processes
from sojourn.testing.servers import Kind, Server, fresh_database, mariadb, postgres, shared

FETCHED = Path(__file__).parents[1] / ".cache" / "servers"
"""Where tests/servers/fetch.sh puts what the machine lacks and no Python package holds."""
BROWSERS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def know_the_fetched() -> None:
    """Let tests find redis-server and chromium on PATH, and name MariaDB and $CHROMIUM to them."""
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(FETCHED / "bin")])
    if (FETCHED / "root/usr/sbin/mariadbd").exists():
        os.environ.setdefault("MARIADB_BASEDIR", str(FETCHED / "root" / "usr"))
    if libraries := sorted(FETCHED.glob("root/usr/lib/*/faketime/libfaketimeMT.so.1")):
        os.environ.setdefault("FAKETIME_LIBRARY", str(libraries[0]))
    on_mac = next(filter(os.path.exists, BROWSERS), None)
    if browser := shutil.which("chromium") or on_mac:
        os.environ.setdefault("CHROMIUM", browser)


know_the_fetched()

MEMORY = Path("/dev/shm")
MEMORY_MIN = 4 * 2**30  # bytes that a run may take; a container's own has 64 MiB


def work_in_memory() -> None:
    """Keep databases and files of tests in memory: most of what a commit takes is waiting for a disk.

    Nothing is tested by it: what a killed process wrote is there with a disk or without, and no test cuts
    the power. Where TMPDIR names a folder, tests work there.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free >= MEMORY_MIN:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


work_in_memory()


def claim_no_slot_of_this_machine() -> None:
    """Let the clients of this process and its children be the only copies of their programs."""
    state = tempfile.mkdtemp(prefix="sojourn-state-")
    os.environ["XDG_STATE_HOME"] = state
    atexit.register(shutil.rmtree, state, ignore_errors=True)


claim_no_slot_of_this_machine()

LEFT_OUT = pytest.StashKey[dict[str, int]]()
CHILD_GRACE = 5.0  # seconds a child that was told to end may take
PYTHON_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""multiprocessing starts these once per process and keeps them."""

# Deadlines measure the machine, not the code. In CI a failure must be the change's own doing.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

LONG = (
    "test_promises_hold",
    "test_against_memory",
    "test_machine_finds",
    "test_network_fault",
    "test_paused_server",
    "test_store_killed_mid_load",
    "test_server_killed_mid_load",
    "test_server_away_for_longer_than_lost_after",
    "test_ghosts_are_reclaimed_and_nothing_is_granted_twice",
    "test_200_threads_on_capacity_5_over_two_servers",
    "test_parallel_writes_lose_nothing",
    "test_the_readmes_story_runs",
    "test_a_ghosts_seat_goes_to_the_next_in_line",
    "test_an_outage_longer_than_the_lease_is_the_servers_fault_not_the_holders",
    "test_kept_for_longer_than_it_lives",
    "test_every_fault_is_found_and_mended",
    "test_killed_at_every_step",
    "test_four_doctors_beside_live_load",
    "test_two_servers_side_by_side",
    "test_killed_between_delivery_and_mark",
    "test_recorder_killed_under_load",
    "test_in_any_order",
    "test_a_store_that_dies",
)
"""What takes more than about five seconds; much of it is waiting, during which others can work."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only tests on memory and SQLite: without servers, browser and Node (make quick)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest tests start first, so that no worker is left alone with one at the end.

    The first of several workers is given the first part: it waits while the others compute.
    """
    if config.getoption("quick"):
        config.stash[LEFT_OUT] = quick.select(config, items)
    items.sort(key=rank)


def rank(item: pytest.Item) -> int:
    name = item.name.partition("[")[0]
    if name in LONG:
        return LONG.index(name)
    return len(LONG) + (not quick.waits(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a worker what it left out; each has collected the same."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in slowest_parts(terminalreporter.stats.values()):
        terminalreporter.write_line(line)
    for why, count in config.stash.get(LEFT_OUT, {}).items():
        terminalreporter.write_line(f"left out: {count:,} that start {why}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector rest while thousands of tests are made, and never walk them afterwards.

    It would walk all modules and tests again and again, for a quarter of the time that collecting takes.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def no_stray_children() -> Iterator[None]:
    """A test ends what it starts."""
    before = set(processes.children(os.getpid()))
    yield
    started = set(processes.children(os.getpid())) - before
    strays = {pid: processes.command(pid) for pid in started}
    strays = {p: c for p, c in strays.items() if not any(name in c for name in PYTHON_HELPERS)}
    if strays and not processes.gone(list(strays), CHILD_GRACE):
        for pid in filter(processes.alive, strays):
            processes.kill_tree(pid)
        pytest.fail(f"left running, and now killed: {strays}")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def postgres_server(run_folder: Path) -> Iterator[Server]:
    with shared(Kind.POSTGRES, run_folder) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(run_folder: Path) -> Iterator[Server]:
    with shared(Kind.MARIADB, run_folder) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[Server]:
    with mariadb() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: Server) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sojourn.db"


@pytest.fixture(scope="session")
def reused_postgres(postgres_server: Server) -> Iterator[Reused]:
    with fresh_database(postgres_server) as url, closing(Reused(url)) as database:
        yield database


@pytest.fixture(scope="session")
def reused_mariadb(mariadb_server: Server) -> Iterator[Reused]:
    with fresh_database(mariadb_server) as url, closing(Reused(url)) as database:
        yield database


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrated_file(tmp_path_factory.mktemp("template") / "sojourn.db")


@pytest.fixture
def empty_postgres(reused_postgres: Reused) -> str:
    return reused_postgres.emptied()


@pytest.fixture
def empty_mariadb(reused_mariadb: Reused) -> str:
    return reused_mariadb.emptied()


@pytest.fixture
def empty_sqlite(migrated_sqlite: Path, tmp_path: Path) -> str:
    return copied(migrated_sqlite, tmp_path / "sojourn.db")
