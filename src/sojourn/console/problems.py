"""The pages `/problems` and `/problems/<code>`, to which the type of a problem leads: what happened, and what
to do. No script is needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.console.render import ASSETS, render
from sojourn.people.pages import SECURED, HtmlPage
from sojourn.people.render import BELOW
from sojourn.wire.bodies import STATUS, title

WORDS = Path(__file__).with_name("problems.json")
"""Made by `make reference` from docs/reference/words.toml: code → what happened, what to do."""


class ProblemRow(Struct, frozen=True, kw_only=True):
    """One code. Texts are pieces, of which every second one is code."""

    code: str
    status: int
    title: str
    happened: list[str]
    todo: list[str]


@cache
def problems() -> dict[str, ProblemRow]:
    """Return what is said of each code, in the order of their statuses."""
    words = msgspec.json.decode(WORDS.read_bytes(), type=dict[str, tuple[str, str]])
    return {
        code: ProblemRow(
            code=code,
            status=status,
            title=title(code),
            happened=words[code][0].split("`"),
            todo=words[code][1].split("`"),
        )
        for code, status in sorted(STATUS.items(), key=lambda each: each[1])
    }


def problems_page(site_name: str, code: str | None = None) -> HtmlPage | None:
    """Write the page of one code, or of all; None if there is no such code."""
    every = problems()
    if code is not None and code not in every:
        return None
    up = "" if code is None else "../"
    body = render(
        "problems.html",
        site_name=site_name,
        one=every.get(code or ""),
        shown=list(every.values()) if code is None else [every[code]],
        every=list(every.values()),
        up=up,
        asset=lambda name: f"{up}console/{BELOW}{ASSETS.asset(name).name}",
    )
    return HtmlPage(200, SECURED, body)
