"""What a sign-in ends, why a session is gone, what a list shows: rule by rule."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import sojourn.stores.redis
from sojourn import signing_in
from sojourn.session import AtLimit, Begin, Gone, GoneReason, NewSession
from sojourn.signing_in import Cut, Full, Leaving, inherits, leaving, why_gone

LUA = Path(sojourn.stores.redis.__file__).parent / "lua"


class Held(Struct, frozen=True):
    """A live session."""

    id: str
    created_at: int = 0
    user_id: str | None = "ann"
    impersonator: str | None = None


ONE, TWO, THREE = (Held(each, at) for at, each in enumerate(("one", "two", "three")))
BOBS, VISIT = Held("bobs", user_id="bob"), Held("visit", user_id=None)
ACTING = Held("acting", impersonator="root")
EVERYTHING = (ONE, TWO, THREE, BOBS, VISIT, ACTING)


def sign_in(**said: Any) -> Begin:
    return Begin(**{"user_id": "ann", **said})


def going(new: Begin | NewSession, live: Iterable[Held] = EVERYTHING) -> list[Leaving] | Full:
    by_id = {each.id: each for each in live}
    own = [each for each in by_id.values() if each.user_id == new.user_id]
    return leaving(new, by_id.get, own)


def reasons(new: Begin, live: Iterable[Held] = EVERYTHING) -> dict[str, str]:
    found = going(new, live)
    assert not isinstance(found, Full)
    return {each.id: each.reason for each in found}


@pytest.mark.parametrize("name", ["one", "bobs", "visit", "acting"])
def test_s1_what_is_replaced_ends_whosever_it_is(name: str) -> None:
    assert reasons(sign_in(replaces=name)) == {name: "replaced"}
    assert reasons(sign_in(replaces=name, ending=(name,))) == {name: "replaced"}


def test_s1_what_is_gone_is_not_replaced() -> None:
    assert reasons(sign_in(replaces="never")) == {}


@pytest.mark.parametrize(
    ("user", "held", "kept"),
    [
        ("ann", ONE, True),
        ("ann", VISIT, True),
        (None, VISIT, True),
        ("ann", BOBS, False),
        (None, ONE, False),
        ("ann", ACTING, False),
        ("Ann", ONE, False),
    ],
)
def test_s2_data_is_kept(user: str | None, held: Held, *, kept: bool) -> None:
    assert inherits(sign_in(user_id=user), held) is kept


def test_s3_chosen_sessions_of_the_user_end() -> None:
    ending = ("one", "bobs", "never", "visit", "two", "one")
    assert reasons(sign_in(ending=ending)) == {"one": "made_room", "two": "made_room"}


@pytest.mark.parametrize("said", [{"user_id": None}, {"impersonator": "root"}])
def test_s3_s4_visitors_and_impersonators_end_nothing(said: dict[str, str | None]) -> None:
    assert reasons(sign_in(ending=("one", "visit"), limit=1, **said)) == {}


def test_s4_impersonators_do_not_count() -> None:
    assert reasons(sign_in(limit=2), [ONE, ACTING]) == {}


def test_s4_what_ends_anyway_does_not_count() -> None:
    wish = sign_in(limit=2, replaces="one", ending=("two",), at_limit=AtLimit.DENY)
    assert reasons(wish) == {"one": "replaced", "two": "made_room"}


def test_s5_the_oldest_end() -> None:
    assert going(sign_in(limit=2)) == [
        Leaving(each, "session_limit", "system:limit") for each in ("one", "two")
    ]


def test_s5_of_those_created_together_the_first_by_id_ends() -> None:
    """Whichever way round a store hands them in."""
    alike = [Held(each) for each in "bac"]
    assert list(reasons(sign_in(limit=2), alike)) == ["a", "b"]


@pytest.mark.parametrize("at_limit", [AtLimit.DENY, AtLimit.ASK])
def test_s5_or_nothing_ends_and_the_newest_are_shown(at_limit: AtLimit) -> None:
    denied = going(sign_in(limit=2, replaces="visit", at_limit=at_limit))
    assert denied == Full(2, ("three", "two", "one"))


def test_s5_no_more_are_shown_than_somebody_reads() -> None:
    crowd = [Held(f"s{at:03}", at) for at in range(250)]
    denied = going(sign_in(limit=1, at_limit=AtLimit.ASK), crowd)
    assert isinstance(denied, Full)
    assert denied.shown == tuple(f"s{at:03}" for at in range(249, 149, -1))


@pytest.mark.parametrize(
    ("cuts", "created"),
    [
        ([], 10),
        ([None, Cut(3, None, "x")], 10),
        ([Cut(10, None, "x"), None], 11),
        ([Cut(12, None, "x"), Cut(20, None, "y")], 21),
    ],
)
def test_s6_created_after_every_cutoff(cuts: list[Cut | None], created: int) -> None:
    assert signing_in.created_at(10, cuts) == created


def gone(now: int, *cuts: Cut | None, tombstone: Gone | None = None) -> Gone | None:
    """Ask about a session created at 100, idle at 200, whose lifetime ends at 300."""
    return why_gone(
        now=now, created=100, idle_at=200, expires_at=300, tombstone=tombstone, cuts=cuts
    )


OWN, ALL = Cut(150, "key:ops", "stolen"), Cut(150, "key:admin", "all_out")


def test_g1_an_end_comes_before_all_else() -> None:
    end = signing_in.ended(120, "user:ann", "bye")
    assert gone(1_000, OWN, tombstone=end) == end
    assert (end.reason, end.ended_by, end.end_reason) == (GoneReason.ENDED, "user:ann", "bye")


@pytest.mark.parametrize(
    ("cuts", "by"),
    [
        ((OWN, ALL), "key:ops"),
        ((Cut(160, "later", "x"), ALL), "key:admin"),
        ((None, ALL), "key:admin"),
        ((Cut(99, "before", "x"), None), None),
        ((Cut(100, "then", "x"), None), "then"),
    ],
)
def test_g2_the_earliest_cutoff_counts(cuts: tuple[Cut | None, ...], by: str | None) -> None:
    found = gone(155, *cuts)
    assert (found and found.ended_by) == by


def test_g2_idle_before_the_cutoff_is_idle() -> None:
    found = gone(300, Cut(200, "key:ops", "x"))
    assert found == Gone(reason=GoneReason.IDLE, at=200)
    ahead = gone(190, Cut(250, "key:ops", "x"))  # of a clock that was set back since
    assert ahead is not None
    assert ahead.reason is GoneReason.ENDED


def test_g3_idle_or_expired() -> None:
    assert gone(199) is None
    assert gone(200) == Gone(reason=GoneReason.IDLE, at=200)
    over = why_gone(now=300, created=100, idle_at=300, expires_at=300)
    assert over == Gone(reason=GoneReason.EXPIRED, at=300)


def test_l1_newest_first_then_by_id() -> None:
    held = [Held("b", 1), Held("a", 1), Held("c", 2)]
    assert [each.id for each in sorted(held, key=signing_in.newest_first)] == ["c", "a", "b"]


def test_the_lua_cites_every_rule_and_no_other() -> None:
    rules = set(re.findall(r"^([SGL]\d)\.", signing_in.__doc__ or "", re.MULTILINE))
    comments = re.findall(r"--(.*)", "".join(path.read_text() for path in LUA.glob("*.lua")))
    assert rules == set(re.findall(r"\b([SGL]\d)\b", "\n".join(comments)))
    assert len(rules) == 11
