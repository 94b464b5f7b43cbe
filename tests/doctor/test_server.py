"""The mission's story: two servers with different secrets behind one address, named inside and outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.doctor.app import balanced
from tests.serving import ADMIN_KEY, SECRET, served

from sojourn.adapters.express import EXPRESS
from sojourn.doctor.examiners import Outside, doctor
from sojourn.finding import Finding, Verdict
from sojourn.settings import Settings

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
        store=postgres_url, secret=(SECRET,), admin_key=ADMIN_KEY, data=str(tmp_path / "doctor")
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
