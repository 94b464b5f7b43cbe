"""The page of sessions: who is signed in, signing one out, and samples on a server for developing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from sojourn.api.console.pages import ROWS_MAX, WORDS_MAX, Pages, asking
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.api.context import Context
from sojourn.api.sample_sessions import PREFIX, SAMPLES_MAX, USER, Samples
from sojourn.clock import SECOND
from sojourn.console.frame import Notice, redirect
from sojourn.console.seats import Heading
from sojourn.console.sessions import session_rows
from sojourn.console.words import count
from sojourn.cookie import CookieOptions, SignedTokens
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.people.pages import HtmlPage
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator
from sojourn.session import End
from sojourn.text import check_id

SAMPLES = 7
BATCHES_MAX = 200
"""Batches of samples that one press takes away."""


class SessionPages(Pages):
    """Answers for whoever is signed in."""

    async def sessions(self, visitor: Visitor) -> ConsoleAnswer:
        return await self._show(visitor)

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        """Sign a session out; make, open or take away samples; and show the page again."""
        works: dict[str, tuple[Permission, Callable[[Visitor, Operator], Notice]]] = {
            "sign-out": (Permission.SESSIONS_END, self._sign_out),
            "sample": (Permission.SESSIONS, self._make),
            "remove-samples": (Permission.SESSIONS_END, self._remove),
        }
        wish = visitor.field("do")
        if wish == "open-sample":
            return await self._open(visitor)
        if wish not in works:
            raise InvalidInput("do: sign-out, sample, open-sample or remove-samples.")
        done = await self.do(visitor, *works[wish])
        if not isinstance(done, Notice):
            return done
        return await self._show(
            asking(visitor, {name: visitor.field(name) for name in ("after", "q")}), notice=done
        )

    async def _show(self, visitor: Visitor, *, notice: Notice | None = None) -> ConsoleAnswer:
        return await self.show(visitor, "sessions.html", "sessions", self._sessions, notice=notice)

    def _sessions(self, visitor: Visitor, operator: Operator) -> dict[str, Any]:
        after, words = visitor.query("after") or None, visitor.query("q").strip()[:WORDS_MAX]
        service = self.context.services.sessions
        found = service.list(after=after, limit=ROWS_MAX + 1, user_id=words or None)
        shown, now = found[:ROWS_MAX], self.context.services.store.now()
        held = self.context.services.store.held(ids=[each.id for each in shown]) if shown else {}
        place = {name: value for name, value in (("after", after), ("q", words)) if value}
        here = "sessions" + ("?" + urlencode(place) if place else "")
        rows = session_rows(shown, held, now, sample=PREFIX, here=here)
        more = len(found) > ROWS_MAX
        wish = visitor.query("ask")
        following = {"after": shown[-1].id} | ({"q": words} if words else {}) if more else {}
        return {
            "answer": _answer(len(shown), words, more=more),
            "words": words,
            "sessions": rows,
            "asked": next((row for row in rows if row.session_id == wish), None),
            "back": here,
            "after": after or "",
            "command": "sojourn sessions list" + (f" --user {shlex.quote(words)}" if words else ""),
            "older": "sessions?" + urlencode(following) if following else "",
            "dev": self.context.settings.dev,
            "may_sample": self.may(operator, Permission.SESSIONS),
            "sample_user": USER,
            "samples": sum(row.sample for row in rows),
        }

    def _sign_out(self, visitor: Visitor, operator: Operator) -> Notice:
        session_id = visitor.field("session")
        if not session_id:
            raise InvalidInput("session: which one is to be signed out?")
        return sign_out_one(self.context, session_id, operator)

    # Samples

    @property
    def _samples(self) -> Samples:
        return Samples(self.context.services.sessions, dev=self.context.settings.dev)

    def _make(self, visitor: Visitor, _operator: Operator) -> Notice:
        user, said = _user(visitor), visitor.field("count").strip()
        number = int(said) if said.isascii() and said.isdecimal() and len(said) < 5 else SAMPLES
        if not 1 <= number <= SAMPLES_MAX:
            raise InvalidInput(f"count: 1 to {SAMPLES_MAX} sessions.")
        begun = self._samples.make(user, number)
        return Notice(
            verdict=Verdict.OK,
            title=f"{count(len(begun), 'sample session')} of {user} made.",
            text="They say that they are samples, and are taken away together.",
        )

    def _remove(self, _visitor: Visitor, operator: Operator) -> Notice:
        ended, after = 0, None
        for _ in range(BATCHES_MAX):
            done = self._samples.remove(after=after, limit=SAMPLES_MAX, actor=operator.actor)
            ended, after = ended + done.ended, done.next
            if after is None:
                break
        title = (
            f"{count(ended, 'sample session')} taken away." if ended else "There are no samples."
        )
        return Notice(verdict=Verdict.OK, title=title)

    async def _open(self, visitor: Visitor) -> ConsoleAnswer:
        """Sign this browser in as a sample's user, by one more sample, and lead it to the security page."""
        cookies: list[str] = []

        def begin(visitor: Visitor, _operator: Operator) -> Notice:
            settings = self.context.settings
            user = _user(visitor)
            (begun,) = self._samples.make(user, 1)
            codec = SignedTokens([each.encode() for each in settings.secret])
            options = CookieOptions(
                name=settings.cookie_name, domain=settings.cookie_domain or None
            )
            cookies.append(
                options.validate().set(
                    codec.encode(begun.token),
                    https=visitor.asked.origin.https,
                    max_age=(begun.session.expires_at - begun.session.at) // SECOND,
                )
            )
            return Notice(verdict=Verdict.OK, title=f"You are {user} on the security page.")

        done = await self.do(visitor, Permission.SESSIONS, begin)
        if isinstance(done, HtmlPage):
            return done
        if not cookies:
            return await self._show(asking(visitor, {}), notice=done)
        return redirect("../account/security", *cookies)


def sign_out_one(context: Context, session_id: str, operator: Operator) -> Notice:
    """End one session, and say so."""
    end = End(ids=(session_id,), reason="signed_out_by_operator", actor=operator.actor)
    if not context.services.sessions.end([end])[0]:
        return Notice(verdict=Verdict.SKIPPED, title="That session had ended already.")
    return Notice(
        verdict=Verdict.OK,
        title="The session is signed out.",
        text="Whoever used it has to sign in again, and its seats are free.",
    )


def _user(visitor: Visitor) -> str:
    user = visitor.field("user").strip() or USER
    check_id("user", user)
    return user


def _answer(number: int, words: str, *, more: bool) -> Heading:
    said = count(number, "session") + (" and more" if more else "")
    if words:
        return Heading(f"{said} of {words}.")
    if not number:
        return Heading("Nobody is signed in.")
    verb = "is" if number == 1 and not more else "are"
    return Heading(f"{said} {verb} live.", rest="Find those of one person by their user id.")
