"""Who sees API keys at the console: whom the API tells of them, too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.api_harness import ADMIN, Answer, Api, api
from tests.unit.console.test_console import SECRET, get, post, sign_in
from tests.unit.console.test_setup_pages import read

from sojourn.api.console import keys as pages
from sojourn.clock import DAY
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
        monkeypatch.setattr(pages, "ROWS_MAX", 3)
        make(world, *(f"key {i}" for i in range(8)))
        cookie, path, found = sign_in(world, ADMIN), "keys", []
        while path:
            page = get(world, path, cookie)
            found += shown(page)
            more = re.search(r'href="(keys\?after=[^"]+)"', page.body.decode())
            path = more[1] if more else ""
        every = [key.id for key in world.services.keys.list()]
        assert found == every[::-1]

    def test_make_one_that_is_shown_once(self, world: Api) -> None:
        cookie = sign_in(world, ADMIN)
        form = {"do": "make", "name": "dashboard", "role": "viewer", "lasts": "90 days"}
        page = post(world, "keys", cookie, **form)
        (secret,) = re.findall(r"<code>(sja_\w+)</code>", page.body.decode())
        key = world.services.keys.authenticate(secret)
        assert (key.name, key.role) == ("dashboard", Role.VIEWER)
        assert key.expires_at == key.created_at + 90 * DAY
        assert secret.encode() not in get(world, "keys", cookie).body

    @pytest.mark.parametrize(
        "wrong", [{"name": " "}, {"name": "a\u202e"}, {"role": "king"}, {"lasts": "a day"}]
    )
    def test_are_told_what_cannot_be(self, world: Api, wrong: dict[str, str]) -> None:
        before = len(world.services.keys.list())
        form = {"do": "make", "name": "dashboard", "role": "viewer", "lasts": "always"} | wrong
        page = post(world, "keys", sign_in(world, ADMIN), **form)
        assert b'class="notice failure"' in page.body
        assert b"sja_" not in page.body
        assert len(world.services.keys.list()) == before

    def test_revoke_one_after_a_question(self, world: Api) -> None:
        (made,) = make(world, "the vault")
        cookie = sign_in(world, ADMIN)
        assert "Revoke the key of the vault?" in read(get(world, f"keys?ask={made}", cookie))
        done = post(world, "keys", cookie, do="revoke", key=made)
        assert "The key of the vault is revoked." in read(done)
        assert world.services.keys.list()[-1].revoked_at is not None
        assert "Revoke the key of the vault?" not in read(get(world, f"keys?ask={made}", cookie))

    def test_who_revokes_their_own_key_is_signed_out(self, world: Api) -> None:
        key, secret = world.services.keys.create("mine", Role.ADMIN, actor="test")
        cookie = sign_in(world, secret)
        asked = read(get(world, f"keys?ask={key.id}", cookie))
        assert "It is the key that you signed in with." in asked
        assert post(world, "keys", cookie, do="revoke", key=key.id).status == 401
        assert get(world, "keys", cookie).status == 401

    def test_see_which_keys_are_used_idle_or_end_soon(self, world: Api) -> None:
        idle, used = make(world, "idle", "used")
        del idle
        world.clock.advance(milliseconds=91 * DAY)
        now = world.services.keys.now()
        world.services.keys.uses.note(used, now)
        world.services.keys.create("short", Role.VIEWER, expires_at=now + DAY, actor="test")
        page = read(get(world, "keys", sign_in(world, ADMIN)))
        assert "1 key ends within two weeks." in page
        assert re.search(r"idle key_\w+ viewer Valid Not seen in use for 90 days", page)
        assert re.search(r"used key_\w+ viewer Valid just now", page)

    @pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
    def test_alone_may_act(self, world: Api, role: Role) -> None:
        (made,) = make(world, "the vault")
        cookie = sign_in(world, world.keys[role])
        form = {"do": "make", "name": "mine", "role": "admin", "lasts": "always"}
        for said in (
            post(world, "keys", cookie, **form),
            post(world, "keys", cookie, do="revoke", key=made),
        ):
            assert b"may look, and not do this" in said.body or said.status == 403
            assert b"sja_" not in said.body
        assert [key.name for key in world.services.keys.list()][-1] == "the vault"
        assert world.services.keys.list()[-1].revoked_at is None
