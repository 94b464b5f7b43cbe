"""No text that hides something comes in by any field of any call."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.api_harness import ADMIN, Api, api

from sojourn.api.app import CALLS
from sojourn.api.call import Who
from sojourn.ledger import Role
from sojourn.session import Begin, Begun

HIDDEN = ("a\u202eb", "a\u200bb", "a\x1b[2Jb", "a\x00b", "a\x7fb", "a\x85b", "a\u2066b", "a\ufeffb")
FREE = {"data", "set", "unset", "userAgent", "token", "ending", "ids", "replaces"}
"""Fields that are an application's own or are cleaned, and what is only compared: proofs, ids that end."""
OLD = {("cut_off_sessions", ("userId",))}
"""What operators may name though it could not be stored any more: it may be from before the rule."""


@pytest.fixture(scope="module")
def world() -> Iterator[Api]:
    with api(dev=True, capacity=10) as made:
        yield made


@pytest.fixture(scope="module")
def document(world: Api) -> dict[str, Any]:
    found: dict[str, Any] = world.call("GET", "/openapi.json").json
    return found


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def leaves(
    schema: dict[str, Any], document: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the places of texts in a body."""
    schema = resolved(schema, document)
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from leaves(each, document, path)
    for name, inner in schema.get("properties", {}).items():
        if name not in FREE:
            yield from leaves(inner, document, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from leaves(schema["items"], document, (*path, "[]"))
    if isinstance(schema.get("additionalProperties"), dict):
        yield (*path, "{}")
    kinds = schema.get("type", ())
    if path and ("string" in kinds if isinstance(kinds, list) else kinds == "string"):
        yield path


def planted(body: Any, path: tuple[str, ...], text: str) -> Any:
    """Return a body with a text in a place."""
    if not path:
        return text
    if path[0] == "[]":
        return [planted(None, path[1:], text)]
    made = copy.copy(body) if isinstance(body, dict) else {}
    if path[0] == "{}":
        value = next(iter(made.values()), {"capacity": 1})
        return {text: value}
    made[path[0]] = planted(made.get(path[0]), path[1:], text)
    return made


def proof(world: Api, who: Who) -> dict[str, Any]:
    if who is Who.OPERATOR:
        return {"bearer": ADMIN}
    if who is Who.CLIENT:
        return {"bearer": world.license_key}
    if who is Who.HOLDER:
        return {"bearer": world.seat("holder")["token"]}
    (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    if who is Who.SELF:
        return {"bearer": begun.token}
    return {"bearer": world.keys[Role.APP], "headers": [("x-session-token", begun.token)]}


WITH_BODY = [call for call in CALLS if call.body is not None]


@pytest.mark.parametrize("call", WITH_BODY, ids=lambda call: call.name)
def test_no_field_takes_what_nobody_sees(call: Any, world: Api, document: dict[str, Any]) -> None:
    described = document["paths"][call.path][call.method.lower()]["requestBody"]
    content = described["content"]["application/json"]
    examples = [each["value"] for each in content.get("examples", {}).values()]
    shown = dict(content.get("example") or next(iter(examples), {}))
    shown.pop("licenseId", None)  # of a license that is not here
    places = {each for each in leaves(content["schema"], document) if (call.name, each) not in OLD}
    for place in places:
        for text in HIDDEN:
            body = planted(shown, place, text)
            path = call.path.replace("{sessionId}", world.session()).replace(
                "{licenseId}", world.license_id
            )
            for name in call.params:
                path = path.replace("{" + name + "}", "x")
            answer = world.call(call.method, path, json=body, **proof(world, call.who))
            refused = (
                (400, 403, 404) if place in (("sessionId",), ("licenseId",)) else (400, 404)
            )  # of no session
            assert answer.status in refused, (place, ascii(text), answer.body)


@pytest.mark.parametrize("call", [c for c in CALLS if c.params], ids=lambda call: call.name)
def test_nor_does_a_piece_of_a_path(call: Any, world: Api) -> None:
    for text in HIDDEN:
        path = call.path
        for name in call.params:
            path = path.replace("{" + name + "}", quote(text, safe=""))
        answer = world.call(call.method, path, **proof(world, call.who))
        found = answer.status == 200 and answer.data != {"ended": 0}  # what is not there has ended
        assert not found, (ascii(text), answer.body)
        assert text.encode() not in answer.body


def test_what_is_stored_has_none(world: Api) -> None:
    """Whatever was answered above."""
    told = b"".join(
        world.admin("GET", path).body
        for path in ("/api/licenses", "/api/sessions", "/api/keys", "/api/webhooks", "/api/events")
    )
    for text in HIDDEN:
        assert text.encode() not in told
