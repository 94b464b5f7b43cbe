"""Real server processes for end-to-end and fault tests: `sojourn serve` on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

ADMIN_KEY = "an-admin-key-for-tests-of-forty-characters"
SECRET = "a-secret-for-tests-0123456789-abcdefghij"
START_TIMEOUT = 90.0
TICK = threading.Event()
TLS = (
    ssl.create_default_context()
)  # httpx makes one per client otherwise, which takes longer than a request


def new_client(timeout: float = 30) -> httpx.Client:
    return httpx.Client(verify=TLS, timeout=timeout)


PORTS = range(20_000, 32_000)
"""Below those that a system gives to connections: one of these stays free until it is used."""


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Served:
    """One `sojourn serve` process. `kill` and `start` are a crash and a restart on the same port."""

    def __init__(
        self,
        data: Path,
        *,
        store: str = "",
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self._program = program or ("-m", "sojourn")
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = data
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SOJOURN_")},
            "SOJOURN_ADMIN_KEY": ADMIN_KEY,
            "SOJOURN_SECRET": SECRET,
            "SOJOURN_PULSE_INTERVAL": "0.2",
            "SOJOURN_MAX_PAUSE": "1",
            **({"SOJOURN_STORE": store} if store else {}),
            **(environ or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = data / f"serve-{self.port}.log"

    def start(self) -> None:
        """Start and wait until the server says that it is ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *self._program,
                    "serve",
                    f"--port={self.port}",
                    f"--data={self.data}",
                ],
                env=self._environ,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT
        with new_client(1) as http:
            while time.monotonic() < deadline and self._process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    if http.get(f"{self.url}/readyz").status_code == 200:
                        return
                TICK.wait(0.02)
        raise RuntimeError(f"The server did not become ready:\n{self.log.read_text()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(30)

    def admin(self) -> httpx.Client:
        """An HTTP client with the admin key."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=30,
            verify=TLS,
        )

    def license(self, **features: Mapping[str, Any]) -> tuple[str, str]:
        """Make a license; return (license id, key)."""
        with self.admin() as http:
            answer = http.post("/api/licenses", json={"name": "Acme", "features": features})
        assert answer.status_code == 201, answer.text
        data = answer.json()["data"]
        return data["licenseId"], data["key"]


@contextlib.contextmanager
def served(
    data: Path, *, store: str = "", environ: Mapping[str, str] | None = None
) -> Iterator[Served]:
    server = Served(data, store=store, environ=environ)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def acquire(
    http: httpx.Client,
    url: str,
    key: str,
    feature: str,
    user: str,
    client: str = "one",
    **more: Any,
) -> httpx.Response:
    return http.post(
        f"{url}/api/licenses/sessions",
        headers={"Authorization": f"Bearer {key}"},
        json={"feature": feature, "userId": user, "clientId": client, **more},
    )


def beat(http: httpx.Client, url: str, token: str, **more: Any) -> httpx.Response:
    return http.post(
        f"{url}/api/licenses/sessions/heartbeat",
        headers={"Authorization": f"Bearer {token}"},
        json=more,
    )


def release(http: httpx.Client, url: str, token: str) -> httpx.Response:
    return http.delete(
        f"{url}/api/licenses/sessions/current", headers={"Authorization": f"Bearer {token}"}
    )
