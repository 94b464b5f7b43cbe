"""When API keys were used last: noted, written down, and never moved back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from tests.api_harness import ADMIN, Api, api

from sojourn.errors import StoreUnavailable
from sojourn.ledger import Ledger, Role
from sojourn.service import key_uses
from sojourn.service.key_uses import KeyUses
from sojourn.service.keys import Keys
from sojourn.stores.open import open_ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = open_ledger("memory:")
    yield ledger
    ledger.close()


class Away:
    """A ledger that cannot be written to."""

    def __init__(self, ledger: Ledger) -> None:
        self.key_uses = ledger.key_uses

    def note_key_uses(self, _uses: Mapping[str, int]) -> None:
        raise StoreUnavailable("away")


def test_the_later_use_counts_whoever_writes_last(ledger: Ledger) -> None:
    one, other = KeyUses(ledger), KeyUses(ledger)
    one.note("key_1", 5_000)
    one.note("key_1", 4_000)
    other.note("key_1", 2_000)
    other.note("key_2", 3_000)
    assert one.last(["key_1", "key_2", "key_3"]) == {"key_1": 5_000}  # before it is written
    assert (one.write(), other.write(), other.write()) == (1, 2, 0)
    assert KeyUses(ledger).last(["key_1", "key_2", "key_3"]) == {"key_1": 5_000, "key_2": 3_000}
    assert KeyUses(ledger).last([]) == {}


def test_what_cannot_be_written_stays_noted(ledger: Ledger) -> None:
    uses = KeyUses(Away(ledger))  # type: ignore[arg-type]  # what is asked of it here
    uses.note("key_1", 5_000)
    with pytest.raises(StoreUnavailable):
        uses.write()
    assert uses.last(["key_1"]) == {"key_1": 5_000}


def test_so_many_are_noted_and_no_more(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_uses, "NOTED_MAX", 2)
    uses = KeyUses(ledger)
    for number in range(5):
        uses.note(f"key_{number}", 1)
    uses.note("key_0", 7)
    assert uses.write() == 2
    assert uses.last(["key_0", "key_1", "key_4"]) == {"key_0": 7, "key_1": 1}


def test_a_call_is_a_use_and_a_refused_one_is_none(ledger: Ledger) -> None:
    keys = Keys(ledger)
    made, secret = keys.create("a", Role.VIEWER, actor="test")
    assert keys.last_used([made.id]) == {}
    keys.authenticate(secret)
    used = keys.last_used([made.id])
    assert 0 <= keys.now() - used[made.id] < 600_000
    revoked, secret = keys.create("b", Role.VIEWER, actor="test")
    keys.revoke(revoked.id, actor="test")
    with pytest.raises(Exception, match="not known, or no longer valid"):
        keys.authenticate(secret)
    assert keys.last_used([revoked.id]) == {}


def test_the_api_says_when_a_key_was_used() -> None:
    with api() as world:
        used, unused = _key(world, "used"), _key(world, "unused")
        world.call("GET", "/api/licenses", headers=[("authorization", f"Bearer {used[1]}")])
        answer = world.call("GET", "/api/keys", headers=[("authorization", f"Bearer {ADMIN}")])
        found = {each["keyId"]: each.get("lastUsedAt") for each in answer.data["items"]}
        assert found[used[0]] is not None
        assert found[unused[0]] is None


def _key(world: Api, name: str) -> tuple[str, str]:
    key, secret = world.services.keys.create(name, Role.VIEWER, actor="test")
    return key.id, secret
