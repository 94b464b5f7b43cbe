"""A running Sojourn server, asked over HTTP through its address. Behind a balancer any of them may answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sojourn.doctor.browser.probe import Probe, ProbeAnswer
from sojourn.doctor.roundtrip import READS
from sojourn.errors import SettingsError
from sojourn.event import CANARY_LICENSE, CANARY_USER
from sojourn.finding import Area, Check, Finding, Fix, failure, ok, skipped
from sojourn.lease import Acquire, Lease
from sojourn.license import Policy, Pool
from sojourn.store import Store
from sojourn.token import Keyring, LeaseClaims, new_id

ASKS = 12
"""Connections, each of which may meet another server: two that take turns are both met all but once in
2,000 times."""
API = "/api/sessions"
BEAT = "/api/licenses/sessions/heartbeat"
POLICY = Policy(capacity=1, heartbeat_interval=10_000, lost_after=30_000)


class ServerExaminer:
    """Asks the servers behind an address, and looks in the store what came of it."""

    def __init__(
        self,
        probe: Probe,
        *,
        key: str,
        store: Callable[[], Store],
        keyring: Callable[[], Keyring],
        needs: tuple[str, ...] = (),
    ) -> None:
        """`key`: an API key that may begin sessions; empty if there is none."""
        self._probe = probe
        self._key = key
        self._store = store
        self._keyring = keyring
        self._needs = needs

    def checks(self) -> Sequence[Check]:
        return [
            Check(
                id="secrets.address",
                area=Area.SECRETS,
                title="Do all servers behind the address open what is signed with the secrets here?",
                looked_at=self._probe.origin,
                look=self._signed,
                needs=self._needs,
                reads=READS,
            ),
            Check(
                id="round-trip.api",
                area=Area.ROUND_TRIP,
                title="Does a session live as it must, through the API?",
                looked_at=self._probe.origin,
                look=self._trip,
                needs=self._needs,
                reads=READS,
            ),
        ]

    def close(self) -> None:
        """Nothing is held between two questions."""

    def _signed(self) -> Finding:
        """Take a seat in the store, sign its token here, and beat with it there."""
        try:
            keyring = self._keyring()
        except SettingsError:
            return skipped("There is no good secret here to sign with: see secrets.set.")
        store = self._store()
        name = secrets.token_hex(6)
        pool = Pool(license_id=CANARY_LICENSE, feature=f"canary-{name}", policy=POLICY)
        user = CANARY_USER + name
        store.define([pool])
        try:
            lease = store.acquire(
                [
                    Acquire(
                        pool_id=pool.id, user_id=user, client_id="doctor", lease_id=new_id("lse_")
                    )
                ]
            )[0]
            if not isinstance(lease, Lease):
                return skipped("The canary got no seat: see round-trip.seat.")
            token = keyring.sign(_claims(lease))
            answers = [self._ask("POST", BEAT, bearer=token, body={}) for _ in range(ASKS)]
        finally:
            store.forget(user, session_ids=[], pool_ids=[pool.id])
        return _judged(answers)

    def _trip(self) -> Finding:
        if not self._key:
            return skipped(
                "There is no API key for this server: set SOJOURN_KEY to one of an admin or application."
            )
        if not self._is_server():
            return skipped("What answers at the address is no server of Sojourn's: it got no key.")
        store, user, ids = self._store(), CANARY_USER + secrets.token_hex(6), list[str]()
        try:
            return self._fly(user, ids)
        finally:
            store.forget(user, session_ids=ids, pool_ids=[])

    def _is_server(self) -> bool:
        """Tell whether a server of Sojourn's answers: before it does, it is sent no key.

        Only one reads a token of a seat, and says that the secret it is signed with is not its own.
        """
        nobody = LeaseClaims(
            pool_id=f"{CANARY_LICENSE}:canary",
            user_id=CANARY_USER,
            client_id="doctor",
            lease_id=new_id("lse_"),
            fence=1,
            issued_at=0,
        )
        token = Keyring([secrets.token_bytes(32)]).sign(nobody)
        answer = self._ask("POST", BEAT, bearer=token, body={})
        return answer.status == 401 and _code(answer) == "token_forged"

    def _fly(self, user: str, ids: list[str]) -> Finding:
        timeouts = {"lifetime": 60, "idleTimeout": 60}
        body = {"userId": user, "data": {"doctor": True}, "timeouts": timeouts}
        begun = self._ask("POST", API, bearer=self._key, body=body)
        if begun.status != 201:
            return _astray("A session could not be begun", begun)
        data = _data(begun)
        ids.append(str(data["session"]["id"]))
        token = str(data["token"])
        steps = ["begun"]
        for what, method, path, good in (
            ("known", "GET", f"{API}/current", 200),
            ("rotated", "POST", f"{API}/current/rotate", 200),
        ):
            answer = self._ask(method, path, bearer=self._key, session=token)
            if answer.status != good:
                return _astray(f"The session was not {what}", answer)
            token = str(_data(answer).get("token", token))
            steps.append(what)
        for _ in range(ASKS):
            answer = self._ask("GET", f"{API}/current", bearer=self._key, session=token)
            if answer.status != 200:
                return _astray("A server behind the address does not know the session", answer)
        steps.append(f"known in {ASKS} more requests, each on a connection of its own")
        answer = self._ask("DELETE", f"{API}/current", bearer=self._key, session=token)
        if answer.status not in (200, 204):
            return _astray("The session was not ended", answer)
        for _ in range(ASKS):
            answer = self._ask("GET", f"{API}/current", bearer=self._key, session=token)
            if answer.status == 200:
                return _astray("The session was ended, and a server still knows it", answer)
        steps.append("ended, everywhere")
        return ok(
            "Through the API, a test session lived as it must, and left nothing behind.", *steps
        )

    def _ask(
        self, method: str, path: str, *, bearer: str, session: str = "", body: Any = None
    ) -> ProbeAnswer:
        headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json"}
        if session:
            headers["X-Session-Token"] = session
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        return self._probe.ask(method, self._probe.origin + path, headers=headers, body=content)


def _judged(answers: Sequence[ProbeAnswer]) -> Finding:
    codes = [_code(x) for x in answers]
    forged = codes.count("token_forged")
    good = sum(x.status == 200 for x in answers)
    told = f"Of {len(answers)} requests, {good} were taken and {forged} refused as token_forged."
    if good and forged:
        return failure(
            "Servers with different secrets answer at this address.",
            evidence=[told],
            means="Holders of seats lose them at random, and people are signed out, as their requests "
            "reach one server or another.",
            fix=Fix(
                text="Give every server the same list of secrets; secrets.instances says which differ.",
                command="sojourn doctor --area secrets",
            ),
        )
    if forged:
        return failure(
            "The servers at this address have another secret than the one set here.",
            evidence=[told],
            means="A server started with these settings would refuse what they have signed.",
            fix=Fix(
                text="Run doctor with the settings of a server: its folder, environment and user."
            ),
        )
    if good == len(answers):
        return ok("All servers behind the address open what is signed here.", told)
    if any(code == "lease_lost" for code in codes):
        return failure(
            "Servers at this address do not know a seat that is in the store.",
            evidence=[
                f"Of {len(answers)} requests, {codes.count('lease_lost')} answered lease_lost."
            ],
            means="They are on another store than the one set here: seats are counted twice.",
            fix=Fix(text="Give every server the same store."),
        )
    return skipped(
        f"What answers at the address, with {answers[0].status}, is no server of Sojourn's."
    )


def _claims(lease: Lease) -> LeaseClaims:
    return LeaseClaims(
        pool_id=lease.pool_id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        lease_id=lease.id,
        fence=lease.fence,
        issued_at=lease.acquired_at,
    )


def _astray(what: str, answer: ProbeAnswer) -> Finding:
    said = f"{answer.status} {_code(answer)}".strip()
    if answer.status in (401, 403) and not _code(answer).startswith("session"):
        return skipped(f"The API key may not begin and end sessions: it was answered {said}.")
    return failure(
        f"{what}: it was answered {said}.",
        means="What happens to a canary happens to people.",
        fix=Fix(text="See the other findings, and the server's log."),
    )


def _code(answer: ProbeAnswer) -> str:
    try:
        return str(msgspec.json.decode(answer.body).get("code", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""


def _data(answer: ProbeAnswer) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(answer.body)["data"]
    return data
