"""Webhooks between processes: servers that are killed, servers side by side, the command line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.cli_harness import run, run_json, serving
from tests.receiver import Answer, Receiver, receiving, signed_by
from tests.serving import Served, acquire, new_client, served

QUICK = {
    "SOJOURN_WEBHOOK_REACH": "loopback",
    "SOJOURN_WEBHOOK_INTERVAL": "0.1",
    "SOJOURN_WEBHOOK_TIMEOUT": "0.5",  # and so a claim lasts 6 s
}
PATIENT = QUICK | {"SOJOURN_WEBHOOK_TIMEOUT": "20"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def hook(server: Served, url: str) -> Any:
    with server.admin() as http:
        answer = http.post("/api/webhooks", json={"url": url, "kinds": ["lease.acquired"]})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def take(http: httpx.Client, server: Served, key: str, *users: str) -> None:
    for user in users:
        assert acquire(http, server.url, key, "editor", user).status_code == 201


def users(receiver: Receiver) -> list[str]:
    return [
        x.json["data"]["userId"] for x in receiver.received if x.json["type"] == "lease.acquired"
    ]


def test_killed_between_delivery_and_mark(tmp_path: Path, receiver: Receiver) -> None:
    """The receiver has it, the ledger does not know: it comes again, under the same id, and what was
    behind it follows."""
    with served(tmp_path, environ=QUICK) as server, new_client() as http:
        made = hook(server, receiver.url)
        _, key = server.license(editor={"capacity": 9})
        killed = threading.Event()
        receiver.answer = lambda before: Answer(hang=killed if before == 0 else None)
        take(http, server, key, "ann", "bob")
        receiver.wait_for(1)
        server.kill()
        killed.set()
        server.start()
        take(http, server, key, "cy")
        received = receiver.wait_for(4)
        assert users(receiver) == ["ann", "ann", "bob", "cy"]
        assert received[0].id == received[1].id
        assert all(signed_by(made["secret"], each) for each in received)


def test_two_servers_side_by_side(tmp_path: Path, postgres_url: str, receiver: Receiver) -> None:
    """Each event comes once, in order, whichever server made it or sends it; a receiver that hangs
    keeps neither, nor the other receiver, from anything."""
    release = threading.Event()
    crowd = [f"u{number:03}" for number in range(100)]
    with (
        receiving() as stuck,
        served(tmp_path / "a", store=postgres_url, environ=PATIENT) as one,
        served(tmp_path / "b", store=postgres_url, environ=PATIENT) as two,
        new_client() as http,
    ):
        stuck.answer = lambda _before: Answer(hang=release)
        hook(one, stuck.url)
        made = hook(two, receiver.url)
        _, key = one.license(editor={"capacity": 100})
        for number, user in enumerate(crowd):
            take(http, (one, two)[number % 2], key, user)
        receiver.wait_for(100)
        with two.admin() as admin:
            path = f"/api/webhooks/{made['webhookId']}"
            admin.post(f"{path}/test").raise_for_status()
            receiver.wait_for(101)
        assert users(receiver) == crowd
        assert len(stuck.received) == 1
        release.set()


def test_the_command_line(tmp_path: Path, receiver: Receiver) -> None:
    environ = QUICK | {"SOJOURN_WEBHOOK_TIMEOUT": "5"}
    with serving(tmp_path, env=environ) as (server, _):
        assert "There are no webhooks" in run(tmp_path, "webhook", "list").stdout
        said = run(tmp_path, "webhook", "create", receiver.url, "-k", "lease.denied").stdout
        assert "whsec_" in said
        assert "shown this once" in said
        [made] = run_json(tmp_path, "webhook", "list")
        assert made["kinds"] == ["lease.denied"]
        hook = made["webhookId"]
        assert "took it (204)" in run(tmp_path, "webhook", "test", hook).stdout
        rotated = run_json(tmp_path, "webhook", "rotate", hook, "--keep-old", "0")
        assert run_json(tmp_path, "webhook", "test", hook)["state"] == "delivered"
        assert signed_by(rotated["secret"], receiver.received[-1])
        receiver.answer = lambda _before: Answer(500)
        failed = run(tmp_path, "webhook", "test", hook, code=1)
        assert "The receiver answered 500." in failed.stderr
        listed = run(tmp_path, "webhook", "deliveries", hook).stdout
        assert "delivered" in listed
        assert "pending" in listed
        [pending] = run_json(tmp_path, "webhook", "deliveries", hook, "--state", "pending")
        receiver.answer = lambda _before: Answer()
        replayed = run(tmp_path, "webhook", "replay", hook, "--delivery", "3").stdout
        assert "1 delivery to be sent again" in replayed
        received = receiver.wait_for(4)
        assert received[-1].id == pending["messageId"]
        run(tmp_path, "webhook", "replay", hook, code=2)
        run(tmp_path, "webhook", "replay", "whk_x", "--dead", code=4)
        assert "sent again" in run(tmp_path, "webhook", "replay", hook, "--from-event", "1").stdout
        said = run(tmp_path, "webhook", "change", hook, "--disable", "--all-kinds").stdout
        assert "disabled" in said
        assert " all" in said
        run(tmp_path, "webhook", "change", hook, code=2)
        run(tmp_path, "webhook", "delete", hook, code=2)  # nobody to ask
        assert "Deleted" in run(tmp_path, "webhook", "delete", hook, "--yes").stdout
        refused = run(tmp_path, "webhook", "create", "http://10.0.0.1/", code=2)
        assert "webhook_reach" in refused.stderr
        assert server.end() == 0


def test_a_stop_waits_for_no_receiver(tmp_path: Path, receiver: Receiver) -> None:
    """One that hangs is left, and sent to again by whoever serves next."""
    release = threading.Event()
    with served(tmp_path, environ=PATIENT) as server, new_client() as http:
        hook(server, receiver.url)
        _, key = server.license(editor={"capacity": 1})
        receiver.answer = lambda _before: Answer(hang=release)
        take(http, server, key, "ann")
        receiver.wait_for(1)
        assert server.stop() == 0
        assert not release.is_set()
        release.set()
