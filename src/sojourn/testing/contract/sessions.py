"""What the verbs on sessions mean."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.clock import DAY, HOUR, MINUTE, ManualClock
from sojourn.device import Device
from sojourn.errors import Conflict, InvalidInput
from sojourn.event import EventKind
from sojourn.lease import EndReason
from sojourn.session import IDLE_TIMEOUT, LIFETIME, TOMBSTONE, Gone, GoneReason, Save, Session
from sojourn.store import Store
from sojourn.testing.builders import (
    beat,
    gone,
    load,
    look_up,
    new_session,
    news,
    pool,
    present,
    read_at,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.base import OnManualClock, exact_pairs, own_id

JSON: dict[str, Any] = {
    "text": "plain",
    "emoji": "\N{GRINNING FACE} 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "quotes": 'it\'s "so" \\ 100 % ; -- {x}',
    "numbers": [0, -1, 1.5, 2**53 + 1, -(2**63), 2**63 - 1],
    "nothing": None,
    "truth": [True, False],
    "nested": {"a": {"b": [{"c": []}, {}]}},
    "": "a key may be empty",
    "k.e'y[0]$": "a key is no path",
    "long": "x" * 70_000,
}


class SessionMeaning(OnManualClock):
    def test_created_session_is_loaded_as_answered(self, store: Store, clock: ManualClock) -> None:
        """A new session starts now, and a load by its token's hash finds it as it was answered."""
        device = Device(name="Ann's phone", browser="Firefox 140", ip="2001:db8::1")
        session = sign_in(store, data={"cart": [1]}, device=device, level=2)
        now = clock.now()
        assert session == Session(
            id="ses_1",
            user_id="ann",
            data={"cart": [1]},
            revision=1,
            created_at=now,
            authenticated_at=now,
            last_used_at=now,
            idle_timeout=IDLE_TIMEOUT,
            idle_at=now + IDLE_TIMEOUT,
            expires_at=now + LIFETIME,
            device=device,
            level=2,
            at=now,
        )
        assert load(store) == session

    def test_idle_deadline_never_lies_after_expiry(self, store: Store) -> None:
        """An idle timeout longer than the lifetime is cut to it."""
        session = sign_in(store, lifetime=HOUR, idle_timeout=DAY)
        assert session.idle_at == session.expires_at

    def test_create_never_overwrites(self, store: Store) -> None:
        """An id or a token hash in use answers None, and what was there stays as it was."""
        session = sign_in(store, data={"a": 1})
        same_id = new_session("ses_1", "bob", token_hash=token_hash("other"))
        same_token = new_session("ses_2", "bob", token_hash=token_hash("ses_1"))
        assert store.create([same_id, same_token]) == [None, None]
        assert present(store) == session
        assert gone(store, "other").reason is GoneReason.ABSENT

    def test_create_spares_its_neighbors(self, store: Store) -> None:
        """In a batch, only the session that is there already answers None, an earlier one's double too."""
        sign_in(store, "ses_1")
        batch = [new_session(i) for i in ("ses_2", "ses_1", "ses_3", "ses_2")]
        assert [isinstance(s, Session) and s.id for s in store.create(batch)] == [
            "ses_2",
            False,
            "ses_3",
            False,
        ]
        assert present(store, "ses_3").user_id == "ann"

    def test_create_never_reuses_an_ended_session(self, store: Store) -> None:
        """The id and the token of an ended session stay taken while it is remembered."""
        sign_in(store)
        store.end(ids=["ses_1"])
        assert store.create([new_session("ses_1", token_hash=token_hash("new"))]) == [None]
        assert store.create([new_session("ses_2", token_hash=token_hash("ses_1"))]) == [None]
        assert gone(store).reason is GoneReason.ENDED

    def test_load_answers_in_order(self, store: Store) -> None:
        """A load answers as many times as it was asked, in that order; unknown tokens are absent."""
        one, two = sign_in(store, "ses_1"), sign_in(store, "ses_2")
        asked = [token_hash(name) for name in ("ses_2", "no", "ses_1", "ses_2")]
        assert store.load(asked) == [two, Gone(reason=GoneReason.ABSENT), one, two]
        assert store.load([]) == []

    def test_load_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        """Looking a session up does not count as using it."""
        session = sign_in(store)
        now = clock.advance(seconds=60)
        assert present(store) == read_at(now, session)

    def test_data_is_kept_as_json(self, store: Store) -> None:
        """Whatever JSON can say comes back the same."""
        sign_in(store, data=JSON)
        assert present(store).data == JSON
        store.save([Save(id="ses_1", set={"again": JSON})])
        assert present(store).data == JSON | {"again": JSON}

    def test_data_that_is_no_json_is_refused(self, store: Store) -> None:
        """What JSON cannot say is refused, and nothing has changed."""
        sign_in(store, data={"a": 1})
        with pytest.raises(InvalidInput):
            store.save([Save(id="ses_1", set={"a": object()})])
        with pytest.raises(InvalidInput):
            store.create([new_session("ses_2", data={"a": {1, object()}})])
        assert present(store).data == {"a": 1}
        assert gone(store, "ses_2").reason is GoneReason.ABSENT

    def test_data_is_not_shared(self, store: Store) -> None:
        """Changing what was passed in or handed out changes nothing in the store."""
        data: dict[str, Any] = {"list": [1]}
        created = sign_in(store, data=data)
        data["list"].append(2)
        created.data["list"].append(3)
        present(store).data["list"].append(4)
        assert present(store).data == {"list": [1]}

    @exact_pairs
    def test_ids_are_byte_exact(self, store: Store, one: str, other: str) -> None:
        """Session and user ids that differ in one byte are different."""
        ids = own_id(one), own_id(other)
        first = sign_in(store, ids[0], user_id=one)
        second = sign_in(store, ids[1], user_id=other)
        assert (first.id, second.id) == ids
        assert [s.id for s in store.of(one)] == [ids[0]]
        assert store.end(ids=[ids[1]]) == [ids[1]]
        assert present(store, ids[0]).user_id == one

    def test_save_merges_top_level_keys(self, store: Store) -> None:
        """Keys that are set are replaced whole, keys that are unset go, all others stay."""
        sign_in(store, data={"a": {"deep": 1}, "b": 2, "c": 3})
        save = Save(id="ses_1", set={"a": {"new": 1}, "d": None}, unset=("b", "never-there"))
        assert store.save([save]) == [2]
        assert present(store).data == {"a": {"new": 1}, "c": 3, "d": None}

    def test_saves_of_a_batch_apply_in_order(self, store: Store) -> None:
        """Two saves of one session in a batch are applied in order, each with its own revision."""
        sign_in(store, data={"a": 0})
        sign_in(store, "ses_2")
        revisions = store.save(
            [
                Save(id="ses_1", set={"a": 1, "b": 1}),
                Save(id="ses_2", set={"a": 5}),
                Save(id="ses_1", set={"a": 2}, unset=("b",)),
                Save(id="ses_1", set={"b": 3}),
            ]
        )
        assert revisions == [2, 2, 3, 4]
        session = present(store)
        assert (session.data, session.revision) == ({"a": 2, "b": 3}, 4)

    def test_save_is_no_use(self, store: Store, clock: ManualClock) -> None:
        """Saving changes data and revision, and nothing else."""
        before = sign_in(store)
        clock.advance(seconds=60)
        store.save([Save(id="ses_1", set={"a": 1})])
        after = present(store)
        assert (after.last_used_at, after.idle_at) == (before.last_used_at, before.idle_at)

    def test_save_never_revives(self, store: Store, clock: ManualClock) -> None:
        """A save to a session that is absent, ended, idle or expired answers None; others go on."""
        sign_in(store, "ended")
        sign_in(store, "idle", idle_timeout=MINUTE)
        sign_in(store, "expired", lifetime=MINUTE)
        sign_in(store, "live")
        store.end(ids=["ended"])
        clock.advance(seconds=60)
        ids = ("ended", "idle", "live", "expired", "absent")
        assert store.save([Save(id=i, set={"a": 1}) for i in ids]) == [None, None, 2, None, None]
        for name in ("ended", "idle", "expired"):
            assert gone(store, name).reason.value == name
        assert [s.id for s in store.of("ann")] == ["live"]

    def test_touch_moves_forward(self, store: Store, clock: ManualClock) -> None:
        """A touch marks the session as used now and puts off its idle deadline."""
        before = sign_in(store)
        now = clock.advance(seconds=60)
        assert store.touch(["ses_1", "ses_1"]) == [True, True]
        after = present(store)
        assert (after.last_used_at, after.idle_at) == (now, now + IDLE_TIMEOUT)
        assert after.expires_at == before.expires_at
        assert after.revision == before.revision

    def test_touch_stops_at_expiry(self, store: Store, clock: ManualClock) -> None:
        """However often it is touched, a session goes idle no later than it expires, and expires."""
        session = sign_in(store, lifetime=HOUR, idle_timeout=45 * MINUTE)
        clock.advance(seconds=30 * 60)
        assert store.touch(["ses_1"]) == [True]
        assert present(store).idle_at == session.expires_at
        clock.advance(seconds=30 * 60)
        assert store.touch(["ses_1"]) == [False]
        assert gone(store) == Gone(reason=GoneReason.EXPIRED, at=session.expires_at)

    def test_touch_never_moves_back(self, store: Store, clock: ManualClock) -> None:
        """A touch under a clock that was set back takes nothing away."""
        clock.advance(seconds=100)
        before = sign_in(store)
        now = clock.advance(seconds=-50)
        assert store.touch(["ses_1"]) == [True]
        assert present(store) == read_at(now, before)

    def test_touch_never_revives(self, store: Store, clock: ManualClock) -> None:
        """A touch of a session that is ended, idle or absent answers False, and it stays so."""
        sign_in(store, "ended")
        sign_in(store, "idle", idle_timeout=MINUTE)
        sign_in(store, "live")
        store.end(ids=["ended"])
        clock.advance(seconds=60)
        assert store.touch(["ended", "live", "idle", "absent"]) == [False, True, False, False]
        assert gone(store, "ended").reason is GoneReason.ENDED
        assert gone(store, "idle").reason is GoneReason.IDLE

    def test_idle_to_the_millisecond(self, store: Store, clock: ManualClock) -> None:
        """A session lives until the instant it goes idle, and no longer."""
        session = sign_in(store)
        now = clock.advance(milliseconds=IDLE_TIMEOUT - 1)
        assert load(store) == read_at(now, session)
        clock.advance(milliseconds=1)
        assert load(store) == Gone(reason=GoneReason.IDLE, at=session.idle_at)

    def test_reason_is_what_came_first(self, store: Store, clock: ManualClock) -> None:
        """A session that went idle is still idle, not expired, once its lifetime is over."""
        session = sign_in(store)
        clock.advance(milliseconds=LIFETIME)
        assert load(store) == Gone(reason=GoneReason.IDLE, at=session.idle_at)

    def test_rotate_replaces_the_token(self, store: Store, clock: ManualClock) -> None:
        """The new token opens the same session; without grace the old one is dead at once."""
        session = sign_in(store, data={"a": 1})
        now = clock.advance(seconds=5)
        assert store.rotate("ses_1", token_hash("new")) == read_at(now, session)
        assert load(store, "new") == read_at(now, session)
        assert gone(store).reason is GoneReason.ABSENT

    def test_rotate_grace_ends(self, store: Store, clock: ManualClock) -> None:
        """The old token works beside the new one for the grace, and then never again."""
        session = sign_in(store)
        store.rotate("ses_1", token_hash("new"), grace=5_000)
        now = clock.advance(milliseconds=4_999)
        assert load(store) == load(store, "new") == read_at(now, session)
        clock.advance(milliseconds=1)
        assert gone(store).reason is GoneReason.ABSENT
        assert load(store, "new") == read_at(now + 1, session)

    def test_rotate_at_a_level(self, store: Store, clock: ManualClock) -> None:
        """With a level, the user has just been authenticated at it; without, nothing else changes."""
        session = sign_in(store, level=1)
        now = clock.advance(seconds=60)
        expected = replace(session, level=3, authenticated_at=now, at=now)
        assert store.rotate("ses_1", token_hash("two"), level=3) == expected
        assert load(store, "two") == expected
        later = clock.advance(seconds=60)
        assert store.rotate("ses_1", token_hash("three"), grace=1) == read_at(later, expected)
        down = store.rotate("ses_1", token_hash("four"), grace=1, level=1)
        assert down == load(store, "three") == load(store, "four")
        assert down is not None
        assert (down.level, down.authenticated_at) == (1, later)

    def test_rotate_twice(self, store: Store) -> None:
        """A second rotation kills the first token even within its grace, and spares the second."""
        sign_in(store)
        store.rotate("ses_1", token_hash("two"), grace=MINUTE)
        store.rotate("ses_1", token_hash("three"), grace=MINUTE)
        assert gone(store, "ses_1").reason is GoneReason.ABSENT
        assert present(store, "two") == present(store, "three")

    def test_rotate_needs_a_live_session(self, store: Store, clock: ManualClock) -> None:
        """Rotating what is absent, ended or idle answers None and revives nothing."""
        sign_in(store, "ended")
        sign_in(store, "idle", idle_timeout=MINUTE)
        store.end(ids=["ended"])
        clock.advance(seconds=60)
        for name in ("ended", "idle", "absent"):
            assert store.rotate(name, token_hash(f"new-{name}")) is None
            assert gone(store, f"new-{name}").reason is GoneReason.ABSENT

    def test_rotate_to_a_hash_in_use(self, store: Store) -> None:
        """A hash that opens another session is a conflict, and nothing has changed."""
        one, two = sign_in(store, "ses_1"), sign_in(store, "ses_2", "bob")
        with pytest.raises(Conflict):
            store.rotate("ses_1", token_hash("ses_2"))
        assert (present(store, "ses_1"), present(store, "ses_2")) == (one, two)

    def test_end_leaves_a_tombstone(self, store: Store, clock: ManualClock) -> None:
        """An ended session says by whom, why and when, to all its tokens."""
        sign_in(store)
        store.rotate("ses_1", token_hash("new"), grace=HOUR)
        at = clock.advance(seconds=5)
        assert store.end(ids=["ses_1"], reason="password_changed", actor="user:ann") == ["ses_1"]
        ended = Gone(
            reason=GoneReason.ENDED, ended_by="user:ann", end_reason="password_changed", at=at
        )
        assert load(store, "new") == load(store, "ses_1") == ended

    def test_end_is_idempotent(self, store: Store, clock: ManualClock) -> None:
        """Ending again answers nothing and changes nothing; unknown and lapsed sessions neither."""
        sign_in(store)
        sign_in(store, "idle", idle_timeout=MINUTE)
        assert store.end(ids=["ses_1", "ses_1", "unknown"], reason="first") == ["ses_1"]
        clock.advance(seconds=60)
        assert store.end(ids=["ses_1", "idle"], reason="second") == []
        assert gone(store).end_reason == "first"
        assert gone(store, "idle").reason is GoneReason.IDLE

    def test_end_all_of_a_user(self, store: Store) -> None:
        """All sessions of a user end but those to keep; other people's stay."""
        for name in ("ses_1", "ses_2", "ses_3"):
            sign_in(store, name)
        sign_in(store, "bobs", "bob")
        assert sorted(store.end(user_id="ann", keep=["ses_2", "bobs"])) == ["ses_1", "ses_3"]
        assert [s.id for s in store.of("ann")] == ["ses_2"]
        assert present(store, "bobs").user_id == "bob"
        assert store.end(user_id="nobody") == []

    def test_end_needs_to_know_whom(self, store: Store) -> None:
        """Neither ids nor a user is refused; both are for those of the ids that are the user's."""
        with pytest.raises(InvalidInput):
            store.end()
        assert store.end(ids=["ses_1"], user_id="ann") == []
        assert store.end(ids=[]) == []

    def test_end_releases_the_leases(self, store: Store) -> None:
        """Ending a session gives its seats back in the same step; no beat brings them back."""
        store.define([pool(2)])
        sign_in(store)
        sign_in(store, "ses_2", "bob")
        mine = take(store, "ann", session_id="ses_1")
        other = take(store, "bob", session_id="ses_2")
        mark = len(news(store))
        store.end(ids=["ses_1"], actor="user:ann")
        ended = look_up(store, mine.id)
        assert ended is not None
        assert ended.end_reason is EndReason.SESSION_ENDED
        assert beat(store, mine) is None
        assert beat(store, other) is not None
        assert usage(store).in_use == 1
        events = store.events(after=mark)
        assert {(e.kind, e.subject, e.actor) for e in events} == {
            (EventKind.SESSION_ENDED, "ses_1", "user:ann"),
            (EventKind.LEASE_REVOKED, mine.id, "user:ann"),
        }

    def test_lease_of_an_ended_session_is_not_resumed(self, store: Store) -> None:
        """Whoever acquires again after its session has ended gets a new lease."""
        store.define([pool(1)])
        sign_in(store)
        lease = take(store, "ann", session_id="ses_1")
        store.end(user_id="ann")
        again = take(store, "ann")
        assert again.id != lease.id
        assert again.fence > lease.fence

    def test_of_lists_live_sessions_newest_first(self, store: Store, clock: ManualClock) -> None:
        """A user's list has the live sessions of that user, newest first, no more than asked for."""
        for name in ("ses_1", "ses_2", "ses_3", "ses_4"):
            sign_in(store, name, idle_timeout=MINUTE if name == "ses_2" else HOUR)
            clock.advance(seconds=20)
        sign_in(store, "bobs", "bob")
        store.end(ids=["ses_3"])
        assert [s.id for s in store.of("ann")] == ["ses_4", "ses_1"]
        assert [s.id for s in store.of("ann", limit=1)] == ["ses_4"]
        assert store.of("nobody") == []

    def test_of_is_bounded(self, store: Store) -> None:
        """No list returns more than 1,000, whatever was asked for."""
        store.create([new_session(f"ses_{i}") for i in range(1_005)])
        assert len(store.of("ann", limit=5_000)) == 1_000

    def test_of_is_read_now(self, store: Store, clock: ManualClock) -> None:
        """Every list says at which instant it was read, by which use is judged."""
        session = sign_in(store)
        now = clock.advance(seconds=59)
        assert store.of("ann") == store.sessions() == [read_at(now, session)]
        assert not store.of("ann")[0].touch_due
        clock.advance(seconds=1)
        assert store.of("ann")[0].touch_due

    def test_list_of_everybody(self, store: Store, clock: ManualClock) -> None:
        """Live sessions are listed by id, after an id, of everybody or of a user, visitors' too."""
        for name, user_id in (("b", "ann"), ("d", None), ("a", "bob"), ("c", "ann"), ("e", "ann")):
            sign_in(store, name, user_id, idle_timeout=MINUTE if name == "e" else HOUR)
        sign_in(store, "B", "Ann")
        clock.advance(seconds=60)

        def ids(**which: Any) -> list[str]:
            return [session.id for session in store.sessions(**which)]

        assert ids() == ["B", "a", "b", "c", "d"]
        assert ids(limit=2) == ["B", "a"]
        assert ids(after="a", limit=2) == ["b", "c"]
        assert ids(after="aa", user_id="ann") == ["b", "c"]
        assert ids(after="b", user_id="ann", limit=9) == ["c"]
        assert ids(user_id="nobody") == []
        store.end(ids=["b"])
        store.cut_off("bob")
        assert ids() == ["B", "c", "d"]

    def test_tombstone_lasts(self, store: Store, clock: ManualClock) -> None:
        """An ended, idle or expired session is told from one that never was for a day, swept or not."""
        sign_in(store, "ended")
        sign_in(store, "idle", idle_timeout=MINUTE)
        sign_in(store, "expired", lifetime=MINUTE)
        clock.advance(seconds=60)
        store.rotate("ended", token_hash("new"), grace=10 * DAY)
        store.end(ids=["ended"])
        clock.advance(milliseconds=TOMBSTONE - 1)
        assert store.sweep().sessions_removed == 0
        for name in ("ended", "idle", "expired"):
            assert gone(store, name).reason.value == name
        clock.advance(milliseconds=1)
        assert store.sweep().sessions_removed == 3
        for name in ("ended", "new", "idle", "expired"):
            assert gone(store, name).reason is GoneReason.ABSENT

    def test_session_events(self, store: Store, clock: ManualClock) -> None:
        """Creating, rotating and ending are told, and only what was done."""
        at = clock.now()
        sign_in(store)
        store.create([new_session()])
        store.touch(["ses_1"])
        store.save([Save(id="ses_1", set={"a": 1})])
        store.rotate("ses_1", token_hash("new"))
        store.end(ids=["ses_1"], reason="signed_out", actor="user:ann")
        store.end(ids=["ses_1"])
        told = [(e.kind, e.subject, e.user_id, e.actor, e.at) for e in news(store)]
        assert told == [
            (EventKind.SESSION_CREATED, "ses_1", "ann", None, at),
            (EventKind.SESSION_ROTATED, "ses_1", "ann", None, at),
            (EventKind.SESSION_ENDED, "ses_1", "ann", "user:ann", at),
        ]
        assert news(store)[-1].data == {"reason": "signed_out"}

    def test_old_device_shape(self, store: Store) -> None:
        """A session without a device is one without a device, not one with an empty one."""
        sign_in(store)
        assert present(store).device is None
