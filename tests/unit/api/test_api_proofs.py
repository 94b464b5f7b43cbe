"""Guessing keeps guessers waiting, and nobody who has a proof that is good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.api_harness import ADMIN, FEATURE, SEATS, Answer, Api, api, gather, send

from sojourn.api.limits import Blocking
from sojourn.api.proofs import (
    REFUSED_FOR,
    REFUSED_MAX,
    SEEN_MAX,
    Proofs,
    Throttle,
    TooManyAttempts,
    subscriber,
)
from sojourn.errors import Overloaded, StoreUnavailable
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.token import TokenKind, new_token

PATIENCE = 10.0  # seconds until a test gives up
PEOPLE = "/api/user/active-sessions"
KEYS = "/api/licenses"


class Desk:
    """Looks proofs up: those that begin with `good`. Waits at a gate, if that is closed."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def __call__(self, proofs: Sequence[str]) -> list[bool]:
        self.asked.append(list(proofs))
        assert self.gate.wait(PATIENCE)
        if self.fault is not None:
            raise self.fault
        return [each.startswith("good") for each in proofs]


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def tell(story: Callable[[Proofs[str], Desk, Clock], Any], **bounds: int) -> None:
    async def told() -> None:
        desk, clock = Desk(), Clock()
        proofs = Proofs(desk, patience=PATIENCE, now=clock, **bounds)
        try:
            await story(proofs, desk, clock)
        finally:
            desk.gate.set()
            await proofs.close()

    asyncio.run(told())


async def waiting(proofs: Proofs[str], many: int) -> None:
    """Let what was asked arrive: it takes a turn of the loop."""
    await asyncio.sleep(0)
    assert proofs.waiting == many


class TestQueue:
    def test_a_good_proof_is_looked_up_once(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            assert not proofs.seen("good")
            assert await proofs.admit("good", address="192.0.2.1")
            assert proofs.seen("good")
            assert await proofs.admit("good", address="192.0.2.1")
            assert desk.asked == [["good"]]

        tell(story)

    def test_a_refused_one_is_not_asked_for_again_for_a_moment(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, clock: Clock) -> None:
            for _ in range(3):
                assert not await proofs.admit("bad", address=None)
            assert desk.asked == [["bad"]]
            clock.seconds += REFUSED_FOR
            assert not await proofs.admit("bad", address=None)
            assert len(desk.asked) == 2
            assert (proofs.outcomes.unknown, proofs.outcomes.remembered) == (2, 2)

        tell(story)

    def test_what_comes_together_is_asked_together(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            desk.gate.clear()
            names = [f"{'good' if i % 2 else 'bad'} {i}" for i in range(20)]
            asks = [asyncio.ensure_future(proofs.admit(x, address=None)) for x in names + names]
            await waiting(proofs, 20)
            desk.gate.set()
            assert await asyncio.gather(*asks) == [i % 2 == 1 for i in range(20)] * 2
            assert sum(map(len, desk.asked)) == 20  # each once, whoever asks for it
            assert len(desk.asked) <= 2
            assert proofs.waiting == 0

        tell(story)

    def test_there_are_so_many_places_and_no_more(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            await proofs.admit("good", address=None)
            desk.gate.clear()
            asks = [asyncio.ensure_future(proofs.admit(f"{i}", address=f"{i}")) for i in range(3)]
            await waiting(proofs, 3)
            with pytest.raises(Overloaded):
                await proofs.admit("one more", address="3")
            assert await proofs.admit("good", address="0")  # waits for nobody
            desk.gate.set()
            assert await asyncio.gather(*asks) == [False] * 3
            assert not await proofs.admit("one more", address="3")
            assert proofs.outcomes.turned_away == 1

        tell(story, waiting_max=3)

    def test_an_address_has_a_share_of_them(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            desk.gate.clear()
            asks = [
                asyncio.ensure_future(proofs.admit(f"{i}", address=f"2001:db8::{i}"))
                for i in range(2)
            ]
            await waiting(proofs, 2)
            with pytest.raises(TooManyAttempts) as refused:
                await proofs.admit("good 1", address="2001:db8::9")
            assert refused.value.code == "too_many_requests"
            asks.append(asyncio.ensure_future(proofs.admit("good 2", address="2001:db8:1::9")))
            await waiting(proofs, 3)
            desk.gate.set()
            assert await asyncio.gather(*asks) == [False, False, True]
            assert await proofs.admit("good 1", address="2001:db8::9")

        tell(story, address_share=2)

    def test_and_so_have_proofs_that_begin_alike(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            desk.gate.clear()
            asks = [
                asyncio.ensure_future(proofs.admit(f"{i}", address=f"{i}", prefix=f"sja_Ab3d{i}"))
                for i in range(2)
            ]
            await waiting(proofs, 2)
            with pytest.raises(TooManyAttempts):
                await proofs.admit("3", address="3", prefix="sja_Ab3dX")
            good = asyncio.ensure_future(proofs.admit("good", address="3", prefix="sja_Ab3eX"))
            await waiting(proofs, 3)
            desk.gate.set()
            assert await good
            await asyncio.gather(*asks)

        tell(story, prefix_share=2)

    def test_a_store_that_is_away_refuses_nobody_for_good(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            desk.fault = StoreUnavailable("away")
            with pytest.raises(StoreUnavailable):
                await proofs.admit("good", address=None)
            desk.fault = None
            assert await proofs.admit("good", address=None)

        tell(story)

    def test_what_is_remembered_is_bounded(self) -> None:
        async def story(proofs: Proofs[str], desk: Desk, _: Clock) -> None:
            for i in range(SEEN_MAX + 1):
                proofs._note(f"good {i}", good=True)
            for i in range(REFUSED_MAX + 1):
                proofs._note(f"bad {i}", good=False)
            assert (len(proofs._seen), len(proofs._refused)) == (SEEN_MAX, REFUSED_MAX)
            assert not proofs.seen("good 0")
            assert await proofs.admit("good 0", address=None)  # looked up again
            assert desk.asked == [["good 0"]]
            assert not proofs._of

        tell(story)


class TestThrottle:
    def test_a_few_at_once_and_then_at_a_rate(self) -> None:
        clock = Clock()
        throttle = Throttle(3, 10.0, now=clock)
        for _ in range(3):
            assert throttle.wait("192.0.2.1") == 0
            throttle.count("192.0.2.1")
        assert throttle.wait("192.0.2.1") == 10.0
        assert throttle.wait("192.0.2.2") == 0
        clock.seconds += 10.0
        assert throttle.wait("192.0.2.1") == 0
        throttle.count("192.0.2.1")
        assert throttle.wait("192.0.2.1") == 10.0

    def test_success_is_no_attempt(self) -> None:
        throttle = Throttle(1, 10.0, now=Clock())
        throttle.count("a")
        throttle.forgive("a")
        assert throttle.wait("a") == 0

    @pytest.mark.parametrize(
        ("address", "whose"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("fe80::1%eth0", "fe80::"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            (None, ""),
            ("testclient", "testclient"),
            ("no:address", "no:address"),
        ],
    )
    def test_whose_an_address_is(self, address: str | None, whose: str) -> None:
        assert subscriber(address) == whose


GUESSES: dict[str, Callable[[], tuple[str, str, dict[str, Any]]]] = {
    "an operator's key": lambda: ("GET", KEYS, {"bearer": new_token(TokenKind.API)}),
    "a key set by hand": lambda: ("GET", KEYS, {"bearer": new_token(TokenKind.API)[4:]}),
    "a backend's key": lambda: (
        "GET",
        "/api/sessions/current",
        {"bearer": new_token(TokenKind.API)},
    ),
    "a license key": lambda: (
        "POST",
        SEATS,
        {
            "bearer": new_token(TokenKind.LICENSE),
            "json": {"feature": FEATURE, "userId": "u", "clientId": "c"},
        },
    ),
    "a session token": lambda: ("GET", PEOPLE, {"bearer": new_token(TokenKind.SESSION)}),
    "nothing": lambda: ("GET", PEOPLE, {}),
    "a cookie": lambda: ("GET", PEOPLE, {"headers": [("cookie", "sojourn=x.y")]}),
    "the page": lambda: ("GET", "/account/security", {}),
    "a console's cookie": lambda: (
        "GET",
        "/console/doctor",
        {"headers": [("cookie", f"sojourn-console=key_x.{new_token(TokenKind.SESSION)}.mac")]},
    ),
    "a console's sign-in": lambda: (
        "POST",
        "/console/sign-in",
        {
            "headers": [
                ("content-type", "application/x-www-form-urlencoded"),
                ("sec-fetch-site", "same-origin"),
            ],
            "body": b"key=" + new_token(TokenKind.API).encode(),
        },
    ),
}


class Held:
    """Keeps whatever looks unseen proofs up from coming back, until the end of a test."""

    def __init__(self, world: Api) -> None:
        self.gate = threading.Event()
        self.held = 0
        for proofs in world.app.context.proofs.values():
            proofs._look_up = self._holding(proofs._look_up)

    def _holding(self, real: Any) -> Any:
        def look_up(proofs: Sequence[Any]) -> Any:
            self.held += len(proofs)
            assert self.gate.wait(PATIENCE)
            return real(proofs)

        return look_up


@pytest.mark.parametrize("guess", GUESSES.values(), ids=GUESSES)
def test_whoever_is_known_is_served_beside_any_number_of_guesses(
    guess: Callable[[], tuple[str, str, dict[str, Any]]],
) -> None:
    """Each guess is another one, and all of their look-ups hang."""
    with api(capacity=5) as world:
        (begun,) = world.services.sessions.begin([Begin(user_id="ann")])
        assert isinstance(begun, Begun)
        honest: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", KEYS, {"bearer": ADMIN}),
            (
                "GET",
                "/api/sessions/current",
                {"bearer": world.keys[Role.APP], "headers": [("x-session-token", begun.token)]},
            ),
            ("POST", SEATS, {"bearer": world.license_key, "json": world.wish()}),
            ("GET", PEOPLE, {"bearer": begun.token}),
        ]
        for method, path, request in honest:
            assert world.call(method, path, **request).status in (200, 201)
        held = Held(world)

        async def story() -> tuple[list[Answer], list[Answer]]:
            guesses = []
            for _ in range(200):
                method, path, request = guess()
                guesses.append(asyncio.create_task(send(world.app, method, path, **request)))
            await asyncio.sleep(0)
            served = [await send(world.app, m, path, **r) for m, path, r in honest]
            held.gate.set()
            return served, await asyncio.gather(*guesses)

        served, guessed = world.run(story())
        assert [each.status for each in served] == [200, 200, 201, 200]
        assert {each.status for each in guessed} <= {401, 429, 503}
        assert {each.status for each in guessed} & {401, 429}


def test_a_new_key_works_at_once() -> None:
    with api() as world:
        for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
            _, secret = world.services.keys.create("new", role, actor="test")
            assert world.call("GET", KEYS, bearer=secret).status == 200


@pytest.mark.parametrize("path", [KEYS, "/api/sessions?userId=ann"])
def test_a_revoked_key_stops_at_once(path: str) -> None:
    with api() as world:
        key, secret = world.services.keys.create("old", Role.ADMIN, actor="test")
        assert world.call("GET", path, bearer=secret).status == 200
        world.services.keys.revoke(key.id, actor="test")
        for _ in range(2):
            assert world.call("GET", path, bearer=secret).status == 401


def test_a_revoked_key_is_a_guess_from_then_on() -> None:
    with api() as world:
        key, secret = world.services.keys.create("old", Role.ADMIN, actor="test")
        world.call("GET", KEYS, bearer=secret)
        world.services.keys.revoke(key.id, actor="test")
        world.call("GET", KEYS, bearer=secret)
        world.app.context.blocking = Blocking(
            waiting_max=0
        )  # where those stand whose keys are good
        assert world.call("GET", KEYS, bearer=secret).status == 401
        assert world.call("GET", KEYS, bearer=ADMIN).status == 503


def test_expired_keys_are_unknown_ones() -> None:
    with api() as world:
        now = world.clock.now()
        _, secret = world.services.keys.create("x", Role.ADMIN, expires_at=now + 1_000, actor="t")
        assert world.call("GET", KEYS, bearer=secret).status == 200
        world.clock.advance(seconds=1)
        assert world.call("GET", KEYS, bearer=secret).status == 401


def test_of_a_stranger_no_body_is_read() -> None:
    """It could be large, and there may be many of them."""
    with api() as world:
        taken: list[bytes] = []

        class Pieces(list[bytes]):
            def pop(self, *_: Any) -> bytes:
                taken.append(b"x")
                return b"x"

        answer = world.call(
            "POST", KEYS, bearer=new_token(TokenKind.API), pieces=Pieces([b"x"] * 10)
        )
        assert answer.status == 401
        assert not taken


class TestSignIn:
    """At the console."""

    @staticmethod
    def attempt(world: Api, key: str) -> Answer:
        return world.call(
            "POST",
            "/console/sign-in",
            headers=[
                ("content-type", "application/x-www-form-urlencoded"),
                ("sec-fetch-site", "same-origin"),
            ],
            body=f"key={key}".encode(),
        )

    def test_wrong_keys_of_one_address_are_throttled(self) -> None:
        with api() as world:
            codes = [self.attempt(world, new_token(TokenKind.API)).status for _ in range(12)]
            assert codes == [401] * 10 + [429] * 2
            refused = self.attempt(world, ADMIN.replace(" ", "+"))
            assert refused.status == 429
            assert refused.header("retry-after") == "6"
            assert b"Too many keys" in refused.body
            assert world.call("GET", KEYS, bearer=ADMIN).status == 200  # the key itself is as good

    def test_right_ones_are_not(self) -> None:
        with api() as world:
            codes = {self.attempt(world, ADMIN.replace(" ", "+")).status for _ in range(15)}
            assert codes == {303}

    @pytest.mark.parametrize(
        "fault", [StoreUnavailable("away"), Overloaded("full"), TooManyAttempts("many")]
    )
    def test_what_could_not_be_judged_is_no_attempt(
        self, fault: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An operator with the right key tries again and again while the store is away."""
        with api() as world:

            async def refused(*_: Any, **__: Any) -> bool:
                raise fault

            with monkeypatch.context() as away:
                away.setattr(world.app.context.api_keys, "admit", refused)
                for _ in range(15):
                    assert self.attempt(world, ADMIN.replace(" ", "+")).status in (429, 503)
            assert self.attempt(world, ADMIN.replace(" ", "+")).status == 303

    def test_garbled_ones_count_too(self) -> None:
        with api() as world:
            codes = [self.attempt(world, f"sja_{i}").status for i in range(11)]
            assert codes == [401] * 10 + [429]


def test_the_document_is_written_once_and_then_asks_no_thread() -> None:
    with api() as world:
        first = world.call("GET", "/openapi.json")
        world.app.context.strangers = Blocking(waiting_max=0)
        assert world.call("GET", "/openapi.json").body == first.body


def test_metrics_say_how_guesses_fare() -> None:
    with api() as world:
        world.run(gather(*(send(world.app, "GET", KEYS, bearer="x" * 40) for _ in range(3))))
        world.call("GET", KEYS, bearer="x" * 40)
        text = world.app.context.metrics.text().decode()
        assert 'sojourn_unseen_proofs_total{kind="api_key",outcome="unknown"} 1.0' in text
        assert 'sojourn_unseen_proofs_total{kind="api_key",outcome="remembered"} 1.0' in text
