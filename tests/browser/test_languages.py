"""The page and its component in other languages: nothing is left in English, and nothing is cut off."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect
from tests.browser.chromium import axe_looks
from tests.browser.conftest import Stages
from tests.browser.pseudo import OPEN, PseudoWords
from tests.browser.stage import API, Stage, refuse, session
from tests.browser.test_behavior import embed

from sojourn.people.translation import LANGUAGES, words_of

TEXTS = """() => {
  const found = [];
  const walk = (node) => {
    if (node.nodeType === 3 && node.textContent.trim()) found.push(node.textContent.trim());
    const data = 'script, style, .vh, .brand, bdi, time, title';
    if (node.nodeType === 1 && (node.matches(data) || !node.checkVisibility())) return;
    for (const each of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) walk(each);
    if (node.ariaLabel) found.push(node.ariaLabel);
  };
  walk(document.body);
  return found;
}"""
"""All that can be read, but names, places and instants."""


def untranslated(stage: Stage) -> list[str]:
    texts: list[str] = stage.page.evaluate(TEXTS)
    assert texts
    return [text for text in texts if OPEN not in text and re.search(r"[A-Za-z]", text)]


def cut_off(stage: Stage) -> list[str]:
    """Name the buttons that are wider than what they stand in."""
    code = """e => [...e.shadowRoot.querySelectorAll('button')].filter(x => x.checkVisibility()
      && x.getBoundingClientRect().right > e.getBoundingClientRect().right + 1).map(x => x.textContent)"""
    found: list[str] = stage.part.evaluate(code)
    return found


@pytest.mark.parametrize("width", [1280, 390])
def test_a_language_that_nobody_speaks(stages: Stages, width: int) -> None:
    """In each state all is said in it, and all of it can be seen."""
    many = [session(n, seats=n % 2) for n in range(60)]
    stage = stages([*many, session(61, "Another", name="Mine")], width=width, words=PseudoWords())
    stage.server.can_rename = True
    stage.open()
    expect(stage.part).to_contain_text(OPEN)
    expect(stage.rows().first).to_be_visible()
    assert untranslated(stage) == []
    stage.part.locator("[part~=others]").click()
    assert untranslated(stage) == []
    assert (stage.overflows(), cut_off(stage)) == (False, [])
    stage.part.locator("[part~=cancel]").click()

    def down(route: Route) -> None:
        refuse(route, 503, "store_unavailable", "The store cannot be reached.", retry_after=60)

    stage.server.instead = down
    stage.part.evaluate("e => e.refresh()")
    expect(stage.part.locator("[part=notice]")).to_be_visible()
    assert untranslated(stage) == []
    assert (stage.overflows(), cut_off(stage)) == (False, [])


def test_a_page_that_is_not_for_strangers(stages: Stages) -> None:
    stage = stages(words=PseudoWords())
    stage.signed_in = False
    stage.open()
    assert untranslated(stage) == []


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_each_language(stages: Stages, language: str) -> None:
    """Words, numbers and direction belong to one language."""
    words = words_of(language)
    stage = stages([session(n) for n in range(12_345 if language == "de" else 3)], words=words)
    stage.open()
    expect(stage.part.locator("[part=title]")).to_have_text(words.text("title"))
    expect(stage.page.locator("h1")).to_have_text(words.text("account"))
    total = 12_345 if language == "de" else 3
    expect(stage.part.locator("[part=summary]")).to_contain_text(words.text("count", n=total))
    assert stage.part.evaluate("e => getComputedStyle(e).direction") == words.direction
    assert stage.page.evaluate("document.documentElement.lang") == language


def test_right_to_left(stages: Stages) -> None:
    """All stands on the other side, down to the narrow screen."""
    for width, theme in sorted(axe_looks()):
        stage = stages(words=words_of("ar"), width=width, theme=theme)
        stage.open()
        expect(stage.rows()).to_have_count(3)
        row = "e => e.querySelector('.icon').getBoundingClientRect().x"
        end = "e => e.querySelector('[part~=end]').getBoundingClientRect().x"
        first = stage.part.locator("[part=row]").first
        assert first.evaluate(row) > first.evaluate(end)
        # Dots stand between texts, and not within those that are written from left to right.
        dots = """e => [e, e.parentElement].map(x => getComputedStyle(x, '::before').content)"""
        assert first.locator("[part=ip]").evaluate(dots) == ["none", '" · "']
        # The second line of a long name stands where the first one does.
        align = "e => getComputedStyle(e).textAlign"
        assert first.locator("[part=device]").evaluate(align) == "right"
        assert (stage.overflows(), cut_off(stage), stage.violations()) == (False, [], [])


def test_a_page_of_others_says_what_it_has_loaded(stages: Stages) -> None:
    """The component speaks the language of where it stands, if a module of it was loaded, then or later."""
    stage = stages()
    embed(stage, f'<div lang=de-AT><sojourn-active-sessions src="{API}"></div>')
    page = stage.page
    page.evaluate("import('/component.js').then((its) => { window.translate = its.translate; })")
    title = stage.part.locator("[part=title]")
    panel = stage.part.locator("[part=panel]")
    expect(title).to_have_text("Where you’re signed in")
    for language, tag in (("de", "de-AT"), ("zh-Hans", "zh-CN"), ("ar", "ar"), ("pt-BR", "pt-PT")):
        words = words_of(language)
        page.evaluate(f"document.querySelector('div').lang = '{tag}'")
        page.evaluate(f"translate('{language}', {words.strings})")
        expect(title).to_have_text(words.text("title"))
        expect(panel).to_have_attribute("lang", language)
        expect(panel).to_have_attribute("dir", words.direction)
        expect(stage.part.locator("[part=summary]")).to_contain_text(words.text("count", n=3))
    page.evaluate("document.querySelector('div').lang = 'zh-TW'")
    page.evaluate("translate('de', {})")
    expect(title).to_have_text("Where you’re signed in")
