"""Signing in to the console by API key, and out again."""

from __future__ import annotations

import math
from functools import partial

import msgspec

from sojourn.api.call import admit_key
from sojourn.api.console.visits import COOKIE, ConsoleAnswer, Reception, Visitor
from sojourn.api.context import Context
from sojourn.api.proofs import PREFIX, Throttle, TooManyAttempts, subscriber
from sojourn.console.frame import Notice, redirect, signed_out
from sojourn.devices import recognize
from sojourn.errors import Overloaded, SojournError, StoreError
from sojourn.finding import Verdict
from sojourn.log import get_logger
from sojourn.people.calls import PersonRequest
from sojourn.people.pages import HtmlPage
from sojourn.service.operators import Operator
from sojourn.text import plain

log = get_logger(__name__)

ATTEMPTS = 10
"""Sign-ins with a wrong key that may be tried at once from an address, and with keys that begin alike."""
ATTEMPT_EVERY = 6.0
"""Seconds until one more may be."""
BACK = "sign-in?back=1"
"""Where a sign-in leads: there, the cookie has come back, or it is said that it has not."""


class SignIn:
    """The pages of whoever is not signed in."""

    def __init__(self, context: Context, reception: Reception) -> None:
        self._context = context
        self._reception = reception
        self._by_address = Throttle(ATTEMPTS, ATTEMPT_EVERY)
        self._by_prefix = Throttle(ATTEMPTS, ATTEMPT_EVERY)

    async def form(self, visitor: Visitor) -> ConsoleAnswer:
        back = bool(visitor.query("back"))
        if visitor.cookie is None:
            return (
                self._reception.sign_in(_lost_cookie(visitor.asked))
                if back
                else self._reception.sign_in(None)
            )
        found = await self._reception.admit(visitor)
        if isinstance(found, Operator):
            return redirect("overview")
        return found if isinstance(found, HtmlPage) else self._reception.sign_in(signed_out(found))

    async def sign_in(self, visitor: Visitor) -> ConsoleAnswer:
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
            sign_in = partial(self._reception.operators.sign_in, before=visitor.cookie)
            key_hash = self._context.services.keys.recognize(presented)
            await admit_key(self._context, presented, key_hash, (asked.origin.ip, 0))
            done = await self._reception.thread(sign_in, presented, device)
        except (StoreError, Overloaded) as fault:
            self._forgive(attempts)  # nothing was judged
            if isinstance(fault, TooManyAttempts):
                return self._too_many(fault.retry_after / 1_000)
            return self._reception.down(fault)
        except SojournError as fault:
            return self._reception.sign_in(
                _refused(fault), status=403 if fault.code == "forbidden" else 401
            )
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
        page = self._reception.sign_in(notice, status=429)
        retry = ("Retry-After", str(math.ceil(wait)))
        return msgspec.structs.replace(page, headers=[*page.headers, retry])

    async def sign_out(self, visitor: Visitor) -> ConsoleAnswer:
        found = await self._reception.admit(visitor) if visitor.cookie is not None else None
        if isinstance(found, HtmlPage):
            return found
        if isinstance(found, Operator):
            try:
                await self._reception.thread(self._reception.operators.sign_out, found)
            except (StoreError, Overloaded) as fault:
                return self._reception.down(fault)
        return redirect("sign-in", COOKIE.clear(https=visitor.asked.origin.https))


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
