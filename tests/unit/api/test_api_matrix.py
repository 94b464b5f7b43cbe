"""Who is let in where: each call of the OpenAPI document, asked with each kind of credential."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests import authorization
from tests.api_harness import Api

from sojourn.api.app import CALLS
from sojourn.api.call import Call, Who
from sojourn.ledger import Role
from sojourn.service.keys import GRANTS

OPEN = {
    Who.CLIENT: {"license key", "user's JWT", "lease token"},
    Who.HOLDER: {"lease token"},
    Who.SELF: {"session token", "person's cookie"},
}
"""What lets in where no API key does. Written out: a call that takes another proof by accident fails here."""


@pytest.fixture(scope="module")
def world() -> Iterator[Api]:
    with authorization.world() as made:
        yield made


@pytest.fixture(scope="module")
def found(world: Api) -> dict[str, dict[str, bool]]:
    return dict(authorization.rows(world))


def due(call: Call, kinds: list[str]) -> set[str]:
    """Say which kinds of credential a call is declared to take."""
    if call.who is Who.ANYONE:
        return set(kinds)
    if call.may is None:
        return OPEN[call.who]
    return {f"key: {role.value}" for role in Role if call.may in GRANTS[role]}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_call_lets_in_whom_it_is_declared_for_and_nobody_else(
    call: Call, found: dict[str, dict[str, bool]]
) -> None:
    let_in = found[f"`{call.method} {call.path}`"]
    assert {kind for kind, yes in let_in.items() if yes} == due(call, list(let_in))


def test_the_document_has_every_call_and_says_its_roles(world: Api) -> None:
    told = {each["operationId"]: each for _, _, each in authorization.operations(world)}
    assert set(told) == {call.name for call in CALLS}
    for call in CALLS:
        roles = told[call.name].get("x-roles")
        granted = [role.value for role in Role if call.may in GRANTS[role]]
        assert roles == (granted if call.may is not None else None)
        assert bool(told[call.name]["security"]) is (call.who is not Who.ANYONE)


def test_the_table_for_people_is_how_it_is(found: dict[str, dict[str, bool]]) -> None:
    """If not: python -m tests.authorization"""
    assert authorization.printed() == authorization.table(list(found.items()))


def test_columns_that_are_left_out_open_nothing(found: dict[str, dict[str, bool]]) -> None:
    for call, let_in in found.items():
        for kind in authorization.HEADS:
            assert let_in[kind] is let_in["nobody"], (call, kind)
