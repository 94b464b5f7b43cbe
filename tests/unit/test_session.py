"""The shapes of sessions, as they go into a store and come out."""

from __future__ import annotations

import msgspec

from sojourn.clock import DAY, HOUR
from sojourn.session import (
    IDLE_TIMEOUT,
    LIFETIME,
    TOMBSTONE,
    Check,
    Gone,
    GoneReason,
    NewSession,
    Rotate,
    Save,
)
from sojourn.token import TokenKind, new_token


def test_defaults_are_as_documented() -> None:
    """Seven days in all, a day without use, remembered for a day after."""
    new = NewSession(id="ses_1", token_hash=b"", user_id="ann")
    assert (new.lifetime, new.idle_timeout) == (LIFETIME, IDLE_TIMEOUT) == (7 * DAY, 24 * HOUR)
    assert TOMBSTONE == DAY


def test_new_sessions_share_no_data() -> None:
    """Each session without data gets a dictionary of its own."""
    one, other = (NewSession(id=i, token_hash=b"", user_id="ann") for i in ("a", "b"))
    one.data["key"] = 1
    assert other.data == {}
    assert Save(id="a").set is not Save(id="b").set


def test_reasons_are_stable() -> None:
    """Clients switch on these words."""
    assert {reason.value for reason in GoneReason} == {
        "absent",
        "idle",
        "expired",
        "ended",
        "forged",
    }
    encoded = msgspec.json.encode(Gone(reason=GoneReason.IDLE, at=5))
    assert msgspec.json.decode(encoded) == {
        "reason": "idle",
        "ended_by": None,
        "end_reason": None,
        "at": 5,
    }


def test_no_repr_shows_a_token() -> None:
    """What is printed ends up in logs."""
    token = new_token(TokenKind.SESSION)
    for each in (Check(token), Rotate(id="ses_1", token=token)):
        assert token not in repr(each)
        assert token[:8] in repr(each)
    assert "token=None" in repr(Rotate(id="ses_1"))
