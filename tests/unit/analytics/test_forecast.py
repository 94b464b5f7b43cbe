"""The coming weeks' peaks, and how far off such forecasts were."""

from __future__ import annotations

import random

import pytest

from sojourn.analytics.forecast import COVERED, WEEKS_MIN, forecast
from sojourn.clock import DAY

WEEK = (10, 12, 14, 12, 8, 2, 1)


def test_too_little_is_known() -> None:
    """Under three whole weeks nothing is forecast, and it is said how much is known."""
    told = forecast(WEEK * (WEEKS_MIN - 1) + (3, 3), 0)
    assert (told.weeks, told.days) == (WEEKS_MIN - 1, [])


def test_weeks_that_are_alike_go_on() -> None:
    told = forecast(WEEK * 6, 0, weeks=2)
    assert [day.expected for day in told.days] == pytest.approx(list(WEEK * 2))
    assert [day.at for day in told.days[:2]] == [42 * DAY, 43 * DAY]
    for day in told.days:
        assert [day.low, day.high] == pytest.approx([day.expected, day.expected])
    assert [told.error, told.covered] == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("cut", range(1, 7))
def test_each_weekday_is_its_own(cut: int) -> None:
    """Wherever the week is cut, a Saturday is forecast from Saturdays."""
    peaks = (WEEK * 7)[: 35 + cut]
    told = forecast(peaks, 0, weeks=1)
    assert [day.expected for day in told.days] == pytest.approx(
        [WEEK[(35 + cut + i) % 7] for i in range(7)]
    )


def test_the_error_is_measured_and_the_interval_holds_what_it_says() -> None:
    """With noise that is known, about as many days to come lie within the interval as it claims, and the
    error that is told is about the noise's."""
    chance = random.Random(7)
    held = tried = 0
    errors = []
    for _ in range(40):
        noisy = [max(0, round(each + chance.gauss(0, 3))) + 20 for each in WEEK * 14]
        told = forecast(noisy[: 12 * 7], 0, weeks=2)
        errors.append(told.error)
        for day, seen in zip(told.days, noisy[12 * 7 :], strict=True):
            tried += 1
            held += day.low <= seen <= day.high
    assert held / tried == pytest.approx(COVERED, abs=0.08)
    assert 2 < sum(errors) / len(errors) < 4
    assert told.tried == 70


def test_a_forecast_never_looks_ahead() -> None:
    """What comes after a day does not change what is said of the days that were tried before it."""
    known = list(WEEK * 5)
    first = forecast(known, 0)
    later = forecast([*known, *(100,) * 7], 0)
    assert later.error > first.error
    assert [day.expected for day in forecast(known, 0).days] == [x.expected for x in first.days]


def test_no_peak_is_below_zero() -> None:
    told = forecast((0, 5, 0, 0, 0, 0, 0) * 5, 0)
    assert min(day.low for day in told.days) == 0.0
