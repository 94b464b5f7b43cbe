"""Which texts of strangers a store keeps: all that people write, and nothing that nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.session import NewSession
from sojourn.store import Store
from sojourn.testing.builders import acquire, pool, sign_in
from sojourn.testing.contract.base import OnManualClock

SEEN = {
    "Arabic": "\u0623\u062d\u0645\u062f",
    "Hebrew": "\u05d3\u05d5\u05d3",
    "Persian, with a joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi, with a joiner": "\u0915\u094d\u200d\u0937",
    "Japanese, a variant": "\u845b\U000e0100\u57ce",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a heart": "\u2764\ufe0f",
    "a skin tone and a trade": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
    "a flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a key cap": "1\ufe0f\u20e3",
}
HIDDEN = {
    "a newline": "a\nb",
    "an escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "C1": "a\x85b",
    "override": "\u202eada",
    "isolate": "a\u2066b",
    "mark": "a\u200fb",
    "Arabic mark": "a\u061cb",
    "no width": "a\u200bb",
    "joiner": "a\u200db",
    "byte order": "\ufeffada",
    "soft hyphen": "a\xadb",
    "filler": "\u3164",
    "line": "a\u2028b",
    "tag": "a\U000e0061b",
    "selector": "a\ufe0fb",
    "half a character": "a\ud800",
}
seen = pytest.mark.parametrize("text", list(SEEN.values()), ids=list(SEEN))
hidden = pytest.mark.parametrize("text", list(HIDDEN.values()), ids=list(HIDDEN))


def begun(**fields: Any) -> NewSession:
    return NewSession(**{"id": "ses_1", "token_hash": bytes(32), "user_id": "ann"} | fields)


def _on(field: str) -> Callable[[Store, str], object]:
    return lambda store, text: store.create([begun(device=Device(**{field: text}))])


SIGN_INS: dict[str, Callable[[Store, str], object]] = {
    "user": lambda store, text: store.create([begun(user_id=text)]),
    "session": lambda store, text: store.create([begun(id=text)]),
    "impersonator": lambda store, text: store.create([begun(impersonator=text)]),
    **{f"device.{field}": _on(field) for field in Device.__struct_fields__},
}
ACQUIRES: dict[str, Callable[[Store, str], object]] = {
    "user": lambda store, text: store.acquire([acquire(text)]),
    "client": lambda store, text: store.acquire([acquire("ann", text)]),
    "lease": lambda store, text: store.acquire([acquire(lease_id=text)]),
    "device": lambda store, text: store.acquire([acquire(device=Device(name=text))]),
}


ENDS: dict[str, Callable[[Store, str], object]] = {
    "reason": lambda store, text: store.end(user_id="ann", reason=text),
    "actor": lambda store, text: store.end(user_id="ann", actor=text),
    "reason of all": lambda store, text: store.cut_off("ann", reason=text),
    "actor of all": lambda store, text: store.cut_off(None, actor=text),
}


class TextMeaning(OnManualClock):
    @hidden
    def test_why_sessions_end_hides_nothing(self, store: Store, text: str) -> None:
        """Nor does the name of who ended them; and they go on."""
        session = sign_in(store, user_id="ann")
        for what, end in ENDS.items():
            with pytest.raises(InvalidInput):
                end(store, text)
                pytest.fail(what)
        assert [each.id for each in store.of("ann")] == [session.id]

    @seen
    def test_all_writing_is_kept(self, store: Store, text: str) -> None:
        """What people write comes back as it was given, where it names somebody and where it is shown."""
        store.define([pool()])
        device = Device(name=text, place=text)
        session = sign_in(store, user_id=text, device=device)
        (lease,) = store.acquire([acquire(text, text, device=device)])
        assert (session.user_id, session.device) == (text, device)
        assert [each.id for each in store.of(text)] == [session.id]
        assert (lease.user_id, lease.client_id, lease.device) == (text, text, device)  # type: ignore[union-attr]  # a lease, or this fails

    @hidden
    def test_what_nobody_sees_is_refused(self, store: Store, text: str) -> None:
        """In ids and in all that a device says of itself; and nothing is kept."""
        store.define([pool()])
        for what, begin in {**SIGN_INS, **ACQUIRES}.items():
            with pytest.raises(InvalidInput):
                begin(store, text)
                pytest.fail(f"{what} was taken")
        assert store.events(limit=10) == []

    @pytest.mark.parametrize("text", ["", "x" * 257], ids=["empty", "long"])
    def test_an_id_has_a_length(self, store: Store, text: str) -> None:
        """1 to 256 characters, at every store alike: an operator can name every user there is."""
        store.define([pool()])
        for begin in (
            SIGN_INS["user"],
            SIGN_INS["impersonator"],
            ACQUIRES["user"],
            ACQUIRES["client"],
        ):
            with pytest.raises(InvalidInput):
                begin(store, text)

    @hidden
    def test_asking_for_it_finds_nobody(self, store: Store, text: str) -> None:
        """A rule for what comes in is none for what is asked: an old name can be looked up and ended."""
        text = text.replace(
            "\ud800", "?"
        )  # no database takes half a character, in no question either
        assert store.of(text) == []
        assert store.end(user_id=text, reason="ended") == []
