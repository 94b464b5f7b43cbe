"""The pages that a server shows to people: no calls, so the OpenAPI document leaves them out."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from sojourn.api.active_sessions import asked_by, on_threads
from sojourn.api.context import Context
from sojourn.errors import Overloaded, StoreError
from sojourn.people.account import AccountPages
from sojourn.people.pages import ASSETS_PATH, SECURITY_PATH, Look, Page, asset_page
from sojourn.wire.problems import answer_problem, problem
from sojourn.wire.reply import Reply


def handlers(context: Context) -> list[HTTPRouteHandler]:
    """Return the routes of the pages and of what they are made of. Raises SettingsError."""
    settings = context.settings
    look = Look(site_name=settings.site_name, sign_in_url=settings.sign_in_url)
    pages = AccountPages(context.people, look)

    async def security(request: Request[Any, Any, Any]) -> ASGIApp:
        asked = asked_by(request.scope)  # type: ignore[arg-type]  # a TypedDict is a mapping
        try:
            found = await on_threads(context, asked, request.scope, pages.page, asked)  # type: ignore[arg-type]  # a TypedDict is a mapping
        except (StoreError, Overloaded) as fault:  # it takes too long
            context.people.note(fault)
            found = pages.security.trouble(asked, SECURITY_PATH, fault)
        return reply_of(found)

    async def asset(request: Request[Any, Any, Any]) -> ASGIApp:
        name = request.path_params["name"]
        found = asset_page(name, request.headers.get("accept-encoding", ""))
        return reply_of(pages.lent(found, name, request.headers.get("origin", "")))

    return [
        HTTPRouteHandler(SECURITY_PATH, http_method=["GET", "POST"], name="security_page")(
            security
        ),
        HTTPRouteHandler(ASSETS_PATH + "{name:str}", http_method="GET", name="asset")(asset),
    ]


def reply_of(page: Page | None) -> Reply:
    """Answer with a page; where there is none, with the problem that nothing is there."""
    if page is None:
        return answer_problem(problem("not_found", "There is nothing at this path."))
    headers = [(name.lower().encode(), value.encode()) for name, value in page.headers]
    return Reply(page.status, headers, page.body)
