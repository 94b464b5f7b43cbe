"""Sockets of license clients against a store that answers when a test says so, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace
from tests.waiting import DEADLINE, becomes

from sojourn.api import seat_messages as words
from sojourn.api import seat_sockets
from sojourn.api.limits import Blocking, Deadlines
from sojourn.api.seat_sockets import SeatSockets
from sojourn.errors import StoreUnavailable
from sojourn.event import Event, EventKind
from sojourn.lease import Beat, Doubt, Renewal
from sojourn.license import Policy, Pool
from sojourn.service.presence import QUIET, Attendant
from sojourn.service.seats import BeatCall
from sojourn.settings import Settings
from sojourn.token import LeaseClaims

POOL = Pool(license_id="lic_1", feature="editor", policy=Policy(capacity=9).validate())
LONG = 15.0
"""Seconds since a lease was renewed last."""


class Line:
    """A socket that keeps what is written to it."""

    def __init__(self) -> None:
        self.answered = False
        self.codes: list[int] = []
        self.told: list[bytes] = []

    def tell(self, text: bytes | None, *, ping: bool = False) -> None:
        if text is not None:
            self.told.append(text)

    def hang_up(self, code: int, reason: str) -> None:
        self.codes.append(code)

    def cut_off(self, why: str) -> None: ...

    def take_over(self) -> None: ...


class Waiting:
    """A batcher whose answers a test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, asyncio.Future[Any]]] = []

    def submit(self, verb: str, request: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((verb, request, future))
        return future

    def requests(self, verb: str) -> list[Any]:
        return [request for name, request, _ in self.asked if name == verb]

    async def next(self, verb: str, number: int = 1) -> tuple[Any, asyncio.Future[Any]]:
        """Wait for the request of that number; return it, and where its answer goes."""
        await becomes(lambda: len(self.requests(verb)) >= number)
        found = [(request, future) for name, request, future in self.asked if name == verb]
        return found[number - 1]


class Room:
    """Sockets, and the store behind them."""

    def __init__(self) -> None:
        self.store = Waiting()
        settings = Settings(request_timeout=0.1)
        presence = SimpleNamespace(actor="here", others=False)
        self.services = SimpleNamespace(
            batcher=self.store, store=SimpleNamespace(), presence=presence
        )
        self.sockets = SeatSockets(
            cast(Any, self.services),
            settings,
            Deadlines(DEADLINE),
            Blocking(),
            lambda: False,
            strangers=Blocking(),
        )
        self.presence = self.sockets.presence

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def make(self, name: str = "lea_1", fence: int = 1) -> Attendant:
        claims = LeaseClaims(
            pool_id=POOL.id,
            user_id="ann",
            client_id="tab",
            lease_id=name,
            fence=fence,
            issued_at=0,
            session_id=None,
        )
        made = Attendant(claims, Line())
        made.renewed_at = self.now - LONG
        return made

    def enter(self, name: str = "lea_1") -> Attendant:
        made = self.make(name)
        self.presence.enter(made, POOL, self.now)
        return made

    def drop(self, attendant: Attendant) -> None:
        assert self.presence.leave(attendant, self.now, dropped=True)
        self.sockets._doubt_soon(attendant)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, DEADLINE))


def renewed() -> Renewal:
    return Renewal(expires_in=90_000)


class TestRenewalsUnderWay:
    def test_drop_during_a_renewal_is_doubted_once_more(self) -> None:
        """The first doubt is older than the beat that we have just made ourselves: it does not count."""

        async def test() -> None:
            room = Room()
            ann = room.enter()
            renewing = asyncio.ensure_future(room.sockets.renew_all([ann]))
            _, renewal = await room.store.next("renew")
            room.drop(ann)
            (first, *_), answer = await room.store.next("doubt")
            assert first.silent_for > 10_000
            renewal.set_result(renewed())
            answer.set_result(False)
            assert await renewing
            (second, *_), answer = await room.store.next("doubt", 2)
            assert isinstance(second, Doubt)
            assert second.silent_for < 10_000
            answer.set_result(True)
            await becomes(lambda: room.sockets.doubted == 1)

        run(test())

    def test_who_has_left_is_not_renewed_by_a_later_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A plain beat would take back a goodbye, and a doubt."""
        monkeypatch.setattr(seat_sockets, "BATCH", 1)

        async def test() -> None:
            room = Room()
            names = ("lea_1", "lea_2", "lea_3", "lea_4")
            ann, bob, cid, dan = [room.enter(name) for name in names]
            renewing = asyncio.ensure_future(room.sockets.renew_all([ann, bob, cid, dan]))
            _, first = await room.store.next("renew")
            room.presence.leave(bob, room.now, dropped=False)  # it said goodbye
            room.presence.leave(cid, room.now, dropped=True)
            first.set_result(renewed())
            last, answer = await room.store.next("renew", 2)
            assert last.claims is dan.claims
            answer.set_result(renewed())
            assert await renewing

        run(test())

    def test_what_is_said_meanwhile_is_passed_on(self) -> None:
        """A beat that comes while another is on its way is not taken for said."""

        async def test() -> None:
            room = Room()
            ann = room.enter()
            renewing = asyncio.ensure_future(room.sockets.renew_all([ann]))
            _, answer = await room.store.next("renew")
            ann.beat = said = Beat(idle_for=5_000)
            answer.set_result(renewed())
            assert await renewing
            assert ann.beat is said
            renewing = asyncio.ensure_future(room.sockets.renew_all([ann]))
            call, answer = await room.store.next("renew", 2)
            assert isinstance(call, BeatCall)
            assert call.beat is said
            answer.set_result(renewed())
            assert await renewing
            assert ann.beat == Beat()

        run(test())


class TestLateAnswers:
    def test_a_lease_is_certain_from_when_it_was_asked_for(self) -> None:
        """The store renewed it at once, and its answer took a while: that has passed."""

        async def test() -> None:
            room = Room()
            ann = room.enter()
            renewing = asyncio.ensure_future(room.sockets.renew_all([ann]))
            _, answer = await room.store.next("renew")
            asked_at = room.now
            await becomes(lambda: room.now > asked_at + 0.01)
            answer.set_result(renewed())
            assert await renewing
            assert ann.renewed_at > asked_at
            assert ann.expires_at <= asked_at + 90

        run(test())

    def test_no_socket_is_told_more_than_the_policy_allows(self) -> None:
        """Its lease lives for longer where the policy was lowered since."""
        shorter = replace(POOL, policy=replace(POOL.policy, lost_after=45_000))
        assert b'"expiresIn":45.0' in words.alive(shorter, 89.99)
        assert b'"expiresIn":44.9' in words.alive(shorter, 44.99)
        assert b'"expiresIn":45.0' in words.opened(shorter, 90)
        assert b'"expiresIn":0.0' in words.opened(shorter, -1)


class TestStoreThatHangs:
    @pytest.fixture(autouse=True)
    def _one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seat_sockets, "BATCH", 1)

    def test_renewals_wait_for_it_once(self) -> None:
        """A round is to go on and write to everybody: what the store would not take is owed."""

        async def test() -> None:
            room = Room()
            three = [room.enter(name) for name in ("lea_1", "lea_2", "lea_3")]
            assert not await room.sockets.renew_all(three)
            assert len(room.store.requests("renew")) == 1
            assert room.presence.owed() == three

        run(test())

    def test_doubts_wait_for_it_once(self) -> None:
        async def test() -> None:
            room = Room()
            three = [room.enter(name) for name in ("lea_1", "lea_2", "lea_3")]
            assert await room.sockets.doubt(three, at_once=False) == [None, None, None]
            assert len(room.store.requests("doubt")) == 1

        run(test())

    def test_rounds_do_not_wait_for_it(self) -> None:
        """They write to everybody in time; renewals are carried out meanwhile, and nobody is doubted."""

        async def test() -> None:
            room = Room()
            ann, bob = room.enter("lea_1"), room.enter("lea_2")
            ann.line.answered, bob.quiet = True, QUIET - 1
            (attended,) = room.presence.pools.values()
            attended.next_round = room.now
            await room.sockets._round([attended])
            renew, renewal = await room.store.next("renew")
            assert renew.claims == ann.claims
            assert not renewal.done()
            renewal.set_result(renewed())
            await becomes(lambda: not ann.owed)
            assert ann.renewed_at > bob.renewed_at
            assert bob.quiet == QUIET
            assert room.store.requests("doubt") == []

        run(test())

    def test_who_is_back_meanwhile_is_not_doubted(self) -> None:
        """A doubt that is tried again need not be: its holder has another socket."""

        async def test() -> None:
            room = Room()
            ann, bob = room.enter("lea_1"), room.enter("lea_2")
            for each in (ann, bob):
                assert room.presence.leave(each, room.now, dropped=True)
                room.sockets._doubt_soon(each)
            (first, *_), answer = await room.store.next("doubt")
            assert first.lease_id == "lea_1"
            room.enter("lea_2")
            answer.set_result(True)
            await becomes(lambda: room.sockets._doubting is None or room.sockets._doubting.done())
            assert len(room.store.requests("doubt")) == 1

        run(test())


@pytest.mark.parametrize(("interval", "rounds"), [(2, 2), (10, 2), (30, 1), (120, 1)])
def test_each_is_told_within_an_interval_and_20_s(interval: int, rounds: int) -> None:
    """A client trusts its lease for as long as it was told last: silence would be a loss to it."""

    async def test() -> None:
        room = Room()
        policy = Policy(
            capacity=9,
            heartbeat_interval=interval * 1000,
            lost_after=interval * 3000,
            linger=1_000,
        ).validate()
        ann = room.make()
        room.presence.enter(ann, msgspec.structs.replace(POOL, policy=policy), room.now)
        (attended,) = room.presence.pools.values()
        line = cast(Line, ann.line)
        for _ in range(3):
            line.told.clear()
            for _ in range(rounds):
                await room.sockets._round([attended])
            assert [b'"alive"' in text for text in line.told] == [True]
            assert rounds * attended.period <= min(interval, seat_sockets.TELL_EVERY)
        await room.sockets.stop()

    run(test())


class TestHandshakeThatIsGivenUp:
    """Its client is gone when the socket is accepted; the lease was renewed for it."""

    @staticmethod
    async def attend(room: Room, attendant: Attendant) -> None:
        async def gone(*_: Any) -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await room.sockets._attend(attendant, POOL, gone, gone, {})

    def test_other_socket_of_its_lease_stays(self) -> None:
        """The one that lives is pinged and renewed as before; and what was renewed was so by us."""

        async def test() -> None:
            room = Room()
            living, new = room.enter(), room.make()
            new.renewed_at = room.now
            await self.attend(room, new)
            assert room.presence.is_open(living)
            assert room.presence.open == 1
            assert cast(Line, living.line).codes == []
            assert living.renewed_at == new.renewed_at, "else its doubt would not count"
            await asyncio.sleep(0)
            assert room.store.asked == []

        run(test())

    def test_holder_without_another_is_doubted(self) -> None:
        async def test() -> None:
            room = Room()
            await self.attend(room, room.make())
            assert room.presence.open == 0
            _, answer = await room.store.next("doubt")
            answer.set_result(True)
            await becomes(lambda: room.sockets.doubted == 1)

        run(test())


class TestLooks:
    def test_event_is_told_once_though_a_look_fails(self) -> None:
        """What follows the events may fail, and then they are read again: others were asked twice."""

        async def test() -> None:
            room, heard, away = Room(), list[int](), [True]
            room.enter()

            def pools(ids: list[str]) -> list[Pool]:
                if away:
                    raise StoreUnavailable("It is away.")
                return [POOL for _ in ids]

            room.services.store.pools = pools
            room.sockets.askings.hear = lambda event: heard.append(event.id)  # type: ignore[method-assign]  # noted alone
            asked = [Event(kind=EventKind.LEASE_ASKED, id=i, pool_id=POOL.id) for i in (7, 8, 9)]
            for events in (asked[:2], asked):
                with pytest.raises(StoreUnavailable):
                    await room.sockets._look(events, False)
            assert heard == [7, 8, 9]
            away.clear()
            await room.sockets._look(asked, False)
            assert heard == [7, 8, 9]
            await room.sockets._look([asked[0]], False)
            assert heard == [7, 8, 9, 7], "a look that has begun anew is told what it reads"

        run(test())
