"""Real servers, fresh databases, and a watch on what tests leave behind.

| fixture                           | is                                                              |
|-----------------------------------|-----------------------------------------------------------------|
| postgres_url mariadb_url          | an empty database of one's own on the run's shared server       |
| sqlite_url                        | a database file that does not exist yet                         |
| postgres_server mariadb_server    | the run's shared server: never stop, kill or pause it           |
| own_postgres own_mariadb          | a server for one test alone, to be killed and started at will   |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

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
    on_mac = next(filter(os.path.exists, BROWSERS), None)
    if browser := shutil.which("chromium") or on_mac:
        os.environ.setdefault("CHROMIUM", browser)


know_the_fetched()

CHILD_GRACE = 5.0  # seconds a child that was told to end may take
PYTHON_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""multiprocessing starts these once per process and keeps them."""

# Deadlines measure the machine, not the code. In CI a failure must be the change's own doing.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


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
