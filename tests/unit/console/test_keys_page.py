"""Who sees API keys at the console: whom the API tells of them, too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.api_harness import ADMIN, Answer, Api, api
from tests.unit.console.test_console import SECRET, get, sign_in

from sojourn.api.console import lists
from sojourn.ledger import Role

LINK = b'href="keys"'


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


@pytest.fixture
def looker(world: Api, role: Role) -> str:
    return sign_in(world, world.keys[role])


def make(world: Api, *names: str) -> list[str]:
    made = []
    for name in names:
        world.clock.advance(milliseconds=1)
        made.append(world.services.keys.create(name, Role.VIEWER, actor="test")[0].id)
    return made


def shown(page: Answer) -> list[str]:
    return re.findall(r"<bdi>(key_\w+)</bdi>", page.body.decode())


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
class TestWhoMayNotSeeKeys:
    def test_is_told_so(self, world: Api, role: Role, looker: str) -> None:
        (made,) = make(world, "the vault")
        page = get(world, "keys", looker)
        assert page.status == 403
        assert f"A key of role {role.value} may not see this." in page.body.decode()
        assert b"the vault" not in page.body
        assert made.encode() not in page.body

    @pytest.mark.parametrize("place", ["overview", "doctor", "sessions", "keys"])
    def test_is_not_led_there(self, world: Api, looker: str, place: str) -> None:
        assert LINK not in get(world, place, looker).body

    def test_reads_no_names_of_keys_in_the_audit(self, world: Api, looker: str) -> None:
        (made,) = make(world, "the vault")
        world.services.licenses.delete(world.license_id, actor=f"key:{made}")
        page = get(world, "audit", looker)
        assert page.status == 200
        assert made.encode() in page.body
        assert b"the vault" not in page.body


class TestAdministrators:
    def test_see_keys_and_are_led_there(self, world: Api) -> None:
        make(world, "the vault")
        cookie = sign_in(world, ADMIN)
        page = get(world, "keys", cookie)
        assert page.status == 200
        assert b"the vault" in page.body
        assert LINK in page.body

    def test_read_the_names_of_keys_in_the_audit(self, world: Api) -> None:
        (made,) = make(world, "the vault")
        world.services.licenses.delete(world.license_id, actor=f"key:{made}")
        page = get(world, "audit", sign_in(world, ADMIN))
        assert f"key:{made} is the vault" in page.body.decode()

    def test_read_all_keys_page_by_page_the_newest_first(
        self, world: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "ROWS_MAX", 3)
        make(world, *(f"key {i}" for i in range(8)))
        cookie, path, found = sign_in(world, ADMIN), "keys", []
        while path:
            page = get(world, path, cookie)
            found += shown(page)
            more = re.search(r'href="(keys\?after=[^"]+)"', page.body.decode())
            path = more[1] if more else ""
        every = [key.id for key in world.services.keys.list()]
        assert found == every[::-1]
