"""The server takes and answers what spec/wire says, and the OpenAPI document describes just that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tests.api_harness import CURRENT, Api, api
from tests.wire.vectors import ANSWERS, REQUESTS, SOCKET, TOKENS

from sojourn.api import seat_messages
from sojourn.api.app import CALLS
from sojourn.api.openapi import document
from sojourn.api.seat_handshake import LIVE, PROTOCOL, proof_of
from sojourn.api.seat_messages import Said, Talk, Unwanted
from sojourn.errors import Overloaded
from sojourn.lease import Beat
from sojourn.ledger import LicenseChange
from sojourn.license import LicenseStatus, Policy, Pool
from sojourn.token import TokenKind, is_whole, new_token
from sojourn.wire.problems import refuse

DOCUMENT: dict[str, Any] = json.loads(document(CALLS))
ME = ("ada", "ada@studio-7")
NEVER_ASKED_FOR = {"overdraft", "busy"}
"""Answers that need a policy, or a server in trouble."""


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=1) as world:
        yield world


def held(world: Api) -> str:
    return str(world.seat(*ME)["token"])


def expired(world: Api) -> str:
    token = held(world)
    world.clock.advance(seconds=91)
    return token


def released(world: Api) -> str:
    token = held(world)
    world.call("DELETE", CURRENT, bearer=token)
    return token


def suspended(world: Api) -> str:
    change = LicenseChange(status=LicenseStatus.SUSPENDED)
    world.services.licenses.change(world.license_id, change, actor="test")
    return ""


GIVEN: dict[str, Callable[[Api], str]] = {
    "a free seat": lambda _: "",
    "others hold all seats": lambda world: str(world.seat("bob")["token"]),
    "a seat of mine elsewhere": lambda world: str(world.seat("ada", "ada@laptop")["token"]),
    "a suspended license": suspended,
    "a lease": held,
    "a lease that expired": expired,
    "a lease that was released": released,
}


def shape(value: Any) -> Any:
    """Return what clients rely on: names and kinds, codes and whether, but no counts and no texts."""
    if isinstance(value, dict):
        exact = ("code", "status", "type", "success", "resumed", "resumable", "reason", "state")
        return {k: v if k in exact else shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_the_server_answers_as_is_written(world: Api, case: dict[str, Any]) -> None:
    token = GIVEN[case["given"]](world)
    proofs = {
        "licenseKey": world.license_key,
        "leaseToken": token,
        "mistypedKey": "sjk_" + "0" * 49,
        "none": None,
    }
    body = json.dumps(case["body"]).replace("$leaseToken", token) if "body" in case else ""
    kind = [("content-type", case["type"])] if "type" in case else []
    answer = world.call(
        case["method"],
        case["path"],
        bearer=proofs[case["proof"]],
        body=body.encode(),
        headers=kind,
    )
    wanted = ANSWERS[case["answer"]]
    assert answer.status == wanted["status"], answer.body
    assert answer.header("content-type") == wanted["type"]
    assert answer.header("retry-after") == wanted.get("retryAfter")
    assert shape(answer.json) == shape(wanted["body"])


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_the_document_describes_it(case: dict[str, Any]) -> None:
    operation = DOCUMENT["paths"][case["path"]][case["method"].lower()]
    if "body" in case:
        content = operation["requestBody"]["content"]["application/json"]
        fits = jsonschema_rs.is_valid(_with(content["schema"]), case["body"])
        assert fits == (case["answer"] != "misspelled")
    answer = ANSWERS[case["answer"]]
    said = operation["responses"][str(answer["status"])]
    assert jsonschema_rs.is_valid(_with(said["content"][answer["type"]]["schema"]), answer["body"])
    assert ("Retry-After" in said.get("headers", {})) == ("retryAfter" in answer)


def test_the_document_serves_generators() -> None:
    """No default (such a field is demanded), no constant, no code without a type, nothing that is an object
    and no more is said."""
    found: list[str] = []

    def look(value: Any, place: str) -> None:
        if isinstance(value, list):
            for each in value:
                look(each, place)
        elif isinstance(value, dict):
            if value.keys() & {"default", "const"} and value.keys() & {"type", "anyOf", "$ref"}:
                found.append(f"{place}: {sorted(value)}")
            if value.get("type") == "object" and not value.keys() & OF_OBJECTS:
                found.append(f"{place}: an object")
            if place.endswith(("/code", "/status")) and "enum" in value and "type" not in value:
                found.append(f"{place}: an enum")
            for name, each in value.items():
                if name not in ("example", "default", "const"):
                    look(each, f"{place}/{name}")

    look({key: DOCUMENT[key] for key in ("paths", "components")}, "")
    assert [each for each in found if "Idempotency-Replayed" not in each] == []


OF_OBJECTS = {"properties", "additionalProperties"}


def _with(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": DOCUMENT["components"]}


def test_every_answer_is_asked_for() -> None:
    assert ANSWERS.keys() - {case["answer"] for case in REQUESTS} == NEVER_ASKED_FOR


def test_a_busy_server_says_so() -> None:
    reply = refuse(Overloaded("The server has more to do than it can."))
    wanted = ANSWERS["busy"]
    assert shape(json.loads(reply.body)) == shape(wanted["body"])
    assert dict(reply.own)[b"retry-after"].decode() == wanted["retryAfter"]


def test_messages_of_the_server() -> None:
    pool = Pool(license_id="lic_x", feature="editor", policy=Policy(capacity=1))
    changed = Policy(capacity=1, heartbeat_interval=20_000, lost_after=60_000)
    other = msgspec.structs.replace(pool, policy=changed)
    said = {
        "open": seat_messages.opened(pool, 90.0),
        "alive": seat_messages.alive(pool, 87.4),
        "ask": seat_messages.ASK,
        "needed": seat_messages.NEEDED,
        "policy": seat_messages.policy(other),
        "session_expired": seat_messages.SESSION_EXPIRED,
        "superseded": seat_messages.SUPERSEDED,
        "lost": seat_messages.lost("revoked", resumable=False),
        "lost, resumable": seat_messages.lost("expired", resumable=True),
    }
    written = {each["name"]: each["text"] for each in SOCKET["serverSays"]}
    assert {name: json.loads(text) for name, text in said.items()} == written


@pytest.mark.parametrize("case", SOCKET["clientSays"], ids=lambda case: json.dumps(case["text"]))
def test_messages_of_a_client(case: dict[str, Any]) -> None:
    said = Talk(0.0).read({"text": json.dumps(case["text"])}, 0.0)
    if case["means"] == "beat":
        times = [None if x not in case else case[x] * 1000 for x in ("idleFor", "nextIn")]
        assert said == Beat(idle_for=times[0], next_in=times[1])
    else:
        assert said is Said(case["means"])


@pytest.mark.parametrize("case", SOCKET["notUnderstood"], ids=lambda case: repr(case["raw"]))
def test_what_a_server_does_not_understand(case: dict[str, Any]) -> None:
    with pytest.raises(Unwanted) as why:
        Talk(0.0).read({"text": case["raw"]}, 0.0)
    assert why.value.code == case["code"]


def test_codes_and_handshake() -> None:
    codes = {case["code"] for case in SOCKET["closed"]}
    names = ("NORMAL", "RESTART", "SILENT", "TAKEN", "LOST")
    assert {getattr(seat_messages, name) for name in names} <= codes
    assert (SOCKET["path"], SOCKET["protocol"]) == (LIVE, PROTOCOL)
    scope = {"headers": [], "subprotocols": SOCKET["offers"]}
    assert proof_of(scope) == ("$leaseToken", SOCKET["chosen"])


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_have_their_shape(world: Api, name: str) -> None:
    kinds = {"session": "sjs_", "license": "sjk_", "api": "sja_", "lease": "sjl_"}
    kind = TokenKind(kinds[name])
    made = held(world) if kind is TokenKind.LEASE else new_token(kind)
    for token in (made, TOKENS[name]["sample"]):
        assert re.fullmatch(TOKENS[name]["pattern"], token)
    if kind is not TokenKind.LEASE:
        assert is_whole(TOKENS[name]["sample"])
