"""What `session.Sessions` promises, held beside Express on either store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sojourn.adapters.express import open_express
from sojourn.clock import HOUR, ManualClock
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.session import (
    AtLimit,
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rotate,
    Save,
    Session,
    Sessions,
    Timeouts,
    TooMany,
)
from sojourn.signing_in import SHOWN_MAX

CROWD = 12


@pytest.fixture
def sessions(store: str, clock: ManualClock) -> Iterator[Sessions]:
    opened = open_express(f"express+{store}", clock=clock)
    yield opened
    opened.close()


def begin(sessions: Sessions, user: str | None = "ann", **more: Any) -> Begun:
    begun = sessions.begin([Begin(user_id=user, **more)])[0]
    assert isinstance(begun, Begun)
    return begun


def live(sessions: Sessions, token: str) -> Session:
    found = sessions.check([Check(token)])[0]
    assert isinstance(found, Session)
    return found


def gone(sessions: Sessions, token: str) -> Gone:
    found = sessions.check([Check(token)])[0]
    assert isinstance(found, Gone)
    return found


def test_what_was_begun_is_what_is_found(sessions: Sessions) -> None:
    device = Device(ip="192.0.2.1", user_agent="Firefox")
    begun = begin(
        sessions, data={"a": [1]}, device=device, level=2, timeouts=Timeouts(2 * HOUR, HOUR)
    )
    found = live(sessions, begun.token)
    assert (found.id, found.user_id, found.device, found.level) == (
        begun.session.id,
        "ann",
        device,
        2,
    )
    assert found.data["a"] == [1]
    assert (found.idle_timeout, found.expires_at - found.created_at) == (HOUR, 2 * HOUR)
    assert (found.authenticated_at, found.revision) == (found.created_at, begun.session.revision)


def test_a_batch_is_answered_in_its_order(sessions: Sessions) -> None:
    one, two = begin(sessions, "one"), begin(sessions, "two")
    found = sessions.check([Check(two.token), Check("nothing"), Check(one.token), Check(two.token)])
    assert [getattr(x, "user_id", None) for x in found] == ["two", None, "one", "two"]
    saves = [Save(id=one.session.id, set={"n": n, f"k{n}": n}) for n in range(3)]
    assert None not in sessions.save([*saves, Save(id=one.session.id, unset=("k1",))])
    data = live(sessions, one.token).data
    assert {k: data.get(k) for k in ("n", "k0", "k1", "k2")} == {
        "n": 2,
        "k0": 0,
        "k1": None,
        "k2": 2,
    }
    assert sessions.check([]) == []


def test_a_visitors_data_is_kept_another_users_is_not(sessions: Sessions) -> None:
    visitor = begin(sessions, None, data={"cart": 1})
    ann = begin(sessions, replaces=visitor.session.id, data={"more": 2})
    assert {"cart", "more"} <= set(ann.session.data)
    again = begin(sessions, replaces=ann.session.id)
    assert "cart" in again.session.data
    bob = begin(sessions, "bob", replaces=again.session.id)
    assert "cart" not in bob.session.data
    assert [gone(sessions, x.token).end_reason for x in (visitor, ann, again)] == ["replaced"] * 3


def test_limits_that_deny(sessions: Sessions) -> None:
    """TooMany changes nothing; then the person chooses."""
    visitor = begin(sessions, None, data={"cart": 1})
    mine = [begin(sessions) for _ in range(2)]
    wish = Begin(user_id="ann", limit=2, at_limit=AtLimit.ASK, replaces=visitor.session.id)
    denied = sessions.begin([wish])[0]
    assert isinstance(denied, TooMany)
    assert {x.id for x in denied.sessions} == {x.session.id for x in mine}
    assert live(sessions, visitor.token).data["cart"] == 1
    begun = sessions.begin(
        [Begin(user_id="ann", limit=2, at_limit=AtLimit.DENY, ending=(mine[0].session.id,))]
    )[0]
    assert isinstance(begun, Begun)
    assert gone(sessions, mine[0].token).end_reason == "made_room"
    live(sessions, mine[1].token)


def test_the_oldest_makes_room(sessions: Sessions, clock: ManualClock) -> None:
    mine = []
    for _ in range(3):
        mine.append(begin(sessions))
        clock.advance(seconds=1)
    begin(sessions, limit=2)
    assert [gone(sessions, x.token).ended_by for x in mine[:2]] == ["system:limit"] * 2
    live(sessions, mine[2].token)


def test_of_those_created_together_the_first_by_id_makes_room(sessions: Sessions) -> None:
    """As on every store; the clock stands still meanwhile."""
    mine = sorted((begin(sessions) for _ in range(4)), key=lambda x: x.session.id)
    begin(sessions, limit=3)
    for each in mine[:2]:
        assert gone(sessions, each.token).end_reason == "session_limit"
    for each in mine[2:]:
        live(sessions, each.token)


def test_replaced_comes_before_made_room(sessions: Sessions) -> None:
    own = begin(sessions)
    begin(sessions, replaces=own.session.id, ending=(own.session.id,))
    assert gone(sessions, own.token).end_reason == "replaced"


def test_no_more_sessions_are_shown_than_somebody_reads(sessions: Sessions) -> None:
    """The newest, as on every store."""
    for _ in range(SHOWN_MAX + 5):
        begin(sessions)
    denied = sessions.begin([Begin(user_id="ann", limit=3, at_limit=AtLimit.ASK)])[0]
    assert isinstance(denied, TooMany)
    newest = sessions.of("ann", limit=SHOWN_MAX)
    assert [x.id for x in denied.sessions] == [x.id for x in newest]
    assert len(newest) == SHOWN_MAX


def test_the_limit_holds_when_many_sign_in_at_once(sessions: Sessions) -> None:
    ready = threading.Barrier(CROWD)

    def sign_in(_: int) -> Begun:
        ready.wait(20)
        return begin(sessions, limit=2)

    with ThreadPoolExecutor(CROWD) as pool:
        assert len(list(pool.map(sign_in, range(CROWD)))) == CROWD
    assert len(sessions.of("ann")) == 2


def test_impersonation_ends_after_an_hour_and_is_not_counted(sessions: Sessions) -> None:
    own = begin(sessions, limit=1)
    acting = begin(sessions, impersonator="boss", limit=1)
    found = live(sessions, acting.token)
    assert (found.impersonator, found.expires_at - found.created_at) == ("boss", HOUR)
    live(sessions, own.token)
    begin(sessions, limit=1, replaces=own.session.id)
    live(sessions, acting.token)


def test_ends(sessions: Sessions) -> None:
    one, two, three, other = (begin(sessions, user) for user in ("ann", "ann", "ann", "bob"))
    ids = [x.session.id for x in (one, two, three, other)]
    assert sessions.end([End(ids=(ids[0], ids[3], "exp_unknown"), user_id="ann")]) == [[ids[0]]]
    assert sessions.end([End(user_id="ann", keep=(ids[1],)), End(user_id="nobody")]) == [
        [ids[2]],
        [],
    ]
    assert [x.id for x in sessions.of("ann")] == [ids[1]]
    with pytest.raises(InvalidInput):
        sessions.end([End()])


def test_newest_first_and_bounded(sessions: Sessions) -> None:
    ids = [begin(sessions).session.id for _ in range(4)]
    found = sessions.of("ann")
    assert {x.id for x in found} == set(ids)
    assert [x.created_at for x in found] == sorted((x.created_at for x in found), reverse=True)
    assert len(sessions.of("ann", limit=2)) == 2


def test_what_is_gone_is_not_rotated(sessions: Sessions) -> None:
    begun = begin(sessions)
    sessions.end([End(ids=(begun.session.id,))])
    assert sessions.rotate([Rotate(id=begun.session.id), Rotate(id="exp_x")]) == [None, None]
    with pytest.raises(InvalidInput):
        sessions.rotate([Rotate(id="exp_x", grace=-1)])


def test_the_grace_ends_with_the_session(sessions: Sessions) -> None:
    begun = begin(sessions)
    rotated = sessions.rotate([Rotate(id=begun.session.id)])[0]
    assert rotated is not None
    assert live(sessions, begun.token).id == rotated.session.id
    sessions.end([End(ids=(rotated.session.id,), reason="done")])
    assert gone(sessions, begun.token).reason is GoneReason.ENDED
    assert gone(sessions, rotated.token).end_reason == "done"


def test_a_token_of_another_system_is_no_sid(sessions: Sessions) -> None:
    begun = begin(sessions)
    found = sessions.check([Check(begun.token, adopted=True), Check(begun.token)])
    assert isinstance(found[0], Gone)
    assert isinstance(found[1], Session)


@pytest.mark.parametrize("data", [{"id": 1}, {"cookie": {}}, {"n": 2**53}, {"s": "\0"}])
def test_what_express_cannot_hold_changes_nothing(sessions: Sessions, data: dict[str, Any]) -> None:
    begun = begin(sessions)
    with pytest.raises(InvalidInput):
        sessions.save([Save(id=begun.session.id, set={"fine": 1} | data)])
    with pytest.raises(InvalidInput):
        sessions.begin([Begin(user_id="ann", data=data)])
    assert "fine" not in live(sessions, begun.token).data
    assert len(sessions.of("ann")) == 1
