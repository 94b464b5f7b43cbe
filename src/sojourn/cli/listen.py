"""The socket, and uvicorn on it: one process, or several."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sojourn.cli.failure import ExitCode, Failure, reason
from sojourn.cli.wiring import WORKER_VARIABLE, HandedOver
from sojourn.settings import Settings, listen_address

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
WORKERS_START_TIMEOUT = 30.0  # seconds
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognized, not bound


def bind(settings: Settings) -> socket.socket:
    """Take the port, without listening yet: who connects before we can answer is refused, and knows it.

    Raises Failure, saying who might have the port.
    """
    return _bind(settings.host, settings.port, "--host", "--port")


def bind_metrics(settings: Settings) -> socket.socket:
    """Take the port of /metrics, where it has one of its own. Raises Failure."""
    host, port = listen_address(settings.metrics_listen)
    return _bind(host, port, "--metrics-listen", "--metrics-listen")


def _bind(host: str, port: int, host_flag: str, port_flag: str) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise Failure(
            f"This host has no address {host!r} to listen on.",
            why=error.strerror or str(error),
            todo=f"Correct {host_flag}: 127.0.0.1 for this machine only, 0.0.0.0 for every network.",
            exit_code=ExitCode.USAGE,
        ) from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise _refused(f"{host}:{port}", error, host_flag, port_flag) from None
    return listener


def _refused(
    where: str, error: OSError, host_flag: str = "--host", port_flag: str = "--port"
) -> Failure:
    if error.errno == errno.EADDRINUSE:
        return Failure(
            f"The port is taken: {where}.",
            why="Another process listens there; perhaps a Sojourn that runs already.",
            todo=f"Stop it, or choose another with {port_flag} (0 picks a free one).",
        )
    if error.errno == errno.EACCES:
        return Failure(
            f"This user may not listen on {where}.",
            why="Ports below 1024 belong to the system.",
            todo=f"Choose another with {port_flag}, and put a reverse proxy before it.",
        )
    return Failure(
        f"Listening on {where} is not possible.",
        why=reason(error),
        todo=f"Correct {host_flag}: it must be an address of this machine.",
        exit_code=ExitCode.USAGE,
    )


def address(listener: socket.socket) -> str:
    """Say the URL under which this host reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Any,
    options: dict[str, Any],
    listeners: Sequence[socket.socket],
    ready: Callable[[], None],
) -> None:
    """Serve in this process until SIGTERM, SIGINT or the end of its terminal."""
    import uvicorn

    from sojourn.api.server import Server

    asked_to_stop: list[int] = []

    class Said(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            try:
                await super().startup(sockets)
            except OSError as error:  # another one has come to listen there since we took the port
                await self.lifespan.shutdown()
                raise _refused(f"{options['host']}:{options['port']}", error) from None
            if asked_to_stop:
                self.should_exit = True
            else:
                ready()

    # uvicorn stops gracefully and then raises the signal again, which would count as a crash; and a
    # signal that comes before uvicorn listens for it must not be lost.
    previous = {
        number: signal.signal(number, lambda number, _: asked_to_stop.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:  # as under nohup
        # A terminal that closes ends what runs in it: in good order, as SIGTERM does.
        previous[HANGUP] = signal.signal(HANGUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        Said(uvicorn.Config(app, **options)).run(sockets=list(listeners))
    except SystemExit as stop:
        if stop.code:
            raise Failure(
                "The server could not start.",
                why="Its services failed while starting; the lines above say how.",
                todo="Mend that, then start it again.",
            ) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_workers(
    handed: HandedOver,
    options: dict[str, Any],
    listeners: Sequence[socket.socket],
    ready: Callable[[], None],
) -> None:
    """Serve in `settings.workers` processes that share the sockets, until SIGTERM or SIGINT."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    class Supervisor(Multiprocess):
        def init_processes(self) -> None:
            super().init_processes()
            if all(p.wait_until_ready(WORKERS_START_TIMEOUT) for p in self.processes):
                ready()

        def restart_all(self) -> None:
            # For SIGHUP. A new worker gets the time that the first ones had, and not the few seconds in
            # which one that lives answers: past them uvicorn gives up, and keeps the old ones.
            usual = self.config.timeout_worker_healthcheck
            self.config.timeout_worker_healthcheck = int(WORKERS_START_TIMEOUT)
            try:
                super().restart_all()
            finally:
                self.config.timeout_worker_healthcheck = usual

        def terminate_all(self) -> None:
            # The workers stop listening at once. Held here, the port would go on taking connections that
            # nobody accepts.
            for each in self.sockets:
                each.close()
            super().terminate_all()

    os.environ[WORKER_VARIABLE] = msgspec.json.encode(handed).decode()
    config = uvicorn.Config(
        "sojourn.cli.wiring:worker_app",
        factory=True,
        **{**options, "workers": handed.settings.workers},
    )
    Supervisor(config, sockets=list(listeners)).run()
