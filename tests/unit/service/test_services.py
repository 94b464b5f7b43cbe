"""Everything a server process runs, together: what follows a start, and how the pulse goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest
from tests.waiting import becomes

from sojourn.clock import ManualClock
from sojourn.errors import StoreUnavailable
from sojourn.event import EventKind
from sojourn.lease import EndReason, Lease, LeaseFilter, Release, Renewal
from sojourn.ledger import Role
from sojourn.service import waiting
from sojourn.service.backends import BackendCall, EndSessions
from sojourn.service.pulse import DOUBT, HANG, WritingPath
from sojourn.service.seats import BeatCall, Lost, SeatCall
from sojourn.service.services import Services
from sojourn.session import End
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.testing.builders import acquire, pool, sign_in, take
from sojourn.token import Keyring, LeaseClaims, hash_token

CLAIMS = LeaseClaims(
    pool_id="lic_x:editor", user_id="u", client_id="c", lease_id="lse_x", fence=1, issued_at=0
)
PATIENCE = 20.0  # seconds until a test that hangs fails


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def services(store: MemoryStore) -> Iterator[Services]:
    with closing(open_ledger("memory:", clock=ManualClock())) as ledger:
        yield Services(
            store, ledger, Keyring([b"k" * 32]), sweep_interval=3_600, pulse_interval=3_600
        )


def alive(services: Services, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario while the services do."""

    async def main() -> None:
        services.start()
        try:
            await scenario()
        finally:
            await services.stop()

    asyncio.run(main())


class TestStart:
    def test_sweeps_what_a_cutoff_left_whose_server_was_killed(
        self, store: MemoryStore, services: Services
    ) -> None:
        """Nobody tells a server of the cutoffs of another: seats of ended sessions go at its start."""
        session = sign_in(store, "anns")
        store.define([pool(2)])
        take(store, "ann", session_id=session.id)
        kept = take(store, "bob")
        store.cut_off("ann")

        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        leases = {x.user_id: x for x in store.leases(LeaseFilter(include_ended=True))[0]}
        assert leases["ann"].end_reason is EndReason.SESSION_ENDED
        assert leases["bob"] == kept
        (run,) = services.ledger.sweeps()
        assert (run.actor, run.sessions_cut) == ("system:cutoff", 1)

    def test_that_finds_nothing_leaves_no_record(self, services: Services) -> None:
        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        assert services.ledger.sweeps() == []

    def test_is_not_kept_by_a_sweep_that_fails(
        self, store: MemoryStore, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again by the clock, and meanwhile the server serves."""
        sweep, faults = store.sweep, [StoreUnavailable("away")]

        def fail_once(**options: Any) -> Any:
            if faults:
                raise faults.pop()
            return sweep(**options)

        monkeypatch.setattr(store, "sweep", fail_once)
        monkeypatch.setattr(services._aftermath, "_interval", 0.01)

        async def scenario() -> None:
            assert await asyncio.to_thread(services.caught_up.wait, PATIENCE)

        alive(services, scenario)
        assert not faults


class TestPulse:
    def test_goes_the_way_the_renewals_go(
        self, store: MemoryStore, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While no renewal can be carried out no pulse is written, so an outage is known as one."""
        blocked, gate = threading.Event(), threading.Event()
        acquire = services.batcher._verbs["acquire"]

        def held(calls: Any) -> Any:
            blocked.set()
            assert gate.wait(PATIENCE)
            return acquire(calls)

        services.batcher._verbs["acquire"] = held
        pulses: list[int] = []
        monkeypatch.setattr(store, "pulse", lambda: pulses.append(1))

        async def scenario() -> None:
            pulses.clear()  # a start writes one itself
            asked = services.batcher.submit("acquire", SeatCall(trusted=True, license_id="lic_x"))
            assert await asyncio.to_thread(blocked.wait, PATIENCE)
            pulse = asyncio.create_task(asyncio.to_thread(services.pulse))
            renewal = services.batcher.submit("renew", BeatCall(claims=CLAIMS))
            assert not pulses
            gate.set()
            await asyncio.gather(asked, renewal, pulse, return_exceptions=True)
            assert pulses

        alive(services, scenario)

    def test_the_first_one_afterwards_gives_the_time_back(
        self,
        store: MemoryStore,
        clock: ManualClock,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Renewals fail while the pulse alone would get through; holders lose nothing by that."""
        store.define([pool(1)])
        renew, down = store.renew, [True]

        def fails(renews: Any) -> Any:
            if down:
                raise StoreUnavailable("Somebody holds the lock.")
            return renew(renews)

        async def scenario() -> None:
            lease = take(store, "ann")
            monkeypatch.setattr(store, "renew", fails)
            beat = BeatCall(
                claims=msgspec.structs.replace(
                    CLAIMS, pool_id=lease.pool_id, lease_id=lease.id, fence=lease.fence
                )
            )
            for _ in range(6):  # two minutes: a lease lasts for 90 s
                clock.advance(seconds=20)
                with pytest.raises(StoreUnavailable):
                    await services.batcher.submit("renew", beat)
                with pytest.raises(StoreUnavailable, match="held back"):
                    await asyncio.to_thread(services.pulse)
            down.clear()
            assert isinstance(await services.batcher.submit("renew", beat), Renewal)
            await asyncio.to_thread(services.pulse)

        alive(services, scenario)
        (event,) = store.events(kinds=[EventKind.STORE_RETURNED])
        assert event.data["lasted"] >= 120_000


def calls(*pools: str) -> list[BeatCall]:
    return [BeatCall(claims=msgspec.structs.replace(CLAIMS, pool_id=pool)) for pool in pools]


def renewed(asked: Sequence[BeatCall]) -> list[Renewal | Lost]:
    return [Lost(reason="absent", resumable=False) for _ in asked]


class TestWritingPath:
    """When a pulse is true, to the second."""

    @pytest.fixture
    def time(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def path(self, store: MemoryStore, time: list[float]) -> WritingPath:
        return WritingPath(store, now=lambda: time[0])

    def test_a_failure_holds_it_back_until_a_renewal_gets_through_or_nobody_asks(
        self, path: WritingPath, time: list[float]
    ) -> None:
        def fail(calls: Any) -> Any:
            raise StoreUnavailable("away")

        def get_through() -> None:
            path.renewing(renewed)(calls("a"))

        def wait() -> None:
            time[0] += DOUBT

        for mend in (get_through, wait):
            assert path.pulse([None]) == [None]
            with pytest.raises(StoreUnavailable):
                path.renewing(fail)(calls("a", "b"))
            path.renewing(renewed)(calls("b"))  # another pool's are no comfort
            with pytest.raises(StoreUnavailable, match="held back"):
                path.pulse([None])
            mend()
        assert path.pulse([None]) == [None]

    def test_a_batch_that_hangs_holds_it_back_whatever_the_others_do(
        self, path: WritingPath, time: list[float]
    ) -> None:
        """One runner's renewals stand still; another's go on."""
        entered, gate = threading.Event(), threading.Event()

        def hang(calls: Any) -> Any:
            entered.set()
            assert gate.wait(PATIENCE)
            return calls

        thread = threading.Thread(target=path.renewing(hang), args=(calls("a"),))
        thread.start()
        assert entered.wait(PATIENCE)
        assert path.pulse([None]) == [None]  # not for long yet
        time[0] += HANG + 0.001
        path.renewing(renewed)(calls("b"))
        with pytest.raises(StoreUnavailable, match="held back"):
            path.pulse([None])
        gate.set()
        thread.join(PATIENCE)
        assert path.pulse([None]) == [None]


class TestLine:
    def test_sessions_that_end_have_nobody_ask(
        self, store: MemoryStore, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which pools they sat in is not known: each line would ask its store at each batch of ends. Who
        waits finds their seats with the next look."""
        monkeypatch.setattr(waiting, "POLL", 3_600.0)
        store.define([pool(1)])
        lease = take(store, "ann")
        sessions = [sign_in(store, f"ses_{n}").id for n in range(10)]
        _, key = services.keys.create(name="app", role=Role.APP, actor="test")
        asked: list[int] = []

        def acquiring(calls: Any) -> Any:
            asked.append(len(calls))
            return store.acquire(calls)

        services.batcher._verbs["acquire"] = acquiring

        async def within(answer: Any) -> Any:
            return await answer

        async def scenario() -> None:
            wish = acquire("bob", wait=True)
            answer = await services.batcher.submit("acquire", wish)
            parked = asyncio.create_task(
                services.waiting.wait(wish, answer, seconds=60.0, within=within)
            )
            await becomes(lambda: services.waiting.length == 1)
            for each in sessions:
                end = EndSessions(end=End(ids=(each,)))
                call = BackendCall(key_hash=hash_token(key), request=end)
                assert await services.batcher.submit("end", call) == [each]
            assert len(asked) == 1
            store.release([Release(lease_id=lease.id, fence=lease.fence)])
            services.waiting.freed({lease.pool_id})
            assert isinstance(await parked, Lease)
            assert len(asked) == 2

        alive(services, scenario)
