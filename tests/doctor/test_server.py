"""The mission's story: two servers with different secrets behind one address, named inside and outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
from tests.doctor.app import balanced
from tests.serving import ADMIN_KEY, SECRET, served

from sojourn.adapters.express import EXPRESS
from sojourn.doctor.examiners import Outside, doctor
from sojourn.finding import Finding, Verdict
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder, Remembered

OTHER = "another-secret-of-forty-characters-012345"
ASKED = ("secrets.set", "secrets.instances", "secrets.changed", "secrets.address", "round-trip.api")


def examine(settings: Settings, where: str, *, ids: Sequence[str] = ASKED) -> dict[str, Finding]:
    doc = doctor(settings, Outside(url=f"http://{where}"), express=EXPRESS)
    try:
        return {x.check.id: x.finding for x in doc.examine() if x.check.id in ids}
    finally:
        doc.close()


def wrong(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {
        name: finding.verdict
        for name, finding in found.items()
        if finding.verdict is not Verdict.OK
    }


def test_two_servers_with_different_secrets(postgres_url: str, tmp_path: Path) -> None:
    settings = Settings(
        store=postgres_url, secret=(SECRET,), key=ADMIN_KEY, data=str(tmp_path / "doctor")
    )
    with served(tmp_path / "one", store=postgres_url) as one:
        first = f"127.0.0.1:{one.port}"
        assert wrong(examine(settings, first)) == {}
        assert wrong(examine(settings, first, ids=("round-trip.session", "round-trip.seat"))) == {}

        lost = msgspec.structs.replace(settings, secret=(OTHER,))
        found = examine(lost, first)
        assert found["secrets.address"].title.startswith("The servers at this address have another")
        assert wrong(found)["secrets.changed"] is Verdict.WARNING

        with (
            served(tmp_path / "two", store=postgres_url, environ={"SOJOURN_SECRET": OTHER}) as two,
            balanced(first, f"127.0.0.1:{two.port}") as where,
        ):
            found = examine(settings, where)
        assert wrong(found) == {
            "secrets.instances": Verdict.FAILURE,
            "secrets.address": Verdict.FAILURE,
            "secrets.changed": Verdict.WARNING,
        }
        assert (
            found["secrets.address"].title
            == "Servers with different secrets answer at this address."
        )
        assert "6 were taken and 6 refused" in found["secrets.address"].evidence[0]
        inside = " ".join(found["secrets.instances"].evidence)
        assert f"process {one.pid}" in inside
        assert f"process {two_pid(inside, one.pid)}" in inside
        assert SECRET not in str(found)
        assert OTHER not in str(found)


def two_pid(text: str, but: int) -> int:
    """Find the other process that is named."""
    named = {int(part.split(":")[0].split()[0]) for part in text.split("process ")[1:]}
    (other,) = named - {but}
    return other


@contextmanager
def stranger(heard: list[str]) -> Iterator[str]:
    """Serve something that is no server of Sojourn's, and takes down what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            heard.append(str(self.headers))
            said = b'{"code": "unauthenticated"}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_DELETE = do_GET  # noqa: N815  # the names that http.server calls

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_keys_are_told_to_no_stranger(empty_sqlite: str, tmp_path: Path) -> None:
    """Neither the one that was given, nor the first admin's, nor the remembered one."""
    heard: list[str] = []
    with stranger(heard) as where:
        for url in ("http://127.0.0.1:1", f"http://{where}"):
            folder = DataFolder(tmp_path)
            folder.remember(Remembered(url=url, key="remembered-key"))
            settings = Settings(
                store=empty_sqlite, secret=(SECRET,), admin_key=ADMIN_KEY, data=str(tmp_path)
            )
            found = examine(settings, where)
            assert found["round-trip.api"].verdict is Verdict.SKIPPED
        given = msgspec.structs.replace(settings, key="the-key-that-was-given")
        assert examine(given, where)["round-trip.api"].verdict is Verdict.SKIPPED
    assert heard
    told = "".join(heard)
    assert not [key for key in ("remembered", ADMIN_KEY, "the-key-that") if key in told]


def test_the_remembered_key_is_for_the_remembered_server(tmp_path: Path) -> None:
    """The admin key of the settings, which a new server would get, is never sent anywhere."""
    with served(tmp_path / "one") as one:
        store = f"sqlite:///{tmp_path}/one/sojourn.db"
        settings = Settings(store=store, secret=(SECRET,), data=str(tmp_path / "one"))
        remembered = DataFolder(tmp_path / "one").recall()
        assert (remembered.url, remembered.key) == (one.url, ADMIN_KEY)
        here = f"127.0.0.1:{one.port}"
        ids = ("round-trip.api",)
        assert examine(settings, here, ids=ids)["round-trip.api"].verdict is Verdict.OK
        elsewhere = msgspec.structs.replace(
            settings, data=str(tmp_path / "two"), admin_key=ADMIN_KEY
        )
        found = examine(elsewhere, here, ids=ids)["round-trip.api"]
        assert found.verdict is Verdict.SKIPPED
        assert "SOJOURN_KEY" in found.title
