"""The replay of the page of analytics, without a browser: its form, its answer, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from urllib.parse import urlencode

import pytest
from tests.api_harness import FEATURE, Api, api
from tests.unit.api.test_api_analytics import morning
from tests.unit.console.test_console import SECRET, get, sign_in


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,), capacity=2) as made:
        yield made


def page(world: Api, **wishes: str) -> str:
    query = {"license": world.license_id, "feature": FEATURE, "range": "7d"} | wishes
    answer = get(world, f"analytics?{urlencode(query)}", sign_in(world))
    assert answer.status == 200
    return unescape(answer.body.decode())


def test_other_thresholds_are_replayed(world: Api) -> None:
    """Each field that is filled is named in the answer, and stays in the form."""
    morning(world)
    found = page(world, seats="1", lostAfter="100", linger="0", wait="30")
    assert (
        "With 1 seat more and leases that run out after 1 min 40 s of silence and 0 s to come back after a "
        "goodbye and a line in which people wait for 30 s, nobody would have been refused (2 were)."
    ) in found
    for field in ('name="lostAfter" type="number" min="1" step="1" value="100"', 'value="30"'):
        assert field in found


def test_an_empty_form_replays_nothing(world: Api) -> None:
    morning(world)
    found = page(world, seats="", lostAfter="", linger="", wait="")
    assert "would have been refused" not in found


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"lostAfter": "0"}, "seconds are too few"),
        ({"lostAfter": "soon"}, "is no whole number"),
        ({"linger": "-1"}, "seconds are too few"),
        ({"wait": "999999"}, "is no whole number"),
    ],
)
def test_what_cannot_be_is_said(world: Api, wish: dict[str, str], said: str) -> None:
    """The fault is named beside the form, which keeps what was typed: a number, as browsers take no word."""
    morning(world)
    found = page(world, **wish)
    assert said in found
    typed = next(iter(wish.values()))
    assert (f'value="{typed}"' in found) == typed.lstrip("-").isdigit()
