"""The checker, on histories written by hand: each promise kept, and broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.promises.by_hand import POOL, History
from tests.promises.checker import main
from tests.promises.history import Window, Writer, read


@pytest.fixture
def history() -> History:
    return History()


def test_one_after_the_other(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(1, "a", 1)
    history.deny(1.5, "b")
    history.release(2, "a", 1)
    history.acquire(2.5, "b", 2)
    assert history.found() == set()


def test_a_seat_sold_twice(history: History) -> None:
    history.acquire(0, "a", 1)
    history.acquire(1, "b", 2)
    assert history.found() == {"capacity"}


def test_seats_above_the_capacity() -> None:
    """As many as the overdraft, and no denial before."""
    history = History(replace(POOL, overdraft=1))
    history.acquire(0, "a/1", 1)
    history.acquire(0.5, "b/1", 2)
    history.deny(0.7, "c/1", used=2)
    assert history.found() == set()
    history.acquire(1, "c/1", 3)
    assert history.found() == {"capacity"}
    early = History(replace(POOL, overdraft=1))
    early.acquire(0, "a/1", 1)
    early.deny(0.7, "c/1", used=1)
    assert early.found() == {"denied-early"}


def test_reserved_seats() -> None:
    """Others may not have them, and are refused while they are free; who may have them is not."""
    kept = replace(POOL, capacity=2, reserved=1, kept_for=("vip",))
    history = History(kept)
    history.acquire(0, "a/1", 1)
    history.deny(0.5, "b/1", used=2)
    assert history.found() == set()
    history.acquire(1, "b/1", 2)
    assert history.found() == {"reserved"}
    wrong = History(kept)
    wrong.acquire(0, "a/1", 1)
    wrong.deny(0.5, "vip/1", used=2)
    assert wrong.found() == {"denied-early"}
    said = History(kept)
    told = {"code": "seat_limit", "used": 0, "limit": 2, "kept": 1}
    said.add("acquire", 0.5, 409, {"p": "p", "h": "b/1"}, told)
    assert said.found() == {"denied-early"}


def test_a_silent_holder_may_lose_its_seat(history: History) -> None:
    history.acquire(0, "a", 1)
    history.acquire(6.5, "b", 2)
    history.beat(6.6, "a", 1, 410)
    assert history.found() == set()


def test_a_beat_proves_that_the_seat_was_held_all_along(history: History) -> None:
    history.acquire(0, "a", 1)
    history.acquire(6.5, "b", 2)
    history.beat(7, "a", 1)
    assert history.found() == {"capacity"}


def test_what_nobody_answered_holds_nothing_for_sure(history: History) -> None:
    history.acquire(0, "a", 1)
    history.unanswered("release", 0.5, "a", l="lse_a", f=1)
    history.acquire(1, "b", 2)
    assert history.found() == set()


def test_the_same_client_again_is_one_holder(history: History) -> None:
    history.acquire(0, "a", 1)
    history.acquire(1, "a", 2)
    history.beat(2, "a", 2)
    assert history.found() == set()


def test_fences_repeat(history: History) -> None:
    history.acquire(0, "a", 1)
    history.release(1, "a", 1)
    history.acquire(2, "b", 1)
    assert history.found() == {"fence-repeats"}


def test_a_copy_may_be_told_what_the_first_was_granted(history: History) -> None:
    """Nobody answered that, and others were granted seats before the copy was sent."""
    history.unanswered("acquire", 0, "a", key="k1")
    history.acquire(1, "b", 6)
    history.release(2, "b", 6)
    history.acquire(2.1, "a", 5, key="k1")
    assert history.found() == set()
    history.acquire(3, "a", 4, key="k2")
    assert history.found() == {"fence-falls"}


def test_fences_fall(history: History) -> None:
    history.acquire(0, "a", 5)
    history.release(1, "a", 5)
    history.acquire(2, "b", 4)
    assert history.found() == {"fence-falls"}


def test_a_repeated_request_has_its_first_answer(history: History) -> None:
    history.acquire(0, "a", 1, key="same")
    history.acquire(0.001, "a", 1, key="same")
    assert history.found() == set()


def test_a_copy_takes_the_seat_from_its_own_sender(history: History) -> None:
    history.acquire(0, "a", 1, key="same")
    history.acquire(0.001, "a", 2, key="same")
    assert history.found() == {"copy"}


@pytest.mark.parametrize("what", ["superseded", "released", "refused"])
def test_stale_tokens(history: History, what: str) -> None:
    history.acquire(0, "a", 1)
    match what:
        case "superseded":
            history.acquire(1, "a", 2)
        case "released":
            history.release(1, "a", 1)
        case _:
            history.acquire(7, "b", 3)
            history.release(7.1, "b", 3)
            history.beat(7.2, "a", 1, 410)
    at = 2 if what != "refused" else 7.5
    history.beat(at, "a", 1, 410)
    assert history.found() == set()
    history.beat(at + 1, "a", 1)
    assert "stale-token" in history.found()


def test_a_released_lease_is_resumed(history: History) -> None:
    history.acquire(0, "a", 1)
    history.release(1, "a", 1)
    history.acquire(2, "a", 2, l="lse_a", f=1)
    assert history.found() == {"stale-token"}


def test_a_renewal_revives(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(9, "a", 1)
    assert history.found() == {"revived"}


def test_an_outage_gives_time_back(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(9, "a", 1)
    assert history.found(Window(kind="store-freeze", start=1, end=4)) == set()


def test_an_outage_that_is_told_gives_time_back(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(9, "a", 1)
    assert history.found(Window(kind="told", start=1, end=4)) == set()


def test_it_excuses_nothing_else(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(3, "a", 1, 410)
    assert history.found(Window(kind="told", start=1, end=4)) == {"living-lost"}


def test_the_living_lose_nothing(history: History) -> None:
    history.acquire(0, "a", 1)
    history.beat(3, "a", 1, 410)
    assert history.found() == {"living-lost"}


def test_its_own_doing_is_no_loss(history: History) -> None:
    history.acquire(0, "a", 1)
    history.unanswered("acquire", 1, "a")
    history.beat(3, "a", 1, 410)
    assert history.found() == set()


def test_its_own_request_of_long_ago_may_come_late(history: History) -> None:
    """However often it has asked since."""
    history.unanswered("acquire", 0, "a")
    history.acquire(0.1, "b", 1)
    for tenth in range(2, 40):
        history.deny(tenth / 10, "a")
    history.release(4, "b", 1)
    history.acquire(4.1, "a", 2)
    history.beat(5, "a", 2, 410)
    assert history.found() == {"living-lost"}
    assert history.found(Window(kind="store-freeze", start=0, end=4.5)) == set()


def test_an_outage_costs_a_seat(history: History) -> None:
    history.acquire(0, "a", 1)
    for second in range(1, 10):
        history.unanswered("beat", second, "a", l="lse_a", f=1)
    history.beat(10, "a", 1, 410)
    frozen = Window(kind="store-freeze", start=0.5, end=9.9)
    assert history.found(frozen) == {"outage-cost"}
    assert history.found(frozen, Window(kind="net", start=1, end=9)) == set()


def test_a_second_outage_before_the_next_beat(history: History) -> None:
    """Time is given back once (ADR 6): who has not beaten since must not live for ever."""
    history.acquire(0, "a", 1)
    history.beat(3, "a", 1)
    for second in range(4, 13):
        history.unanswered("beat", second, "a", l="lse_a", f=1)
    history.beat(13, "a", 1, 410)
    before = Window(kind="store-freeze", start=1, end=2)
    after = Window(kind="store-freeze", start=3.5, end=12.9)
    assert history.found(before, after) == set()
    assert history.found(after) == {"outage-cost"}


def test_a_living_holder_is_refused(history: History) -> None:
    history.acquire(0, "a", 1)
    history.deny(1, "a")
    assert "living-refused" in history.found()


def test_denied_though_a_seat_was_free(history: History) -> None:
    history.acquire(0, "a", 1)
    history.release(1, "a", 1)
    history.deny(2, "b")
    assert history.found() == {"denied-early"}


def test_denied_by_a_suspect_past_its_linger(history: History) -> None:
    history.acquire(0, "a", 1)
    history.deny(7, "b")
    assert history.found() == {"denied-early"}


def test_denied_by_one_who_may_have_been_seated(history: History) -> None:
    history.unanswered("acquire", 0, "a")
    history.deny(2, "b")
    assert history.found() == set()
    history.deny(12, "b")
    assert history.found() == {"denied-early"}


def test_a_denial_that_contradicts_itself(history: History) -> None:
    history.acquire(0, "a", 1)
    history.deny(1, "b", used=0)
    assert history.found() == {"denied-early"}


def test_in_doubt_after_a_restart() -> None:
    history = History(doubts=True)
    history.acquire(0, "a", 1)
    history.release(1, "a", 1)
    history.deny(3, "b")
    assert history.found() == {"denied-early"}
    assert history.found(Window(kind="store-kill", start=1.5, end=2)) == set()


def test_in_doubt_for_as_long_as_a_holder_may_live_from_when_it_is_noticed() -> None:
    """Servers on a busy machine see a restart late; and one at an epoch's end reaches into the next."""
    kill = Window(kind="store-kill", start=1.5, end=2)
    history = History(doubts=True, noticed=[5.0])
    patience = history.facts.pools["p"].lost_after
    history.deny(5 + patience - 0.5, "b", used=0)
    assert history.found(kill) == set()
    assert history.found() == set()
    history.deny(5 + patience + 0.5, "b", used=0)
    assert history.found() == {"denied-early"}


def test_a_restart_lasts_until_it_is_noticed() -> None:
    """A release may be lost, and its lease live for as long as it had, and for what the outage took."""
    history = History(doubts=True, noticed=[4.0])
    patience = history.facts.pools["p"].lost_after
    history.acquire(0, "a", 1)
    history.beat(0.8, "a", 1)
    history.release(1, "a", 1)
    history.begin(2.1, "s")
    history.deny(4 + patience + 0.2, "b")
    lost = Window(kind="loss", start=0.5, end=2), Window(kind="store-kill", start=1.9, end=2)
    assert history.found(*lost) == set()
    history.deny(4 + patience + 2, "b")
    assert history.found(*lost) == {"denied-early"}


def test_a_refusal_that_the_store_lost() -> None:
    """What a lease ended of may be lost with the last second, and then its token counts again."""
    history = History()
    history.acquire(0, "a", 1)
    history.beat(1, "a", 1, 410)
    history.beat(3, "a", 1)
    assert "stale-token" in history.found()
    assert "stale-token" in history.found(Window(kind="loss", start=1.5, end=2))
    assert "stale-token" not in history.found(Window(kind="loss", start=0.5, end=2))


def test_sessions_live_and_end(history: History) -> None:
    history.begin(0, "s")
    history.use("check", 1, "s", d={"k": 0})
    history.use("end", 2, "s", n=1)
    history.use("check", 3, "s", 401)
    assert history.found() == set()


def test_an_ended_session_is_accepted(history: History) -> None:
    history.begin(0, "s")
    history.use("end", 1, "s", n=1)
    history.use("check", 2, "s")
    assert history.found() == {"ended-session"}


def test_a_request_under_way_may_be_accepted(history: History) -> None:
    history.begin(0, "s")
    history.use("check", 0.999, "s")
    history.use("end", 1, "s", n=1)
    history.use("check", 1.005, "s")
    assert history.found() == set()


def test_signed_out_from_elsewhere(history: History) -> None:
    history.begin(0, "s")
    history.begin(1, "t")
    history.use("others", 2, "t", n=1)
    history.use("check", 3, "t")
    history.use("check", 3, "s", 401)
    assert history.found() == set()
    history.use("check", 4, "s")
    assert history.found() == {"ended-session"}


def test_an_abandoned_sign_out_ends_a_later_session(history: History) -> None:
    history.begin(0, "s")
    history.use("others", 1, "s", 0)
    history.begin(5, "t")
    history.use("check", 6, "t", 401)
    assert history.found() == {"session-lost"}


def test_a_session_that_nobody_ended_is_gone(history: History) -> None:
    history.begin(0, "s")
    history.use("check", 1, "s", 401)
    assert history.found() == {"session-lost"}


def test_lost_with_the_last_second(history: History) -> None:
    history.begin(0.5, "s")
    history.use("check", 2, "s", 401)
    assert history.found(Window(kind="loss", start=0, end=1)) == set()


def test_somebody_elses_session(history: History) -> None:
    history.begin(0, "s")
    history.use("check", 1, "s", id="another")
    assert history.found() == {"wrong-session"}


def test_a_replaced_token_lives(history: History) -> None:
    history.begin(0, "s")
    history.use("rotate", 1, "s")
    history.use("check", 1.5, "s")
    history.use("check", 3, "s", 401)
    history.use("check", 3, "s", turn=1)
    assert history.found() == set()
    history.use("check", 4, "s")
    assert history.found() == {"rotated-token"}


def test_the_new_token_is_refused(history: History) -> None:
    history.begin(0, "s")
    history.use("rotate", 1, "s")
    history.use("check", 2, "s", 401, turn=1)
    assert history.found() == {"session-lost"}


def test_saved_values_are_read(history: History) -> None:
    history.begin(0, "s")
    history.save(1, "s", 1)
    history.use("check", 2, "s", d={"k": 1})
    assert history.found() == set()


def test_a_saved_value_is_lost(history: History) -> None:
    history.begin(0, "s")
    history.save(1, "s", 1)
    history.use("check", 2, "s", d={"k": 0})
    assert history.found() == {"write-lost"}


def test_a_value_that_was_never_saved(history: History) -> None:
    history.begin(0, "s")
    history.save(1, "s", 1)
    history.use("check", 2, "s", d={"k": 7})
    assert history.found() == {"value"}


def test_an_abandoned_save_overwrites(history: History) -> None:
    history.begin(0, "s")
    history.save(1, "s", 1, status=0)
    history.save(1.5, "s", 2)
    history.use("check", 2, "s", d={"k": 1})
    assert history.found() == set()  # it may have come a little late
    history.save(6, "s", 3)
    history.use("check", 7, "s", d={"k": 1})
    assert history.found() == {"write-lost"}


@pytest.mark.parametrize("how", ["end", "cutoff"])
def test_seats_of_ended_sessions(history: History, how: str) -> None:
    history.begin(0, "s")
    history.acquire(1, "a", 1, s="s")
    if how == "end":
        history.use("end", 2, "s", n=1)
    else:
        history.add("cutoff", 2, 200, {"u": "ada"}, {})
    late = 3 if how == "end" else 7.5
    history.beat(late, "a", 1, 410)
    assert history.found() == set()
    history.records.pop()
    history.beat(late, "a", 1)
    assert history.found() == {"ended-session-seat"}


def test_a_seat_for_an_ended_session(history: History) -> None:
    history.begin(0, "s")
    history.use("end", 1, "s", n=1)
    history.acquire(2, "a", 1, s="s")
    assert history.found() == {"ended-session"}


def test_answers_are_documented(history: History) -> None:
    history.acquire(0, "a", 1)
    history.add("release", 1, 500, {"p": "p", "h": "a", "l": "lse_a", "f": 1}, {"code": "internal"})
    assert history.found() == {"status"}


def test_answers_are_well_formed(history: History) -> None:
    history.begin(0, "s")
    history.use("check", 1, "s", malformed="no JSON")
    assert history.found() == {"malformed"}


def test_time_left_is_bounded(history: History) -> None:
    history.acquire(0, "a", 1)
    record = history.beat(1, "a", 1)
    history.records[-1] = record._replace(said={"in": 3601.0, "st": "active"})
    assert history.found() == {"expires-in"}


def test_a_stop_fails_nobody(history: History) -> None:
    history.acquire(0, "a", 1)
    reset = history.unanswered("acquire", 1, "b")
    history.records[-1] = reset._replace(closed=1.1, said={"x": "reset"})
    history.beat(4, "a", 1)
    assert history.found(Window(kind="server-stop", start=1, end=1.2, server=0)) == {"stop"}
    assert history.found(Window(kind="server-kill", start=1, end=1.2)) == set()


def test_nobody_is_answered_any_more(history: History) -> None:
    history.acquire(0, "a", 1)
    history.unanswered("beat", 60, "a", l="lse_a", f=1)
    assert history.found(Window(kind="store-kill", start=1, end=2)) == {"recovery"}


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reads what clients wrote, and exits with 1 if a promise was broken."""
    history = History()
    history.acquire(0, "a", 1)
    history.acquire(1, "b", 2)
    writer = Writer(tmp_path / "history.jsonl")
    for record in history.records:
        writer.write(record)
    writer.close()
    assert list(read(tmp_path / "history.jsonl")) == history.records
    (tmp_path / "facts.json").write_text(history.facts.to_json())
    assert main([str(tmp_path / "facts.json"), str(tmp_path / "history.jsonl")]) == 1
    assert '"capacity": 1' in capsys.readouterr().out


def test_it_imports_nothing_of_the_product() -> None:
    """What judges must not share a mistake with what is judged."""
    here = Path(__file__).parent
    names = ("history", "case", "checker", "grants", "possible", "judge_seats", "judge_sessions")
    for name in (*names, "wire", "clients", "seats", "people"):
        assert "sojourn." not in (here / f"{name}.py").read_text(), name
        assert "import sojourn" not in (here / f"{name}.py").read_text(), name
