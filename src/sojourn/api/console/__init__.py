"""The operators' console, served. No calls, so the OpenAPI document leaves its pages out."""

from __future__ import annotations

from typing import Any

from sojourn.api.active_sessions import header_of
from sojourn.api.console.doctor import DoctorPage
from sojourn.api.console.finding import FindPages
from sojourn.api.console.keeping import KeepingPages
from sojourn.api.console.keys import KeysPages
from sojourn.api.console.nodes import NodesPages
from sojourn.api.console.overview import OverviewPages
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
from sojourn.api.console.webhooks import WebhookPages
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
    overview = OverviewPages(context, reception)
    watching = WatchingPages(context, reception)
    keys = KeysPages(context, reception)
    nodes = NodesPages(context, reception)
    keeping = KeepingPages(context, reception)
    webhooks = WebhookPages(context, reception)
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

    return [
        Route("GET", "/", _front_door),  # a person opens the address that `sojourn serve` prints
        route("GET", "", _front),
        route("GET", "/sign-in", signing_in.form),
        route("POST", "/sign-in", signing_in.sign_in),
        route("POST", "/sign-out", signing_in.sign_out),
        route("GET", "/doctor", doctor.show),
        route("POST", "/doctor", doctor.act),
        route("GET", "/banner", doctor.banner),
        route("GET", "/overview", overview.overview),
        route("GET", "/feed", overview.feed),
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
        route("GET", "/keys", keys.keys),
        route("POST", "/keys", keys.act),
        route("GET", "/nodes", nodes.nodes),
        route("GET", "/sweeps", keeping.sweeps),
        route("POST", "/sweeps", keeping.act),
        route("GET", "/webhooks", webhooks.webhooks),
        route("POST", "/webhooks", webhooks.act),
        Route("GET", CONSOLE + "/assets/{name}", _asset),
    ]


async def _asset(scope: Any, _receive: Any) -> Any:
    name = scope["path_params"]["name"]
    return reply_of(asset_page(name, header_of(scope)("accept-encoding")))


async def _front_door(_scope: Any, _receive: Any) -> Any:
    return reply_of(redirect(CONSOLE.lstrip("/")))


async def _front(_: Visitor) -> ConsoleAnswer:
    return redirect("console/overview")
