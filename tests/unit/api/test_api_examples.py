"""The examples of the OpenAPI document are what the calls take and answer."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from sojourn.api.app import CALLS
from sojourn.api.call import Call
from sojourn.api.openapi import document
from sojourn.token import is_whole

DOCUMENT: dict[str, Any] = json.loads(document(CALLS))
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def parts(operation: dict[str, Any]) -> list[dict[str, Any]]:
    good = [x for status, x in operation["responses"].items() if status.startswith("2")]
    return [*good, *filter(None, [operation.get("requestBody")])]


@pytest.mark.parametrize("operation", [x for _, x in OPERATIONS], ids=[x for x, _ in OPERATIONS])
def test_each_call_has_examples_that_fit(operation: dict[str, Any]) -> None:
    assert operation["tags"]
    for part in parts(operation):
        for content in part["content"].values():
            schema = {**content["schema"], "components": DOCUMENT["components"]}
            jsonschema_rs.validate(schema, content["example"])


@pytest.mark.parametrize("call", [x for x in CALLS if x.body is not None], ids=lambda x: x.name)
def test_each_body_is_one_that_its_call_reads(call: Call) -> None:
    operation = DOCUMENT["paths"][call.path][call.method.lower()]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    msgspec.json.decode(json.dumps(example).encode(), type=call.body)


def test_examples_say_something() -> None:
    """Of an acquire, and of who holds seats: values as people would see them."""
    seats = DOCUMENT["paths"]["/api/licenses/sessions"]
    body = seats["post"]["requestBody"]["content"]["application/json"]["example"]
    assert (body["feature"], body["userId"]) == ("editor", "ada")
    answer = seats["post"]["responses"]["201"]["content"]["application/json"]["example"]
    assert answer["data"]["fence"] == 4711
    assert answer["data"]["token"].startswith("sjl_")
    (lease,) = seats["get"]["responses"]["200"]["content"]["application/json"]["example"]["data"][
        "items"
    ]
    assert lease["device"]["name"] == "Chrome on Windows"
    assert lease["licenseName"] == "Acme Works"


def test_no_example_opens_anything() -> None:
    """Made-up tokens have wrong checksums: whoever pastes one is told so before a store is asked."""
    found = {word for word in document(CALLS).decode().split('"') if word[:4] in ("sjs_", "sja_")}
    assert found
    assert not any(is_whole(word) for word in found if "…" not in word and " " not in word)
