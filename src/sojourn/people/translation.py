"""The words of people's pages, in the languages of `catalogs/`: sentences, numbers and times.

A catalog has two parts: `component`, the strings of the web component, and `page`, what the pages say
besides. The component is built from the same files (clients/active-sessions/build.py). How numbers and times
are said is in `formats.json`, which is made from CLDR (clients/active-sessions/formats.mjs), as browsers do.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.text import isolated
from sojourn.wire.bodies import rfc3339

CATALOGS = Path(__file__).parent / "catalogs"
LANGUAGES = ("en", "de", "fr", "es", "pt-BR", "it", "nl", "pl", "ja", "ko", "zh-Hans", "ar")
RIGHT_TO_LEFT = frozenset({"ar"})
HEADER_MAX = 500  # characters of Accept-Language that are read
RANGES_MAX = 20
"""Languages of one header that are looked at."""
MINUTE, HOUR, DAY, MONTH = 60, 3_600, 86_400, 2_629_800  # seconds
UNITS = (("month", MONTH), ("day", DAY), ("hour", HOUR), ("minute", MINUTE))
TRADITIONAL = ("hant", "tw", "hk", "mo")
"""Scripts and regions that write another Chinese than the catalog's."""

_PLACE = re.compile(r"{(\w+)}")
_RANGE = re.compile(
    r"\s*([A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*(0(?:\.\d{1,3})?|1(?:\.0{1,3})?)\s*)?\Z"
)


class Moment(Struct, frozen=True):
    """Attributes: iso: for programs; words: relative; exact: for whoever wants to know."""

    iso: str
    words: str
    exact: str


class Isolated(str):
    """A text whose parts are kept apart from what stands around them already."""

    __slots__ = ()


class Words:
    """The words of one language. Where a catalog lacks a sentence, it is said in English."""

    def __init__(self, language: str, catalog: dict[str, Any], formats: dict[str, Any]) -> None:
        self.language = language
        self.direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
        self._texts: dict[str, Any] = {**catalog["page"], **catalog["component"]}
        self._component = catalog["component"]
        self._formats = formats

    def text(self, name: str, /, **values: object) -> str:
        """Return a sentence. Numbers are written as in its language; texts are kept apart from what stands
        around them. `n` chooses the plural. Raises KeyError if there is no such sentence."""
        found = self._texts.get(name) or ENGLISH._texts[name]  # noqa: SLF001 - of this class
        if isinstance(found, dict):
            found = found.get(self.plural(int(str(values["n"]))), found["other"])
        return _PLACE.sub(lambda place: self._said(values[place[1]]), found)

    def around(self, name: str, place: str) -> tuple[str, str]:
        """Return what stands before and after a place in a sentence, where markup is to stand."""
        before, _, after = str(self._texts[name]).partition(f"{{{place}}}")
        return before, after

    def reason(self, name: str) -> str:
        """Say why a session is over; nothing if there are no words for it."""
        said = self._texts.get("reasons", {}).get(name, "")
        return str(said)

    def _said(self, value: object) -> str:
        if isinstance(value, int):
            return self.number(value)
        return value if isinstance(value, Isolated) else isolated(str(value))

    def number(self, value: int) -> str:
        """Write a count, its digits grouped as in this language."""
        grouping = self._formats["numbers"]
        return f"{value:,}".replace(",", grouping["group"] if value >= grouping["from"] else "")

    def plural(self, n: int) -> str:
        """Return the plural category of a count (CLDR)."""
        base = self.language.partition("-")[0]
        if base in {"ja", "ko", "zh"}:
            return "other"
        if base == "ar":
            return _arabic(n)
        if base == "pl" and n != 1:
            few = n % 10 in {2, 3, 4} and n % 100 not in {12, 13, 14}
            return "few" if few else "many"
        return "one" if n == 1 or (n == 0 and base in {"fr", "pt"}) else "other"

    def moment(self, at: int, now: int) -> Moment:
        """Say when an instant is, in ms, seen from another."""
        return Moment(rfc3339(at), self.relative(at - now), self.exact(at))

    def exact(self, at: int) -> str:
        """Say an instant to the minute, in UTC, since a server does not know where its reader is."""
        there = datetime.fromtimestamp(at / 1000, UTC)
        how = self._formats["dates"]
        values = {
            "year": str(there.year),
            "month": how["months"][there.month - 1],
            "day": f"{there.day:02}" if how["padDay"] else str(there.day),
            "hour": f"{there.hour:02}" if how["padHour"] else str(there.hour),
            "minute": f"{there.minute:02}",
        }
        return _PLACE.sub(lambda place: values[place[1]], how["pattern"]) + " UTC"

    def relative(self, ms: int) -> str:
        """Say how far away something is, as browsers do (`Intl.RelativeTimeFormat`, numeric: auto)."""
        seconds = abs(ms) / 1000
        unit, size = next((each for each in UNITS if seconds >= each[1]), ("", 1))
        if not unit:
            return self.text("justNow")
        count = round(seconds / size) if ms > 0 else -int(seconds // size)
        special = self._formats["special"].get(unit, {}).get(str(count))
        if special is not None:
            return str(special)
        forms = self._formats["future" if count > 0 else "past"][unit]
        pattern: str = forms.get(self.plural(abs(count))) or forms["other"]
        return pattern.replace("{n}", self.number(abs(count)))

    @cached_property
    def strings(self) -> str:
        """The attribute `strings` of the component, as JSON; empty: it is English by itself."""
        return "" if self.language == "en" else msgspec.json.encode(self._component).decode()


def _arabic(n: int) -> str:
    if n < 3:
        return ("zero", "one", "two")[n]
    rest = n % 100
    return "few" if 3 <= rest <= 10 else "many" if rest >= 11 else "other"


@cache
def words_of(language: str) -> Words:
    """Return the words of one of LANGUAGES."""
    catalog = msgspec.json.decode((CATALOGS / f"{language}.json").read_bytes())
    return Words(language, catalog, _formats()["languages"][language])


@cache
def _formats() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((CATALOGS / "formats.json").read_bytes())
    return found


ENGLISH = words_of("en")


def words_for(accept_language: str) -> Words:
    """Return the words that a browser asks for by its header Accept-Language (RFC 9110, 12.5.4); English
    where it asks for none that there is."""
    return words_of(_wanted(accept_language[:HEADER_MAX])) if accept_language else ENGLISH


def _wanted(header: str) -> str:
    ranges = []
    for number, part in enumerate(header.split(",")[:RANGES_MAX]):
        found = _RANGE.match(part)
        if found and (quality := float(found[2] or 1)) > 0:
            ranges.append((-quality, number, found[1]))
    return next(filter(None, (_known(tag) for *_, tag in sorted(ranges))), "en")


def _known(tag: str) -> str | None:
    """Return the language of ours that readers of another can read: the same one, in the same script."""
    base, *rest = tag.lower().split("-")
    if base == "zh" and any(each in TRADITIONAL for each in rest):
        return None
    return next((each for each in LANGUAGES if each.lower().partition("-")[0] == base), None)
