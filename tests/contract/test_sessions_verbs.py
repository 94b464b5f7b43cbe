"""What adapters stand on means the same, whether the store is here or behind a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from msgspec import Struct
from tests.api_harness import World, served

from sojourn.client.sessions import RemoteSessions
from sojourn.clock import HOUR, MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.errors import Conflict, InvalidInput, SojournError, StoreBroken, StoreUnavailable
from sojourn.event import EventKind
from sojourn.ledger import Role
from sojourn.service.sessions import SessionService
from sojourn.session import (
    AtLimit,
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    NewSession,
    Rename,
    Rotate,
    Save,
    Session,
    Sessions,
    Timeouts,
    TooMany,
)
from sojourn.store import Store
from sojourn.token import FOREIGN_MAX, TokenKind, hash_token, new_token

FULL = Begin(
    user_id="ann@例え.jp",
    data={"cart": [1, 2.5, {"ü": None}], "": True, "big": 2**60},
    timeouts=Timeouts(lifetime=HOUR + 1, idle_timeout=MINUTE + 7),
    device=Device(browser="Firefox", ip="2001:db8::1", user_agent="Mozilla/5.0", place="Bern"),
    level=2,
)


class Subject(Struct):
    """The sessions under test, and the world behind them."""

    sessions: Sessions
    store: Store
    clock: ManualClock

    def begin(self, user: str | None = "ann", **fields: Any) -> Begun:
        (begun,) = self.sessions.begin([Begin(user_id=user, **fields)])
        assert isinstance(begun, Begun), begun
        return begun

    def check(self, token: str, *, touch: bool = True) -> Session | Gone:
        (found,) = self.sessions.check([Check(token, touch)])
        return found

    def live(self, token: str) -> Session:
        found = self.check(token, touch=False)
        assert isinstance(found, Session), found
        return found

    def gone(self, token: str) -> Gone:
        found = self.check(token, touch=False)
        assert isinstance(found, Gone), found
        return found

    def stored(self, session: Session) -> Session:
        """The same session, as the store itself tells it."""
        (found,) = [x for x in self.store.sessions(limit=1_000) if x.id == session.id]
        return found


@pytest.fixture(params=["service", "remote"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    world = World()
    if request.param == "service":
        with closing(SessionService(world.store)) as sessions:
            yield Subject(sessions, world.store, world.clock)
        world.ledger.close()
        return
    with (
        served(world) as server,
        closing(RemoteSessions(server.url, world.keys[Role.APP])) as sessions,
    ):
        yield Subject(sessions, world.store, world.clock)


def test_begins_what_was_asked_for(subject: Subject) -> None:
    begun = subject.begin(
        FULL.user_id,
        **{name: getattr(FULL, name) for name in ("data", "timeouts", "device", "level")},
    )
    session = begun.session
    now = subject.clock.now()
    assert session == subject.stored(session)
    assert (session.user_id, session.data, session.device) == (FULL.user_id, FULL.data, FULL.device)
    assert (session.level, session.revision, session.at) == (2, 1, now)
    assert session.expires_at == now + HOUR + 1
    assert (session.idle_timeout, session.idle_at) == (MINUTE + 7, now + MINUTE + 7)
    assert session.created_at == session.authenticated_at == session.last_used_at == now


def test_a_batch_is_answered_in_its_order(subject: Subject) -> None:
    begun = subject.sessions.begin([Begin(user_id=f"user-{n}") for n in range(50)])
    tokens = [each.token for each in begun if isinstance(each, Begun)]
    assert len(set(tokens)) == 50
    found = subject.sessions.check([Check(token) for token in tokens])
    assert [x.user_id for x in found if isinstance(x, Session)] == [f"user-{n}" for n in range(50)]


def test_an_empty_batch_has_no_answers(subject: Subject) -> None:
    nothing: Sequence[Any] = ()
    for verb in ("check", "begin", "save", "rotate", "end"):
        assert list(getattr(subject.sessions, verb)(nothing)) == []


def test_check_tells_what_the_store_knows(subject: Subject) -> None:
    token = subject.begin(data={"a": 1}).token
    subject.clock.advance(seconds=59)
    session = subject.live(token)
    assert session == subject.stored(session)
    assert not session.touch_due
    subject.clock.advance(seconds=1)
    assert subject.live(token).touch_due


def test_check_marks_as_used_what_is_due(subject: Subject) -> None:
    token = subject.begin().token
    subject.clock.advance(seconds=60)
    assert subject.live(token).last_used_at == subject.clock.now() - 60 * SECOND
    touched = subject.check(token)
    assert isinstance(touched, Session)
    assert touched.last_used_at == touched.at == subject.clock.now()
    assert touched == subject.live(token)


def test_each_way_of_being_gone(subject: Subject) -> None:
    begun_at = subject.clock.now()
    idle = subject.begin(timeouts=Timeouts(idle_timeout=MINUTE))
    expired = subject.begin(timeouts=Timeouts(lifetime=MINUTE))
    ended = subject.begin()
    subject.store.end(ids=[ended.session.id], reason="stolen", actor="user:ann")
    subject.clock.advance(seconds=60)
    assert subject.gone(idle.token) == Gone(reason=GoneReason.IDLE, at=begun_at + MINUTE)
    assert subject.gone(expired.token) == Gone(reason=GoneReason.EXPIRED, at=begun_at + MINUTE)
    assert subject.gone(ended.token) == Gone(
        reason=GoneReason.ENDED, ended_by="user:ann", end_reason="stolen", at=begun_at
    )
    assert subject.gone(new_token(TokenKind.SESSION)) == Gone(reason=GoneReason.ABSENT)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sjs_",
        "x" * 53,
        pytest.param(new_token(TokenKind.API), id="of another kind"),
        "sjs_" + "\u00fc" * 49,
        "a\r\nb: c",
    ],
)
def test_what_is_no_session_token_is_forged(subject: Subject, token: str) -> None:
    assert subject.gone(token) == Gone(reason=GoneReason.FORGED)


def test_save_merges_by_key(subject: Subject) -> None:
    begun = subject.begin(data={"a": 1, "b": 2})
    saves = [
        Save(id=begun.session.id, set={"b": 3, "c": [None]}, unset=("a",)),
        Save(id="ses_unknown", set={"x": 1}),
        Save(id=begun.session.id, set={"b": 4}),
    ]
    assert list(subject.sessions.save(saves)) == [2, None, 3]
    assert subject.live(begun.token).data == {"b": 4, "c": [None]}
    assert subject.live(begun.token).revision == 3


def test_save_never_brings_a_session_back(subject: Subject) -> None:
    begun = subject.begin()
    subject.sessions.end([End(ids=(begun.session.id,))])
    assert list(subject.sessions.save([Save(id=begun.session.id, set={"a": 1})])) == [None]
    assert subject.gone(begun.token).reason is GoneReason.ENDED


@pytest.mark.parametrize("odd", ["../x", "a/b", "%2e", "?x=1", "current", "ses_\u00fc", " "])
def test_odd_ids_are_ids_of_nothing(subject: Subject, odd: str) -> None:
    assert list(subject.sessions.save([Save(id=odd, set={"a": 1})])) == [None]
    assert list(subject.sessions.rotate([Rotate(id=odd)])) == [None]
    assert list(subject.sessions.end([End(ids=(odd,))])) == [[]]


def test_rotate_replaces_the_token(subject: Subject) -> None:
    begun = subject.begin(data={"a": 1})
    subject.clock.advance(seconds=10)
    rotated, none = subject.sessions.rotate(
        [Rotate(id=begun.session.id, grace=5 * SECOND, level=3), Rotate(id="ses_unknown")]
    )
    assert none is None
    assert rotated is not None
    assert rotated.session == subject.live(rotated.token) == subject.live(begun.token)
    assert rotated.session.level == 3
    assert rotated.session.authenticated_at == subject.clock.now()
    subject.clock.advance(seconds=5)
    assert subject.gone(begun.token).reason is GoneReason.ABSENT
    assert subject.live(rotated.token).data == {"a": 1}


def test_parallel_rotations_to_one_chosen_token_agree(subject: Subject) -> None:
    begun, chosen = subject.begin(), new_token(TokenKind.SESSION)
    rotations = [Rotate(id=begun.session.id, token=chosen) for _ in range(3)]
    for rotated in subject.sessions.rotate(rotations):
        assert rotated is not None
        assert rotated.token == chosen
        assert rotated.session.id == begun.session.id
    assert subject.live(chosen).id == begun.session.id
    other = subject.begin("bob")
    with pytest.raises(Conflict):
        subject.sessions.rotate([Rotate(id=other.session.id, token=chosen)])
    with pytest.raises(InvalidInput):
        subject.sessions.rotate([Rotate(id=other.session.id, token=chosen[:-1] + "!")])


def test_the_token_of_a_system_that_was_here_before(subject: Subject) -> None:
    """It opens the session that was taken over from there, where it is said to be such a one."""
    old = "s.kfJ8-_aQ~x/+="
    subject.store.create([NewSession(id="ses_old", token_hash=hash_token(old), user_id="ann")])
    (found,) = subject.sessions.check([Check(old, adopted=True)])
    assert isinstance(found, Session)
    assert found.id == "ses_old"
    ours = subject.begin().token
    for token, adopted in ((old, False), (ours, True), ("", True), ("x" * (FOREIGN_MAX + 1), True)):
        (gone,) = subject.sessions.check([Check(token, adopted=adopted)])
        assert gone == Gone(reason=GoneReason.FORGED)
    (gone,) = subject.sessions.check([Check("never-known", adopted=True)])
    assert gone == Gone(reason=GoneReason.ABSENT)


def test_rotate_without_a_level_leaves_the_authentication(subject: Subject) -> None:
    begun = subject.begin()
    subject.clock.advance(seconds=10)
    (rotated,) = subject.sessions.rotate([Rotate(id=begun.session.id)])
    assert rotated is not None
    assert rotated.session.authenticated_at == begun.session.authenticated_at
    assert rotated.session.level == 1


def test_a_sign_in_replaces_the_visitors_session_and_keeps_its_data(subject: Subject) -> None:
    visitor = subject.begin(None, data={"cart": [1], "seen": 1})
    begun = subject.begin("ann", data={"seen": 2}, replaces=visitor.session.id)
    assert begun.session.data == {"cart": [1], "seen": 2}
    assert subject.gone(visitor.token).end_reason == "replaced"


def test_past_the_limit(subject: Subject) -> None:
    old = subject.begin()
    subject.clock.advance(seconds=1)
    new = subject.begin()
    for at_limit in (AtLimit.ASK, AtLimit.DENY):
        (denied,) = subject.sessions.begin([Begin(user_id="ann", limit=2, at_limit=at_limit)])
        assert isinstance(denied, TooMany)
        assert denied == TooMany(
            limit=2, sessions=(subject.stored(new.session), subject.stored(old.session))
        )
    subject.clock.advance(seconds=1)  # the oldest is the one created first, not the one named first
    subject.begin(limit=2, at_limit=AtLimit.ASK, ending=(old.session.id,))
    assert subject.gone(old.token).end_reason == "made_room"
    subject.begin(limit=2)
    assert subject.gone(new.token).ended_by == "system:limit"


def test_impersonation_is_visible_and_short(subject: Subject) -> None:
    session = subject.begin("ann", impersonator="root").session
    assert session.impersonator == "root"
    assert session.expires_at == session.at + HOUR


def who(actor: str | None) -> str | None:
    """Who an actor is; a server marks whom an application names as named by it: app:<key>:<actor>."""
    return actor.split(":", 2)[2] if actor is not None and actor.startswith("app:") else actor


def test_end_says_which_once(subject: Subject) -> None:
    ann = [subject.begin("ann").session.id for _ in range(4)]
    bob = subject.begin("bob")
    first, rest, again = (
        subject.sessions.end([End(ids=(ann[0], "ses_unknown"))])[0],
        subject.sessions.end([End(user_id="ann", keep=(ann[3],), reason="x", actor="user:ann")])[0],
        subject.sessions.end([End(user_id="ann", keep=(ann[3],))])[0],
    )
    assert (first, sorted(rest), again) == ([ann[0]], sorted(ann[1:3]), [])
    assert subject.live(bob.token).user_id == "bob"
    ended = subject.store.events(kinds=[EventKind.SESSION_ENDED])
    assert {(who(each.actor), each.data["reason"]) for each in ended} == {
        (None, "ended"),
        ("user:ann", "x"),
    }


def test_any_number_of_ids_can_be_ended(subject: Subject) -> None:
    begun = subject.sessions.begin([Begin(user_id="ann") for _ in range(250)])
    ids = tuple(each.session.id for each in begun if isinstance(each, Begun))
    (ended,) = subject.sessions.end([End(ids=ids)])
    assert sorted(ended) == sorted(ids)
    assert subject.sessions.of("ann") == []


def test_of_lists_a_users_sessions_newest_first(subject: Subject) -> None:
    begun = []
    for n in range(4):
        begun.append(subject.begin(data={"n": n}))
        subject.clock.advance(seconds=1)
    subject.begin("bob")
    assert subject.sessions.of("nobody") == []
    found = subject.sessions.of("ann", limit=3)
    assert found == [subject.stored(each.session) for each in begun[:0:-1]]


@pytest.mark.parametrize(
    "wrong",
    [
        Begin(user_id="ann", timeouts=Timeouts(lifetime=0)),
        Begin(user_id="ann", limit=0),
        Begin(impersonator="root"),
        Begin(data={"a": object()}),
    ],
    ids=["no time", "no room", "nobody impersonated", "no JSON"],
)
def test_what_cannot_be_is_refused_and_changes_nothing(subject: Subject, wrong: Begin) -> None:
    with pytest.raises(InvalidInput):
        subject.sessions.begin([wrong])
    with pytest.raises(InvalidInput):
        subject.sessions.rotate([Rotate(id=subject.begin("bob").session.id, grace=60_000)])
    assert subject.sessions.of("ann") == []


@pytest.mark.parametrize("fault", [StoreUnavailable, StoreBroken])
def test_faults_of_the_store_are_faults_of_every_verb(
    subject: Subject, fault: type[SojournError], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = subject.begin().token

    def fail(*_: Any, **__: Any) -> Any:
        raise fault("The store is away.")

    for verb in ("create", "load", "save", "rotate", "end", "of", "page"):
        monkeypatch.setattr(subject.store, verb, fail)
    sessions = subject.sessions
    for ask in (
        lambda: sessions.check([Check(token)] * 3),
        lambda: sessions.begin([Begin(user_id="ann")]),
        lambda: sessions.save([Save(id="ses_x")]),
        lambda: sessions.rotate([Rotate(id="ses_x")]),
        lambda: sessions.end([End(user_id="ann")]),
        lambda: sessions.of("ann"),
    ):
        with pytest.raises(fault):
            ask()


HOME = Device(name="Chrome on Windows", kind="desktop", ip="192.0.2.7", user_agent="Chrome/1")
PHONE = Device(name="Safari on iPhone", kind="phone", ip="2001:db8::1", user_agent='"Safari"\\2 ü')


def used(subject: Subject, token: str, device: Device) -> Session:
    (found,) = subject.sessions.check([Check(token, describe=lambda: device)])
    assert isinstance(found, Session)
    assert found == subject.stored(found)
    return found


def test_a_device_is_called_what_its_user_says(subject: Subject) -> None:
    """Wherever the session is shown, and after a new token; None takes it back."""
    begun = subject.begin(device=HOME)
    wish = Rename(id=begun.session.id, user_id="ann", label='Büro "links" \N{GRINNING FACE}')
    assert subject.sessions.rename(wish)
    assert subject.live(begun.token).label == wish.label
    assert [each.label for each in subject.sessions.of("ann")] == [wish.label]
    (rotated,) = subject.sessions.rotate([Rotate(id=begun.session.id)])
    assert rotated is not None
    assert rotated.session.label == wish.label
    again = subject.begin(replaces=begun.session.id)
    assert again.session.label == wish.label
    assert subject.sessions.rename(Rename(id=again.session.id, user_id="ann", label=None))
    assert subject.live(again.token).label is None


def test_nobody_names_devices_of_others(subject: Subject) -> None:
    begun = subject.begin()
    for wish in (
        Rename(id=begun.session.id, user_id="bob", label="Mine"),
        Rename(id="ses_none", user_id="ann", label="Mine"),
        Rename(id="../licenses", user_id="ann", label="Mine"),
    ):
        assert not subject.sessions.rename(wish)
    for label in ("", " ", "x" * 65, "a\nb", "a\u202eb"):
        with pytest.raises(InvalidInput):
            subject.sessions.rename(Rename(id=begun.session.id, user_id="ann", label=label))
    assert subject.live(begun.token).label is None


def test_use_tells_what_it_came_from(subject: Subject) -> None:
    """Once a minute, and only where that is not what was known."""
    begun = subject.begin(device=HOME)
    assert used(subject, begun.token, PHONE).last_device is None
    for device, last in ((HOME, None), (PHONE, PHONE), (PHONE, PHONE), (HOME, HOME)):
        subject.clock.advance(seconds=61)
        found = used(subject, begun.token, device)
        assert (found.device, found.last_device) == (HOME, last)
        assert found.last_used_at == subject.clock.now()
    subject.clock.advance(seconds=61)
    (seen,) = subject.sessions.check([Check(begun.token, touch=False, describe=lambda: PHONE)])
    assert isinstance(seen, Session)
    assert seen.last_device == HOME


def test_what_a_request_may_not_say_refuses_nobody(subject: Subject) -> None:
    begun = subject.begin(device=HOME)
    subject.clock.advance(seconds=61)
    odd = Device(name="a\u202eb", ip="192.0.2.9", user_agent="x\0y")
    (found,) = subject.sessions.check([Check(begun.token, describe=lambda: odd)])
    assert isinstance(found, Session)
    assert found.last_used_at == subject.clock.now()
