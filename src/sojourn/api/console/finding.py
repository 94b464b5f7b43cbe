"""Finding anything: a person, seat, license, session or id, by whatever is known of it."""

from __future__ import annotations

from typing import Any

from sojourn.api.console.pages import WORDS_MAX, Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console.find import Hit
from sojourn.console.frame import places, redirect
from sojourn.console.seats import Heading
from sojourn.console.words import count
from sojourn.errors import Overloaded, StoreError
from sojourn.service.operators import Operator


class FindPages(Pages):
    """Answers for whoever is signed in."""

    async def find(self, visitor: Visitor) -> ConsoleAnswer:
        """Show what was found; a browser that asks for the one thing that is called so is led there."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        words = visitor.query("q").strip()[:WORDS_MAX]
        try:
            hits = await self.reception.thread(self._hits, words, found)
        except (StoreError, Overloaded) as fault:
            return self.reception.down(fault)
        exact = [hit for hit in hits if hit.exact]
        if not visitor.partial and len(exact) == 1:  # what is merely alike may be somebody else
            return redirect(exact[0].link)
        return await self.show(
            visitor, "find.html", "find", lambda _visitor, _operator: _values(words, hits)
        )

    def _hits(self, words: str, operator: Operator) -> list[Hit]:
        return self.reception.finder.find(
            words, [page for _, pages in places(operator) for page in pages]
        )


def _values(words: str, hits: list[Hit]) -> dict[str, Any]:
    answer = Heading(f"{count(len(hits), 'thing')} found." if words else "Find anything.")
    return {"words": words, "hits": hits, "answer": answer}
