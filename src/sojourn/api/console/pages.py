"""The base of the console's pages: it admits the operator, reads on a thread, and shows faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace

from sojourn.api.console.visits import ConsoleAnswer, Reception, Visitor, too_slow
from sojourn.api.context import Context
from sojourn.console.frame import Count, Notice, console_page, may_see
from sojourn.console.seats import Heading
from sojourn.errors import InvalidInput, NotFound, Overloaded, SojournError, StoreError
from sojourn.finding import Verdict
from sojourn.people.pages import HtmlPage
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator

ROWS_MAX = 100
WORDS_MAX = 200
"""Characters of what is searched for."""


class Pages:
    """Answers for whoever is signed in; everybody else is sent to the sign-in."""

    def __init__(self, context: Context, reception: Reception) -> None:
        self.context = context
        self.reception = reception
        self.lookup = reception.lookup

    async def show(
        self,
        visitor: Visitor,
        template: str,
        here: str,
        read: Callable[[Visitor, Operator], dict[str, Any]],
        *,
        notice: Notice | None = None,
        status: int = 200,
    ) -> ConsoleAnswer:
        """Read what a page shows, on a thread, and return the page."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        if not may_see(found, here):
            template, read, status, notice = "table.html", _closed, 403, _not_for(found)
        try:
            values, counts = await self.reception.thread(self._read, read, visitor, found)
        except (NotFound, InvalidInput) as fault:
            missing = Notice(verdict=Verdict.WARNING, title=fault.message, text=fault.hint)
            return await self.lost(visitor, missing)
        except (StoreError, Overloaded) as fault:
            return self.reception.down(fault)
        return console_page(
            template,
            site_name=self.reception.site,
            operator=found,
            here=here,
            status=status,
            seen="",
            again=self.context.rounds.again,
            notice=notice,
            counts=counts,
            may_end=self.may(found, Permission.SEATS_END),
            may_set_up=self.may(found, Permission.LICENSES_WRITE),
            may_sign_out=self.may(found, Permission.SESSIONS_END),
            address=_address(here, visitor),
            **values,
        )

    def _read(
        self,
        read: Callable[[Visitor, Operator], dict[str, Any]],
        visitor: Visitor,
        operator: Operator,
    ) -> tuple[dict[str, Any], dict[str, Count]]:
        return read(visitor, operator), self.reception.counts.read()

    def may(self, operator: Operator, permission: Permission) -> bool:
        return self.context.services.keys.grants(operator.key, permission)

    async def do(
        self,
        visitor: Visitor,
        permission: Permission | None,
        work: Callable[[Visitor, Operator], Notice],
    ) -> Notice | HtmlPage:
        """Carry something out on a thread, for whoever may (None: whoever is signed in); return what is to be
        said of it, or the page for whoever is not signed in."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        if permission is not None and not self.may(found, permission):
            return Notice(
                verdict=Verdict.WARNING,
                title=f"A key of role {found.key.role.value} may look, and not do this. Nothing was changed.",
                text="Sign in with a key of role operator or admin.",
            )
        try:
            return await self.reception.thread(work, visitor, found)
        except (StoreError, Overloaded) as fault:
            return too_slow(fault)
        except SojournError as fault:
            return Notice(verdict=Verdict.FAILURE, title=fault.message, text=fault.hint)

    async def lost(self, visitor: Visitor, notice: Notice) -> ConsoleAnswer:
        """Answer where what a page is about is not there."""
        return await self.show(visitor, "people.html", "people", _nobody, notice=notice, status=404)


def _not_for(operator: Operator) -> Notice:
    return Notice(
        verdict=Verdict.WARNING,
        title=f"A key of role {operator.key.role.value} may not see this.",
        text="Sign in with a key of role admin.",
    )


def _closed(_visitor: Visitor, _operator: Operator) -> dict[str, Any]:
    """Return a table of nothing, for whoever may not see what is in it."""
    return {
        "name": "Administrators only",
        "answer": Heading("This page is for administrators."),
        "search": None,
        "search_for": "",
        "heads": (),
        "table_rows": [],
        "nothing": "Nothing is shown.",
        "older": "",
        "command": "sojourn doctor",
    }


def _nobody(_visitor: Visitor, _operator: Operator) -> dict[str, Any]:
    return {"view": None, "lately": [], "asked": ""}


def asking(visitor: Visitor, wish: dict[str, str]) -> Visitor:
    """Return a visitor who asks for the page again that a form was on."""
    return replace(visitor, asked=replace(visitor.asked, query=urlencode(wish)), form={})


def _address(here: str, visitor: Visitor) -> str:
    """Return where the page is read again: with its filters, and without a question."""
    query = [
        (name, value)
        for name in ("license", "feature", "show", "q", "user", "ask", "after", "before")
        for value in visitor.queries(name)
        if value
    ]
    return here + ("?" + urlencode(query) if query else "")
