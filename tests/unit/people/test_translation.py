"""Catalogs: complete, in the plurals of their languages, and said as browsers say them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.typescript.toolchain import ROOT, node, run

from sojourn.people.translation import (
    CATALOGS,
    HEADER_MAX,
    LANGUAGES,
    Words,
    words_for,
    words_of,
)

FORMATS = ROOT / "clients" / "active-sessions" / "formats.mjs"
PLURALS: dict[str, set[str]] = {
    "pl": {"one", "few", "many", "other"},
    "ar": {"one", "two", "few", "many", "other"},
    "ja": set(),
    "ko": set(),
    "zh-Hans": set(),
}
SAID_BY_ITSELF = {"one", "two"}
"""Plurals whose words can stand for the number: "its seat", and the dual of Arabic."""
PLACE = re.compile(r"{\w+}")
SAME_IN_MANY = {"Details", "Name", "{n} session", "{n} sessions"}
NAME = "\u05de\u05db\u05e9\u05d9\u05e8"  # a device in Hebrew
AT = 1_764_000_000_000


def catalog(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CATALOGS / f"{language}.json").read_text())
    return found


def sentences(said: Any, name: str = "") -> dict[str, Any]:
    """List the sentences of a catalog by name; those with plurals as they are."""
    if isinstance(said, dict) and "other" not in said:
        return {
            k: v
            for each, value in said.items()
            for k, v in sentences(value, f"{name}.{each}").items()
        }
    return {name: said}


def forms_by_kind(said: Any) -> dict[str, str]:
    return said if isinstance(said, dict) else {"": said}


def forms(said: Any) -> list[str]:
    return list(forms_by_kind(said).values())


def places(text: str) -> set[str]:
    return set(PLACE.findall(text))


def test_each_language_has_a_catalog() -> None:
    assert {path.stem for path in CATALOGS.iterdir()} == {*LANGUAGES, "formats"}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_catalog_is_complete(language: str) -> None:
    english, theirs = sentences(catalog("en")), sentences(catalog(language))
    assert theirs.keys() == english.keys()
    for name, said in theirs.items():
        wanted = places(forms(english[name])[-1])
        for kind, form in forms_by_kind(said).items():
            allowed = [wanted, wanted - {"{n}"}] if kind in SAID_BY_ITSELF else [wanted]
            assert places(form) in allowed, (name, form)
            assert re.search(r"[{}]", PLACE.sub("", form)) is None, (name, form)
            assert form not in forms(english[name]) or form in SAME_IN_MANY, (name, form)
        if isinstance(english[name], dict):
            kinds = set(said) if isinstance(said, dict) else set()
            assert kinds == PLURALS.get(language, {"one", "other"}), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_marks_stay_with_their_words(language: str) -> None:
    """No line begins with a mark: where a language sets a space before one, it is one that does not break."""
    for name, said in sentences(catalog(language)).items():
        for form in forms(said):
            assert re.search(r"(^|\s)\s|\s$| [?!;:\u2026]", form) is None, (name, form)


SAID = """
const [language, counts, spans, at] = JSON.parse(process.argv[1]);
const plural = new Intl.PluralRules(language);
const number = new Intl.NumberFormat(language);
const time = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const date = { dateStyle: "medium", timeStyle: "short", hourCycle: "h23", timeZone: "UTC" };
const day = (m) => new Intl.DateTimeFormat(language, date).format(at + m * 2629800000);
console.log(JSON.stringify({
  cldr: process.versions.cldr,
  plurals: counts.map((n) => plural.select(n)),
  numbers: counts.map((n) => number.format(n)),
  times: spans.map(([n, unit]) => time.format(n, unit)),
  dates: [...Array(12).keys()].map(day),
}));
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_is_said_as_browsers_say_it(language: str) -> None:
    """Plurals always; what CLDR words anew each year, if this Node has that year's."""
    units = {"month": 2_629_800, "day": 86_400, "hour": 3_600, "minute": 60}
    counts = [*range(130), 999, 1_000, 1_234, 10_000, 123_456]
    spans = [(n, unit) for unit in units for n in (-11, -3, -2, -1, 1, 2, 3, 5, 20)]
    asked = json.dumps([language, counts, spans, AT])
    said = json.loads(run(node("-e", SAID, asked), ROOT))
    words = words_of(language)
    assert [words.plural(n) for n in counts] == said["plurals"]
    made = json.loads((CATALOGS / "formats.json").read_text())
    if said["cldr"] != made["cldr"]:
        return
    assert [words.number(n) for n in counts] == said["numbers"]
    if language != "en":  # whose times are those of before
        assert [words.relative(n * units[unit] * 1000) for n, unit in spans] == said["times"]
    marks = re.compile("[\u200e\u200f]")
    dates = [words.exact(AT + m * 2_629_800_000).removesuffix(" UTC") for m in range(12)]
    assert dates == [marks.sub("", each) for each in said["dates"]]
    assert json.loads(run(node(str(FORMATS)), ROOT)) == made


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("en;q=0.5, pl", "pl"),
        ("sv, fr;q=0.7, es;q=0.9", "es"),
        ("pt-PT", "pt-BR"),
        ("zh-CN", "zh-Hans"),
        ("zh-SG;q=0.3", "zh-Hans"),
        ("zh-TW, zh-Hant;q=0.9, ja;q=0.5", "ja"),
        ("AR-eg", "ar"),
        ("de;q=0, nl", "nl"),
        ("*", "en"),
        ("de;q=2", "en"),
        ("de" + "," * 5_000, "de"),
        (" " * HEADER_MAX + "de", "en"),
        ("\x00;q=1, <script>, it", "it"),
    ],
)
def test_the_language_that_is_asked_for(header: str, language: str) -> None:
    assert words_for(header).language == language


def test_texts_of_others_keep_to_themselves() -> None:
    """A name in another direction of writing turns nothing around it; a sentence that lacks is English."""
    words = words_of("ar")
    assert f"\u2068{NAME}\u2069" in words.text("ask", device=NAME)
    bare = Words(
        "de",
        {"page": {}, "component": {}},
        json.loads((CATALOGS / "formats.json").read_text())["languages"]["de"],
    )
    assert bare.text("signOut") == "Sign out"
