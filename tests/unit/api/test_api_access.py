"""Who may call what: every role on every call, every kind of token where another is due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, FEATURE, Answer, Api, api
from tests.authorization import BODIES

from sojourn.api.app import CALLS
from sojourn.api.call import Call, Who
from sojourn.ledger import Role
from sojourn.service.keys import GRANTS, Permission
from sojourn.session import Begin, Begun
from sojourn.token import TokenKind, new_token

OPERATORS = [call for call in CALLS if call.may is not None]  # whoever calls with an API key
GUARDED = [call for call in CALLS if call.who is not Who.ANYONE]
MAY = {
    "list_leases": Permission.READ,
    "list_waiting": Permission.READ,
    "release_lease": Permission.SEATS_END,
    "force_cleanup": Permission.SEATS_END,
    "debug_seats": Permission.READ,
    "cleanup_sessions": Permission.SEATS_END,
    "session_stats": Permission.READ,
    "create_license": Permission.LICENSES_WRITE,
    "list_licenses": Permission.READ,
    "get_license": Permission.READ,
    "change_license": Permission.LICENSES_WRITE,
    "delete_license": Permission.LICENSES_WRITE,
    "set_feature": Permission.LICENSES_WRITE,
    "remove_feature": Permission.LICENSES_WRITE,
    "rotate_license_key": Permission.LICENSES_WRITE,
    "create_key": Permission.KEYS,
    "list_keys": Permission.KEYS,
    "revoke_key": Permission.KEYS,
    "list_events": Permission.READ,
    "list_sweeps": Permission.READ,
    "run_sweep": Permission.SEATS_END,
    "list_sweep_plans": Permission.READ,
    "create_sweep_plan": Permission.SEATS_END,
    "get_sweep_plan": Permission.READ,
    "change_sweep_plan": Permission.SEATS_END,
    "delete_sweep_plan": Permission.SEATS_END,
    "list_sweep_runs": Permission.READ,
    "get_usage": Permission.READ,
    "get_week": Permission.READ,
    "list_shares": Permission.READ,
    "list_incidents": Permission.READ,
    "replay_usage": Permission.READ,
    "get_forecast": Permission.READ,
    "rebuild_usage": Permission.LICENSES_WRITE,
    "list_sessions": Permission.SESSIONS_READ,
    "get_session": Permission.SESSIONS_READ,
    "name_device": Permission.SESSIONS,
    "note_last_device": Permission.SESSIONS,
    "end_session": Permission.SESSIONS_END,
    "end_user_sessions": Permission.SESSIONS_END,
    "cut_off_sessions": Permission.SESSIONS_CUTOFF,
    "begin_session": Permission.SESSIONS,
    "check_session": Permission.SESSIONS,
    "save_current": Permission.SESSIONS,
    "save_session": Permission.SESSIONS,
    "rotate_current": Permission.SESSIONS,
    "rotate_session": Permission.SESSIONS,
    "end_current": Permission.SESSIONS,
    "end_others": Permission.SESSIONS,
    "end_sessions": Permission.SESSIONS_END,
    "create_webhook": Permission.WEBHOOKS,
    "list_webhooks": Permission.READ,
    "get_webhook": Permission.READ,
    "change_webhook": Permission.WEBHOOKS,
    "delete_webhook": Permission.WEBHOOKS,
    "rotate_webhook_secret": Permission.WEBHOOKS,
    "list_deliveries": Permission.READ,
    "beat_of_relay": Permission.RELAY,
    "terms_for_relay": Permission.RELAY,
    "list_relays": Permission.READ,
    "forget_relay": Permission.LICENSES_WRITE,
    "list_relay_commands": Permission.READ,
    "list_relay_usage": Permission.READ,
    "drain_relay": Permission.LICENSES_WRITE,
    "fill_relay": Permission.LICENSES_WRITE,
    "move_seats": Permission.LICENSES_WRITE,
    "replay_deliveries": Permission.WEBHOOKS,
    "test_webhook": Permission.WEBHOOKS,
    "get_doctor": Permission.READ,
    "run_doctor": Permission.READ,
    "repair_with_doctor": Permission.DOCTOR_REPAIR,
    "make_sample_sessions": Permission.SESSIONS,
    "remove_sample_sessions": Permission.SESSIONS_END,
}
"""Written out once more on purpose: a call whose permission changes by accident fails here."""


def name(call: Call) -> str:
    return call.name


@pytest.fixture(scope="module")
def world() -> Iterator[Api]:
    with api(dev=True, secret=("a-secret-for-tests-0123456789-abcdefghij",)) as world:
        yield world


def request(world: Api, call: Call, **proof: Any) -> Answer:
    """Send something this call would take, if the proof were right."""
    path = call.path
    for piece in call.params:
        path = path.replace(f"{{{piece}}}", FEATURE if piece == "feature" else "nobody")
    if call.name == "debug_seats":
        path += f"?userId=nobody&feature={FEATURE}"
    if call.name in ("list_waiting", "get_usage", "get_week", "list_shares", "get_forecast"):
        path += f"?licenseId={world.license_id}&feature={FEATURE}"
    if call.name in ("list_sessions", "end_user_sessions"):
        path += "?userId=nobody"
    return world.call(call.method, path, json=BODIES.get(call.name), **proof)


def signed_in(world: Api) -> str:
    """Return the token of a session of its own."""
    (begun,) = world.services.sessions.begin([Begin(user_id="nobody")])
    assert isinstance(begun, Begun)
    return begun.token


def test_every_operators_call_is_in_the_matrix() -> None:
    assert {call.name: call.may for call in OPERATORS} == MAY


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("call", OPERATORS, ids=name)
def test_a_role_may_do_what_it_is_granted_and_nothing_else(
    world: Api, call: Call, role: Role
) -> None:
    headers = []
    if call.who is Who.PERSON and Permission.SESSIONS in GRANTS[role]:
        headers = [("x-session-token", signed_in(world))]
    answer = request(world, call, bearer=world.keys[role], headers=headers)
    if MAY[call.name] in GRANTS[role]:
        assert answer.status in (200, 201, 404, 409), answer.body
    else:
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize("call", GUARDED, ids=name)
def test_without_proof_a_call_is_refused_with_a_challenge(world: Api, call: Call) -> None:
    before = world.footprint()
    answer = request(world, call)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.header("www-authenticate") == 'Bearer realm="sojourn"'
    assert world.footprint() == before


TAKES = {
    Who.OPERATOR: {TokenKind.API},
    Who.BACKEND: {TokenKind.API},
    Who.SIGN_IN: {TokenKind.API},
    Who.PERSON: {TokenKind.API},
    Who.CLIENT: {TokenKind.LICENSE, TokenKind.LEASE},
    Who.HOLDER: {TokenKind.LEASE},
    Who.SELF: {TokenKind.SESSION},
}


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("call", GUARDED, ids=name)
def test_a_token_of_another_kind_is_refused_at_sight(
    world: Api, call: Call, kind: TokenKind
) -> None:
    if kind in TAKES[call.who]:
        return
    before = world.footprint()
    answer = request(world, call, bearer=new_token(kind))
    assert (answer.status, answer.code) == (401, "token_wrong_kind")
    assert answer.header("www-authenticate") == 'Bearer realm="sojourn", error="invalid_token"'
    assert world.footprint() == before


@pytest.mark.parametrize("call", OPERATORS, ids=name)
def test_real_tokens_of_license_clients_open_no_operators_call(world: Api, call: Call) -> None:
    seat = world.seat()
    for token in (world.license_key, seat["token"]):
        assert request(world, call, bearer=token).code == "token_wrong_kind"


@pytest.mark.parametrize(
    "presented",
    ["", " ", "x", "sja_", "sja_" + "0" * 49, "null", "a.b.c", ADMIN[:-1], ADMIN + "x", "\u00fc"],
)
def test_what_is_no_key_is_refused(world: Api, presented: str) -> None:
    assert world.call("GET", "/api/licenses", bearer=presented).status == 401


@pytest.mark.parametrize("parameter", ["token", "key", "access_token", "authorization", "api_key"])
def test_a_token_in_a_url_opens_nothing(world: Api, parameter: str) -> None:
    answer = world.call("GET", f"/api/licenses?{parameter}={ADMIN.replace(' ', '+')}")
    assert answer.code == "unauthenticated"
    seat = world.seat()
    answer = world.call("POST", f"/api/licenses/sessions/heartbeat?{parameter}={seat['token']}")
    assert answer.code == "unauthenticated"


@pytest.mark.parametrize("call", GUARDED, ids=name)
def test_two_proofs_are_none(world: Api, call: Call) -> None:
    twice = [("authorization", f"Bearer {ADMIN}")] * 2
    answer = request(world, call, headers=twice)
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_a_revoked_key_stops_at_once(world: Api) -> None:
    key, secret = world.services.keys.create("brief", Role.VIEWER, actor="test")
    assert world.call("GET", "/api/events", bearer=secret).status == 200
    world.services.keys.revoke(key.id, actor="test")
    assert world.call("GET", "/api/events", bearer=secret).code == "unauthenticated"
