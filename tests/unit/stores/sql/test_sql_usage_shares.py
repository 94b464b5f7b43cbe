"""Shares of users and clients: over months they are what the days say, and bounded in names."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from sojourn.analytics.buckets import Bucket
from sojourn.analytics.counts import Share
from sojourn.analytics.holds import Hold, ShareKey
from sojourn.analytics.in_memory import MemoryUsage
from sojourn.analytics.keeper import OTHERS, Changes, UsageKeeper
from sojourn.clock import DAY, HOUR
from sojourn.stores.open import open_ledger
from sojourn.stores.sql import usage_shares
from sojourn.stores.sql import usage_tables as tables
from sojourn.stores.sql.usage import SqlUsage

POOL = "lic_1:editor"
BEGAN = int(datetime(2026, 1, 20, tzinfo=UTC).timestamp()) * 1_000


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"empty_{request.param}")
    return url


def commit(keeper: UsageKeeper, day: int, shares: dict[ShareKey, Share], holds: list[Hold]) -> None:
    """Write down what a page of a day's events comes to; the day before it is over."""
    before = keeper.cursor()
    assert before is not None
    changes = Changes(
        cursor=replace(before, at=day + HOUR, revision=before.revision + 1),
        holds=holds,
        forgotten=[],
        hours=[],
        days=[Bucket(pool_id=POOL, at=day - DAY, level=0, last=0)],
        steps={},
        shares=shares,
        incidents=[],
        policies=[],
    )
    assert keeper.commit(before, changes)


def random_shares(chance: random.Random, day: int) -> dict[ShareKey, Share]:
    """Make shares of a day and, as those of seats that were held for long, of some days before it."""
    days = {day, *(max(BEGAN, day - chance.randint(1, 45) * DAY) for _ in range(2))}
    return {
        (POOL, each, kind, f"{kind}-{number}"): Share(
            held=chance.randint(0, 9), granted=chance.randint(0, 2), denied=chance.randint(0, 2)
        )
        for each in days
        for kind in ("user", "client")
        for number in chance.sample(range(9), 4)
    }


def test_months_say_what_their_days_say(ledger_url: str) -> None:
    """Whatever the stretch of time, through what is learned late of months gone by, and after a rebuild."""
    chance = random.Random(7)
    model = MemoryUsage()
    with closing(open_ledger(ledger_url, migrate=True)) as ledger:
        assert isinstance(ledger.usage, SqlUsage)
        keepers: list[UsageKeeper] = [model, ledger.usage]
        for keeper in keepers:
            assert keeper.begin(None, since=BEGAN)
        still = Hold(
            id="h" * 32,
            seat="h" * 32,
            pool_id=POOL,
            lease_id="l",
            user_id="user-0",
            client_id="client-0",
            started_at=BEGAN + 30 * DAY,
        )
        days = range(BEGAN, BEGAN + 130 * DAY, DAY)
        for day in days:
            shares = random_shares(chance, day)
            for keeper in keepers:
                commit(keeper, day, shares, [still] if day == days[40] else [])

        def compare() -> None:
            for _ in range(12):
                since, until = sorted(chance.sample(days, 2))
                for kind in ("user", "client"):
                    one, two = (each.shares(POOL, kind, since, until) for each in keepers)
                    assert one == two

        compare()
        assert months(ledger.usage) == [12, 1, 2, 3, 4]
        late = random_shares(chance, days[20])
        for keeper in keepers:
            commit(keeper, days[-1], late, [])
        compare()
        cut = days[60]
        for keeper in keepers:
            assert keeper.begin(keeper.cursor(), since=cut)
        assert months(ledger.usage) == [12, 1, 2]
        compare()


def months(usage: SqlUsage) -> list[int]:
    """Return which months have rows of their own."""
    share = tables.shares.c
    query = select(share.at).where(share.kind == "user_m", share.name == OTHERS)
    rows = usage._db.read(lambda tx: tx.core(query.order_by(share.at)).all())
    return [datetime.fromtimestamp(at / 1_000, UTC).month for (at,) in rows]


def test_a_day_keeps_so_many_names(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who held for the longest keep their names; what the others had is added together, not lost."""
    monkeypatch.setattr(usage_shares, "NAMES_KEPT", 3)
    monkeypatch.setattr(usage_shares, "NAMES_MAX", 6)
    with closing(open_ledger(ledger_url, migrate=True)) as ledger:
        usage = ledger.usage
        assert isinstance(usage, SqlUsage)
        assert usage.begin(None, since=BEGAN)
        for first in range(0, 40, 4):
            page = {
                (POOL, BEGAN, "user", f"user-{i:02}"): Share(
                    held=1_000 + i, granted=1, denied=i % 2
                )
                for i in range(first, first + 4)
            }
            commit(usage, BEGAN, page, [])
        share = tables.shares.c
        count = select(func.count()).select_from(tables.shares).where(share.at == BEGAN)
        assert usage._db.read(lambda tx: tx.core(count).scalar_one()) <= 6
        found = usage.shares(POOL, "user", BEGAN, BEGAN + DAY)
        assert [each.name for each in found.items][:3] == ["user-39", "user-38", "user-37"]
        assert found.whole == Share(held=sum(range(1_000, 1_040)), granted=40, denied=20)
        named = sum(each.held for each in found.items)
        assert found.others.held == found.whole.held - named > 0
