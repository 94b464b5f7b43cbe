"""The pages that watch: seats, people, denials, audit; and what may be done there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from sojourn.api.console.pages import ROWS_MAX, WORDS_MAX, Pages, asking
from sojourn.api.console.sessions import sign_out_one
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console import overview, people, seats, stories
from sojourn.console.frame import Notice
from sojourn.console.seats import Heading
from sojourn.console.words import count
from sojourn.errors import InvalidInput
from sojourn.event import Event, EventKind
from sojourn.finding import Verdict
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator
from sojourn.session import End

FREED_MAX = 200
"""Seats that one form frees."""


class WatchingPages(Pages):
    """Answers for whoever is signed in; everybody else is sent to the sign-in."""

    async def lost(self, visitor: Visitor, notice: Notice) -> ConsoleAnswer:
        return await self.show(
            visitor, "seats.html", "seats", self._pools, notice=notice, status=404
        )

    async def seats(self, visitor: Visitor) -> ConsoleAnswer:
        if visitor.query("feature"):
            return await self.show(visitor, "pool.html", "seats", self._pool)
        return await self.show(visitor, "seats.html", "seats", self._pools)

    async def people(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "people.html", "people", self._people)

    async def denials(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "denials.html", "denials", self._denials)

    async def audit(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "audit.html", "audit", self._audit)

    def _pools(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        uses, words = self.lookup.pools(), visitor.query("q")[:WORDS_MAX]
        found = seats.found(uses, words)
        return {
            "answer": seats.seats_answer(uses, self.lookup.waiting()),
            "words": words,
            "pools": [seats.pool_row(use) for use in found[: seats.POOLS_SHOWN]],
            "hidden_pools": max(0, len(found) - seats.POOLS_SHOWN),
        }

    def _pool(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        shown = visitor.query("show")
        wishes = tuple(dict.fromkeys(each for each in visitor.queries("ask") if each))
        words = visitor.query("q").strip()[:WORDS_MAX]
        holders = self.lookup.holders(
            visitor.query("license"), visitor.query("feature"), find=words
        )
        view = seats.pool_view(
            holders,
            shown=shown if shown in seats.FILTERS else "all",
            words=words,
            asked=wishes,
        )
        asked = [row for row in view.rows if row.asked][:FREED_MAX]
        timeline: list[stories.Story] = []
        if len(asked) == 1:
            lease = next(x for x in holders.leases if x.id == asked[0].lease_id)
            events = self.lookup.of_lease(lease)[: people.STORIES_MAX]
            timeline = stories.stories(events, holders.at)
        living = sum(row.state == "active" for row in asked)
        return {
            "view": view,
            "asked": asked,
            "living": living,
            "timeline": timeline,
            "words": words,
        }

    def _people(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        user = visitor.query("user").strip()
        if not user:
            now = self.context.services.store.now()
            lately = [seats.waiting_row(each, now) for each in self.lookup.refused()]
            return {"view": None, "lately": lately, "asked": "", "alike": []}
        person = self.lookup.person(user)
        held = self.context.services.sessions.held(End(user_id=user))
        view = people.person_view(person, held)
        alike = [] if view.known else self.reception.finder.people(user)
        return {"view": view, "lately": [], "asked": visitor.query("ask"), "alike": alike}

    def _denials(self, _visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        denials, now = self.lookup.denials(), self.context.services.store.now()
        found = stories.incidents(denials, now)
        waiting = {each.user_id for each in self.lookup.waiting()}
        if not denials:
            answer = Heading("Nobody was refused.")
        else:
            people_ = len({event.user_id for event in denials})
            said = f"{count(len(denials), 'refusal')} in {count(len(found), 'incident')}."
            bad = overview.count_people(len(waiting)).capitalize()
            answer = Heading(
                said,
                f"{bad} {'waits' if len(waiting) == 1 else 'wait'} now." if waiting else "",
                f"{overview.count_people(people_).capitalize()} in all.",
            )
        return {"answer": answer, "incidents": found[:ROWS_MAX]}

    def _audit(self, visitor: Visitor, operator: Operator) -> dict[str, Any]:
        everything = visitor.query("show") == "all"
        kinds = () if everything else (EventKind.OPERATOR_ACTED.value,)
        said = visitor.query("before")
        before = int(said) if said.isascii() and said.isdecimal() and len(said) < 19 else 0
        events = self.lookup.feed(before=before, limit=ROWS_MAX + 1, kinds=kinds)
        now, shown = self.context.services.store.now(), events[:ROWS_MAX]
        following = {"before": str(shown[-1].id)} if len(events) > ROWS_MAX else {}
        if everything:
            following |= {"show": "all"} if following else {}
        names = self._named(shown) if self.may(operator, Permission.KEYS) else ""
        told = stories.stories(shown, now)
        return {
            "title": "What happened" if everything else "What operators did",
            "under": "The latest first." + (f" {names}" if names else ""),
            "everything": everything,
            "stories": told,
            "older": "audit?" + urlencode(following) if following else "",
        }

    def _named(self, events: list[Event]) -> str:
        """Say which keys stand behind the actors."""
        ids = {
            e.actor.removeprefix("key:") for e in events if e.actor and e.actor.startswith("key:")
        }
        if not ids:
            return ""
        known = self.context.services.keys.known_by_id(sorted(ids))
        said = [f"key:{key_id} is {known[key_id][0].name}" for key_id in sorted(known)]
        return "; ".join(said[:5]) + "." if said else ""

    # What may be done

    async def free(self, visitor: Visitor) -> ConsoleAnswer:
        """Free one seat of a pool, and show the pool again."""
        done = await self.do(visitor, Permission.SEATS_END, self._free)
        if not isinstance(done, Notice):
            return done
        wish = {"license": visitor.field("license"), "feature": visitor.field("feature")}
        return await self.show(asking(visitor, wish), "pool.html", "seats", self._pool, notice=done)

    async def help_person(self, visitor: Visitor) -> ConsoleAnswer:
        """Free a seat for somebody, free all that they hold, or sign them out."""
        wish = visitor.field("do")
        works: dict[str, tuple[Permission, Callable[[Visitor, Operator], Notice]]] = {
            "free": (Permission.SEATS_END, self._free),
            "free-all": (Permission.SEATS_END, self._free_all),
            "sign-out": (Permission.SESSIONS_END, self._sign_out),
            "sign-out-one": (Permission.SESSIONS_END, self._sign_out_one),
        }
        if wish not in works:
            raise InvalidInput("do: free, free-all, sign-out or sign-out-one.")
        done = await self.do(visitor, *works[wish])
        if not isinstance(done, Notice):
            return done
        again = asking(visitor, {"user": visitor.field("user")})
        return await self.show(again, "people.html", "people", self._people, notice=done)

    def _free(self, visitor: Visitor, operator: Operator) -> Notice:
        leases = tuple(dict.fromkeys(each for each in visitor.form.get("lease", ()) if each))
        if len(leases) > FREED_MAX:
            raise InvalidInput(f"lease: {FREED_MAX} seats are freed at once, at most.")
        done = self.context.services.operations.release(*leases, actor=operator.actor)
        if not done.ended:
            return Notice(
                verdict=Verdict.SKIPPED,
                title="That seat was free already."
                if len(leases) == 1
                else "Those seats were free already.",
                text="Whoever asks next gets it.",
            )
        feature = seats.feature_of(done.ended[0].pool_id)
        users = list(dict.fromkeys(lease.user_id for lease in done.ended))
        named = ", ".join(users[: seats.NAMED])
        if users[seats.NAMED :]:
            named += f" and {len(users) - seats.NAMED} more"
        several = len(done.ended) > 1
        title = f"{len(done.ended)} {feature} seats" if several else f"The {feature} seat"
        return Notice(
            verdict=Verdict.OK,
            title=f"{title} of {named} {'are' if several else 'is'} free.",
            text="Whoever asks next gets it." if not several else "Whoever asks next gets them.",
        )

    def _free_all(self, visitor: Visitor, operator: Operator) -> Notice:
        user = visitor.field("user")
        if not user:
            raise InvalidInput("user: whose seats?")
        done = self.context.services.operations.release_all(user, actor=operator.actor)
        many = count(done.ended_count, "seat")
        return Notice(
            verdict=Verdict.OK,
            title=f"{many} of {user} {'is' if done.ended_count == 1 else 'are'} free.",
        )

    def _sign_out(self, visitor: Visitor, operator: Operator) -> Notice:
        user = visitor.field("user")
        if not user:
            raise InvalidInput("user: who is to be signed out?")
        end = End(user_id=user, reason="signed_out_by_operator", actor=operator.actor)
        ended = self.context.services.sessions.end([end])[0]
        number = len(ended) if isinstance(ended, list) else 0
        return Notice(
            verdict=Verdict.OK, title=f"{user} is signed out of {count(number, 'device')}."
        )

    def _sign_out_one(self, visitor: Visitor, operator: Operator) -> Notice:
        session_id = visitor.field("session")
        if not session_id:
            raise InvalidInput("session: which one is to be signed out?")
        return sign_out_one(self.context, session_id, operator)
