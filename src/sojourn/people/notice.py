"""A page that stands alone: one card with a heading and a few words, which needs no other file, since it
is shown where nothing else can be counted on.

Its style is its own, and the policy it is sent with allows that one style, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from typing import Literal

STYLE = """
:root { color-scheme: light dark; --accent: light-dark(#0b6e6e, #5fd0c9); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px;
  font: 400 16px/24px Inter, ui-sans-serif, system-ui, sans-serif;
  color: light-dark(#12161c, #eef1f5); background: light-dark(#f7f8fa, #0f1318); }
main { width: 100%; max-width: 480px; padding: 40px 32px; text-align: center; border-radius: 12px;
  background: light-dark(#ffffff, #171c23); border: 1px solid light-dark(#e3e7ee, #2a323d); }
svg { width: 48px; height: 48px; padding: 12px; border-radius: 12px; fill: none; stroke: var(--accent);
  stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round;
  background: light-dark(#e2f3f2, #11312f); }
h1 { margin: 16px 0 8px; font-size: 20px; line-height: 28px; font-weight: 650; }
p { margin: 0; color: light-dark(#57606f, #a3adbb); text-wrap: balance; }
a { display: inline-flex; align-items: center; min-height: 44px; margin-top: 24px; padding: 8px 20px;
  border-radius: 8px; font-weight: 500; text-decoration: none; background: var(--accent);
  color: light-dark(#ffffff, #171c23); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        (
            f"default-src 'none'; style-src 'sha256-{HASH}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
]
ICONS = {  # Lucide (ISC)
    "lost": '<circle cx="12" cy="12" r="10"/><path d="m16.24 7.76-1.804 5.411a2 2 0 0 1-1.265 1.265L7.76'
    ' 16.24l1.804-5.411a2 2 0 0 1 1.265-1.265z"/>',
    "lock": '<rect width="18" height="11" x="3" y="11" rx="2"/><path d="M7 11V7a5 5 0 0 1 10 0v4"/>',
    "wait": '<path d="M5 22h14M5 2h14M17 22v-4.172a2 2 0 0 0-.586-1.414L12 12l-4.414 4.414A2 2 0 0 0 7 '
    '17.828V22M7 2v4.172a2 2 0 0 0 .586 1.414L12 12l4.414-4.414A2 2 0 0 0 17 6.172V2"/>',
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title><style>{style}</style></head>
<body><main><svg viewBox="0 0 24 24" aria-hidden="true">{icon}</svg>
<h1>{title}</h1>
<p>{words}</p>{retry}</main></body>
</html>
"""
HOME = '\n<a href="{}">Go to the start page</a>\n'
RETRY = '\n<a href="">Try again</a>\n'  # the same address again


def notice(
    title: str,
    words: str,
    *,
    icon: Literal["lock", "wait", "lost"],
    retry: bool = False,
    home: str = "",
) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers that such a page needs, and its body. Words become text, whatever they hold.
    `home`: a way to the start page."""
    page = PAGE.format(
        title=html.escape(title),
        words=html.escape(words),
        icon=ICONS[icon],
        style=STYLE,
        retry=RETRY if retry else HOME.format(html.escape(home)) if home else "",
    )
    return HEADERS, page.encode()
