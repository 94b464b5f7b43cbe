"""The operators' console, served. No calls, so the OpenAPI document leaves its pages out."""

from __future__ import annotations

from typing import Any

from sojourn.api.active_sessions import header_of
from sojourn.api.console.doctor import DoctorPage
from sojourn.api.console.finding import FindPages
from sojourn.api.console.keeping import KeepingPages
from sojourn.api.console.lists import ListPages
from sojourn.api.console.security import SecurityPages
from sojourn.api.console.sessions import SessionPages
from sojourn.api.console.setup import SetUpPages
from sojourn.api.console.signing_in import SignIn
from sojourn.api.console.understanding import UnderstandingPages
from sojourn.api.console.visits import (
    COOKIE,
    ConsoleAnswer,
    Reception,
    Respond,
    Visitor,
    answer_visitor,
)
from sojourn.api.console.watching import WatchingPages
from sojourn.api.context import Context
from sojourn.api.pages import reply_of
from sojourn.api.router import Route
from sojourn.console.frame import CONSOLE, redirect
from sojourn.console.render import asset_page
from sojourn.errors import SojournError
from sojourn.wire.problems import refuse

__all__ = ["COOKIE", "routes"]


def routes(context: Context) -> list[Route]:
    """Return the routes of the console."""
    reception = Reception(context)
    signing_in = SignIn(context, reception)
    doctor = DoctorPage(context, reception)
    watching = WatchingPages(context, reception)
    lists = ListPages(context, reception)
    keeping = KeepingPages(context, reception)
    setup = SetUpPages(context, reception)
    sessions = SessionPages(context, reception)
    security = SecurityPages(context, reception)
    finding = FindPages(context, reception)
    understanding = UnderstandingPages(context, reception)

    def route(method: str, path: str, respond: Respond) -> Route:
        async def endpoint(scope: Any, receive: Any) -> Any:
            try:
                return await answer_visitor(context, scope, receive, respond)
            except SojournError as fault:
                return refuse(fault)

        return Route(method, CONSOLE + path, endpoint)

    async def asset(scope: Any, _receive: Any) -> Any:
        name = scope["path_params"]["name"]
        return reply_of(asset_page(name, header_of(scope)("accept-encoding")))

    async def front_door(_scope: Any, _receive: Any) -> Any:
        return reply_of(redirect(CONSOLE.lstrip("/")))

    async def front(_: Visitor) -> ConsoleAnswer:
        return redirect("console/overview")

    return [
        Route("GET", "/", front_door),  # a person opens the address that `sojourn serve` prints
        route("GET", "", front),
        route("GET", "/sign-in", signing_in.form),
        route("POST", "/sign-in", signing_in.sign_in),
        route("POST", "/sign-out", signing_in.sign_out),
        route("GET", "/doctor", doctor.show),
        route("POST", "/doctor", doctor.act),
        route("GET", "/banner", doctor.banner),
        route("GET", "/overview", watching.overview),
        route("GET", "/seats", watching.seats),
        route("POST", "/seats", watching.free),
        route("GET", "/people", watching.people),
        route("POST", "/people", watching.help_person),
        route("GET", "/denials", watching.denials),
        route("GET", "/analytics", understanding.analytics),
        route("GET", "/analytics.csv", understanding.export),
        route("GET", "/audit", watching.audit),
        route("GET", "/security", security.security),
        route("POST", "/security", security.act),
        route("GET", "/find", finding.find),
        route("GET", "/sessions", sessions.sessions),
        route("POST", "/sessions", sessions.act),
        route("GET", "/licenses", setup.licenses),
        route("POST", "/licenses", setup.change),
        route("GET", "/settings", setup.settings),
        route("GET", "/keys", lists.keys),
        route("GET", "/nodes", lists.nodes),
        route("GET", "/sweeps", keeping.sweeps),
        route("POST", "/sweeps", keeping.act),
        route("GET", "/webhooks", keeping.webhooks),
        Route("GET", CONSOLE + "/assets/{name}", asset),
    ]
