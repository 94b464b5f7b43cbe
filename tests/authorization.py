"""The authorization matrix: every call of the OpenAPI document with every kind of credential.

python -m tests.authorization       writes the table into SECURITY.md; a test holds the two together
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from tests.api_harness import ADMIN, FEATURE, Api, api

from sojourn.cookie import SignedTokens
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.settings import JwtIssuer
from sojourn.token import TokenKind, new_token

PAGE = Path(__file__).parents[1] / "SECURITY.md"
BEGIN, END = "<!-- authorization matrix: python -m tests.authorization -->", "<!-- end -->"
SECRET = "people are known by what this signs 0123"
ISSUER = "https://id.example.com"
KEY = ec.generate_private_key(ec.SECP256R1())
SAME_ORIGIN = [("host", "sojourn.test"), ("sec-fetch-site", "same-origin")]

Proof = dict[str, Any]
Row = tuple[str, dict[str, bool]]

BODIES: dict[str, Any] = {
    "acquire": {"feature": FEATURE, "userId": "ann", "clientId": "tab-1"},
    "heartbeat": {},
    "begin_session": {"userId": "ann"},
    "create_license": {"name": "x"},
    "change_license": {},
    "set_feature": {"capacity": 1},
    "create_key": {"name": "x", "role": "viewer"},
    "cleanup_sessions": {"licenseId": "lic_x"},
    "cut_off_sessions": {"userId": "nobody"},
    "name_device": {"userId": "nobody", "name": "Office"},
    "note_last_device": {"userAgent": "Firefox"},
    "end_sessions": {"userId": "nobody"},
    "save_current": {},
    "save_session": {},
    "replay_usage": {"licenseId": "nobody", "feature": "none"},
    "create_sweep_plan": {
        "name": "x",
        "scope": {"userId": "nobody"},
        "schedule": {"every": 3_600},
    },
    "change_sweep_plan": {},
    "create_webhook": {"url": "https://hooks.example/"},
    "change_webhook": {},
    "rotate_webhook_secret": {},
    "replay_deliveries": {"dead": True},
    "repair_with_doctor": {},
    "make_sample_sessions": {},
    "beat_of_relay": {"protocol": 1, "life": "one", "number": 1, "now": 0},
    "terms_for_relay": {"protocol": 1},
    "move_seats": {"licenseId": "lic_x", "feature": FEATURE, "seats": 1, "to": "nobody"},
}
QUERIES = {
    "debug_seats": f"?userId=nobody&feature={FEATURE}",
    "list_sessions": "?userId=nobody",
    "end_user_sessions": "?userId=nobody",
}


@contextmanager
def world() -> Iterator[Api]:
    """A server that takes every kind of proof there is."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "jwks.json"
        keys.write_text(json.dumps({"keys": [ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)]}))
        issuer = JwtIssuer(issuer=ISSUER, jwks_file=str(keys), audience="sojourn")
        with api(dev=True, secret=(SECRET,), capacity=1_000, jwt_issuers=(issuer,)) as made:
            yield made


def credentials(world: Api) -> dict[str, Callable[[], Proof]]:
    """Return how each kind of credential is made: a fresh one each time, for calls may end it."""

    def person() -> str:
        (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
        assert isinstance(begun, Begun)
        return begun.token

    def key_of(role: Role) -> Callable[[], Proof]:
        # With a person's token beside it, as an application's backend sends it.
        return lambda: {"bearer": world.keys[role], "headers": [("x-session-token", person())]}

    def cookie() -> Proof:
        value = SignedTokens([SECRET.encode()]).encode(person())
        return {"headers": [*SAME_ORIGIN, ("cookie", f"sojourn={value}")]}

    def console() -> Proof:
        headers = [*SAME_ORIGIN, ("content-type", "application/x-www-form-urlencoded")]
        answer = world.call(
            "POST", "/console/sign-in", body=f"key={ADMIN}".encode(), headers=headers
        )
        given = str(answer.header("set-cookie")).partition(";")[0]
        assert answer.status == 303
        return {"headers": [*SAME_ORIGIN, ("cookie", given)]}

    def revoked() -> Proof:
        key, secret = world.services.keys.create("brief", Role.ADMIN, actor="test")
        world.services.keys.revoke(key.id, actor="test")
        return {"bearer": secret}

    def users_jwt() -> Proof:
        claims = {"iss": ISSUER, "aud": "sojourn", "sub": "ann", "license_id": world.license_id}
        return {"bearer": jwt.encode({**claims, "exp": time.time() + 300}, KEY, "ES256")}

    return {
        "nobody": dict,
        "unknown or revoked key": lambda: {"bearer": new_token(TokenKind.API)},
        "revoked": revoked,
        **{f"key: {role.value}": key_of(role) for role in Role},
        "license key": lambda: {"bearer": world.license_key},
        "user's JWT": users_jwt,
        "lease token": lambda: {"bearer": world.seat("ann", "tab-1")["token"]},
        "session token": lambda: {"bearer": person()},
        "person's cookie": cookie,
        "console's cookie": console,
    }


def operations(world: Api) -> list[tuple[str, str, dict[str, Any]]]:
    """List method, path and description of every call in the OpenAPI document."""
    document = world.call("GET", "/openapi.json").json
    return [
        (method.upper(), path, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]


def is_let_in(world: Api, method: str, path: str, name: str, proof: Proof) -> bool:
    """Make a call; tell whether the credential was enough for it, whatever came of it."""
    place = path.replace("{feature}", FEATURE)
    place = re.sub(r"\{\w+\}", "nobody", place) + QUERIES.get(name, "")
    answer = world.call(method, place, json=BODIES.get(name), **proof)
    assert answer.status < 500 or answer.status == 503, (method, path, answer.body)
    return answer.status not in (401, 403)


def rows(world: Api) -> Iterator[Row]:
    """Ask every call with every credential."""
    kinds = credentials(world)
    for method, path, told in operations(world):
        name = told["operationId"]
        yield (
            f"`{method} {path}`",
            {kind: is_let_in(world, method, path, name, make()) for kind, make in kinds.items()},
        )


HEADS = {"unknown or revoked key": None, "revoked": None, "console's cookie": None}
"""Columns that are left out, because they are empty but for what anybody may call; a test says so."""


def table(found: list[Row]) -> str:
    """Write the matrix for people."""
    kinds = [kind for kind in found[0][1] if kind not in HEADS]
    lines = [
        "| call | " + " | ".join(kind.removeprefix("key: ") for kind in kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
    ]
    for call, let_in in found:
        lines.append(f"| {call} | " + " | ".join("✓" if let_in[k] else "" for k in kinds) + " |")
    return "\n".join(lines)


def printed() -> str:
    """Return the table that stands in SECURITY.md."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    with world() as made:
        new = table(list(rows(made)))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{new}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
