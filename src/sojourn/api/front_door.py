"""What a person meets who opens an address of the server: pages instead of problem documents, one spelling of
each path, an icon, the reference of the API at `/docs`, and at `/problems` what its refusals mean.

Machines are answered as ever: a page is for whoever asks for HTML before JSON, and only reads.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import msgspec

from sojourn.api.context import Context
from sojourn.api.pages import reply_of
from sojourn.api.router import Route
from sojourn.console.frame import CONSOLE
from sojourn.console.problems import problems_page
from sojourn.console.reference import reference_page
from sojourn.console.render import ASSETS
from sojourn.people.notice import notice
from sojourn.people.pages import HtmlPage
from sojourn.wire.reply import Reply

HTML, JSON = "text/html", "application/json"
ACCEPT_MAX = 1_000
"""Characters of an Accept header that are read."""
READS = ("GET", "HEAD")


def wants_page(scope: Any) -> bool:
    """Tell whether a request comes from a browser that shows what is answered (RFC 9110, 12.5.1)."""
    if scope["method"] not in READS:
        return False
    said = b",".join(value for name, value in scope["headers"] if name == b"accept")
    kinds = [
        each.partition(";")[0].strip() for each in said[:ACCEPT_MAX].decode("latin-1").split(",")
    ]
    return HTML in kinds and (JSON not in kinds or kinds.index(HTML) < kinds.index(JSON))


def for_people(scope: Any, answer: Any) -> Any:
    """Return a problem as a page, where a person is to read it; anything else as it is."""
    if not isinstance(answer, Reply) or not answer.code or not wants_page(scope):
        return answer
    if not answer.body:  # nobody is there to read it: see `UNHEARD`
        return answer
    said = msgspec.json.decode(answer.body)
    words = " ".join(str(said.get(name, "")) for name in ("error", "details")).strip()
    home = "../" * max(0, scope["path"].count("/") - 1) or "./"
    headers, body = notice(said["title"], words, icon="lost", home=home)
    own = [(name.lower().encode(), value.encode()) for name, value in headers]
    named = {name for name, _ in own} | {b"content-type"}
    kept = [(name, value) for name, value in answer.own if name not in named]
    return Reply(answer.status, [*own, *kept, (b"vary", b"Accept")], body, answer.code)


def routes(context: Context, described: Any) -> list[Route]:
    """Return the routes of the front door. `described`: makes the OpenAPI document, as JSON."""

    @cache
    def reference() -> HtmlPage:
        return reference_page(context.settings.site_name, described())

    async def docs(_scope: Any, _receive: Any) -> Any:
        run = context.strangers.run
        return reply_of(await run(context.settings.request_timeout, reference))

    async def meant(scope: Any, _receive: Any) -> Any:
        code = scope["path_params"].get("code")
        run = context.strangers.run
        said = partial(problems_page, context.settings.site_name, code)
        return reply_of(await run(context.settings.request_timeout, said))

    async def favicon(_scope: Any, _receive: Any) -> Any:
        to = f"{CONSOLE.lstrip('/')}/assets/{ASSETS.asset('icon.svg').name}"
        return Reply(307, [(b"location", to.encode()), (b"cache-control", b"max-age=86400")], b"")

    return [
        Route("GET", "/docs", docs),
        Route("GET", "/problems", meant),
        Route("GET", "/problems/{code}", meant),
        Route("GET", "/favicon.ico", favicon),
    ]
