"""The OpenAPI document tells the truth: Schemathesis asks everything it allows, and much it does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.generation.hypothesis.builder import (
    HypothesisTestConfig,
    create_test,
)
from schemathesis.generation.hypothesis.builder import HypothesisTestMode as Mode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.api_harness import ADMIN, Served, World, served

from sojourn.api.app import CALLS
from sojourn.api.call import Who
from sojourn.api.openapi import document
from sojourn.service.seats import SeatCall
from sojourn.session import Begin
from sojourn.token import hash_token
from sojourn.wire.bodies import STATUS

BEYOND_A_SCHEMA = (
    "invalid_policy",  # values that fit one by one, but not together
    "invalid_schedule",  # likewise
    "restricts nothing",  # a scope of which all may be left out, but not at once
    "is no range of addresses",
    ": missing.",  # needed with one proof, and not with another
    "must be after",
    "must lie before",
    "So many hours are not told of",
    "So long a time is not told of",
    "Name both licenseId and feature",
    "The relay speaks version",
    "A beat speaks of",
    "Seats are held under the fence",
    "Seats are moved from one place to another.",  # and not to the same
    "Seats are moved one or more at once",  # for less than a millisecond is for no time
    "A name is",  # nothing but spaces is none
    "lies in the past",
    "between the years",
    "got `float`",  # JSON Schema takes 5.0 for an integer
    "give one of the two",
    "goes with",
    "Only a user can be impersonated",
    "actor: takes",
    "a character that nobody can see",
    "its checksum is wrong",
    "A webhook's URL",
    "Give one of deliveryId",
    "was used before",  # the key of another request
)
"""Words of refusals that no schema could have foretold."""
PEOPLE = frozenset({Who.SIGN_IN, Who.PERSON})
NEVER_DRAWN = {
    "too_many_requests",  # reserved
}

DOCUMENT = json.loads(document(CALLS))
NAMES = [call.name for call in CALLS]
few = hypothesis.settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def schema() -> OpenApiSchema:
    return schemathesis.openapi.from_dict(DOCUMENT)


def send_each(schema: OpenApiSchema, name: str, ask: Callable[[Any], None], *modes: Mode) -> None:
    """Have a call asked everything that is drawn for it.

    By the worker that asks it: `schema.parametrize` has each of them draw for all calls, as it collects.
    """
    operation = schema.find_operation_by_id(name)
    config = HypothesisTestConfig(project=schema.config, modes=list(modes), explicit_settings=few)
    create_test(operation=operation, test_func=ask, config=config)()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    with served(World(capacity=3)) as server:
        yield server
        tallies = server.world.app.context.metrics.calls.values()
        assert sum(tally.codes.get("internal", 0) for tally in tallies) == 0


@pytest.fixture(scope="module")
def proofs(server: Served) -> dict[str, str]:
    """A proof that each call takes, by the call's name."""
    world = server.world
    call = SeatCall(
        key_hash=hash_token(world.license_key), feature="editor", user_id="u", client_id="c"
    )
    (seat,) = world.services.seats.acquire([call])
    by_who = {
        Who.OPERATOR: ADMIN,
        Who.BACKEND: ADMIN,
        Who.SIGN_IN: ADMIN,
        Who.PERSON: ADMIN,
        Who.CLIENT: world.license_key,
        Who.HOLDER: str(seat.token),  # type: ignore[union-attr]  # there is a free seat
        Who.SELF: "sjs_",  # of a session of one's own, see below
        Who.ANYONE: "",
    }
    return {call.name: by_who[call.who] for call in CALLS}


CALLS_BY_NAME = {call.name: call for call in CALLS}


def ask(case: Any, server: Served, proof: str) -> Any:
    headers = {"Authorization": f"Bearer {proof}"} if proof else {}
    call = CALLS_BY_NAME[case.operation.definition.raw["operationId"]]
    if proof and call.who is Who.SELF:
        (begun,) = server.world.services.sessions.begin([Begin(user_id="u")])
        headers["Authorization"] = f"Bearer {begun.token}"  # type: ignore[union-attr]  # there is no limit
    elif proof and call.who in PEOPLE:  # one of its own: the last call may have ended the session
        (begun,) = server.world.services.sessions.begin([Begin(user_id="u")])
        headers["X-Session-Token"] = str(begun.token)  # type: ignore[union-attr]  # there is no limit
    return case.call(base_url=server.url, headers=headers, timeout=10)


@pytest.mark.parametrize("name", NAMES)
def test_with_a_proof_every_answer_is_as_described(
    name: str,
    schema: OpenApiSchema,
    server: Served,
    proofs: dict[str, str],
    pytestconfig: pytest.Config,
) -> None:
    """Drawn at random, and an odd value of each field; not the latter where it must be quick."""

    def check(case: Any) -> None:
        response = ask(case, server, proofs[name])
        checks = [
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            unsupported_method,
        ]
        too_large = response.status_code == 413  # is refused, before anybody looks what it holds
        if "requestBody" in case.operation.definition.raw and not too_large:
            checks.append(
                negative_data_rejection
            )  # a query that does not fit may look fitting once sent
        if not any(words in response.text for words in BEYOND_A_SCHEMA):
            checks.append(positive_data_acceptance)
        case.validate_response(response, checks=checks)

    odd = () if pytestconfig.getoption("quick") else (Mode.COVERAGE,)
    send_each(schema, name, check, Mode.EXAMPLES, Mode.FUZZING, *odd)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_proof_nothing_is_answered_but_how_to_prove(
    name: str, schema: OpenApiSchema, server: Served
) -> None:
    """Drawn at random alone: test_api_matrix asks each call without a proof."""

    def check(case: Any) -> None:
        response = ask(case, server, "")
        assert response.status_code < 500
        own_method = case.method == case.operation.method.upper()
        if case.operation.definition.raw["security"] and own_method:
            assert response.status_code in (400, 401, 413, 415)
        case.validate_response(
            response,
            checks=[not_a_server_error, response_schema_conformance, content_type_conformance],
        )

    send_each(schema, name, check, Mode.EXAMPLES, Mode.FUZZING)


class TestDocument:
    def test_every_code_is_documented_where_it_can_come(self) -> None:
        documented = {
            code
            for path in DOCUMENT["paths"].values()
            for operation in path.values()
            for response in operation["responses"].values()
            for content in response["content"].values()
            for code in _codes(content["schema"])
        }
        # What no call answers but the server may: at a path or by a method that is not described.
        anywhere = {"not_found", "method_not_allowed"}
        assert documented | anywhere | NEVER_DRAWN == set(STATUS)

    def test_every_operation_says_who_may_call_it_and_what_it_does(self) -> None:
        for path in DOCUMENT["paths"].values():
            for operation in path.values():
                assert operation["summary"]
                assert isinstance(operation["security"], list)
        names = [op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()]
        assert len(names) == len(set(names)) == len(CALLS)

    def test_it_refers_to_nothing_that_is_not_there(self) -> None:
        text = json.dumps(DOCUMENT)
        for name in _references(DOCUMENT):
            assert name in DOCUMENT["components"]["schemas"]
        assert "http://" not in text
        assert "\\\\A" not in text

    def test_it_is_served_as_it_is(self, server: Served) -> None:
        assert httpx.get(f"{server.url}/openapi.json").json() == DOCUMENT


def _codes(schema: dict[str, Any]) -> list[str]:
    return [
        code
        for part in schema.get("allOf", ())
        for code in part.get("properties", {}).get("code", {}).get("enum", ())
    ]


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
