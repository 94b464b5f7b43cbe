"""The page of nodes, without a browser: who runs, who lags, who does not agree, and relays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import Api, api
from tests.unit.console.test_console import SECRET, get, sign_in
from tests.unit.console.test_setup_pages import ROLES, read

from sojourn.allotment import Allotment, Authority, Known, Shares
from sojourn.clock import HOUR, MINUTE, SECOND
from sojourn.console.nodes import (
    LAGS,
    POOLS_SHOWN,
    nodes_answer,
    region_view,
    relay_rows,
    server_rows,
)
from sojourn.ledger import INSTANCE_ALIVE, Instance, Role
from sojourn.relay_command import RegionUse
from sojourn.service.regions import RegionPool, RegionStatus
from sojourn.service.relays import LastRefusal

NOW = 1_800_000_000_000


def server(name: str, *, silent: int = 0, version: str = "1.0", secret: str = "aa") -> Instance:
    return Instance(
        id=f"srv_{name}",
        host=name,
        pid=1,
        version=version,
        fingerprints=(secret,),
        started_at=NOW - HOUR,
        seen_at=NOW - silent,
    )


def test_servers_that_do_not_agree_or_lag_are_pointed_out() -> None:
    rows = server_rows(
        [
            server("a"),
            server("b"),
            server("c", version="1.1", secret="bb"),
            server("d", silent=LAGS + 1),
            server("e", silent=INSTANCE_ALIVE, version="0.9"),
        ],
        NOW,
    )
    assert [row.state for row in rows] == ["Runs", "Runs", "Runs", "Lags", "Silent"]
    assert [row.other_version for row in rows] == [False, False, True, False, False]
    assert [row.other_secrets for row in rows] == [False, False, True, False, False]
    answer = nodes_answer(rows, [], None)
    assert answer.good == "4 server processes run."
    assert answer.bad == "They run 2 versions. They do not have the same secrets. 1 server lags."


def test_one_server_agrees_with_itself() -> None:
    answer = nodes_answer(server_rows([server("a")], NOW), [], None)
    assert (answer.good, answer.bad) == ("1 server process runs.", "")
    assert nodes_answer([], [], None).good == "0 server processes run."


def test_relays_say_what_they_hold_what_is_free_and_what_they_ask_for() -> None:
    share = Allotment(seats=5, fence=1, expires_at=NOW + HOUR, held=3, want=2)
    authority = Authority(
        pools={"lic_a:editor": Shares(capacity=10, allotments={"key_oslo": share})},
        relays={
            "key_oslo": Known(heard_at=NOW - 5 * SECOND, epoch=1),
            "key_lima": Known(heard_at=NOW - 2 * MINUTE, epoch=1),
        },
    )
    refused = {"key_rome": LastRefusal("relay_clock", "The relay's clock is 400 s ahead.", NOW)}
    use = RegionUse(relay="key_oslo", pool_id="lic_a:editor", day=0, granted=9, denied=4, ended=3)
    rows = relay_rows(authority, refused, {"key_oslo": "oslo"}, {"lic_a": "Acme"}, NOW, uses=[use])
    assert [(row.name, row.state) for row in rows] == [
        ("key_lima", "Late"),
        ("key_rome", "Refused"),
        ("oslo", "Heard"),
    ]
    assert rows[1].heard == "never heard"
    assert rows[1].refused == "The relay's clock is 400 s ahead. (just now)"
    (pool,) = rows[2].pools
    assert (pool.feature, pool.license_name) == ("editor", "Acme")
    assert (pool.seats, pool.held, pool.free, pool.asked, pool.refused) == (5, 3, 2, 2, 4)
    assert (pool.ends, pool.held_share) == ("in 1 h 00 min", 60.0)
    answer = nodes_answer([], rows, None)
    assert answer.good.endswith("and 3 relays.")
    assert answer.bad == "2 relays are late or refused."


def test_a_relay_of_many_pools_shows_those_with_the_most_seats() -> None:
    pools = {
        f"lic_a:f{n}": Shares(
            capacity=9, allotments={"r": Allotment(seats=n, fence=1, expires_at=NOW - 1)}
        )
        for n in range(POOLS_SHOWN + 3)
    }
    (row,) = relay_rows(Authority(pools=pools, relays={"r": Known(heard_at=NOW)}), {}, {}, {}, NOW)
    assert (len(row.pools), row.more) == (POOLS_SHOWN, 3)
    assert (row.pools[0].feature, row.pools[0].ends) == (f"f{POOLS_SHOWN + 2}", "over")


def test_who_was_not_heard_since_a_restore_is_awaited() -> None:
    authority = Authority(
        relays={"r": Known(heard_at=NOW, epoch=1)}, epoch=2, doubt_until=NOW + MINUTE
    )
    (row,) = relay_rows(authority, {}, {}, {}, NOW)
    assert row.state == "Awaited"
    heard = Authority(relays={"r": Known(heard_at=NOW, epoch=1)})
    (row,) = relay_rows(heard, {}, {}, {}, NOW, draining={"r"})
    assert (row.state, row.tone) == ("Draining", "leaving")


def test_a_relay_says_how_it_stands_with_its_authority() -> None:
    pool = RegionPool(pool_id="lic_a:editor", seats=4, held=1, want=0, left=MINUTE, granting=True)
    status = RegionStatus(
        authority="https://center.test",
        relay="key_oslo",
        epoch=1,
        heard_ago=3 * SECOND,
        fault="No answer within 5 s.",
        careful_for=MINUTE,
        pools=(pool,),
    )
    view = region_view(status, {})
    assert view.heard == "heard 3 s ago"
    assert view.careful == "For 1 min 00 s only those get seats who had one."
    assert view.pools[0].free == 3
    answer = nodes_answer([], [], view)
    assert (answer.bad, answer.rest) == ("The authority gave no answer.", "This server is a relay.")


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


@pytest.mark.parametrize("role", ROLES)
def test_every_role_sees_the_same(world: Api, role: Role) -> None:
    world.services.ledger.register(server("alpha"))
    page = get(world, "nodes", sign_in(world, world.keys[role]))
    assert page.status == 200
    said = read(page)
    assert "alpha, process 1" in said
    assert "No relay yet." in said
    assert b'<form method="post"' not in page.body.split(b"<main")[1]
