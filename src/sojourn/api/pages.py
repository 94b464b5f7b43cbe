"""The pages that a server shows to people: no calls, so the OpenAPI document leaves them out."""

from __future__ import annotations

from typing import Any

from sojourn.api.active_sessions import from_scope, header_of, on_threads
from sojourn.api.context import Context
from sojourn.api.limits import read_whole
from sojourn.api.router import Route
from sojourn.errors import Overloaded, StoreError
from sojourn.people.account import AccountPages
from sojourn.people.calls import BODY_MAX
from sojourn.people.pages import ASSETS_PATH, SECURITY_PATH, HtmlPage, Look, asset_page
from sojourn.wire.problems import answer_problem, problem
from sojourn.wire.reply import Reply


def routes(context: Context) -> list[Route]:
    """Return the routes of the pages and of what they are made of. Raises SettingsError."""
    settings = context.settings
    look = Look(
        site_name=settings.site_name,
        sign_in_url=settings.sign_in_url,
        change_password_url=settings.change_password_url,
    )
    pages = AccountPages(context.people, look)

    async def security(scope: Any, receive: Any) -> Reply:
        posted = scope["method"] == "POST"
        asked = from_scope(scope, await read_whole(receive, BODY_MAX) if posted else b"")
        try:
            found = await on_threads(context, asked, scope, pages.page, asked)
        except (StoreError, Overloaded) as fault:  # it takes too long
            context.people.note(fault)
            found = pages.security.trouble(asked, SECURITY_PATH, fault)
        return reply_of(found)

    async def asset(scope: Any, _receive: Any) -> Reply:
        name, header = scope["path_params"]["name"], header_of(scope)
        found = asset_page(name, header("accept-encoding"))
        return reply_of(pages.lent(found, name, header("origin")))

    return [
        Route("GET", SECURITY_PATH, security),
        Route("POST", SECURITY_PATH, security),
        Route("GET", ASSETS_PATH + "{name}", asset),
    ]


def reply_of(page: HtmlPage | None) -> Reply:
    """Answer with a page; where there is none, with the problem that nothing is there."""
    if page is None:
        return answer_problem(problem("not_found", "There is nothing at this path."))
    headers = [(name.lower().encode(), value.encode()) for name, value in page.headers]
    return Reply(page.status, headers, page.body)
