"""Who is there, as far as sockets tell: rounds, doubts, and whom to ask; on a clock of the test's own."""

from __future__ import annotations

import pytest

from sojourn.clock import SECOND
from sojourn.lease import Beat
from sojourn.license import Policy, Pool, WhenFull
from sojourn.service import presence as module
from sojourn.service.presence import DRIFT, MARGIN, QUIET, QUIET_MAX, Attendant, Presence
from sojourn.token import LeaseClaims

HEARTBEAT = 30.0
HALF = HEARTBEAT / 2


class FakeLine:
    def __init__(self) -> None:
        self.answered = False

    def tell(self, text: bytes | None, *, ping: bool = False) -> None:
        raise AssertionError("nothing is written where things are decided")

    def cut_off(self, why: str) -> None:
        self.hang_up(0, why)

    def hang_up(self, code: int, reason: str) -> None:
        raise AssertionError("nothing is closed where things are decided")


def a_pool(feature: str = "editor", **policy: int | WhenFull) -> Pool:
    return Pool(license_id="lic_1", feature=feature, policy=Policy(capacity=9, **policy).validate())  # type: ignore[arg-type]  # by name


def attendant(name: str = "lea_1", *, fence: int = 1, pool: Pool | None = None) -> Attendant:
    claims = LeaseClaims(
        pool_id=(pool or a_pool()).id,
        user_id="ann",
        client_id="tab",
        lease_id=name,
        fence=fence,
        issued_at=0,
        session_id=None,
    )
    made = Attendant(claims, FakeLine())
    made.renewed_at = 0.0
    return made


class Room:
    """A presence, and what a test does to it."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.presence = Presence()
        self.pool = pool or a_pool()
        self.now = 1.0

    def enter(self, name: str = "lea_1", **more: int) -> Attendant:
        made = attendant(name, pool=self.pool, **more)
        assert self.presence.enter(made, self.pool, self.now) is None
        return made

    def round(self) -> module.Round:
        """Go on to the next round, on time."""
        (attended,) = self.presence.pools.values()
        self.now = attended.next_round
        return self.presence.round(attended, self.now)


class TestRounds:
    @pytest.mark.parametrize("interval", [400, 600, 1_400, 30_000])
    def test_next_round_is_later(self, interval: int) -> None:
        """Also where no multiple of a period is a number of the machine's: rounds without a pause between
        would take everybody for silent."""
        room = Room(a_pool(heartbeat_interval=interval))
        room.enter()
        (attended,) = room.presence.pools.values()
        for _ in range(2_000):
            now = attended.next_round
            room.presence.round(attended, now)
            assert attended.next_round > now

    def test_who_shows_life_is_renewed(self) -> None:
        room = Room()
        alive, silent = room.enter("lea_1"), room.enter("lea_2")
        alive.line.answered = True
        found = room.round()
        assert (found.renew, found.give_up) == ([alive], [])
        assert not alive.line.answered, "a sign of life counts for one round"
        assert silent.quiet == 1

    def test_silence_is_given_up(self) -> None:
        """After two intervals its socket is of no use."""
        room = Room()
        silent = room.enter()
        rounds = [room.round() for _ in range(QUIET_MAX)]
        assert [silent in each.give_up for each in rounds] == [False] * (QUIET_MAX - 1) + [True]
        assert all(not each.renew for each in rounds)

    def test_life_takes_silence_back(self) -> None:
        room = Room()
        one = room.enter()
        room.round()
        room.round()
        one.line.answered = True
        assert room.round().renew == [one]
        assert one.quiet == 0

    def test_renewal_that_failed_is_tried_again_while_nothing_speaks_against_it(self) -> None:
        room = Room()
        one = room.enter()
        one.owed = True
        owed = [(room.round().renew, room.presence.owed())[1] for _ in range(QUIET)]
        assert owed == [[one]] * (QUIET - 1) + [[]]

    def test_round_that_is_late_judges_nobody(self) -> None:
        """It was this server that stood still: signs of life wait in its own buffers."""
        room = Room()
        one = room.enter()
        (attended,) = room.presence.pools.values()
        found = room.presence.round(attended, attended.next_round + 3 * HALF)
        assert (one.quiet, found.renew) == (0, [one])

    def test_pools_of_one_interval_have_their_rounds_together(self) -> None:
        """So they are renewed in one batch, whenever the first socket of each was opened."""
        presence = Presence()
        for number, opened in enumerate((1.0, 4.0, 14.9)):
            pool = a_pool(f"feature{number}")
            presence.enter(attendant(f"lea_{number}", pool=pool), pool, opened)
        assert {each.next_round for each in presence.pools.values()} == {15.0}
        assert len(presence.due(15.0)) == 3
        assert presence.due(14.95) == []

    @pytest.mark.parametrize(
        ("interval", "period"), [(30 * SECOND, 15.0), (100, 0.1), (600 * SECOND, 20.0)]
    )
    def test_period_is_half_an_interval_within_bounds(self, interval: int, period: float) -> None:
        room = Room(a_pool(heartbeat_interval=interval, lost_after=interval * 3, linger=0))
        room.enter()
        (attended,) = room.presence.pools.values()
        assert attended.period == period


class TestComingAndGoing:
    def test_newer_socket_takes_the_place(self) -> None:
        room = Room()
        older = room.enter()
        newer = attendant()
        assert room.presence.enter(newer, room.pool, room.now) is older
        assert room.presence.open == 1
        assert not room.presence.leave(older, room.now, dropped=True), "its place is taken"
        assert room.presence.of(room.pool.id, "lea_1") is newer

    def test_older_fence_does_not(self) -> None:
        room = Room()
        newer = room.enter(fence=2)
        older = attendant(fence=1)
        assert room.presence.enter(older, room.pool, room.now) is older
        assert room.presence.of(room.pool.id, "lea_1") is newer
        assert not room.presence.leave(older, room.now, dropped=True)

    def test_pool_is_let_go_with_its_last_socket(self) -> None:
        room = Room()
        one = room.enter()
        assert not room.presence.leave(one, room.now, dropped=False)
        assert (room.presence.pools, room.presence.open) == ({}, 0)

    def test_dropped_are_remembered_for_their_linger(self) -> None:
        room = Room()
        one = room.enter()
        assert room.presence.leave(one, room.now, dropped=True)
        room.presence.forget(room.now + 9.9)
        assert room.presence.doubtful(room.pool.id, room.now + 9.9) == ([], [one])
        room.presence.forget(room.now + 10)
        assert room.presence.pools == {}

    def test_dropped_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "DROPPED_MAX", 3)
        room = Room()
        many = [room.enter(f"lea_{n}") for n in range(10)]
        for each in many:
            room.presence.leave(each, room.now, dropped=True)
        _, dropped = room.presence.doubtful(room.pool.id, room.now)
        assert dropped == many[-3:]

    def test_doubt_counts_only_if_nobody_else_has_heard(self) -> None:
        """The doubt names the time since our own last renewal, less what clocks may differ."""
        one = attendant()
        one.renewed_at = 10.0
        assert one.doubt(25.0).silent_for == round((15 * (1 - DRIFT) - MARGIN) * SECOND)
        assert one.doubt(10.0).silent_for == 0

    def test_who_is_back_elsewhere_at_once_is_not_doubted(self) -> None:
        """Its socket dropped, and another server has heard it 20 ms after our last renewal."""
        one = attendant()
        one.renewed_at = 10.0
        for silence in (0.5, 1.5, 10.0):
            assert one.doubt(10.0 + silence).silent_for > (silence - 0.02) * SECOND

    def test_client_speaks_for_one_renewal(self) -> None:
        one = attendant()
        assert one.beat == Beat()


class TestAsking:
    def test_silent_sockets_are_asked(self) -> None:
        room = Room()
        silent, alive = room.enter("lea_1"), room.enter("lea_2")
        for _ in range(QUIET):
            alive.line.answered = True
            room.round()
        assert room.presence.doubtful(room.pool.id, room.now) == ([silent], [])
        assert room.presence.ask([silent]) == [silent]
        assert room.presence.missing(room.pool.id, [silent]) == [silent]
        silent.line.answered = True
        assert room.presence.missing(room.pool.id, [silent]) == []
        room.round()  # which takes the sign of life
        assert room.presence.missing(room.pool.id, [silent]) == []

    def test_who_has_come_back_is_not_missing(self) -> None:
        room = Room()
        one = room.enter()
        room.presence.leave(one, room.now, dropped=True)
        assert room.presence.missing(room.pool.id, [one]) == [one]
        room.presence.enter(attendant(), room.pool, room.now)
        assert room.presence.missing(room.pool.id, [one]) == []

    def test_silent_socket_that_drops_is_missing(self) -> None:
        room = Room()
        one = room.enter()
        for _ in range(QUIET):
            room.round()
        room.presence.ask([one])
        room.presence.leave(one, room.now, dropped=True)
        assert room.presence.missing(room.pool.id, [one]) == [one]

    def test_who_says_goodbye_meanwhile_is_not(self) -> None:
        room = Room()
        one, _ = room.enter("lea_1"), room.enter("lea_2")
        for _ in range(QUIET):
            room.round()
        room.presence.ask([one])
        room.presence.leave(one, room.now, dropped=False)
        assert room.presence.missing(room.pool.id, [one]) == []

    def test_others_are_those_who_seem_to_be_there(self) -> None:
        """First who has shown no life since the last round; so many at most."""
        room = Room()
        alive, quiet, silent = room.enter("lea_1"), room.enter("lea_2"), room.enter("lea_3")
        silent.quiet, alive.line.answered = QUIET, True
        assert room.presence.others(room.pool.id, 9) == [quiet, alive]
        assert room.presence.others(room.pool.id, 1) == [quiet]
        assert room.presence.others("lic_1:unknown", 9) == []

    def test_life_before_the_question_counts_for_the_round_alone(self) -> None:
        """It is no answer, and nobody is taken for silent since it was asked."""
        room = Room()
        one, other = room.enter("lea_1"), room.enter("lea_2")
        one.line.answered = other.line.answered = True
        room.presence.ask([one, other])
        other.line.answered = True
        assert room.presence.missing(room.pool.id, [one, other]) == [one]
        assert room.round().renew == [one, other]
        assert room.presence.missing(room.pool.id, [one, other]) == [one]
        assert (one.quiet, other.quiet) == (0, 0)
        assert room.round().renew == []
        assert one.quiet == 1

    def test_nobody_is_asked_where_nobody_could_have_the_seat(self) -> None:
        room = Room(a_pool(when_full=WhenFull.DENY))
        room.presence.leave(room.enter(), room.now, dropped=True)
        assert room.presence.doubtful(room.pool.id, room.now) == ([], [])
        assert room.presence.doubtful("lic_1:unknown", room.now) == ([], [])
        assert not room.presence.askable(room.pool.id)
        assert room.presence.others(room.pool.id, 9) == []

    def test_idle_holders_are_told_once_in_a_while(self) -> None:
        room = Room()
        idle, busy = room.enter("lea_1"), room.enter("lea_2")
        idle.idle_at, busy.idle_at = room.now - 60, room.now - 59
        assert room.presence.idle(room.pool.id, room.now) == [idle]
        assert room.presence.idle(room.pool.id, room.now) == []
        assert room.presence.idle(room.pool.id, room.now + 60) == [busy, idle]
