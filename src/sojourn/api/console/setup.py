"""The pages that set up: licenses, one license, and what may be changed there; settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace

from sojourn.analytics.what_if import Scenario
from sojourn.api.console.lists import Cell
from sojourn.api.console.pages import ROWS_MAX, WORDS_MAX, Pages, asking
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.clock import DAY
from sojourn.console.analytics import replayed
from sojourn.console.frame import Notice
from sojourn.console.licenses import (
    Change,
    change_of,
    drawn_for,
    license_link,
    license_view,
    state_of,
)
from sojourn.console.lookup import PoolUse
from sojourn.console.seats import Heading
from sojourn.console.settings import settings_view
from sojourn.console.words import count
from sojourn.errors import Conflict, InvalidInput, InvalidPolicy, NotFound, StoreError
from sojourn.finding import Verdict
from sojourn.ledger import LicenseChange
from sojourn.license import CAPACITY_MAX, License, LicenseStatus
from sojourn.service.effective import effective
from sojourn.service.keys import Permission
from sojourn.service.licenses import unknown
from sojourn.service.operators import Operator
from sojourn.token import Keyring

WEEK = 7 * DAY
REPLAYED_MAX = 20_000
"""Events of a week that are replayed while somebody waits for the page; Analytics replays more."""
ASKED = ("suspend", "resume")


class SetUpPages(Pages):
    """Licenses and their features."""

    async def licenses(self, visitor: Visitor) -> ConsoleAnswer:
        if visitor.query("license"):
            return await self.show(visitor, "license.html", "licenses", self._license)
        return await self.show(visitor, "table.html", "licenses", self._licenses)

    async def lost(self, visitor: Visitor, notice: Notice) -> ConsoleAnswer:
        return await self.show(
            asking(visitor, {}), "table.html", "licenses", self._licenses, notice=notice, status=404
        )

    async def settings(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "settings.html", "settings", self._settings)

    async def change(self, visitor: Visitor) -> ConsoleAnswer:
        """Change a capacity, or suspend or resume a license, and show it again."""
        works: dict[str, Callable[[Visitor, Operator], Notice]] = {
            "capacity": self._set_capacity,
            "suspend": self._suspend,
            "resume": self._resume,
        }
        wish = visitor.field("do")
        if wish not in works:
            raise InvalidInput("do: capacity, suspend or resume.")
        done = await self.do(visitor, Permission.LICENSES_WRITE, works[wish])
        if not isinstance(done, Notice):
            return done
        wishes = {"license": visitor.field("license")}
        if wish == "capacity" and done.verdict is Verdict.WARNING:  # ask anew, with what is so now
            wishes |= {name: visitor.field(name) for name in ("feature", "capacity")}
        again = asking(visitor, wishes)
        return await self.show(again, "license.html", "licenses", self._license, notice=done)

    def _licenses(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        ledger = self.context.services.ledger
        after = visitor.query("after") or None
        found = ledger.licenses(after=after, limit=ROWS_MAX + 1)
        shown, now = found[:ROWS_MAX], ledger.now()
        uses: dict[str, list[str]] = {}
        for use in self.lookup.pools():
            said = f"{use.pool.feature} {use.usage.in_use:,} of {use.usage.capacity:,}"
            uses.setdefault(use.pool.license_id, []).append(said)
        more = len(found) > ROWS_MAX
        return {
            "name": "Licenses",
            "answer": Heading(f"{count(len(shown), 'license')}{' and more' if more else ''}."),
            "search": None,
            "search_for": "",
            "heads": ("License", "State", "Seats in use"),
            "table_rows": [_row(each, uses.get(each.id, []), now) for each in shown],
            "nothing": "There is no license yet.",
            "older": "licenses?" + urlencode({"after": shown[-1].id}) if more else "",
            "command": "sojourn license list",
        }

    def _settings(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        given, settings = self.context.given, self.context.settings
        mark = self.context.services.ledger.mark()[0]
        found = effective(
            settings,
            given.origins,
            lambda secret: Keyring([secret.encode()]).fingerprints(mark)[0],
        )
        words, changed = visitor.query("q")[:WORDS_MAX], visitor.query("show") == "changed"
        view = settings_view(found, settings, given.words, wanted=words, only_changed=changed)
        return {"view": view, "words": words, "changed": changed}

    def _license(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        license_id = visitor.query("license")
        license_ = self.context.services.ledger.license(license_id)
        if license_ is None:
            raise unknown()
        uses = self.lookup.pools_of(license_id)
        view = license_view(license_, uses, self.context.services.ledger.now())
        wish = visitor.query("ask")
        return {
            "view": view,
            "asked": wish if wish in ASKED else "",
            "chosen": visitor.query("feature"),
            "change": self._thought_of(visitor, uses),
        }

    def _thought_of(self, visitor: Visitor, uses: list[PoolUse]) -> Change | None:
        """Return the capacity that the address asks about, if it does."""
        said = visitor.query("capacity")
        use = next((x for x in uses if x.pool.feature == visitor.query("feature")), None)
        if not said or use is None:
            return None
        change = change_of(use, _seats(said))
        return replace(change, replayed=self._replayed(use, change))

    def _replayed(self, use: PoolUse, change: Change) -> str:
        """Say what would have happened last week with another capacity."""
        more = change.after - change.before
        if not more:
            return ""
        usage = self.context.services.usage
        since = usage.now() - WEEK
        counts = usage.usage(use.pool.id, since=since, until=usage.now()).counts
        if sum((counts.granted, *counts.denied.values(), *counts.ended.values())) > REPLAYED_MAX:
            return "More happened than is replayed at a look."
        try:
            scenario = Scenario(seats=more)
            found = usage.what_if(use.pool.id, scenario, since=since)
        except (InvalidPolicy, StoreError):
            return ""  # the question says as much, or the page does
        if not found.events:
            return "Nothing is known of it yet."
        return replayed(found.told, scenario)

    def _set_capacity(self, visitor: Visitor, operator: Operator) -> Notice:
        license_id, feature = visitor.field("license"), visitor.field("feature")
        seats = _seats(visitor.field("capacity"))
        service = self.context.services.licenses
        _, pools = service.get(license_id)
        pool = next((x for x in pools if x.feature == feature), None)
        if pool is None:
            raise NotFound("The license has no such feature.", code="feature_unknown")
        before, changed = pool.policy, _changed_meanwhile(feature)
        if visitor.field("drawn") != drawn_for(before):
            return changed
        policy = replace(before, capacity=seats)
        try:
            service.set_feature(
                license_id, feature, policy, actor=operator.actor, instead_of=before
            )
        except Conflict:
            return changed
        return Notice(
            verdict=Verdict.OK,
            title=f"{feature} has {count(seats, 'seat')} now. It had {before.capacity:,}.",
        )

    def _suspend(self, visitor: Visitor, operator: Operator) -> Notice:
        return self._set_status(visitor, operator, LicenseStatus.SUSPENDED)

    def _resume(self, visitor: Visitor, operator: Operator) -> Notice:
        return self._set_status(visitor, operator, LicenseStatus.ACTIVE)

    def _set_status(self, visitor: Visitor, operator: Operator, status: LicenseStatus) -> Notice:
        change = LicenseChange(status=status)
        license_id = visitor.field("license")
        done = self.context.services.licenses.change(license_id, change, actor=operator.actor)
        if status is LicenseStatus.SUSPENDED:
            title, text = f"{done.name} is suspended.", "Nobody gets or keeps a seat of it."
        else:
            title, text = f"{done.name} is active again.", "Whoever asks gets a seat as before."
        return Notice(verdict=Verdict.OK, title=title, text=text)


def _changed_meanwhile(feature: str) -> Notice:
    return Notice(
        verdict=Verdict.WARNING,
        title=f"{feature} was changed while this page was open. Nothing was saved.",
        text="Below is how it is now. Save again if that is still what you want.",
    )


def _seats(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidInput(f"{text!r} is no number of seats.", hint="Write a number such as 5.")
    if int(text) > CAPACITY_MAX:
        raise InvalidInput(f"A feature has {CAPACITY_MAX:,} seats at most.")
    return int(text)


def _row(license_: License, pools: list[str], now: int) -> tuple[Cell, ...]:
    state, tone = state_of(license_, now)
    return (
        Cell(text=license_.name, under=license_.id, link=license_link(license_.id)),
        Cell(text=state, tone=tone),
        Cell(
            text=" · ".join(pools[:4]) or "No feature yet",
            under=f"and {len(pools) - 4} more" if len(pools) > 4 else "",
        ),
    )
