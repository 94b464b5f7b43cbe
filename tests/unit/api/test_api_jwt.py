"""Users' JWTs as proof: real keys, and the attacks that have worked elsewhere."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.warnings import InsecureKeyLengthWarning
from tests.api_harness import BEAT, FEATURE, SEATS, Answer, Api, api

from sojourn.api import jwt as ours
from sojourn.api.context import Context
from sojourn.errors import SettingsError
from sojourn.lease import LeaseFilter
from sojourn.settings import JwtIssuer

ISSUER = "https://id.example.com"
AUDIENCE = "sojourn"
RSA_KEY = rsa.generate_private_key(65_537, 2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(65_537, 2_048)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def jwk(key: Key, kid: str | None, **more: Any) -> dict[str, Any]:
    public: Any = key.public_key()
    algorithm: Any = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }[next(kind for kind in Key.__args__ if isinstance(key, kind))]
    described: dict[str, Any] = algorithm.to_jwk(public, as_dict=True)
    return described | ({"kid": kid} if kid else {}) | more


class KeyServer(ThreadingHTTPServer):
    """Serves a key set, and counts who asks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[dict[str, Any]] = [
            jwk(RSA_KEY, "rsa"),
            jwk(EC_KEY, "ec"),
            jwk(ED_KEY, "ed"),
        ]
        self.status = 200
        self.body: bytes | None = None
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jwks.json"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, KeyServer)
        server.asked += 1
        assert server.gate.wait(10)
        body = json.dumps({"keys": server.keys}).encode() if server.body is None else server.body
        self.send_response(server.status)
        if server.location:
            self.send_header("location", server.location)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


class Time:
    """Moves the clock that caching goes by."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moment() -> Time:
    return Time()


@pytest.fixture
def world(server: KeyServer, moment: Time) -> Iterator[Api]:
    issuer = JwtIssuer(issuer=ISSUER, jwks_url=server.url, audience=AUDIENCE)
    with api(jwt_issuers=(issuer,)) as world:
        trust(world, moment, issuer)
        yield world


def trust(world: Api, moment: Callable[[], float], *issuers: JwtIssuer) -> None:
    context: Context = world.app.context
    context.issuers = ours.Issuers(issuers, context.blocking, now=moment)


def token(
    world: Api,
    key: Any = RSA_KEY,
    algorithm: str = "RS256",
    kid: str | None = "rsa",
    headers: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "license_id": world.license_id,
        "exp": time.time() + 300,
        **claims,
    }
    said = {name: value for name, value in said.items() if value is not None}
    named = {"kid": kid} if kid else {}
    return jwt.encode(said, key, algorithm, headers={**named, **(headers or {})})


def acquire(world: Api, bearer: str, **more: Any) -> Answer:
    wish = {"feature": FEATURE, "clientId": "tab-1", **more}
    return world.call("POST", SEATS, bearer=bearer, json=wish)


def raw(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts)


class TestAccepted:
    @pytest.mark.parametrize(
        ("key", "algorithm", "kid"),
        [(RSA_KEY, "RS256", "rsa"), (EC_KEY, "ES256", "ec"), (ED_KEY, "EdDSA", "ed")],
    )
    def test_a_users_token_takes_a_seat(
        self, world: Api, key: Any, algorithm: str, kid: str
    ) -> None:
        answer = acquire(world, token(world, key, algorithm, kid))
        assert answer.status == 201, answer.body
        leases, _ = world.services.operations.leases(LeaseFilter())
        assert [lease.user_id for lease in leases] == ["ann"]
        assert world.beat(answer.data["token"]).status == 200

    def test_without_a_kid_the_only_key_that_fits_is_taken(self, world: Api) -> None:
        assert acquire(world, token(world, kid=None)).status == 201

    def test_the_body_may_repeat_what_the_token_proves(self, world: Api) -> None:
        same = {"userId": "ann", "licenseId": world.license_id}
        assert acquire(world, token(world), **same).status == 201

    def test_an_issuer_may_stand_for_a_license_and_name_users_its_own_way(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        issuer = JwtIssuer(
            issuer=ISSUER, jwks_url=server.url, license_id=world.license_id, user_claim="email"
        )
        trust(world, moment, issuer)
        proof = token(world, aud=None, email="ann@example.com", license_id="lic_of_somebody_else")
        assert acquire(world, proof).status == 201

    def test_keys_may_come_from_a_file(self, world: Api, moment: Time, tmp_path: Path) -> None:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps({"keys": [jwk(EC_KEY, "ec")]}))
        trust(world, moment, JwtIssuer(issuer=ISSUER, jwks_file=str(file)))
        assert acquire(world, token(world, EC_KEY, "ES256", "ec", aud=None)).status == 201


class TestGroups:
    """Seats may be reserved for groups, which an issuer's claim proves: if the settings name that claim."""

    @pytest.fixture
    def reserved(self, world: Api, server: KeyServer, moment: Time) -> Api:
        issuer = JwtIssuer(issuer=ISSUER, jwks_url=server.url, group_claim="groups")
        trust(world, moment, issuer)
        path = f"/api/licenses/{world.license_id}/features/{FEATURE}"
        kept = {"name": "staff", "seats": 2, "groups": ["staff"]}
        body = {"capacity": 2, "reservations": [kept]}
        assert world.admin("PUT", path, json=body).status == 200
        return world

    @pytest.mark.parametrize(
        ("claims", "status"),
        [
            ({"groups": ["others", "staff"]}, 201),
            ({"groups": "staff"}, 201),
            ({"groups": ["others"]}, 409),
            ({"groups": "staffroom"}, 409),
            ({"groups": []}, 409),
            ({"group": "staff", "roles": ["staff"]}, 409),
            ({}, 409),
            ({"groups": [f"g{n}" for n in range(ours.GROUPS_MAX)]}, 409),
            ({"groups": [f"g{n}" for n in range(ours.GROUPS_MAX + 1)]}, 401),
            ({"groups": {"staff": True}}, 401),
            ({"groups": ["staff", 1]}, 401),
            ({"groups": ["staff", ""]}, 401),
        ],
    )
    def test_a_claim_opens_what_is_reserved(
        self, reserved: Api, claims: dict[str, Any], status: int
    ) -> None:
        assert acquire(reserved, token(reserved, aud=None, **claims)).status == status

    def test_a_claim_that_is_not_named_opens_nothing(self) -> None:
        said = {"sub": "ann", "license_id": "lic", "groups": ["staff"]}
        assert ours._proof(JwtIssuer(issuer=ISSUER), said).groups == ()

    def test_who_comes_back_by_its_lease_token_is_still_of_the_group(self, reserved: Api) -> None:
        """What was proved counts for as long as the lease may be resumed; a license key proves none."""
        seat = acquire(reserved, token(reserved, aud=None, groups=["staff"])).data
        reserved.clock.advance(seconds=91)
        assert reserved.acquire("bob").json["reservedFree"] == 2
        back = reserved.call("POST", SEATS, bearer=seat["token"])
        assert (back.status, back.data["resumed"]) == (201, True)
        (lease,), _ = reserved.services.operations.leases(LeaseFilter(user_id="ann"))
        assert lease.member_of == ("staff",)


class TestRefused:
    @pytest.mark.parametrize(
        ("claims", "code"),
        [
            ({"iss": "https://evil.example.com"}, "unauthenticated"),
            ({"iss": None}, "unauthenticated"),
            ({"aud": "another"}, "unauthenticated"),
            ({"aud": None}, "unauthenticated"),
            ({"exp": 1_000_000_000}, "token_expired"),
            ({"exp": None}, "unauthenticated"),
            ({"exp": "soon"}, "token_forged"),
            ({"nbf": 4_000_000_000}, "unauthenticated"),
            ({"sub": None}, "unauthenticated"),
            ({"sub": ""}, "unauthenticated"),
            ({"sub": "a\nb"}, "unauthenticated"),
            ({"license_id": None}, "unauthenticated"),
            ({"license_id": 5}, "unauthenticated"),
        ],
    )
    def test_claims(self, world: Api, claims: dict[str, Any], code: str) -> None:
        before = world.footprint()
        answer = acquire(world, token(world, **claims))
        assert (answer.status, answer.code) == (401, code)
        assert answer.header("www-authenticate")
        assert world.footprint() == before

    @pytest.mark.parametrize(
        "audience", ["other-service", ["a", "b"], "", [], "https://sojourn.test"]
    )
    def test_a_token_for_somebody_where_no_audience_is_set(
        self, world: Api, server: KeyServer, moment: Time, audience: Any
    ) -> None:
        """The provider made it for another service of the same house (RFC 7519, 4.1.3)."""
        trust(world, moment, JwtIssuer(issuer=ISSUER, jwks_url=server.url))
        answer = acquire(world, token(world, aud=audience))
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert "audience" in answer.json["details"]
        assert acquire(world, token(world, aud=None)).status == 201

    @pytest.mark.parametrize("said", [{"userId": "eve"}, {"licenseId": "lic_other"}])
    def test_the_body_may_not_contradict_the_token(self, world: Api, said: Any) -> None:
        answer = acquire(world, token(world), **said)
        assert (answer.status, answer.code) == (403, "forbidden")

    def test_a_license_that_does_not_exist(self, world: Api) -> None:
        assert acquire(world, token(world, license_id="lic_none")).code == "feature_unknown"

    def test_a_jwt_proves_nothing_elsewhere(self, world: Api) -> None:
        proof = token(world)
        assert world.call("POST", BEAT, bearer=proof).code == "token_wrong_kind"
        assert world.call("GET", "/api/licenses", bearer=proof).code == "unauthenticated"

    def test_without_issuers_none_is_accepted(self) -> None:
        with api() as world:
            assert acquire(world, token(world)).code == "unauthenticated"


class TestAttacks:
    def test_no_algorithm(self, world: Api) -> None:
        claims = jwt.decode(token(world), options={"verify_signature": False})
        for name in ("none", "None", "NONE", "nOnE", "", None):
            assert acquire(world, raw({"alg": name}, claims)).status == 401

    def test_the_public_key_as_a_shared_secret(self, world: Api) -> None:
        claims = jwt.decode(token(world), options={"verify_signature": False})
        pem = RSA_KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for secret in (pem, json.dumps(jwk(RSA_KEY, "rsa")).encode(), b""):
            unsigned = raw({"alg": "HS256", "kid": "rsa"}, claims).rsplit(".", 1)[0]
            mac = hmac.digest(secret, unsigned.encode(), "sha256")
            forged = f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            answer = acquire(world, forged)
            assert (answer.status, answer.code) == (401, "token_forged")

    @pytest.mark.parametrize("header", ["jku", "x5u"])
    def test_an_address_of_keys_in_the_token(
        self, world: Api, server: KeyServer, header: str
    ) -> None:
        with KeyServer() as evil:
            evil.keys = [jwk(STRANGER, "rsa")]
            thread = threading.Thread(target=evil.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            forged = token(world, STRANGER, headers={header: evil.url})
            assert acquire(world, forged).code == "token_forged"
            assert evil.asked == 0
            evil.shutdown()
            thread.join()
        assert server.asked == 1

    def test_a_key_in_the_token(self, world: Api) -> None:
        forged = token(world, STRANGER, headers={"jwk": jwk(STRANGER, "rsa")})
        assert acquire(world, forged).code == "token_forged"
        assert acquire(world, token(world, STRANGER, kid="../../dev/null")).status == 401
        assert acquire(world, token(world, STRANGER, kid="' OR 1=1 --")).status == 401

    def test_a_strangers_signature(self, world: Api) -> None:
        assert acquire(world, token(world, STRANGER)).code == "token_forged"
        other_curve = ec.generate_private_key(ec.SECP256R1())
        assert acquire(world, token(world, other_curve, "ES256", "ec")).code == "token_forged"

    def test_a_signature_of_nothing(self, world: Api) -> None:
        head, body, signature = token(world, EC_KEY, "ES256", "ec").split(".")
        zero = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
        for forged in ("", zero, signature[:-4], signature + "AAAA"):
            assert acquire(world, f"{head}.{body}.{forged}").status == 401

    def test_claims_changed_after_signing(self, world: Api) -> None:
        head, _, signature = token(world).split(".")
        claims = jwt.decode(token(world), options={"verify_signature": False}) | {"sub": "eve"}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        assert acquire(world, f"{head}.{body}.{signature}").code == "token_forged"

    def test_one_keys_algorithm_with_anothers_key(self, world: Api) -> None:
        for algorithm, kid in (("RS256", "ec"), ("RS256", "ed"), ("ES256", "rsa")):
            key = RSA_KEY if algorithm == "RS256" else EC_KEY
            assert acquire(world, token(world, key, algorithm, kid)).code == "token_forged"

    def test_an_algorithm_the_issuer_does_not_use(self, world: Api) -> None:
        assert acquire(world, token(world, RSA_KEY, "PS256")).code == "token_forged"
        assert acquire(world, token(world, RSA_KEY, "RS512")).code == "token_forged"

    def test_a_demand_we_do_not_know(self, world: Api) -> None:
        forged = token(world, headers={"crit": ["exp"], "exp": 1})
        assert acquire(world, forged).status == 401

    @pytest.mark.parametrize(
        "garbage",
        ["..", "a.b.c", "eyJ.eyJ.x", "." * 100, "e30.e30.", "bnVsbA.bnVsbA.", "W10.W10.", "é.é.é"],
    )
    def test_garbage(self, world: Api, garbage: str) -> None:
        assert acquire(world, garbage).status == 401

    def test_depth_and_length(self, world: Api) -> None:
        deep = base64.urlsafe_b64encode(b"[" * 4_000).rstrip(b"=").decode()
        assert acquire(world, f"{deep}.{deep}.x").status == 401
        assert acquire(world, token(world, x="y" * 9_000)).status == 401

    def test_keys_of_other_kinds_in_the_set(self, world: Api, server: KeyServer) -> None:
        small = rsa.generate_private_key(65_537, 1_024)
        private = RSAAlgorithm.to_jwk(STRANGER, as_dict=True)
        server.keys = [
            {"kty": "oct", "k": base64.urlsafe_b64encode(b"s" * 32).decode(), "kid": "oct"},
            jwk(small, "small"),
            jwk(STRANGER, "enc", use="enc"),
            {**private, "kid": "private", "key_ops": ["verify"]},
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
            {"kid": "nothing"},
            jwk(RSA_KEY, "rsa", alg="RS256"),
        ]
        assert acquire(world, token(world)).status == 201
        with pytest.warns(InsecureKeyLengthWarning):
            assert acquire(world, token(world, small, kid="small")).code == "token_forged"
        for kid in ("enc", "private"):
            assert acquire(world, token(world, STRANGER, kid=kid)).code == "token_forged"
        claims = jwt.decode(token(world), options={"verify_signature": False})
        hs = jwt.encode(claims, "s" * 32, "HS256", headers={"kid": "oct"})
        assert acquire(world, hs).code == "token_forged"


class TestRotation:
    def test_keys_are_fetched_once_and_kept(self, world: Api, server: KeyServer) -> None:
        for _ in range(5):
            assert acquire(world, token(world)).status == 201
        assert server.asked == 1

    def test_a_new_key_is_fetched_when_it_is_first_seen(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        assert acquire(world, token(world)).status == 201
        server.keys = [jwk(STRANGER, "new")]
        moment.now += ours.RETRY
        assert acquire(world, token(world, STRANGER, kid="new")).status == 201
        assert acquire(world, token(world)).code == "token_forged"  # the old one is gone

    def test_unknown_keys_cannot_make_us_ask_again_and_again(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        for i in range(20):
            assert acquire(world, token(world, STRANGER, kid=f"kid-{i}")).status == 401
        assert server.asked == 1
        moment.now += ours.RETRY
        acquire(world, token(world, STRANGER, kid="another"))
        assert server.asked == 2

    def test_old_keys_serve_while_fetching_fails(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        assert acquire(world, token(world)).status == 201
        for status, body in ((500, b""), (200, b"{"), (200, b'{"keys":[]}'), (302, b"")):
            server.status, server.body = status, body
            server.location = server.url
            moment.now += ours.CACHE + 1
            assert acquire(world, token(world)).status == 201
        moment.now += ours.STALE_MAX
        answer = acquire(world, token(world))
        assert (answer.status, answer.code) == (503, "issuer_unavailable")
        assert answer.header("retry-after") == "30"

    def test_old_keys_answer_at_once_while_new_ones_are_fetched(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        assert acquire(world, token(world)).status == 201
        server.gate.clear()  # the key server hangs
        moment.now += ours.CACHE + 1
        assert acquire(world, token(world)).status == 201
        server.gate.set()

    def test_a_key_server_that_is_away_at_first(
        self, world: Api, server: KeyServer, moment: Time
    ) -> None:
        server.status = 503
        answer = acquire(world, token(world))
        assert (answer.status, answer.code) == (503, "issuer_unavailable")
        server.status = 200
        assert acquire(world, token(world)).code == "issuer_unavailable"  # not yet asked again
        moment.now += ours.RETRY
        assert acquire(world, token(world)).status == 201

    def test_a_huge_key_set_is_not_swallowed(self, world: Api, server: KeyServer) -> None:
        server.body = b" " * (ours.SET_MAX + 1)
        assert acquire(world, token(world)).code == "issuer_unavailable"


class TestSettings:
    @pytest.mark.parametrize(
        ("issuer", "words"),
        [
            (JwtIssuer(issuer="x"), "jwks_url"),
            (JwtIssuer(issuer="x", jwks_url="https://x", jwks_file="y"), "jwks_url"),
            (JwtIssuer(issuer="x", jwks_url="http://keys.example.com/"), "https"),
            (JwtIssuer(issuer="x", jwks_url="file:///etc/keys"), "https"),
            (JwtIssuer(issuer="x", jwks_file="y", algorithms=("HS256",)), "HS256"),
            (JwtIssuer(issuer="x", jwks_file="y", algorithms=("none",)), "none"),
        ],
    )
    def test_unsafe_ones_stop_the_start(self, issuer: JwtIssuer, words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            ours.Issuers([issuer], None)  # type: ignore[arg-type]  # never asked

    @pytest.mark.parametrize("dev", [False, True])
    @pytest.mark.parametrize("url", ["https://svc:s3cret/xyz@idp/jwks", "https://svc:s3cret@[idp/"])
    def test_a_url_that_cannot_be_read_is_not_shown(self, url: str, dev: bool) -> None:
        issuer = JwtIssuer(issuer="x", jwks_url=url)
        with pytest.raises(SettingsError, match="names a host") as refused:
            ours.Issuers([issuer], None, dev=dev)  # type: ignore[arg-type]  # never asked
        assert "s3cret" not in f"{refused.value} {refused.value.hint}"

    def test_loopback_needs_no_tls(self) -> None:
        for url in ("http://127.0.0.1:1/", "http://localhost/", "http://[::1]/"):
            ours.Issuers([JwtIssuer(issuer="x", jwks_url=url)], None)  # type: ignore[arg-type]  # never asked
