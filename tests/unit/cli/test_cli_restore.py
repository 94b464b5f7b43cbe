"""What `sojourn restore` does to a copy before it gets the database's name."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sojourn.cli.backup import ACTOR, _prepare
from sojourn.event import EventKind
from sojourn.settings import Settings
from sojourn.stores.open import open_store
from sojourn.testing.builders import load, news, pool, refused, sign_in
from sojourn.testing.regions import Region


@pytest.mark.parametrize("sign_out", [True, False])
def test_a_restore_begins_an_epoch_where_there_are_relays(
    empty_sqlite: str, *, sign_out: bool
) -> None:
    """Relays may hold what the copy does not know: nobody gets a seat of it until they have spoken."""
    file = Path(empty_sqlite.removeprefix("sqlite:///"))
    settings = Settings(store=empty_sqlite, ledger=empty_sqlite)
    with closing(open_store(empty_sqlite)) as store:
        store.define([pool(3)])
        sign_in(store, "ses")
        east = Region(store)
        east.ask(1)
    _prepare(file, settings, here=True, sign_out=sign_out)
    with closing(open_store(empty_sqlite)) as store:
        assert refused(store, "ann").in_use == 0
        [told] = news(store, 0, EventKind.AUTHORITY_RESTORED)
        assert told.data["epoch"] == store.authority()[0].epoch > east.epoch
        assert hasattr(load(store, "ses"), "reason") is sign_out
        [acted] = news(store, 0, EventKind.OPERATOR_ACTED)
        assert (acted.actor, acted.data["name"]) == (ACTOR, "restored")


def test_a_restore_without_relays_begins_none(empty_sqlite: str) -> None:
    file = Path(empty_sqlite.removeprefix("sqlite:///"))
    settings = Settings(store=empty_sqlite, ledger=empty_sqlite)
    _prepare(file, settings, here=True, sign_out=True)
    with closing(open_store(empty_sqlite)) as store:
        assert store.authority()[0].epoch == 1
        assert news(store, 0, EventKind.AUTHORITY_RESTORED) == []
