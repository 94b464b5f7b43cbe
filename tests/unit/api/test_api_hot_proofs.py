"""Hot calls and the proofs they come with: who waits where, in either lane."""

from __future__ import annotations

import json

import pytest
from tests.api_harness import SEATS, World, served
from tests.raw_http import Client, head

from sojourn.ledger import Role
from sojourn.token import TokenKind, hash_token, new_token

KEYS = "/api/licenses"


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "asgi"])
@pytest.mark.parametrize("kind", ["api_key", "license_key"])
def test_a_proof_that_was_revoked_is_a_guess_from_then_on(kind: str, direct: bool) -> None:
    """What a batch finds to be good no longer waits with all who guess from then on."""
    world = World()
    with served(world) as server:
        if kind == "api_key":
            key, proof = world.services.keys.create("old", Role.APP, actor="test")
            path, body, proofs = "/api/sessions", {"userId": "ann"}, world.app.context.api_keys
        else:
            path, body, proofs = SEATS, world.wish(), world.app.context.license_keys
            proof = world.license_key
        content = json.dumps(body).encode()
        lines = ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        if not direct:
            lines[1] = "Transfer-Encoding: chunked"
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)

        def status() -> int:
            with Client(server) as client:
                answer = client.send(head("POST", path, *lines, bearer=proof) + content).read()
                assert answer is not None
                return answer.status

        assert status() == 201
        assert proofs.seen(hash_token(proof))
        if kind == "api_key":
            world.services.keys.revoke(key.id, actor="test")
        else:
            world.services.licenses.rotate_key(world.license_id, actor="test")
        assert status() == 401
        assert not proofs.seen(hash_token(proof))
        assert len(world.app.context.recognized) == 0


@pytest.mark.parametrize("path", ["/api/sessions", KEYS])
def test_behind_proxies_a_new_key_waits_among_those_of_its_own_address(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lane would take it: what comes through one proxy is not from one place."""
    world = World(trusted_proxies=("127.0.0.1",))
    proofs = world.app.context.api_keys
    admit, asked = proofs.admit, []

    async def noted(proof: bytes, *, address: str | None, prefix: str = "") -> bool:
        asked.append(address)
        return await admit(proof, address=address, prefix=prefix)

    monkeypatch.setattr(proofs, "admit", noted)
    body = b"{}"
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    with served(world) as server:
        for at in ("203.0.113.9", "203.0.113.10"):
            with Client(server) as client:
                proof = new_token(TokenKind.API)
                sent = head("POST", path, f"X-Forwarded-For: {at}", *lines, bearer=proof) + body
                answer = client.send(sent).read()
                assert answer is not None
                assert answer.status == 401
    assert asked == ["203.0.113.9", "203.0.113.10"]
