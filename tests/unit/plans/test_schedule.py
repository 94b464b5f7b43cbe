"""When plans run: intervals, cron expressions, windows through daylight saving, the quietest hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.clock import DAY, HOUR, MINUTE, SECOND, ManualClock
from sojourn.errors import InvalidInput
from sojourn.plans.quiet import quietest_hour
from sojourn.plans.schedule import Schedule, instant_of, parse_window, wall_clock, zone_of
from sojourn.plans.times import checked, next_due

OSLO = ZoneInfo("Europe/Oslo")
ZONES = (
    *("UTC", "Europe/Oslo", "America/New_York", "America/Santiago", "Australia/Lord_Howe"),
    *("Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia", "America/Havana"),
)
SPRING = datetime(2027, 3, 28, tzinfo=OSLO)  # 02:00 is 03:00
AUTUMN_2026 = datetime(2026, 10, 25, tzinfo=OSLO)  # 03:00 is 02:00 once more
AUTUMN = datetime(2027, 10, 31, tzinfo=OSLO)
NIGHT = Schedule(window="02:00-05:00", zone="Europe/Oslo")

years = st.integers(
    int(datetime(2026, 1, 1, tzinfo=OSLO).timestamp() * 1000),
    int(datetime(2028, 1, 1, tzinfo=OSLO).timestamp() * 1000),
)
minutes = st.integers(0, 24 * 60 - 1)


def ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def said(at: int, zone: ZoneInfo = OSLO) -> str:
    return datetime.fromtimestamp(at / 1000, zone).isoformat(timespec="minutes")


def span(opens: int, closes: int) -> str:
    return f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"


class TestWindows:
    @given(at=years, opens=minutes, closes=minutes, zone=st.sampled_from(ZONES))
    def test_next_run_is_within_and_after_now(
        self, at: int, opens: int, closes: int, zone: str
    ) -> None:
        """Whatever the zone does with its clocks."""
        if opens == closes:
            closes = (closes + 1) % 1_440
        schedule = Schedule(window=span(opens, closes), zone=zone)
        window, _ = parse_window(span(opens, closes))
        due = next_due(schedule, at)
        assert at < due.at <= at + 3 * DAY
        assert due.closes_at is not None
        assert due.at < due.closes_at <= due.at + DAY + 2 * HOUR
        assert window.holds(wall_clock(due.at, ZoneInfo(zone)))

    @given(at=years, opens=minutes, closes=minutes, zone=st.sampled_from(ZONES))
    def test_come_once_a_day(self, at: int, opens: int, closes: int, zone: str) -> None:
        """No window is met twice, and none is passed over, but where the clock skips all of it."""
        if opens == closes:
            closes = (closes + 1) % 1_440
        schedule = Schedule(window=span(opens, closes), zone=zone)
        days = []
        for _ in range(4):
            at = next_due(schedule, at).at
            days.append(wall_clock(at, ZoneInfo(zone)).date())
        assert sorted(set(days)) == days
        assert all(b - a <= timedelta(days=2) for a, b in pairwise(days))

    @given(
        at=years,
        every=st.integers(1, 3 * 86_400),
        opens=minutes,
        closes=minutes,
        zone=st.sampled_from(ZONES),
    )
    def test_bound_an_interval(
        self, at: int, every: int, opens: int, closes: int, zone: str
    ) -> None:
        if opens == closes:
            closes = (closes + 1) % 1_440
        schedule = Schedule(every=every * SECOND, window=span(opens, closes), zone=zone)
        window, _ = parse_window(span(opens, closes))
        for _ in range(3):
            due = next_due(schedule, at, last=at)
            assert due.at > at
            assert due.closes_at is not None
            assert due.closes_at > due.at
            assert window.holds(wall_clock(due.at, ZoneInfo(zone)))
            at = due.at

    @pytest.mark.parametrize(
        ("day", "opens", "closes", "hours"),
        [
            (SPRING, "2027-03-28T03:00+02:00", "2027-03-28T05:00+02:00", 2),
            (AUTUMN_2026, "2026-10-25T02:00+02:00", "2026-10-25T05:00+01:00", 4),
            (AUTUMN, "2027-10-31T02:00+02:00", "2027-10-31T05:00+01:00", 4),
            (SPRING + timedelta(days=1), "2027-03-29T02:00+02:00", "2027-03-29T05:00+02:00", 3),
        ],
    )
    def test_stretch_and_shrink_with_daylight_saving(
        self, day: datetime, opens: str, closes: str, hours: int
    ) -> None:
        """Both ways: the window is what the clock on the wall shows, and opens once."""
        clock = ManualClock(ms(day))
        due = next_due(NIGHT, clock.now())
        assert due.closes_at is not None
        assert (said(due.at), said(due.closes_at)) == (opens, closes)
        assert due.closes_at - due.at == hours * HOUR
        clock.advance(milliseconds=due.at - clock.now())
        again = next_due(NIGHT, clock.now())
        assert wall_clock(again.at, OSLO).date() == (day + timedelta(days=1)).date()

    def test_that_the_clock_skips_do_not_occur(self) -> None:
        schedule = Schedule(window="02:15-02:45", zone="Europe/Oslo")
        assert said(next_due(schedule, ms(SPRING)).at) == "2027-03-29T02:15+02:00"

    def test_that_the_clock_shows_twice_occur_once(self) -> None:
        schedule = Schedule(window="02:15-02:45", zone="Europe/Oslo")
        first = next_due(schedule, ms(AUTUMN))
        assert said(first.at) == "2027-10-31T02:15+02:00"
        assert said(next_due(schedule, first.at).at) == "2027-11-01T02:15+01:00"

    def test_over_midnight(self) -> None:
        schedule = Schedule(window="22:00-02:30", zone="Europe/Oslo")
        due = next_due(schedule, ms(AUTUMN))
        assert due.closes_at is not None
        assert (said(due.at), said(due.closes_at)) == (
            "2027-10-31T22:00+01:00",
            "2027-11-01T02:30+01:00",
        )

    def test_skipped_time_is_the_moment_the_clock_is_put_forward(self) -> None:
        at = instant_of(SPRING.date(), 2 * 60 + 20, OSLO)
        assert said(at) == "2027-03-28T03:00+02:00"


class TestIntervals:
    @given(at=years, every=st.integers(1, 86_400), late=st.integers(0, 10**9))
    def test_late_runs_do_not_move_the_next(self, at: int, every: int, late: int) -> None:
        """What was missed is made up for once, and the next run is where it would have been."""
        every *= SECOND
        due = next_due(Schedule(every=every), at + late, last=at)
        assert at + late < due.at <= at + late + every
        assert (due.at - at) % every == 0

    def test_first_run_is_an_interval_away(self) -> None:
        assert next_due(Schedule(every=15 * MINUTE), 1_000).at == 1_000 + 15 * MINUTE


class TestCron:
    @given(
        at=years,
        minute=st.integers(0, 59),
        hour=st.integers(0, 23),
        zone=st.sampled_from(ZONES),
    )
    def test_next_run_is_after_now(self, at: int, minute: int, hour: int, zone: str) -> None:
        due = next_due(Schedule(cron=f"{minute} {hour} * * *", zone=zone), at)
        assert at < due.at <= at + 2 * DAY

    @pytest.mark.parametrize(
        ("day", "runs"),
        [
            (SPRING, ["2027-03-28T03:00+02:00", "2027-03-29T02:30+02:00"]),
            (AUTUMN, ["2027-10-31T02:30+02:00", "2027-11-01T02:30+01:00"]),
        ],
    )
    def test_fixed_time_runs_once_on_the_days_that_change(
        self, day: datetime, runs: list[str]
    ) -> None:
        schedule, at, found = Schedule(cron="30 2 * * *", zone="Europe/Oslo"), ms(day), []
        for _ in runs:
            at = next_due(schedule, at).at
            found.append(said(at))
        assert found == runs

    def test_time_of_the_second_of_two_hours(self) -> None:
        """What was due in the first is not due again in the second."""
        second = ms(datetime(2027, 10, 31, 2, 10, tzinfo=OSLO, fold=1))
        schedule = Schedule(cron="30 2 * * *", zone="Europe/Oslo")
        assert said(next_due(schedule, second).at) == "2027-11-01T02:30+01:00"


class TestQuietest:
    def test_hour_is_the_zone_s(self) -> None:
        """Quiet from 4 to 5 by the clocks of Kathmandu, which are a quarter of an hour off."""
        zone = ZoneInfo("Asia/Kathmandu")
        start = ms(datetime(2026, 11, 1, tzinfo=zone))
        counts = {
            start + hour * HOUR: 3 if hour % 24 == 4 else 50 + hour % 24 for hour in range(168)
        }
        assert quietest_hour(counts, zone) == 4

    def test_mean_and_not_sum(self) -> None:
        """An hour that was seen more often is no louder for it."""
        start = ms(datetime(2026, 11, 1, tzinfo=OSLO))
        counts = {start + hour * HOUR: 10 for hour in range(24)}
        counts |= {start + (24 + hour) * HOUR: 4 for hour in range(2)}
        assert quietest_hour(counts, OSLO) == 1

    def test_equally_quiet_hours(self) -> None:
        start = ms(datetime(2026, 11, 1, tzinfo=OSLO))
        counts = {start + hour * HOUR: 0 if hour < 7 else 9 for hour in range(24)}
        assert quietest_hour(counts, OSLO) == 3

    @pytest.mark.parametrize("hours", [0, 23])
    def test_is_not_told_from_too_little(self, hours: int) -> None:
        assert quietest_hour({hour * HOUR: 1 for hour in range(hours)}, OSLO) is None

    def test_is_not_told_from_silence(self) -> None:
        assert quietest_hour({hour * HOUR: 0 for hour in range(48)}, OSLO) is None

    @given(at=years, hour=st.none() | st.integers(0, 23), zone=st.sampled_from(ZONES))
    def test_run_is_within_that_hour(self, at: int, hour: int | None, zone: str) -> None:
        due = next_due(Schedule(quietest=True, zone=zone), at, quiet_hour=hour)
        assert due.at > at
        assert wall_clock(due.at, ZoneInfo(zone)).hour == (3 if hour is None else hour)

    @given(
        at=years,
        hours=st.tuples(st.integers(0, 23), st.integers(0, 23)),
        late=st.integers(0, HOUR - 1),
        name=st.sampled_from(ZONES),
    )
    def test_runs_once_a_day_when_it_moves(
        self, at: int, hours: tuple[int, int], late: int, name: str
    ) -> None:
        """Forward, it is not today's once more; backward, no day is left out."""
        schedule, zone = Schedule(quietest=True, zone=name), ZoneInfo(name)
        first = next_due(schedule, at, quiet_hour=hours[0])
        again = next_due(schedule, first.at + late, quiet_hour=hours[1], last=first.at)
        day = wall_clock(first.at, zone).date()
        days = (wall_clock(again.at, zone).date() - day).days
        assert 1 <= days <= 2
        whole = instant_of(day + timedelta(days=1), hours[1] * 60, zone)
        if days == 2:  # the clock skips that hour of the day between
            assert wall_clock(whole, zone).hour != hours[1]
        assert wall_clock(again.at, zone).hour == hours[1]

    def test_that_is_due_at_night_and_then_in_the_afternoon(self) -> None:
        schedule = Schedule(quietest=True, zone="Europe/Oslo")
        night = ms(datetime(2027, 5, 4, 2, tzinfo=OSLO))
        due = next_due(schedule, night, quiet_hour=15, last=night)
        assert said(due.at) == "2027-05-05T15:00+02:00"
        assert due.closes_at == due.at + HOUR


class TestRefusals:
    @pytest.mark.parametrize(
        ("schedule", "why"),
        [
            (Schedule(), "needs one of"),
            (Schedule(every=900_000, cron="0 3 * * *"), "every and cron"),
            (Schedule(cron="0 3 * * *", window="02:00-05:00"), "cron and window"),
            (Schedule(quietest=True, window="02:00-05:00"), "window and quietest"),
            (Schedule(every=10), "between 1 second"),
            (Schedule(every=10**15), "between 1 second"),
            (Schedule(cron="0 0 31 2 *"), "means no time"),
            (Schedule(cron="0 0 30 2 *"), "means no time"),
            (Schedule(cron="* * */20 * 1L"), "means no time within"),
            (Schedule(cron="61 * * * *"), "bad minute"),
            (Schedule(cron="* * * *"), "five fields"),
            (Schedule(cron="* * * * * *"), "five fields"),
            (Schedule(cron="@daily"), "five fields"),
            (Schedule(cron=f"{'1,' * 100}1 * * * *"), "at most 100"),
            (Schedule(window="02:00-02:00"), "empty"),
            (Schedule(window="02:00"), "no window"),
            (Schedule(window="25:00-26:00"), "no window"),
            (Schedule(window="23:00-24:30"), "no clock shows"),
            (Schedule(window="02:00-05:00 Europe/Atlantis"), "no time zone 'Europe/Atlantis'"),
            (Schedule(window="02:00-05:00 ../../etc/passwd"), "no time zone"),
            (Schedule(cron="0 3 * * *", zone="Europe"), "no time zone 'Europe'"),
            (Schedule(cron="0 3 * * *", zone=""), "no time zone"),
            (Schedule(window="02:00-05:00 Asia/Tokyo", zone="Europe/Oslo"), "names the zone"),
        ],
    )
    def test_say_why_and_show_how(self, schedule: Schedule, why: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            checked(schedule, ms(AUTUMN))
        assert why in refused.value.message
        assert "02:00-05:00 Europe/Oslo" in refused.value.hint
        assert refused.value.code == "invalid_schedule"

    def test_window_s_zone_is_kept_apart(self) -> None:
        assert checked(Schedule(window=" 02:00 - 05:00 Europe/Oslo "), 0) == NIGHT
        assert zone_of(NIGHT.zone) == OSLO
