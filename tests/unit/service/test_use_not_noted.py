"""A store that cannot write for a while: whoever is signed in stays so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sojourn.clock import ManualClock
from sojourn.device import NO_DEVICES, Device
from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun, Check, Gone, GoneReason, Session
from sojourn.store import Store
from sojourn.stores.open import open_store


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{folder}/s.db"])
@pytest.mark.parametrize("fault", [StoreUnavailable("read-only"), StoreBroken("read-only")])
def test_a_use_that_cannot_be_noted_costs_the_note(
    url: str, fault: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    store: Store = open_store(url.format(folder=tmp_path), clock=clock, migrate=True)
    service = SessionService(store)
    (begun,) = service.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    touch = store.touch

    def refuse(ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES) -> list[bool]:
        raise fault

    store.touch = refuse  # type: ignore[method-assign]  # as a database in recovery does
    clock.advance(seconds=120)
    (found,) = service.check([Check(begun.token)])
    assert isinstance(found, Session)
    assert found.last_used_at == begun.session.last_used_at
    assert "use_not_noted" in caplog.text
    clock.advance(seconds=24 * 3_600)  # it was not noted, so the session goes idle as it would have
    (gone,) = service.check([Check(begun.token)])
    assert isinstance(gone, Gone)
    assert gone.reason is GoneReason.IDLE
    store.touch = touch  # type: ignore[method-assign]  # back
    store.close()
