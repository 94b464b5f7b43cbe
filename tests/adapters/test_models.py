"""Typed session data, on each adapter."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI, Request
from flask import Flask, jsonify, session
from starlette.testclient import TestClient
from tests.adapters.asgi_site import World, current
from tests.adapters.cases import Browser, wsgi_driver
from tests.adapters.django_project import AUTH, OURS

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.flask import Sojourn, visit
from sojourn.data import SessionData
from sojourn.errors import InvalidInput
from sojourn.typed import key_of


class Size(enum.IntEnum):
    LARGE = 3


class Item(msgspec.Struct):
    name: str
    price: Decimal = Decimal(0)


class Cart(msgspec.Struct):
    items: list[Item] = []
    since: datetime | None = None
    by_number: dict[int, Size] = {}
    owner: UUID | None = None
    raw: bytes = b""


class PydanticItem(pydantic.BaseModel):
    name: str
    price: Decimal = Decimal(0)


class PydanticCart(pydantic.BaseModel):
    items: list[PydanticItem] = []
    since: datetime | None = None
    by_number: dict[int, Size] = {}
    owner: UUID | None = None
    raw: bytes = b""


@dataclass
class DataItem:
    name: str
    price: Decimal = Decimal(0)


@dataclass
class DataCart:
    items: list[DataItem] = field(default_factory=list)
    since: datetime | None = None
    by_number: dict[int, Size] = field(default_factory=dict)
    owner: UUID | None = None
    raw: bytes = b""


KINDS: list[tuple[Any, Any]] = [(Cart, Item), (PydanticCart, PydanticItem), (DataCart, DataItem)]


def stored(data: SessionData) -> SessionData:
    """What the next request reads."""
    after = SessionData()
    after.replace(msgspec.json.decode(msgspec.json.encode({**data.stored, **data.delta().set})))
    return after


@pytest.mark.parametrize(("kind", "item"), KINDS)
def test_a_model_comes_back_as_it_was(kind: Any, item: Any) -> None:
    data = SessionData()
    cart = data.model(kind)
    assert not data.modified
    cart.items.append(item(name="pen", price=Decimal("1.50")))
    cart.since = datetime(2026, 11, 30, tzinfo=UTC)
    cart.by_number[7] = Size.LARGE
    cart.owner = UUID(int=7)
    cart.raw = b"abc"
    after = stored(data)
    again = after.model(kind)
    assert again == cart
    assert again is not cart
    assert after.model(kind) is again
    assert after.delta().set == {}
    again.items[0].price += 1
    assert set(after.delta().set) == {key_of(kind)}
    assert stored(after).model(kind).items[0].price == Decimal("2.50")


def test_a_model_has_the_key_of_its_name_or_another() -> None:
    class ShoppingCart(Cart):
        pass

    data = SessionData()
    data.model(ShoppingCart).raw = b"x"
    data.model(ShoppingCart, "second").raw = b"y"
    assert set(data.delta().set) == {"shopping_cart", "second"}


def test_a_key_that_is_set_since_wins() -> None:
    data = SessionData()
    cart = data.model(Cart)
    cart.raw = b"x"
    data["cart"] = {"raw": "eQ=="}
    assert data.delta().set == {"cart": {"raw": "eQ=="}}
    assert data.model(Cart) == Cart(raw=b"y")
    del data["cart"]
    assert data.model(Cart) == Cart()


@pytest.mark.parametrize(("kind", "_"), KINDS)
def test_what_does_not_fit_is_named_and_not_shown(kind: Any, _: Any) -> None:
    data = SessionData()
    data.replace({"x": {"items": [{"name": "n", "price": "secret"}]}})
    with pytest.raises(InvalidInput, match=r"session\['x'\] is no ") as said:
        data.model(kind, "x")
    assert "secret" not in str(said.value)

    class Bare(msgspec.Struct):
        name: str

    with pytest.raises(InvalidInput, match="session"):
        data.model(Bare)


# On each adapter


def add(data: Any, kind: Any, item: Any) -> int:
    cart = data.model(kind)
    cart.items.append(item(name="pen"))
    return len(cart.items)


def asgi(world: World) -> Callable[[str], Any]:
    app = FastAPI()

    @app.post("/add/{number}")
    async def put(request: Request, number: int, login: bool = False) -> Any:
        cart = request.session.model(KINDS[number][0])  # type: ignore[attr-defined]  # Starlette says dict
        if login:
            await current(request).begin("ann")
        cart.items.append(KINDS[number][1](name="pen"))
        return {"n": len(cart.items)}

    app.add_middleware(SessionMiddleware, desk=world.desk)
    client = TestClient(app)
    return lambda url: client.post(url).json()


def flask(world: World) -> Callable[[str], Any]:
    app = Flask(__name__)
    Sojourn(app, desk=world.desk)

    @app.post("/add/<int:number>")
    def put(number: int) -> Any:
        return jsonify(n=add(session, *KINDS[number]))

    client = app.test_client()
    return lambda url: client.post(url).json


def put(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"n": add(request.session, *KINDS[number])})


urlpatterns = [path("add/<int:number>", put)]


def django(_: World) -> Callable[[str], Any]:
    browser = Browser(wsgi_driver(WSGIHandler()))
    return lambda url: browser.post(url).json


@pytest.mark.parametrize("number", range(len(KINDS)))
@pytest.mark.parametrize("adapter", [asgi, flask, django])
def test_changes_are_saved_with_the_response(
    adapter: Callable[[World], Callable[[str], Any]], number: int
) -> None:
    world = World()
    options = {
        "ROOT_URLCONF": __name__,
        "SOJOURN": {"desk": world.desk},
        "MIDDLEWARE": [OURS, AUTH],
    }
    with override_settings(**options):
        post = adapter(world)
        assert [post(f"/add/{number}")["n"] for _ in range(3)] == [1, 2, 3]


def test_a_model_outlives_a_sign_in() -> None:
    """What is changed after `begin` is saved, too, though the session is another."""
    post = asgi(World())
    assert [post("/add/0"), post("/add/0?login=true"), post("/add/0")] == [
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]


class Named(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    items: list[str] = pydantic.Field(default=[], alias="itemList")
    read: list[str] = pydantic.Field(default=[], validation_alias="readAs")
    written: list[str] = pydantic.Field(default=[], serialization_alias="writtenAs")

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def count(self) -> int:
        return len(self.items)


def test_what_pydantic_calls_otherwise_or_computes_comes_back() -> None:
    data = SessionData()
    named = data.model(Named)
    named.items.append("pen")
    named.read.append("a")
    named.written.append("b")
    again = stored(data).model(Named)
    assert (again.items, again.read, again.written, again.count) == (["pen"], ["a"], ["b"], 1)


def test_what_was_put_there_under_an_alias_is_read() -> None:
    data = SessionData()
    data.replace({"named": {"itemList": ["pen"]}})
    assert data.model(Named).items == ["pen"]


class Stats(msgspec.Struct):
    hits: int = 0


def test_data_that_is_cleared_forgets_its_models() -> None:
    data = SessionData()
    data.model(Stats).hits += 1
    data.clear()
    assert data.delta().set == {}
    assert data.model(Stats).hits == 0


def test_a_model_that_was_changed_is_no_other_data_s() -> None:
    data = SessionData()
    data.model(Stats).hits += 1
    data.replace({})
    assert data.delta().set == {}


def test_a_model_that_nothing_was_stored_of_outlives_a_sign_in() -> None:
    data = SessionData()
    stats = data.model(Stats)
    assert data.delta().set == {}
    data.replace({})
    stats.hits += 1
    assert data.delta().set == {"stats": {"hits": 1}}


@pytest.mark.parametrize("ending", ["end", "clear"])
def test_a_sign_out_forgets_models_too(ending: str) -> None:
    """Nothing of what was changed before begins a visitor's session."""
    world = World()
    app = Flask(__name__)
    Sojourn(app, desk=world.desk)

    @app.post("/in")
    def sign_in() -> Any:
        visit.begin("ann")
        return jsonify()

    @app.post("/out")
    def sign_out() -> Any:
        session.model(Stats).hits += 1  # type: ignore[attr-defined]  # Flask says SessionMixin
        if ending == "end":
            visit.end()
        else:
            session.clear()
        return jsonify()

    client = app.test_client()
    if ending == "end":
        client.post("/in")
        assert "Max-Age=0" in client.post("/out").headers["Set-Cookie"]
    else:
        assert "Set-Cookie" not in client.post("/out").headers
    assert world.service.list() == []
