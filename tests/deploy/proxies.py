"""The proxies of deploy/proxy, run from their files: only ports, paths and names are filled in."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct
from tests.doctor.app import certificate
from tests.serving import TICK, free_port

FILES = Path(__file__).parents[2] / "deploy" / "proxy"
SITE = "sojourn.example"
START_TIMEOUT = 30.0
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sojourn.conf;
}}
"""
CADDY = """
{{
	admin off
	http_port {plain}
	https_port {port}
	auto_https disable_certs
	storage file_system {folder}/storage
}}
"""


class Running(Struct, frozen=True):
    """Attributes: plain: its port without TLS; certificate: a file that says whom to trust."""

    port: int
    plain: int
    certificate: Path
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://{SITE}:{self.port}"

    @property
    def via(self) -> str:
        return f"127.0.0.1:{self.port}"


Write = Callable[[Path, int, int, int], list[str]]


def nginx(folder: Path, upstream: int, port: int, plain: int) -> list[str]:
    """Write its files, and return its command."""
    text = replaced(
        (FILES / "nginx.conf").read_text(),
        {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
            "server 127.0.0.1:8700;": f"server 127.0.0.1:{upstream};",
            f"/etc/ssl/{SITE}/fullchain.pem": f"{folder}/certificate.pem",
            f"/etc/ssl/{SITE}/privkey.pem": f"{folder}/certificate.pem",
        },
    )
    (folder / "sojourn.conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return [_program("nginx"), "-p", str(folder), "-c", "nginx.conf"]


def caddy(folder: Path, upstream: int, port: int, plain: int) -> list[str]:
    """Write its file, and return its command."""
    text = replaced(
        (FILES / "Caddyfile").read_text(),
        {
            f"\n{SITE} {{\n": f"\n{SITE} {{\n\ttls {folder}/certificate.pem {folder}/certificate.pem\n"
            "\tbind 127.0.0.1\n",
            "reverse_proxy 127.0.0.1:8700": f"reverse_proxy 127.0.0.1:{upstream}",
        },
    )
    options = CADDY.format(folder=folder, port=port, plain=plain)
    (folder / "Caddyfile").write_text(options + text)
    return [
        *(_program("caddy"), "run", "--config", str(folder / "Caddyfile")),
        *("--adapter", "caddyfile"),
    ]


KINDS: dict[str, Write] = {"nginx": nginx, "caddy": caddy}


def replaced(text: str, changes: dict[str, str]) -> str:
    """Fill in; fails where the file no longer says what is filled in."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def proxied(kind: str, folder: Path, upstream: int) -> Iterator[Running]:
    """Run a proxy before a port of this host."""
    folder.mkdir(parents=True, exist_ok=True)
    _, trust = certificate(folder, SITE)
    port, plain = free_port(), free_port()
    command = KINDS[kind](folder, upstream, port, plain)
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            TICK.wait(0.02)
        yield Running(port, plain, folder / "certificate.pem", trust)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} was not found: run `make servers`."
    return found
