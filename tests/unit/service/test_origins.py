"""Origins of licenses while the ledger hangs: heartbeats and releases of pages wait for it once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api
from tests.waiting import DEADLINE

from sojourn.errors import StoreUnavailable
from sojourn.ledger import LicenseChange
from sojourn.service.origins import FRESH_FOR, RETRY, AllowedOrigins, FromPage, Shared
from sojourn.token import LeaseClaims

APP = "https://app.example"
TICK = threading.Event()


class Hanging:
    """A ledger whose origins can be had, or not."""

    def __init__(self, world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 100.0
        self.down = False
        self.asked_on: list[threading.Thread] = []
        real = world.ledger.license_origins

        def read(ids: Any) -> Any:
            self.asked_on.append(threading.current_thread())
            if self.down:
                raise StoreUnavailable("The ledger hangs.")
            return real(ids)

        monkeypatch.setattr(world.ledger, "license_origins", read)
        self.origins = AllowedOrigins(world.ledger, now=lambda: self.at)

    @property
    def asked_here(self) -> int:
        return self.asked_on.count(threading.current_thread())


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as made:
        change = LicenseChange(allowed_origins=(APP,))
        made.services.licenses.change(made.license_id, change, actor="test")
        yield made


@pytest.fixture
def hanging(world: Api, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    return Hanging(world, monkeypatch)


def claims(world: Api) -> LeaseClaims:
    token = world.call(
        "POST", "/api/licenses/sessions", bearer=world.license_key, json=world.wish()
    )
    found: LeaseClaims = world.services.keyring.verify(token.data["token"])
    return found


def eventually(true: Any) -> None:
    for _ in range(round(DEADLINE / 0.02)):
        if true():
            return
        TICK.wait(0.02)
    raise AssertionError("it never came true")


def test_a_ledger_that_hangs_is_waited_for_once(world: Api, hanging: Hanging) -> None:
    """Batches go on from memory, however long the outage, and a thread of its own asks again."""
    release = hanging.origins.guarding(list, keeps=True)
    call = FromPage(APP, claims(world))
    assert release([call]) == [Shared(APP, call.call)]
    assert hanging.asked_here == 1
    hanging.down = True
    hanging.at += FRESH_FOR
    for _ in range(20):
        assert release([call]) == [Shared(APP, call.call)]
    assert hanging.asked_here == 2
    for _ in range(5):
        before = len(hanging.asked_on)
        hanging.at += RETRY
        for _ in range(10):
            assert release([call]) == [Shared(APP, call.call)]
        eventually(lambda before=before: len(hanging.asked_on) == before + 1)
        eventually(lambda: not hanging.asked_on[-1].is_alive())
    assert hanging.asked_here == 2


def test_what_is_allowed_is_known_again_after_an_outage(world: Api, hanging: Hanging) -> None:
    release = hanging.origins.guarding(list, keeps=True)
    call = FromPage(APP, claims(world))
    hanging.down = True
    assert release([call]) == [call.call]  # never known: carried out, and shared with nobody
    hanging.down = False
    hanging.at += RETRY
    release([call])  # has another thread ask
    eventually(lambda: hanging.origins.remembered(world.license_id) == (APP,))
    assert release([call]) == [Shared(APP, call.call)]
    assert hanging.asked_here == 1


def test_a_ledger_that_hangs_is_not_asked_by_each(world: Api, hanging: Hanging) -> None:
    """Whoever must have the ledger's word is refused at once, until one may ask again."""
    hanging.down = True
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            hanging.origins.of([world.license_id])
    assert hanging.asked_here == 1
    hanging.at += RETRY
    hanging.down = False
    assert hanging.origins.of([world.license_id]) == {world.license_id: (APP,)}


def test_memory_is_looked_into_without_asking(world: Api, hanging: Hanging) -> None:
    assert hanging.origins.remembered(world.license_id) is None
    hanging.origins.of([world.license_id])
    assert hanging.origins.remembered(world.license_id) == (APP,)
    hanging.at += FRESH_FOR
    assert hanging.origins.remembered(world.license_id) is None
    assert hanging.asked_here == 1


def test_a_host_without_threads_keeps_seats(
    world: Api, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again as soon as there are some."""
    release = hanging.origins.guarding(list, keeps=True)
    call = FromPage(APP, claims(world))
    hanging.down = True
    assert release([call]) == [call.call]
    hanging.down = False
    hanging.at += RETRY

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none_left)
        assert release([call]) == [call.call]
    release([call])
    eventually(lambda: hanging.origins.remembered(world.license_id) == (APP,))
