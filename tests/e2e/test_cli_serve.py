"""`sojourn serve`: first and second start, what it keeps, what stops it, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest
from tests.e2e.cli_harness import (
    DEADLINE,
    READY,
    Program,
    holder,
    make_license,
    run,
    run_json,
    serving,
)
from tests.serving import TICK

from sojourn.testing import processes

KEY = re.compile(r"sja_\w+")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_prints_the_key_once(tmp_path: Path) -> None:
    """It lies in the data folder too, for this host's commands, and only its owner may look."""
    with serving(tmp_path) as (server, url):
        shown = KEY.findall("\n".join(server.lines))
        assert len(shown) == 1
        data = tmp_path / "sojourn-data"
        assert mode(data) == 0o700
        assert mode(data / "secret") == mode(data / "server.json") == 0o600
        known = json.loads((data / "server.json").read_text())
        assert known == {"url": url, "key": shown[0], "pid": server.process.pid}
        assert run_json(tmp_path, "key", "list")[0]["name"] == "first admin"
        assert server.end() == 0
        assert json.loads((data / "server.json").read_text())["pid"] is None
    secret = (data / "secret").read_text()
    with serving(tmp_path) as (server, url):
        assert KEY.findall("\n".join(server.lines)) == []
        assert (data / "secret").read_text() == secret
        assert len(run_json(tmp_path, "key", "list")) == 1


def test_a_stop_releases_nothing(tmp_path: Path) -> None:
    """SIGTERM exits with 0; leases live on in the store, and their holders with them."""
    with serving(tmp_path) as (server, url):
        _, key = make_license(tmp_path, "editor=2,lost_after=60")
        body = {"feature": "editor", "userId": "ada", "clientId": "laptop"}
        proof = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/api/licenses/sessions", json=body, headers=proof)
        token = answer.json()["data"]["token"]
        assert server.end(signal.SIGTERM) == 0
        assert server.stderr.count('"message": "stopped"') == 1
    with serving(tmp_path) as (server, url):
        held = run_json(tmp_path, "seats", "list")
        assert [x["userId"] for x in held] == ["ada"]
        beat = httpx.post(
            f"{url}/api/licenses/sessions/heartbeat", headers={"Authorization": f"Bearer {token}"}
        )
        assert beat.status_code == 200
        assert server.end(signal.SIGINT) == 0


def test_an_admin_key_of_ones_own(tmp_path: Path) -> None:
    """It is not printed, and works for this host's commands at once."""
    own = "an-admin-key-of-my-own-0123456789-abcdef"
    with serving(tmp_path, env={"SOJOURN_ADMIN_KEY": own}) as (server, _):
        assert own not in "\n".join(server.lines) + server.stderr
        assert KEY.findall("\n".join(server.lines)) == []
        assert run_json(tmp_path, "license", "list") == []


def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    """Not at the most talkative level, whatever clients send."""
    with serving(tmp_path, "--log-level", "debug", "--log-format", "console") as (server, url):
        admin = KEY.findall("\n".join(server.lines))[0]
        _, key = make_license(tmp_path, "editor=2")
        with holder(tmp_path, key, "ada") as ada:
            ada.wait_state("safe")
            for bad in ("sja_" + "x" * 49, "sjl_garbled", key):
                httpx.get(f"{url}/api/keys", headers={"Authorization": f"Bearer {bad}"})
            httpx.get(f"{url}/api/licenses/{key}", headers={"Authorization": f"Bearer {admin}"})
            assert ada.end() == 0
        assert server.end() == 0
        log = server.stderr
    assert admin not in log
    assert key not in log
    assert not re.search(r"sj[slka]_\w{5}", log)


def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    """Before anything is made: no key is lost in a start that came to nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = run(tmp_path, "serve", "--port", str(port), code=1)
    assert f"The port is taken: 127.0.0.1:{port}." in failed.stderr
    assert "--port" in failed.stderr
    assert failed.stdout == ""
    assert not (tmp_path / "sojourn-data" / "server.json").exists()


def test_a_store_that_is_down_stops_the_start(tmp_path: Path) -> None:
    """It says which, masked, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"postgresql://sojourn:hush@127.0.0.1:{port}/sojourn"
    env = {"SOJOURN_SECRET": "tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1"}
    failed = run(tmp_path, "serve", "--port", "0", "--store", url, code=6, env=env)
    assert f"The store cannot be reached: postgresql://sojourn:…@127.0.0.1:{port}" in failed.stderr
    assert "hush" not in failed.stderr
    assert run(tmp_path, "migrate", "--store", url, code=6).stdout == ""


def test_a_migration_by_hand(tmp_path: Path) -> None:
    """Makes what is missing, and may be run again."""
    first = run_json(tmp_path, "migrate")
    assert first == {"migrated": ["sqlite:///./sojourn-data/sojourn.db"]}
    assert (tmp_path / "sojourn-data" / "sojourn.db").exists()
    assert "up to date" in run(tmp_path, "migrate", "--store", "sqlite:///other.db").stdout
    assert (tmp_path / "other.db").exists()


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    failed = run(tmp_path, "serve", "--port", "0", "--data", "file/data", code=1)
    assert "Not a directory" in failed.stderr


@pytest.fixture
def shared(postgres_url: str) -> dict[str, str]:
    return {
        "SOJOURN_STORE": postgres_url,
        "SOJOURN_SECRET": "tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1",
        "SOJOURN_WORKERS": "2",
    }


def test_workers_share_a_shared_store(tmp_path: Path, shared: dict[str, str]) -> None:
    """Two processes on one port, over tables that the first start made. What doctor found in one of them
    both show: every connection may be another process's."""
    shared |= {"SOJOURN_DOCTOR_INTERVAL": "0"}
    with serving(tmp_path, env=shared) as (server, url):
        (admin,) = KEY.findall("\n".join(server.lines))
        proof = {"Authorization": f"Bearer {admin}"}
        ran = httpx.post(f"{url}/api/doctor/run", headers=proof, timeout=30).json()["data"]
        assert len(ran["checks"]) > 30
        for _ in range(16):
            shown = httpx.get(f"{url}/api/doctor", headers=proof).json()["data"]
            assert (shown["checks"], shown["waiting"]) == (ran["checks"], [])
        (file,) = (tmp_path / "sojourn-data" / "findings").iterdir()
        assert mode(file) == 0o600
        _, key = make_license(tmp_path, "editor=2")
        with holder(tmp_path, key, "ada") as ada:
            ada.wait_state("safe")
            assert [x["userId"] for x in run_json(tmp_path, "seats", "list")] == ["ada"]
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert server.end(signal.SIGTERM) == 0
            assert server.stderr.count('"message": "serving"') == 1


def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, shared: dict[str, str]
) -> None:
    """Killed outright, it takes its workers along, and the port is free again."""
    with Program(tmp_path, "serve", "--port", "0", env=shared) as server:
        url = server.wait_for(READY)[1]
        server.end(signal.SIGKILL)  # waits until the last writer of its stdout is gone
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        assert server.process.returncode == -signal.SIGKILL


def workers_of(server: Program) -> set[int]:
    """List a server's workers, without what else it has started."""
    below = processes.children(server.process.pid)
    return {each for each in below if "spawn_main" in processes.command(each)}


def test_sighup_replaces_workers_one_by_one(tmp_path: Path, shared: dict[str, str]) -> None:
    """Every request is answered all the while; afterwards none of the old workers is left."""
    with serving(tmp_path, env=shared) as (server, url):
        (admin,) = KEY.findall("\n".join(server.lines))
        proof = {"Authorization": f"Bearer {admin}"}
        old = workers_of(server)
        assert len(old) == 2
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 2 * DEADLINE
        while old & workers_of(server):
            assert time.monotonic() < deadline, server.stderr
            answer = httpx.get(f"{url}/api/licenses", headers=proof, timeout=DEADLINE)
            assert answer.status_code == 200, answer.text
            TICK.wait(0.1)
        assert httpx.get(f"{url}/readyz", timeout=DEADLINE).status_code == 200
        assert server.end() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_in_good_order_when_its_terminal_closes(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As when it is told to: with exit code 0, and a last line in the log."""
    with serving(tmp_path) as (server, _):
        assert server.end(number) == 0
        assert "stopped" in server.stderr


def test_a_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    """It says which one runs there, and leaves its note alone; when that one has died, there is room."""
    with serving(tmp_path) as (server, url):
        note = (tmp_path / "sojourn-data" / "server.json").read_bytes()
        refused = run(tmp_path, "serve", "--port", "0", code=1).stderr
        assert f"runs already at {url}" in refused
        assert str(server.process.pid) in refused
        assert (tmp_path / "sojourn-data" / "server.json").read_bytes() == note
        run(tmp_path, "license", "list")
        server.end(signal.SIGKILL)
    with serving(tmp_path):
        run(tmp_path, "license", "list")


def test_a_second_server_of_a_shared_store_joins(tmp_path: Path, postgres_url: str) -> None:
    """And this host's commands go on asking the first."""
    env = {"SOJOURN_STORE": postgres_url, "SOJOURN_SECRET": "c0ffee4b1e9d73a25f8c6b0917ad42e3"}
    with serving(tmp_path, env=env) as (_, url), serving(tmp_path, env=env) as (second, other):
        assert other != url
        assert json.loads((tmp_path / "sojourn-data" / "server.json").read_text())["url"] == url
        assert second.end() == 0
        run(tmp_path, "license", "list")
