"""The operators' console, served: signing in by API key, and doctor's page.

No calls, so the OpenAPI document leaves them out. Every change comes by POST from a page of our own: what a
browser does not say to come from one is refused, since a cookie vouches for it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from sojourn.api.active_sessions import from_scope, header_of
from sojourn.api.call import admit_key
from sojourn.api.context import Context
from sojourn.api.doctor import ended
from sojourn.api.incoming import Incoming
from sojourn.api.limits import read_whole
from sojourn.api.pages import reply_of
from sojourn.api.proofs import PREFIX, Throttle, TooManyAttempts, subscriber
from sojourn.api.router import Route
from sojourn.api.streams import RunStream
from sojourn.clock import host_now
from sojourn.console import doctor, probe
from sojourn.console.frame import (
    CONSOLE,
    Notice,
    console_page,
    down_page,
    fragment,
    redirect,
    sign_in_page,
    signed_out,
)
from sojourn.console.render import asset_page
from sojourn.cookie import CookieOptions, cookie_values
from sojourn.devices import recognize
from sojourn.doctor.doctor import Examined
from sojourn.doctor.runs import Latest, Run
from sojourn.errors import InvalidInput, Overloaded, SojournError, StoreBroken, StoreError
from sojourn.finding import Verdict
from sojourn.log import get_logger
from sojourn.origin import is_elsewhere
from sojourn.people.calls import PersonRequest
from sojourn.people.pages import HtmlPage
from sojourn.service.keys import Permission
from sojourn.service.operators import FORGED, Operator, Operators, Reasons, is_cookie
from sojourn.session import Gone, Save
from sojourn.text import plain
from sojourn.wire.problems import refuse

T = TypeVar("T")

log = get_logger(__name__)

COOKIE = CookieOptions(name="sojourn-console", same_site="lax").validate()
FORM_MAX = 8_192  # bytes
FIELDS_MAX = 250
"""Fields of a form: one for each check that may be repaired, and a few."""
ATTEMPTS = 10
"""Sign-ins with a wrong key that may be tried at once from an address, and with keys that begin alike."""
ATTEMPT_EVERY = 6.0
"""Seconds until one more may be."""
BACK = "sign-in?back=1"
"""Where a sign-in leads: there, the cookie has come back, or it is said that it has not."""

Answer = HtmlPage | RunStream
Respond = Callable[["Visitor"], Awaitable[Answer]]


class Visitor(msgspec.Struct, frozen=True):
    """One request to the console.

    Attributes:
        partial: htmx asks, for pieces of a page that is open.
    """

    asked: PersonRequest
    form: dict[str, list[str]]
    agent: str
    partial: bool

    @property
    def cookies(self) -> list[str]:
        """What browsers send under our name: beside the live one, perhaps one of an older path."""
        name = COOKIE.sent_as(self.asked.origin.https)
        return list(cookie_values(self.asked.cookies, name))

    @property
    def cookie(self) -> str | None:
        return next(iter(self.cookies), None)

    def field(self, name: str) -> str:
        return self.form.get(name, [""])[0]

    def query(self, name: str) -> str:
        return parse_qs(self.asked.query).get(name, [""])[0]


class Console:
    """Answers requests for the console's pages."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        keys = [each.encode() for each in settings.secret] or [secrets.token_bytes(32)]
        self._context = context
        self._site = settings.site_name
        self._operators = Operators(context.services.keys, context.services.sessions, keys)
        self._cookies = context.proofs_of("console_cookie", self._good)
        self._reasons = Reasons()
        self._by_address = Throttle(ATTEMPTS, ATTEMPT_EVERY)
        self._by_prefix = Throttle(ATTEMPTS, ATTEMPT_EVERY)
        domain = settings.cookie_domain or None
        self._app_cookie = CookieOptions(name=settings.cookie_name, domain=domain)

    async def front(self, _: Visitor) -> Answer:
        return redirect("console/doctor")

    async def sign_in_form(self, visitor: Visitor) -> Answer:
        back = bool(visitor.query("back"))
        if visitor.cookie is None:
            return self._sign_in(_lost_cookie(visitor.asked)) if back else self._sign_in(None)
        found = await self._admit(visitor)
        if isinstance(found, Operator):
            return redirect("doctor")
        return found if isinstance(found, HtmlPage) else self._sign_in(signed_out(found))

    async def sign_in(self, visitor: Visitor) -> Answer:
        asked, presented = visitor.asked, visitor.field("key").strip()
        attempts = self._attempts(asked.origin.ip, presented)
        if wait := max(throttle.wait(who) for throttle, who in attempts):
            return self._too_many(wait)
        for throttle, who in attempts:
            throttle.count(who)
        device = recognize(visitor.agent)
        device = msgspec.structs.replace(
            device, ip=asked.origin.ip, user_agent=plain(visitor.agent)
        )
        try:
            sign_in = partial(self._operators.sign_in, before=visitor.cookie)
            key_hash = self._context.services.keys.recognize(presented)
            await admit_key(self._context, presented, key_hash, (asked.origin.ip, 0))
            done = await self._thread(sign_in, presented, device)
        except (StoreError, Overloaded) as fault:
            self._forgive(attempts)  # nothing was judged
            if isinstance(fault, TooManyAttempts):
                return self._too_many(fault.retry_after / 1_000)
            return self._down(fault)
        except SojournError as fault:
            return self._sign_in(_refused(fault), status=403 if fault.code == "forbidden" else 401)
        self._forgive(attempts)
        log.info("console_sign_in", key_id=done.operator.key.id, ip=asked.origin.ip)
        cookie = COOKIE.set(done.value, https=asked.origin.https, max_age=done.lifetime // 1_000)
        return redirect(BACK, cookie)

    def _attempts(self, ip: str | None, presented: str) -> list[tuple[Throttle, str]]:
        """Return by whom an attempt is counted: where it comes from, and how its key begins."""
        return [(self._by_address, subscriber(ip)), (self._by_prefix, presented[:PREFIX])]

    def _forgive(self, attempts: list[tuple[Throttle, str]]) -> None:
        for throttle, who in attempts:
            throttle.forgive(who)

    def _too_many(self, wait: float) -> HtmlPage:
        notice = Notice(
            verdict=Verdict.FAILURE,
            title="Too many keys were tried that are not right.",
            text=f"Wait {math.ceil(wait)} s, then try again.",
        )
        page = self._sign_in(notice, status=429)
        retry = ("Retry-After", str(math.ceil(wait)))
        return msgspec.structs.replace(page, headers=[*page.headers, retry])

    async def sign_out(self, visitor: Visitor) -> Answer:
        found = await self._admit(visitor) if visitor.cookie is not None else None
        if isinstance(found, HtmlPage):
            return found
        if isinstance(found, Operator):
            try:
                await self._thread(self._operators.sign_out, found)
            except (StoreError, Overloaded) as fault:
                return self._down(fault)
        return redirect("sign-in", COOKIE.clear(https=visitor.asked.origin.https))

    async def show(self, visitor: Visitor) -> Answer:
        found = await self._admit(visitor)
        if not isinstance(found, Operator):
            return self._turn_away(visitor, found)
        browser, cookies = await self._probed(visitor, found)
        if visitor.partial and browser is not None:
            again = self._context.rounds.again
            page = fragment("_browser.html", browser=browser, may_repair=False, again=again)
        else:
            page = self._page(found, browser=browser)
        return msgspec.structs.replace(page, headers=[*page.headers, *cookies])

    async def act(self, visitor: Visitor) -> Answer:
        found = await self._admit(visitor)
        if not isinstance(found, Operator):
            return self._turn_away(visitor, found)
        wish = visitor.field("do")
        if wish == "probe":
            return await self._probe(visitor, found)
        if wish == "look":
            return await self._follow(visitor, found, self._context.rounds.look())
        if wish != "repair":
            raise InvalidInput("do: look, repair or probe.")
        if not self._may_repair(found):
            notice = doctor.forbidden(found.key.role.value)
            return self._tell(visitor, found, notice, status=403)
        names = tuple(each for each in visitor.form.get("check", ()) if each)
        return await self._follow(
            visitor, found, self._context.rounds.mend(names, actor=found.actor)
        )

    async def banner(self, visitor: Visitor) -> Answer:
        found = await self._admit(visitor)
        if isinstance(found, Operator):
            notice = doctor.changed(self._context.rounds, visitor.query("seen"))
        elif isinstance(found, HtmlPage):
            notice = _DOWN
        else:
            notice = _again(found)
        return fragment("_banner.html", banner=notice)

    async def _follow(self, visitor: Visitor, operator: Operator, run: Run) -> Answer:
        may = self._may_repair(operator)
        if visitor.partial:
            return RunStream(doctor.Stream(self._context.rounds, run, may_repair=may), run)
        try:
            await ended(run)
        except SojournError as fault:
            if run.fault is None:  # it goes on; we only wait no longer
                return self._tell(visitor, operator, _slow(fault), status=503)
        return self._tell(visitor, operator, doctor.after(run))

    async def _probe(self, visitor: Visitor, operator: Operator) -> Answer:
        """Give the probing cookie, and note what is known now; the redirect shows the rest."""
        asked, session = visitor.asked, operator.session
        if session is None:
            notice = Notice(
                verdict=Verdict.SKIPPED,
                title="Not tried: sessions cannot be kept just now, and this takes one.",
                text="Repair the store first.",
            )
            return self._tell(visitor, operator, notice)
        sent = probe.Sent(
            nonce=secrets.token_hex(8),
            https=asked.origin.https,
            host=asked.host,
            sender=asked.sender,
        )
        save = Save(id=session.id, set={probe.KEY: msgspec.to_builtins(sent)})
        try:
            await self._thread(self._context.services.sessions.save, [save])
        except (StoreError, Overloaded) as fault:
            return self._tell(visitor, operator, _slow(fault), status=503)
        given = probe.probing(self._app_cookie)
        cookie = given.set(sent.nonce, https=sent.https, max_age=probe.LIFETIME)
        return redirect(f"doctor?probe={sent.nonce}", cookie)

    async def _probed(
        self, visitor: Visitor, operator: Operator
    ) -> tuple[doctor.FindingRow | None, list[tuple[str, str]]]:
        sent = probe.remembered(operator.session.data) if operator.session else None
        if sent is None or visitor.query("probe") != sent.nonce:
            return None, []
        finding = probe.judge(sent, visitor.asked.cookies, self._app_cookie)
        examined = Examined(check=probe.check(), finding=finding, milliseconds=0)
        now = host_now()
        shown = msgspec.structs.replace(
            doctor.row(examined.check, Latest(examined, now), now), took=""
        )
        return shown, [("Set-Cookie", probe.probing(self._app_cookie).clear(https=sent.https))]

    def _tell(
        self, visitor: Visitor, operator: Operator, notice: Notice, *, status: int = 200
    ) -> HtmlPage:
        if visitor.partial:
            return fragment("_notice.html", notice=notice, status=status)
        return self._page(operator, notice=notice, status=status)

    def _page(
        self,
        operator: Operator,
        *,
        notice: Notice | None = None,
        browser: doctor.FindingRow | None = None,
        status: int = 200,
    ) -> HtmlPage:
        rounds = self._context.rounds
        found = doctor.all_rows(rounds, host_now())
        return console_page(
            "doctor.html",
            site_name=self._site,
            operator=operator,
            here="doctor",
            status=status,
            seen=doctor.digest(rounds),
            summary=doctor.summary(found, rounds.looking),
            areas=doctor.by_area(found),
            problems=doctor.problems(found),
            counted=doctor.counted(found),
            again=rounds.again,
            notice=notice,
            browser=browser,
            may_repair=self._may_repair(operator),
        )

    def _may_repair(self, operator: Operator) -> bool:
        return self._context.services.keys.grants(operator.key, Permission.DOCTOR_REPAIR)

    async def _admit(self, visitor: Visitor) -> Operator | Gone | HtmlPage | None:
        """Say who asks; a page where that cannot be known; None where nothing says it."""
        found: Operator | Gone | None = None
        try:
            for cookie in visitor.cookies:
                admitted = await self._known(cookie, visitor.asked.origin.ip)
                if isinstance(admitted, Operator):
                    return admitted
                found = found or admitted
        except (StoreError, Overloaded) as fault:
            return await self._unknown(fault)
        return found

    async def _known(self, cookie: str, ip: str | None) -> Operator | Gone:
        """Look a cookie up; one that was never seen to be good beside other such ones, and no more."""
        if not is_cookie(cookie):
            return FORGED
        if not await self._cookies.admit(cookie, address=ip):
            return self._reasons.of(cookie)
        patience = self._context.settings.request_timeout
        found = await self._context.blocking.run(patience, self._operators.admit, cookie)
        if isinstance(found, Gone):
            self._cookies.forget(cookie)
        return found

    def _good(self, cookies: Sequence[str]) -> list[bool]:
        found = self._operators.admit_all(cookies)
        self._reasons.note(cookies, found)
        return [isinstance(each, Operator) for each in found]

    async def _unknown(self, fault: SojournError) -> HtmlPage:
        """Offer the way in that needs no sessions, if the ledger still knows keys."""
        if isinstance(fault, Overloaded):
            return self._down(fault)
        patience = self._context.settings.request_timeout
        try:
            await self._context.strangers.run(
                patience, self._context.services.keys.known_by_id, [""]
            )
        except (StoreError, Overloaded):
            return self._down(fault)
        notice = Notice(
            verdict=Verdict.WARNING,
            title="Sessions cannot be read just now, so you have to show your key again.",
            text=f"{_plainly(fault)} Doctor tells more once you are in.",
        )
        return self._sign_in(notice, status=503)

    def _turn_away(self, visitor: Visitor, found: Gone | HtmlPage | None) -> HtmlPage:
        if visitor.partial:
            notice = _DOWN if isinstance(found, HtmlPage) else _again(found)
            return fragment("_notice.html", notice=notice, status=503 if notice is _DOWN else 401)
        if isinstance(found, HtmlPage):
            return found
        return self._sign_in(signed_out(found), status=401)

    def _down(self, fault: SojournError) -> HtmlPage:
        broken = isinstance(fault, StoreBroken)
        title = "The store cannot be used" if broken else "The store does not answer"
        command = self._context.rounds.again("sojourn doctor")
        return down_page(self._site, title, _plainly(fault), command=command)

    def _sign_in(self, problem: Notice | None, *, status: int = 200) -> HtmlPage:
        return sign_in_page(self._site, problem=problem, status=status)

    async def _thread(self, work: Callable[..., T], *args: object) -> T:
        return await self._context.blocking.run(self._context.settings.request_timeout, work, *args)


def routes(context: Context) -> list[Route]:
    """Return the routes of the console."""
    console = Console(context)

    def route(method: str, path: str, respond: Respond) -> Route:
        async def endpoint(scope: Any, receive: Any) -> Any:
            try:
                return await _answer(context, scope, receive, respond)
            except SojournError as fault:
                return refuse(fault)

        return Route(method, CONSOLE + path, endpoint)

    async def asset(scope: Any, _receive: Any) -> Any:
        name = scope["path_params"]["name"]
        return reply_of(asset_page(name, header_of(scope)("accept-encoding")))

    async def front_door(_scope: Any, _receive: Any) -> Any:
        return reply_of(redirect(CONSOLE.lstrip("/")))

    return [
        Route("GET", "/", front_door),  # a person opens the address that `sojourn serve` prints
        route("GET", "", console.front),
        route("GET", "/sign-in", console.sign_in_form),
        route("POST", "/sign-in", console.sign_in),
        route("POST", "/sign-out", console.sign_out),
        route("GET", "/doctor", console.show),
        route("POST", "/doctor", console.act),
        route("GET", "/banner", console.banner),
        Route("GET", CONSOLE + "/assets/{name}", asset),
    ]


async def _answer(context: Context, scope: Any, receive: Any, respond: Respond) -> Any:
    asked, header = from_scope(scope), header_of(scope)
    form: dict[str, list[str]] = {}
    Incoming.of(scope, FORM_MAX)  # refused as every call that nobody would send so
    if asked.method == "POST":
        if not _from_here(asked):
            problem = Notice(
                verdict=Verdict.FAILURE,
                title="This came from a page of another site, so nothing was done.",
            )
            return reply_of(sign_in_page(context.settings.site_name, problem=problem, status=403))
        form = _fields(await read_whole(receive, FORM_MAX))
    visitor = Visitor(
        asked=asked,
        form=form,
        agent=header("user-agent"),
        partial=header("hx-request") == "true",
    )
    answer = await respond(visitor)
    return reply_of(answer) if isinstance(answer, HtmlPage) else answer


def _fields(body: bytes) -> dict[str, list[str]]:
    """Read a form. Raises InvalidInput if it has more than FIELDS_MAX fields."""
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidInput(
            f"A form has {FIELDS_MAX} fields at most.", code="body_too_large"
        ) from None


def _from_here(asked: PersonRequest) -> bool:
    """Tell whether a page of ours sends this. Unlike for people, a request that says nothing of where it
    comes from is none: nobody but a browser has business here."""
    said = bool(asked.site or asked.sender)
    return said and not is_elsewhere(host=asked.host, site=asked.site, sender=asked.sender)


def _refused(fault: SojournError) -> Notice:
    return Notice(verdict=Verdict.FAILURE, title=fault.message, text=fault.hint)


def _lost_cookie(asked: PersonRequest) -> Notice:
    """Say why a sign-in that succeeded led nowhere."""
    text = (
        "Behind a proxy that ends TLS, let it send X-Forwarded-Proto and name it in trusted_proxies. Else "
        "look whether this browser refuses cookies."
    )
    if asked.origin.https:
        text = "See whether this browser refuses cookies, or a proxy on the way changes Set-Cookie."
    return Notice(
        verdict=Verdict.FAILURE,
        title="Your key is right, but your browser did not send the cookie back.",
        text=text,
    )


def _again(gone: Gone | None) -> Notice:
    said = signed_out(gone)
    title = said.title if said is not None else "You are signed out."
    text = "What you see is as it was. Sign in again to go on."
    return Notice(verdict=Verdict.WARNING, title=title, text=text, link="sign-in", label="Sign in")


def _slow(fault: SojournError) -> Notice:
    return Notice(verdict=Verdict.FAILURE, title=fault.message, text=fault.hint)


def _plainly(fault: SojournError) -> str:
    return fault.message if fault.message.endswith(".") else f"{fault.message}."


_DOWN = Notice(
    verdict=Verdict.FAILURE,
    title="The store does not answer, so nobody can be recognized just now.",
    text="What you see is as it was. On the server’s own host, `sojourn doctor` needs no sign-in.",
)
