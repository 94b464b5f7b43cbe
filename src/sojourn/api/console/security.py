"""Operators' own security: where else somebody is signed in to the console with the same key."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from sojourn.api.console.pages import Pages, asking
from sojourn.api.console.visits import COOKIE, ConsoleAnswer, Visitor
from sojourn.console.frame import Notice, redirect
from sojourn.console.seats import Heading
from sojourn.console.words import count
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.people.pages import HtmlPage
from sojourn.people.panel import Card, Panel, about_one, about_others, panel
from sojourn.people.sessions import Listing
from sojourn.people.translation import ENGLISH
from sojourn.service.operators import SESSIONS_MAX, Operator
from sojourn.session import End, Session


class SecurityPages(Pages):
    """Shows the panel that people have of their own sessions, of an operator's."""

    async def security(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "own_security.html", "security", self._security)

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        """End a session of whoever asks, or all the others. No permission is needed: they are their own."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        if found.session is not None and visitor.field("session") == found.session.id:
            await self.reception.thread(self.reception.operators.sign_out, found)
            return redirect("sign-in", COOKIE.clear(https=visitor.asked.origin.https))
        done = await self.do(visitor, None, self._end)
        if isinstance(done, HtmlPage):
            return done
        return await self.show(
            asking(visitor, {}), "own_security.html", "security", self._security, notice=done
        )

    def _security(self, visitor: Visitor, operator: Operator) -> dict[str, Any]:
        current = operator.session
        if current is None:
            passed = Heading(
                "Sessions cannot be kept just now.",
                rest="Your key opens the console by itself, for a quarter of an hour.",
            )
            return {"answer": passed, "panel": None, "card": None}
        shown, card = self._shown(visitor, current)
        others = len(shown.rows) - 1
        rest = "Whoever has the key may sign in with it. Revoke one that somebody else has."
        said = "You alone are signed in with this key."
        if others:
            said = f"You are signed in, and {count(others, 'other session')} with this key."
        return {"answer": Heading(said, rest=rest), "panel": shown, "card": card}

    def _shown(self, visitor: Visitor, current: Session) -> tuple[Panel, Card | None]:
        page = self.context.services.sessions.page(
            current.user_id or "", after=None, limit=SESSIONS_MAX
        )
        others = tuple(each for each in page.sessions if each.id != current.id)
        listing = Listing(
            current=current,
            sessions=(current, *others),
            seats={},
            total=1 + len(others),
            next=None,
        )
        found = panel(listing, ENGLISH, after="", said="")
        rows = tuple(replace(row, rename="") for row in found.rows)
        wish = visitor.query("end")
        asked = next((row for row in rows if wish and row.shown.id == wish), None)
        card = None
        if asked is not None:
            card = about_one(asked, ENGLISH, action=asked.shown.id, back="security")
        elif visitor.query("others") and others:
            card = about_others(len(others), ENGLISH, action="others", back="security")
        return replace(found, rows=rows), card

    def _end(self, visitor: Visitor, operator: Operator) -> Notice:
        current, wish = operator.session, visitor.field("session")
        if current is None or not wish:
            raise InvalidInput("session: which one is to be signed out?")
        ids = None if wish == "others" else (wish,)
        end = End(
            user_id=current.user_id,
            ids=ids,
            keep=(current.id,),
            reason="signed_out_elsewhere",
            actor=operator.actor,
        )
        ended = self.context.services.sessions.end([end])[0]
        number = len(ended) if isinstance(ended, list) else 0
        if not number:
            return Notice(verdict=Verdict.SKIPPED, title="That was signed out already.")
        verb = "is" if number == 1 else "are"
        return Notice(
            verdict=Verdict.OK, title=f"{count(number, 'other session')} {verb} signed out."
        )
