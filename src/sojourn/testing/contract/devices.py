"""What users call their devices, and what a session was last used from."""

from __future__ import annotations

import pytest

from sojourn.clock import DAY, ManualClock
from sojourn.device import LABEL_MAX, Device
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.session import Save, Session
from sojourn.store import Store
from sojourn.testing.builders import latest, news, present, sign_in, token_hash
from sojourn.testing.contract.base import OnManualClock, exact_pairs, own_id

CHROME = Device(name="Chrome on Windows", browser="Chrome", os="Windows", kind="desktop")
HOME = Device(name="Chrome on Windows", kind="desktop", ip="192.0.2.7", user_agent="Chrome/1")
TRAIN = Device(name="Chrome on Windows", kind="desktop", ip="2001:db8::1", user_agent='"Chrome"\\2')


def label_of(store: Store, session_id: str = "ses_1") -> str | None:
    return present(store, session_id).label


class DeviceMeaning(OnManualClock):
    def test_a_device_is_called_what_its_user_says(self, store: Store) -> None:
        """The name is shown wherever the session is; None takes it back. The device stays what it is."""
        sign_in(store, device=CHROME)
        sign_in(store, "other", device=CHROME)
        assert label_of(store) is None
        assert store.rename("ses_1", user_id="ann", label="Büro ‘links’ \N{GRINNING FACE}")
        assert store.rename("ses_1", user_id="ann", label='It\'s "mine" \\ %s :at')
        shown: list[Session] = [
            present(store),
            next(each for each in store.of("ann") if each.id == "ses_1"),
            next(each for each in store.page("ann").sessions if each.id == "ses_1"),
            next(each for each in store.sessions() if each.id == "ses_1"),
        ]
        assert [each.label for each in shown] == ['It\'s "mine" \\ %s :at'] * 4
        assert [each.device for each in shown] == [CHROME] * 4
        assert label_of(store, "other") is None
        assert store.rename("ses_1", user_id="ann", label=None)
        assert label_of(store) is None

    def test_a_name_stays_with_its_session(self, store: Store, clock: ManualClock) -> None:
        """Use, a save and a new token leave it as it is."""
        sign_in(store, device=CHROME)
        store.rename("ses_1", user_id="ann", label="Office")
        clock.advance(seconds=90)
        store.touch(["ses_1"], {"ses_1": TRAIN})
        store.save([Save(id="ses_1", set={"a": 1})])
        rotated = store.rotate("ses_1", token_hash("new"))
        assert isinstance(rotated, Session)
        assert (rotated.label, rotated.last_device, rotated.data) == ("Office", TRAIN, {"a": 1})
        assert present(store, "new") == rotated

    @exact_pairs
    def test_nobody_names_devices_of_others(self, store: Store, one: str, other: str) -> None:
        """Of a similar name least of all; nor what is over, or never was."""
        mine, theirs = own_id(one), own_id(other)
        sign_in(store, mine, one)
        assert not store.rename(mine, user_id=other, label="Mine")
        assert not store.rename(theirs, user_id=one, label="Mine")
        assert label_of(store, mine) is None
        store.end(ids=[mine])
        assert not store.rename(mine, user_id=one, label="Mine")

    def test_what_went_idle_is_not_named(self, store: Store, clock: ManualClock) -> None:
        sign_in(store)
        clock.advance(milliseconds=DAY)
        assert not store.rename("ses_1", user_id="ann", label="Mine")

    @pytest.mark.parametrize("label", ["", " ", "x" * (LABEL_MAX + 1), "a\nb", "a\u202eb"])
    def test_a_name_can_be_read(self, store: Store, label: str) -> None:
        """Refused: an empty one, a long one, and hidden characters."""
        sign_in(store)
        with pytest.raises(InvalidInput):
            store.rename("ses_1", user_id="ann", label=label)
        assert label_of(store) is None
        assert store.rename("ses_1", user_id="ann", label="ß" * LABEL_MAX)

    def test_a_sign_in_in_its_place_keeps_the_name(self, store: Store) -> None:
        """Of the same user, in the same browser: the session that is replaced proves that (S7)."""
        sign_in(store, device=CHROME)
        store.rename("ses_1", user_id="ann", label="Office")
        again = sign_in(store, "again", device=CHROME, replaces="ses_1")
        assert (again.label, label_of(store, "again")) == ("Office", "Office")
        sign_in(store, "limited", limit=1, replaces="again")
        assert label_of(store, "limited") == "Office"
        assert sign_in(store, "elsewhere", device=CHROME).label is None

    def test_nobody_else_inherits_the_name(self, store: Store) -> None:
        """Another user, somebody who acts for the user, and who signs in where the session is over."""
        for session_id, user_id, more in (
            ("other", "bob", {}),
            ("acting", "ann", {"impersonator": "root"}),
            ("visitor", None, {}),
        ):
            sign_in(store, "ses_" + session_id)
            store.rename("ses_" + session_id, user_id="ann", label="Office")
            new = sign_in(store, session_id, user_id, replaces="ses_" + session_id, **more)
            assert new.label is None
        sign_in(store, "own")
        store.rename("own", user_id="ann", label="Office")
        store.end(ids=["own"])
        assert sign_in(store, "late", replaces="own").label is None

    def test_a_named_device_is_known_still(self, store: Store) -> None:
        """A name makes no device new, and none known."""
        sign_in(store, device=CHROME)
        store.rename("ses_1", user_id="ann", label="Safari on iPhone")
        before = latest(store)
        sign_in(store, "same", device=CHROME)
        assert not news(store, before, EventKind.SESSION_NEW_DEVICE)
        sign_in(store, "phone", device=Device(name="Safari on iPhone", kind="phone"))
        assert len(news(store, before, EventKind.SESSION_NEW_DEVICE)) == 1

    def test_use_tells_what_it_came_from(self, store: Store, clock: ManualClock) -> None:
        """Of each session its own; where nothing is said, what was known stays."""
        ids = ["a", "b'\"$", "c"]
        for each in ids:
            sign_in(store, each, device=HOME)
        assert [present(store, each).last_device for each in ids] == [None] * 3
        clock.advance(seconds=90)
        assert store.touch([*ids, "none"], {"a": TRAIN, "b'\"$": HOME}) == [True] * 3 + [False]
        assert [present(store, each).last_device for each in ids] == [TRAIN, HOME, None]
        assert {present(store, each).last_used_at for each in ids} == {clock.now()}
        clock.advance(seconds=90)
        assert store.touch(ids) == [True] * 3
        assert store.touch(["c"], {"c": CHROME, "a": HOME}) == [True]
        assert [present(store, each).last_device for each in ids] == [TRAIN, HOME, CHROME]
        assert [present(store, each).device for each in ids] == [HOME] * 3
        store.end(ids=["a"])
        assert store.touch(["a"], {"a": HOME}) == [False]
