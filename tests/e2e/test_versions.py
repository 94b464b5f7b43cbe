"""Two versions of the server on one database, and servers replaced one by one under load.

The older one is the wheel of the commit before the last change of the schema; both are built and unpacked, as
they would be installed. It is what docs/guide/upgrade.md promises.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
import pytest
from tests.serving import ADMIN_KEY, SECRET, TLS, Served

from sojourn.cli.failure import ExitCode

ROOT = Path(__file__).parents[2]
MIGRATIONS = "src/sojourn/stores/sql/migrations/versions"
STORES = ["postgres_url", *(["mariadb_url"] if os.environ.get("SOJOURN_CAMPAIGN") else [])]
HOLDERS = 4
CAPACITY = 3 * HOLDERS
"""For who holds a seat all the time, and who takes another for a moment, with some to spare."""
ROUNDS = 2
"""Of each client, in each state of the roll-out."""
PATIENCE = 120.0
"""Seconds until a step, or one request with its repetitions, is given up."""
AGAIN = {"overloaded", "shutting_down", "store_unavailable"}
"""What a client asks again for, as `Retry-After` says."""
PAUSE = threading.Event()


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit_before_the_last_schema() -> str:
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("The version before is built from the history, which is not here.")
    last = max(path.name for path in (ROOT / MIGRATIONS).glob("0*.py"))
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "HEAD", "--", f"{MIGRATIONS}/{last}")
    # a step that is not committed yet is newer than all that is
    return git("rev-parse", f"{added}^") if added else "HEAD"


class Version:
    """A wheel, unpacked. `path` goes before what is installed."""

    def __init__(self, folder: Path, commit: str = "") -> None:
        source = folder / "source" if commit else ROOT
        if commit:
            source.mkdir(parents=True)
            archive = folder / "source.tar"
            git("archive", f"--output={archive}", commit)
            subprocess.run(["tar", "-xf", archive, "-C", source], check=True)
        wheels = folder / "wheels"
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels],
            cwd=source,
            capture_output=True,
            check=True,
        )
        (wheel,) = wheels.glob("*.whl")
        self.path = folder / "installed"
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(self.path)
        self.environ = {"PYTHONPATH": str(self.path)}

    def run(self, *arguments: str, fine: tuple[int, ...] = (0,), **environ: str) -> str:
        """Run Python to its end, and again where the database ended a transaction that stood still."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")}
        deadline = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=self.path,
                env={**kept, **self.environ, "SOJOURN_SECRET": SECRET, **environ},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            if done.returncode in fine:
                return done.stdout
            away = done.returncode == ExitCode.UNAVAILABLE and time.monotonic() < deadline
            assert away, done.stdout + done.stderr

    def schema(self) -> str:
        """Return the last step that this version knows."""
        (steps,) = self.path.glob("sojourn/stores/sql/migrations/versions")
        return max(path.name for path in steps.glob("0*.py"))


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Version]:
    """Return the version before, and today's."""
    before = Version(tmp_path_factory.mktemp("before"), commit_before_the_last_schema())
    return before, Version(tmp_path_factory.mktemp("today"))


class Traffic:
    """Clients that hold seats, take others for a moment, and look at their sessions.

    Before them is a balancer: it goes on to the next server where one refuses the connection, and never where
    one has answered or cut a connection off.
    """

    def __init__(self, servers: list[Served]) -> None:
        self.servers = servers
        self.key = ""
        self.faults: list[str] = []
        self.rounds: Counter[int] = Counter()
        self.repeated: Counter[str] = Counter()
        self.leases: dict[int, set[str]] = {}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number,)) for number in range(HOLDERS)
        ]

    def send(
        self, http: httpx.Client, method: str, path: str, bearer: str, **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", "Connection": "close"}
        headers |= more.pop("headers", {})
        deadline = time.monotonic() + PATIENCE
        while True:
            for server in self.servers:
                try:
                    answer = http.request(method, server.url + path, headers=headers, **more)
                except httpx.ConnectError:
                    continue
                if answer.status_code != 503 or answer.json()["code"] not in AGAIN:
                    return answer
                self.repeated[answer.json()["code"]] += 1
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path} was not answered")
            PAUSE.wait(0.1)

    def call(
        self, http: httpx.Client, method: str, path: str, bearer: str, **more: Any
    ) -> Mapping[str, Any]:
        answer = self.send(http, method, path, bearer, **more)
        if not answer.is_success:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        found: Mapping[str, Any] = answer.json()["data"]
        return found

    def acquire(self, http: httpx.Client, user: str) -> Mapping[str, Any]:
        body = {"feature": "editor", "userId": user, "clientId": user}
        once = {"Idempotency-Key": uuid4().hex}
        path = "/api/licenses/sessions"
        return self.call(http, "POST", path, self.key, json=body, headers=once)

    def _client(self, number: int) -> None:
        try:
            with httpx.Client(verify=TLS, timeout=PATIENCE) as http:
                self._live(http, number)
        except Exception as fault:  # noqa: BLE001 - each is a request that failed
            self.faults.append(f"client {number}, round {self.rounds[number]}: {fault!r}")

    def _live(self, http: httpx.Client, number: int) -> None:
        user = f"user-{number}"
        seat = self.acquire(http, user)
        self.leases[number] = {seat["leaseId"]}
        begun = self.call(http, "POST", "/api/sessions", ADMIN_KEY, json={"userId": user})
        person = {"X-Session-Token": begun["token"]}
        beat, current = "/api/licenses/sessions/heartbeat", "/api/licenses/sessions/current"
        while not self._over.is_set():
            self.call(http, "POST", beat, seat["token"], json={})
            other = self.acquire(http, f"guest-{number}")
            self.call(http, "POST", beat, other["token"], json={})
            self.call(http, "DELETE", current, other["token"])
            kept = {"set": {"round": self.rounds[number]}}
            self.call(http, "PATCH", "/api/sessions/current", ADMIN_KEY, json=kept, headers=person)
            found = self.call(http, "GET", "/api/sessions/current", ADMIN_KEY, headers=person)
            if found["session"]["data"] != {"round": self.rounds[number]}:
                raise AssertionError(f"the session lost what was saved: {found}")
            self.rounds[number] += 1
        again = self.acquire(
            http, user
        )  # the same holder is given the same seat, if it still has it
        self.leases[number].add(again["leaseId"])

    def license(self) -> None:
        body = {"name": "Acme", "features": {"editor": {"capacity": CAPACITY, "lostAfter": 900}}}
        with httpx.Client(verify=TLS, timeout=PATIENCE) as http:
            made = self.call(http, "POST", "/api/licenses", ADMIN_KEY, json=body)
        self.key = made["key"]

    def held(self) -> set[str]:
        """Return who holds a seat, as the first server that serves has it."""
        with httpx.Client(verify=TLS, timeout=PATIENCE) as http:
            found = self.call(http, "GET", "/api/licenses/sessions", ADMIN_KEY)
        return {each["userId"] for each in found["items"]}

    def go_on(self) -> None:
        """Wait until each client has gone round some times in the present state."""
        goals = {number: self.rounds[number] + ROUNDS for number in range(HOLDERS)}
        wait(lambda: bool(self.faults) or all(self.rounds[n] >= at for n, at in goals.items()))
        assert self.faults == []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, "the clients do not go on"
        PAUSE.wait(0.05)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def servers(
    versions: tuple[Version, Version], store: str, tmp_path: Path
) -> Iterator[dict[str, Served]]:
    """Two of each version, none of which runs."""
    before, today = versions
    named = {"before-1": before, "before-2": before, "today-1": today, "today-2": today}
    made = {
        name: Served(tmp_path / name, store=store, environ=version.environ)
        for name, version in named.items()
    }
    yield made
    for server in made.values():
        server.kill()


def start(server: Served) -> None:
    """Start a server, and again where it gave up since the database ended a transaction that stood still."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            server.start()
        except RuntimeError:
            server.kill()
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_servers_are_replaced_one_by_one_and_back(
    versions: tuple[Version, Version], servers: dict[str, Served], store: str
) -> None:
    """No request fails, no seat is lost or given twice, nobody is signed out.

    While the schema is changed below the older servers, while both kinds serve, and when the older ones come
    back to the newer schema.
    """
    before, today = versions
    assert before.schema() < today.schema()
    where = "import sojourn; print(sojourn.__file__)"
    for version in versions:
        assert version.run("-c", where).startswith(str(version.path))
    before.run("-m", "sojourn", "migrate", SOJOURN_STORE=store)
    old_1, old_2, new_1, new_2 = servers.values()
    start(old_1)
    start(old_2)
    traffic = Traffic([old_1, old_2, new_1, new_2])
    traffic.license()
    everybody = {f"user-{number}" for number in range(HOLDERS)}
    with traffic:
        traffic.go_on()
        today.run("-m", "sojourn", "migrate", SOJOURN_STORE=store)
        traffic.go_on()  # the older ones on the newer schema
        start(new_1)
        traffic.servers = [new_1, old_2, old_1, new_2]
        traffic.go_on()  # both beside one another
        old_1.stop()
        start(new_2)
        old_2.stop()
        traffic.go_on()  # today's alone
        start(old_1)
        traffic.servers = [old_1, new_1, new_2, old_2]
        new_1.stop()
        new_2.stop()
        traffic.go_on()  # and back
        assert traffic.held() >= everybody
        start(new_1)
        traffic.servers = [new_1, old_1]
        old_1.stop()
        traffic.go_on()
    assert traffic.faults == []
    assert {number: len(ids) for number, ids in traffic.leases.items()} == dict.fromkeys(
        range(HOLDERS), 1
    )
    assert traffic.held() == everybody
    areas = ("--area", "schema", "--area", "seats")
    today.run("-m", "sojourn", "doctor", *areas, fine=(0, ExitCode.WARNED), SOJOURN_STORE=store)
