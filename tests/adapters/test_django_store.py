"""Django's session object on its own: what Django's SessionTestsMixin asks of every engine, and more.

Where ours is meant to differ, the test's docstring says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.management import call_command
from django.test import override_settings
from tests.adapters.cases import OTHER_SECRET, SECRET
from tests.adapters.django_project import SECRET_KEY

from sojourn.adapters import django_settings
from sojourn.adapters.desk import Desk
from sojourn.adapters.django import SessionStore
from sojourn.clock import DAY, ManualClock
from sojourn.cookie import SignedTokens
from sojourn.errors import InvalidInput
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.session import AtLimit
from sojourn.store import Store
from sojourn.stores.open import open_store

GOOD = "another long secret that nobody knows 2210"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(int(datetime.now(UTC).timestamp() * 1000))


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    made = open_store("memory:", clock=clock)
    desk = Desk(SessionService(made), SignedTokens([SECRET]))
    with override_settings(SOJOURN={"desk": desk}):
        yield made


@pytest.fixture
def session(store: Store) -> SessionStore:
    return SessionStore()


def again(session: SessionStore) -> SessionStore:
    return SessionStore(session.session_key)


def saved(session: SessionStore, **values: Any) -> SessionStore:
    session.update(values)
    session.save()
    return session


# A dict


def test_a_new_session_is_untouched(session: SessionStore) -> None:
    assert not session.modified
    assert not session.accessed
    assert session.get("cat") is None
    assert session.accessed


def test_store_and_pop(session: SessionStore) -> None:
    session["cat"] = "dog"
    assert session.modified
    assert session.pop("cat") == "dog"
    assert session.pop("cat", "does not exist") == "does not exist"
    assert session.pop("cat", default="does not exist") == "does not exist"
    with pytest.raises(KeyError):
        session.pop("cat")


def test_setdefault_and_update(session: SessionStore) -> None:
    assert session.setdefault("foo", "bar") == "bar"
    assert session.setdefault("foo", "baz") == "bar"
    session.update({"update key": 1})
    assert session.accessed
    assert session.modified
    assert session.get("update key") == 1
    assert session.has_key("foo")
    assert "foo" in session


@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_views_do_not_modify(session: SessionStore, view: str) -> None:
    """What is set before `modified = False` is no reason for a save."""
    assert list(getattr(session, view)()) == []
    session["key"] = 1
    session.modified = False
    session.accessed = False
    assert len(list(getattr(session, view)())) == 1
    assert session.accessed
    assert not session.modified


def test_nested_changes_count(session: SessionStore) -> None:
    """Django's own engines lose them unless `modified` is set."""
    saved(session, cart={"items": []})
    other = again(session)
    other["cart"]["items"].append(1)
    assert other.modified
    other.save()
    assert again(session)["cart"] == {"items": [1]}


def test_clear(session: SessionStore) -> None:
    saved(session, x=1)
    session.accessed = False
    session.clear()
    assert list(session.items()) == []
    assert session.accessed
    assert session.modified
    session.save()
    assert session.exists(session.session_key)
    assert again(session).load() == {}


def test_only_json(session: SessionStore) -> None:
    session["when"] = datetime.now(UTC)
    with pytest.raises(InvalidInput, match="when"):
        session.save()


# Verbs


def test_save_and_delete(session: SessionStore) -> None:
    session.save()
    assert session.session_key is not None
    assert session.exists(session.session_key)
    session.delete(session.session_key)
    assert not session.exists(session.session_key)


def test_flush(session: SessionStore) -> None:
    saved(session, foo="bar")
    key = session.session_key
    session.flush()
    assert not session.exists(key)
    assert session.session_key is None
    assert session.modified
    assert session.accessed
    assert session.is_empty()


@pytest.mark.parametrize("fresh", [True, False])
def test_cycle_key_keeps_the_data_and_kills_the_old_key(session: SessionStore, fresh: bool) -> None:
    saved(session, a=1, b="two")
    key = session.session_key
    if fresh:
        session = SessionStore(key)
    session.cycle_key()
    assert not session.exists(key)
    assert session.session_key not in (None, key)
    assert dict(session.items()) == {"a": 1, "b": "two"}
    assert again(session).load() == {"a": 1, "b": "two"}


def test_create_gives_a_key_at_once(session: SessionStore) -> None:
    """`if not request.session.session_key: request.session.create()` is what many do."""
    assert session.session_key is None
    session.create()
    key = session.session_key
    assert session.exists(key)
    session.create()
    assert session.session_key != key


def test_save_does_not_clear_data(session: SessionStore) -> None:
    session["a"] = "b"
    session.save()
    assert session["a"] == "b"


def test_must_create(session: SessionStore) -> None:
    session["a"] = 1
    session.save(must_create=True)
    with pytest.raises(CreateError):
        session.save(must_create=True)


@pytest.mark.parametrize(
    "key",
    [
        "1",
        "someunknownkey",
        "x" * 1_000_000,
        SignedTokens([OTHER_SECRET]).encode("sjs_" + "0" * 49),
    ],
)
def test_unknown_keys_are_never_adopted(session: SessionStore, store: Store, key: str) -> None:
    found = SessionStore(key)
    assert found.load() == {}
    assert found.session_key is None
    assert not found.exists(key)
    assert not found.exists(found.session_key)
    assert store.sessions() == []
    found.save()
    assert found.session_key not in (None, key)


@pytest.mark.parametrize("key", ["", "1234567", "12345678"])
def test_only_keys_signed_here_are_keys(session: SessionStore, key: str) -> None:
    """Django takes any text of eight characters for a key; we do not."""
    session._session_key = key
    assert session.session_key is None


def test_the_key_is_read_only(session: SessionStore) -> None:
    with pytest.raises(AttributeError):
        session.session_key = "x" * 40  # type: ignore[misc]  # that is the point


def test_a_save_after_an_end_revives_nothing(session: SessionStore, store: Store) -> None:
    session["x"] = "value1"
    session.save(must_create=True)
    again(session).delete()
    session["x"] = "value2"
    with pytest.raises(UpdateError):
        session.save()
    assert session.load() == {}
    assert store.sessions() == []


def test_two_saves_lose_nothing(session: SessionStore) -> None:
    saved(session, a=1)
    one, two = again(session), again(session)
    assert (one["a"], two["a"]) == (1, 1)
    saved(one, b=2)
    saved(two, c=3)
    assert again(session).load() == {"a": 1, "b": 2, "c": 3}


# Users


def test_the_session_belongs_to_whom_its_data_says(session: SessionStore, store: Store) -> None:
    saved(session, cart=1)
    key = session.session_key
    session["_auth_user_id"] = "7"
    session.save()
    assert not session.exists(key)
    (found,) = store.of("7")
    assert found.data == {"cart": 1, "_auth_user_id": "7"}
    session["_auth_user_id"] = "8"  # by hand, without login()
    session.save()
    assert store.of("7") == []
    assert store.of("8")[0].data == {"cart": 1, "_auth_user_id": "8"}
    del session["_auth_user_id"]
    session.save()
    assert store.of("8") == []
    assert again(session).load() == {"cart": 1}


def test_a_refused_sign_in_begins_nothing(store: Store) -> None:
    rules = Rules(limit=1, at_limit=AtLimit.DENY)
    desk = Desk(SessionService(store), SignedTokens([SECRET]), rules=rules)
    with override_settings(SOJOURN={"desk": desk}):
        saved(SessionStore(), _auth_user_id="7")
        with pytest.raises(PermissionDenied):
            saved(SessionStore(), _auth_user_id="7")
    assert len(store.of("7")) == 1


# Expiry


def test_the_default_expiry_is_the_rules(session: SessionStore) -> None:
    assert session.get_expiry_age() == 7 * DAY // 1000
    session.save()
    assert session.get_expiry_age() == 7 * DAY // 1000
    assert not session.get_expire_at_browser_close()


def test_seconds_are_how_long_it_may_lie_unused(session: SessionStore, clock: ManualClock) -> None:
    session.set_expiry(600)
    saved(session, x=1)
    assert session.get_expiry_age() == 600
    for _ in range(3):
        clock.advance(seconds=590)
        assert again(session).get("x") == 1
    clock.advance(seconds=601)
    assert again(session).load() == {}


def test_seconds_may_remember_for_longer_than_the_rules(
    session: SessionStore, clock: ManualClock
) -> None:
    session.set_expiry(30 * 86_400)
    saved(session, x=1)
    clock.advance(seconds=29 * 86_400)
    assert again(session).get("x") == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_date_is_the_end(session: SessionStore, clock: ManualClock, late: bool) -> None:
    """Also where it is given to a session that has long begun."""
    if late:
        saved(session, x=1)
    session.set_expiry(timedelta(seconds=600))
    saved(session, x=1)
    assert again(session).get("x") == 1
    clock.advance(seconds=601)
    assert again(session).load() == {}


def test_a_date_in_the_past_ends_it_at_once(session: SessionStore) -> None:
    session.set_expiry(-timedelta(seconds=10))
    saved(session, foo="bar")
    assert "foo" not in again(session)


def test_expiry_is_reset_and_ends_with_the_browser(session: SessionStore) -> None:
    session.set_expiry(10)
    session.set_expiry(None)
    assert session.get_expiry_age() == 7 * DAY // 1000
    session.set_expiry(0)
    assert session.get_expire_at_browser_close()


# Housekeeping and async


def test_clearsessions_forgets_what_ended(store: Store, clock: ManualClock) -> None:
    keys = [saved(SessionStore(), n=n).session_key for n in range(1_200)]
    clock.advance(seconds=10 * 86_400)
    kept = saved(SessionStore(), x=1)
    call_command("clearsessions")
    assert store.sweep(limit=500).sessions_removed == 0
    assert kept.exists(kept.session_key)
    assert not kept.exists(keys[0])


def test_async_verbs(store: Store) -> None:
    async def story() -> None:
        session = SessionStore()
        await session.aset("a", 1)
        await session.aupdate({"b": 2})
        await session.asave()
        key = session.session_key
        assert await session.aexists(key)
        other = SessionStore(key)
        assert await other.aload() == {"a": 1, "b": 2}
        assert await other.aget("a") == 1
        await other.acycle_key()
        assert not await other.aexists(key)
        assert dict(await other.aitems()) == {"a": 1, "b": 2}
        await session.aset("late", True)
        await SessionStore(other.session_key).adelete()
        with pytest.raises(UpdateError):
            await session.asave()
        await session.acreate()
        assert await session.aexists(session.session_key)
        await session.aflush()
        assert session.session_key is None
        await SessionStore.aclear_expired()

    asyncio.run(story())


# Settings


def test_the_secret_is_derived_from_the_secret_key(tmp_path: Path) -> None:
    """A key that was rotated out, and is named as a fallback, goes on verifying."""
    options = {"store": f"sqlite:///{tmp_path}/sojourn.db"}
    with override_settings(SOJOURN=options, SECRET_KEY=SECRET_KEY):
        key = saved(SessionStore(), x=1).session_key
        assert SECRET_KEY not in str(key)
    with override_settings(SOJOURN=options, SECRET_KEY=GOOD, SECRET_KEY_FALLBACKS=[SECRET_KEY]):
        assert SessionStore(key).get("x") == 1
    with override_settings(SOJOURN=options, SECRET_KEY=GOOD):
        assert SessionStore(key).get("x") is None


@pytest.mark.parametrize(
    ("options", "secret_key"),
    [
        ({"store": "memory:"}, "short"),
        ({"store": "memory:"}, "a" * 50),
        ({"store": "postgresql://u@127.0.0.1:1/x"}, "django-insecure-" + SECRET_KEY),
        ({"stores": "memory:"}, SECRET_KEY),
        ({"store": "memory:", "rules": {"timeouts": "forever"}}, SECRET_KEY),
        ({"store": "memory:", "rules": {"cookie": {"partitioned": True}}}, SECRET_KEY),
        ({"store": "memory:", "secret": "keyboard cat"}, SECRET_KEY),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], secret_key: str) -> None:
    with (
        override_settings(SOJOURN=options, SECRET_KEY=secret_key),
        pytest.raises(ImproperlyConfigured),
    ):
        SessionStore("12345678").load()


def test_djangos_cookie_settings_hold() -> None:
    with (
        override_settings(
            SOJOURN={"store": "memory:"},
            SESSION_COOKIE_NAME="sid",
            SESSION_COOKIE_SAMESITE="Strict",
            SESSION_COOKIE_SECURE=True,
            SESSION_COOKIE_AGE=3_600,
        ),
    ):
        desk = django_settings.lazy_desk.get()
        cookie, timeouts = desk.rules.cookie, desk.rules.timeouts
        assert (cookie.name, cookie.same_site, cookie.secure) == ("sid", "strict", True)
        assert (timeouts.lifetime, timeouts.idle_timeout) == (3_600_000, 3_600_000)
