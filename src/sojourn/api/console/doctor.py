"""Doctor's page: what was found, repairs, and what the browser itself shows of cookies."""

from __future__ import annotations

import secrets

import msgspec

from sojourn.api.console.visits import DOWN, ConsoleAnswer, Reception, Visitor, again, too_slow
from sojourn.api.context import Context
from sojourn.api.doctor import ended
from sojourn.api.streams import RunStream
from sojourn.clock import host_now
from sojourn.console import doctor, probe
from sojourn.console.frame import Notice, console_page, fragment, redirect
from sojourn.cookie import CookieOptions
from sojourn.doctor.doctor import Examined
from sojourn.doctor.runs import Latest, Run
from sojourn.errors import InvalidInput, Overloaded, SojournError, StoreError
from sojourn.finding import Verdict
from sojourn.people.pages import HtmlPage
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator
from sojourn.session import Save


class DoctorPage:
    def __init__(self, context: Context, reception: Reception) -> None:
        settings = context.settings
        self._context = context
        self._reception = reception
        domain = settings.cookie_domain or None
        self._app_cookie = CookieOptions(name=settings.cookie_name, domain=domain)

    async def show(self, visitor: Visitor) -> ConsoleAnswer:
        found = await self._reception.admit(visitor)
        if not isinstance(found, Operator):
            return self._reception.turn_away(visitor, found)
        browser, cookies = await self._probed(visitor, found)
        if visitor.partial and browser is not None:
            again = self._context.rounds.again
            page = fragment("_browser.html", browser=browser, may_repair=False, again=again)
        else:
            page = self._page(found, browser=browser)
        return msgspec.structs.replace(page, headers=[*page.headers, *cookies])

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        found = await self._reception.admit(visitor)
        if not isinstance(found, Operator):
            return self._reception.turn_away(visitor, found)
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

    async def banner(self, visitor: Visitor) -> ConsoleAnswer:
        found = await self._reception.admit(visitor)
        if isinstance(found, Operator):
            notice = doctor.changed(self._context.rounds, visitor.query("seen"))
        elif isinstance(found, HtmlPage):
            notice = DOWN
        else:
            notice = again(found)
        return fragment("_banner.html", banner=notice)

    async def _follow(self, visitor: Visitor, operator: Operator, run: Run) -> ConsoleAnswer:
        may = self._may_repair(operator)
        if visitor.partial:
            return RunStream(doctor.Stream(self._context.rounds, run, may_repair=may), run)
        try:
            await ended(run)
        except SojournError as fault:
            if run.fault is None:  # it goes on; we only wait no longer
                return self._tell(visitor, operator, too_slow(fault), status=503)
        return self._tell(visitor, operator, doctor.after(run))

    async def _probe(self, visitor: Visitor, operator: Operator) -> ConsoleAnswer:
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
            await self._reception.thread(self._context.services.sessions.save, [save])
        except (StoreError, Overloaded) as fault:
            return self._tell(visitor, operator, too_slow(fault), status=503)
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
            site_name=self._reception.site,
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
            counts=self._reception.counts.known(),
            browser=browser,
            may_repair=self._may_repair(operator),
        )

    def _may_repair(self, operator: Operator) -> bool:
        return self._context.services.keys.grants(operator.key, Permission.DOCTOR_REPAIR)
