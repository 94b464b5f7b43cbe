"""A page as other languages would have it: words longer by half, and everything from right to left."""

from __future__ import annotations

from playwright.sync_api import Page

LONGER = """() => {
  const kept = "script, style, template, code, pre, kbd, bdi, time, select, svg";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const words = (text) => text.replace(/[A-Za-z]{2,}/g, (word) =>
    word.replace(/[aeiou]/gi, (letter) => letter + "\\u0301") + word.slice(0, Math.ceil(word.length / 2)));
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) if (!node.parentElement.closest(kept)) node.data = words(node.data);
}"""

WRONG = """() => {
  const found = [], root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.querySelectorAll("main *")].filter((each) => {
      const box = each.getBoundingClientRect();
      const out = box.right > root.clientWidth + 1 || box.left < -1;
      return out && box.width && !each.closest(".scroll, .aloud");
    });
    found.push("sticks out: " + (wide.at(-1)?.outerHTML.slice(0, 160) ?? "something"));
  }
  for (const each of document.querySelectorAll(".button, .tag, .segments a, th, dt, label")) {
    if (each.closest(".aloud") || each.matches(".aloud") || !each.clientWidth) continue;
    if (each.scrollWidth > each.clientWidth + 2) found.push("is cut off: " + each.outerHTML.slice(0, 160));
  }
  return found;
}"""

TURNED = """() => {
  // Ids, addresses and commands read from left to right, whatever stands around them.
  const found = [], told = /(?:key|lic|ses|lse|whk|srv)_[0-9A-Za-z]+|https?:\\/\\/\\S+|--[a-z-]+/g;
  const range = document.createRange();
  const at = (node, index) => {
    range.setStart(node, index);
    range.setEnd(node, index + 1);
    return range.getBoundingClientRect();
  };
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, whole = node.parentElement.closest("code, pre");
    if (!node.parentElement.checkVisibility() || node.parentElement.closest(".aloud")) continue;
    const parts = whole ? [[0, node.data.trimEnd().length - 1]] :
      [...node.data.matchAll(told)].map((each) => [each.index, each.index + each[0].length - 1]);
    for (const [first, last] of parts) {
      if (last <= first) continue;
      const begins = at(node, first), ends = at(node, last);
      if (Math.abs(begins.top - ends.top) < 2 && begins.left >= ends.left) {
        found.push(`${node.data.slice(first, last + 1)} in ${node.parentElement.outerHTML.slice(0, 120)}`);
      }
    }
  }
  return found;
}"""


def lengthened(page: Page) -> list[str]:
    """Make the words of a page longer by half; return what does not fit then."""
    page.evaluate(LONGER)
    return list(page.evaluate(WRONG))


def turned(page: Page) -> list[str]:
    """Turn a page from right to left; return what does not fit, or is written backwards, then."""
    page.evaluate("document.documentElement.dir = 'rtl'")
    return [*page.evaluate(WRONG), *page.evaluate(TURNED)]
