"""The page that understands: how seats were used, what would have been, what is to be expected."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from sojourn.analytics.what_if import Scenario
from sojourn.api.console.pages import Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor, zone_of_visitor
from sojourn.clock import HOUR, SECOND
from sojourn.console import analytics
from sojourn.console.frame import HEADERS
from sojourn.console.seats import Heading
from sojourn.errors import InvalidInput, InvalidPolicy, SojournError
from sojourn.license import split_pool_id
from sojourn.people.pages import HtmlPage
from sojourn.service.operators import Operator

POOLS_MAX = 200
"""Pools to choose from; others are reached from their own pages."""
INCIDENTS = 5
SEATS_MOST = 100_000
WAIT_MAX = 24 * HOUR
WISHES = ("seats", "lostAfter", "linger", "wait")
"""The fields of the replay's form."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")


class UnderstandingPages(Pages):
    """Analytics."""

    async def analytics(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "analytics.html", "analytics", self._analytics)

    async def export(self, visitor: Visitor) -> ConsoleAnswer:
        """Answer the figures of the page as comma-separated values."""
        found = await self.reception.admit(visitor)
        if not isinstance(found, Operator):
            return self.reception.turn_away(visitor, found)
        try:
            text, name = await self.reception.thread(self._csv, visitor, found)
        except SojournError:
            return await self.analytics(visitor)  # which says what is the matter
        headers = [
            ("Content-Type", "text/csv; charset=utf-8"),
            ("Content-Disposition", f'attachment; filename="{name}"'),
        ]
        kept = [each for each in HEADERS if each[0].lower() != "content-type"]
        return HtmlPage(200, [*headers, *kept], text.encode())

    def _csv(self, visitor: Visitor, _operator: Operator) -> tuple[str, str]:
        usage = self.context.services.usage
        pool = usage.pool(visitor.query("license"), visitor.query("feature"))
        now = usage.now()
        length = analytics.RANGES[_range(visitor)][1]
        found = usage.usage(pool, since=max(0, now - length), until=now)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(("at", "peak", "p95", "p50", "mean", "denied", "capacity", "full"))
        for row in analytics.point_rows(found):
            p = row.point
            capacity = "" if p.capacity is None else p.capacity
            figures = (p.peak, p.p95, p.p50, round(p.mean, 3), p.denied, capacity, p.full / SECOND)
            writer.writerow((row.iso, *figures))
        _, feature = split_pool_id(pool)  # whose characters all are fit for a file's name
        return out.getvalue(), f"{feature}-{_range(visitor)}.csv"

    def _analytics(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        pools = [
            (each.license_id, each.feature)
            for each in self.context.services.ledger.pools(limit=POOLS_MAX)
        ]
        chosen = (visitor.query("license"), visitor.query("feature"))
        if not any(chosen):
            tightest = self.lookup.pools()
            if not tightest:
                return _nothing()
            chosen = split_pool_id(tightest[0].usage.pool_id)
        if chosen not in pools:
            pools.append(chosen)
        values = self._of_pool(visitor, *chosen)
        return values | {
            "pools": [
                (analytics.page_link(*each, _range(visitor)), each, each == chosen)
                for each in pools
            ],
            "license": chosen[0],
            "feature": chosen[1],
            "range": _range(visitor),
            "ranges": [(name, told[0]) for name, told in analytics.RANGES.items()],
        }

    def _of_pool(self, visitor: Visitor, license_id: str, feature: str) -> dict[str, Any]:
        usage = self.context.services.usage
        pool = usage.pool(license_id, feature)
        now = usage.now()
        since = max(0, now - analytics.RANGES[_range(visitor)][1])
        found = usage.usage(pool, since=since, until=now)
        zone = zone_of_visitor(visitor)
        forecast = usage.forecast(pool, weeks=4)
        incidents = usage.incidents(pool, since=since, until=now, limit=INCIDENTS)
        users = usage.shares(pool, "user", since=since, until=now, limit=analytics.NAMED)
        clients = usage.shares(pool, "client", since=since, until=now, limit=analytics.NAMED)
        return {
            "answer": analytics.answer(found),
            "figures": analytics.figures(found),
            "chart": analytics.chart(found),
            "points": analytics.point_rows(found),
            "heat": analytics.heat(usage.week(pool, zone, since=since, until=now)),
            "zone": zone.key,
            "in_utc": "analytics?"
            + analytics.page_link(license_id, feature, _range(visitor), zone="UTC"),
            "hours": range(24),
            "reasons": analytics.reasons(found.counts),
            "held": analytics.lengths(found.counts.held),
            "ghosts": analytics.lengths(found.counts.ghosts),
            "users": analytics.shares(users, people=True),
            "clients": analytics.shares(clients, people=False),
            "incidents": analytics.incident_rows(incidents, now),
            "forecast": analytics.forecast_words(forecast),
            "days": analytics.forecast_rows(forecast),
            "csv": "analytics.csv?" + analytics.page_link(license_id, feature, _range(visitor)),
            **self._replayed(visitor, pool, since),
        }

    def _replayed(self, visitor: Visitor, pool: str, since: int) -> dict[str, Any]:
        """Replay what the form asks for. Empty fields stay as they were."""
        asked = {name: visitor.query(name).strip() for name in WISHES}
        # A browser has no room for a word in a field for numbers, and says so on its console.
        kept = {k: v.removeprefix("+") if _WHOLE.fullmatch(v) else "" for k, v in asked.items()}
        values: dict[str, Any] = {"wishes": kept, "replayed": "", "wrong": ""}
        if not any(asked.values()):
            return values
        try:
            scenario = _scenario(asked)
            told = self.context.services.usage.what_if(pool, scenario, since=since)
        except (InvalidInput, InvalidPolicy) as fault:
            return values | {"wrong": fault.message}
        return values | {"replayed": analytics.replayed(told.told, scenario)}


def _scenario(asked: dict[str, str]) -> Scenario:
    """Read the form of a replay: seats, and durations in seconds. Raises InvalidInput."""

    def duration(name: str, least: int) -> int | None:
        if not asked[name]:
            return None
        seconds = _number(asked[name], WAIT_MAX // SECOND)
        if seconds < least:
            raise InvalidInput(f"{asked[name][:20]!r} seconds are too few: {least} at least.")
        return seconds * SECOND

    return Scenario(
        seats=_number(asked["seats"], SEATS_MOST),
        lost_after=duration("lostAfter", 1),
        linger=duration("linger", 0),
        wait=duration("wait", 0) or None,
    )


def _range(visitor: Visitor) -> str:
    asked = visitor.query("range")
    return asked if asked in analytics.RANGES else analytics.RANGE


def _number(text: str, most: int) -> int:
    """Read a whole number. Raises InvalidInput."""
    told = text.strip() or "0"
    try:
        number = int(told[:12])
    except ValueError:
        number = most + 1
    if abs(number) > most:
        raise InvalidInput(f"{told[:20]!r} is no whole number between -{most:,} and {most:,}.")
    return number


def _nothing() -> dict[str, Any]:
    return {
        "answer": Heading("There is no license yet.", rest="Make one, and its use is measured."),
        "figures": [],
        "chart": None,
        "points": [],
        "pools": [],
        "license": "",
        "feature": "",
        "range": analytics.RANGE,
        "ranges": [],
    }
