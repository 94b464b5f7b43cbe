"""What an operator does when somebody is refused: look, understand, free the seat.

Every ending call is one atomic step per batch with its audit entry, is idempotent, and answers what
it did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import MINUTE
from sojourn.errors import NotFound
from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Lease, LeaseFilter, Usage, Waiting
from sojourn.ledger import Ledger
from sojourn.license import License, Pool, check_feature, pool_id, split_pool_id
from sojourn.service.working_copy import define
from sojourn.staleness.scores import Score
from sojourn.staleness.suspicion import Suspicion
from sojourn.store import LIST_MAX, Action, Store
from sojourn.text import hidden
from sojourn.token import new_id

NAMED_MAX = 100
"""Features that a hint names."""
LICENSES_NAMED_MAX = 10
REFUSED_FOR = MINUTE
"""How long ago somebody may have been refused last, in milliseconds, to count among those who still want in:
a refused client is told to ask again within 15 s."""
REFUSED_MAX = 20
"""Such holders that are named."""
DENIALS_READ = 100
DOUBTED_MAX = 20
"""Doubtful holders that a pool's debug names."""
DOUBTED_POOLS_MAX = 10
"""Pools of one debug whose holders are looked at."""
TOLD_FROM = 0.5
"""The suspicion from which a holder is named."""
ROUNDS_MAX = 1_000
"""Bound on the batches of one call: a million leases."""


class Cleanup(Struct, frozen=True, kw_only=True):
    """What a clean-up did. `ended` names at most `LIST_MAX` of the leases it ended."""

    ended: tuple[Lease, ...]
    ended_count: int
    remaining: int  # live leases in the same scope afterwards
    at: int
    names: dict[str, str] = {}  # of the licenses whose leases are among `ended`


class RefusedHolder(Struct, frozen=True, kw_only=True):
    """Somebody who was refused lately without a place in the line, and has not got a seat since."""

    user_id: str
    client_id: str
    at: int  # the last time
    times: int  # within `REFUSED_FOR`, as far as is read


class LineStatus(Struct, frozen=True, kw_only=True):
    """Who wants a seat of a pool: those in the line, in its order, and those who were refused lately."""

    pool_id: str
    entries: tuple[Waiting, ...]
    refused: tuple[RefusedHolder, ...]
    at: int


class PoolStatus(Struct, frozen=True, kw_only=True):
    """A pool as the debug call shows it. `answer`: what an acquire would be told now."""

    license: License | None
    pool: Pool
    usage: Usage
    answer: Lease | Denied
    answer_user: str
    line: LineStatus
    doubted: tuple[
        tuple[Lease, Score], ...
    ] = ()  # who may be gone, the most doubtful first; bounded
    full_in: int | None = None  # ms, if it goes on as it did; None: that cannot be told


class Debug(Struct, frozen=True, kw_only=True):
    at: int
    user_id: str
    feature: str
    leases: tuple[Lease, ...]  # the user's, ended ones included
    pools: tuple[PoolStatus, ...]
    denials: tuple[Event, ...]  # recent, newest first
    names: dict[str, str] = {}  # of the licenses of these leases


class Stats(Struct, frozen=True, kw_only=True):
    license: License
    pools: tuple[tuple[Pool, Usage], ...]
    denials: tuple[Event, ...]
    at: int
    full_in: dict[str, int | None] = {}  # by pool: ms until it is full, if it goes on as it did


class Operations:
    """The operator's calls. Synchronous; safe from several threads."""

    def __init__(self, store: Store, ledger: Ledger, suspicion: Suspicion | None = None) -> None:
        self._store = store
        self._ledger = ledger
        # Is told of pools that may have a free seat now.
        self.freed: Callable[[Collection[str]], None] = lambda _: None
        self._suspicion = Suspicion() if suspicion is None else suspicion

    def force_cleanup(
        self, user_id: str, feature: str, *, license_id: str | None = None, actor: str
    ) -> Cleanup:
        """End all of a user's leases on a feature, on one license or on every one.

        Raises NotFound where there is no such license, or no such feature on it.
        """
        self.require(feature, license_id)
        which = LeaseFilter(user_id=user_id, feature=feature, license_id=license_id)
        return self._end(which, Action(actor=actor, name="force_cleanup"))

    def cleanup(
        self,
        license_id: str,
        *,
        user_id: str | None = None,
        feature: str | None = None,
        actor: str,
    ) -> Cleanup:
        """End what looks dead on a license: leases whose holders have fallen silent. The living stay."""
        self.require(feature, license_id)
        which = LeaseFilter(license_id=license_id, user_id=user_id, feature=feature)
        return self._end(which, Action(actor=actor, name="cleanup_sessions"), suspects_only=True)

    def release(self, *lease_ids: str, actor: str) -> Cleanup:
        """End leases by their ids, `LIST_MAX` at most."""
        return self._end(LeaseFilter(ids=lease_ids), Action(actor=actor, name="release"))

    def release_all(self, user_id: str, *, actor: str) -> Cleanup:
        """End all leases of a user, on every license."""
        return self._end(LeaseFilter(user_id=user_id), Action(actor=actor, name="force_cleanup"))

    def debug(self, user_id: str, feature: str, *, license_id: str | None = None) -> Debug:
        """Show everything about a user and a feature: what is held, what was refused, and why."""
        self.require(feature, license_id)
        which = LeaseFilter(
            user_id=user_id, feature=feature, license_id=license_id, include_ended=True
        )
        leases, now = self._store.leases(which)
        denials = self._denials(user_id=user_id, feature=feature)
        licenses = (
            {license_id}
            if license_id
            else {
                pool.partition(":")[0]
                for pool in [x.pool_id for x in leases] + [str(d.pool_id) for d in denials]
            }
        )
        pools = [pool_id(x, feature) for x in sorted(licenses)]
        self._usage([x for each in licenses for x in self._ledger.pools(each) if x.id in pools])
        return Debug(
            at=now,
            user_id=user_id,
            feature=feature,
            leases=tuple(leases),
            pools=tuple(self._views(pools, user_id, leases)),
            denials=tuple(denials),
            names=self.names(leases),
        )

    def line(self, license_id: str, feature: str) -> LineStatus:
        """Show who waits for a seat, and who was refused lately and may come again.

        Raises NotFound where there is no such license, or no such feature on it.
        """
        self.require(feature, license_id)
        return self._line(pool_id(license_id, feature))

    def _line(self, pool: str) -> LineStatus:
        entries, now = self._store.waiting(pool)
        denials = self._store.events(
            pool_id=pool, kinds=(EventKind.LEASE_DENIED,), limit=DENIALS_READ, newest_first=True
        )
        told: dict[tuple[str | None, str | None], list[Event]] = {}
        for denial in denials:
            if now - denial.at <= REFUSED_FOR and denial.data["reason"] == "seat_limit":
                told.setdefault((denial.user_id, denial.client_id), []).append(denial)
        for entry in entries:
            told.pop(entry.holder, None)
        refused = [
            RefusedHolder(user_id=user or "", client_id=client or "", at=of[0].at, times=len(of))
            for (user, client), of in list(told.items())[:REFUSED_MAX]
            if not self._holds(pool, user, client)
        ]
        return LineStatus(pool_id=pool, entries=tuple(entries), refused=tuple(refused), at=now)

    def _holds(self, pool: str, user_id: str | None, client_id: str | None) -> bool:
        license_id, feature = split_pool_id(pool)
        which = LeaseFilter(
            license_id=license_id, feature=feature, user_id=user_id, client_id=client_id
        )
        return bool(self._store.leases(which, limit=1)[0])

    def stats(self, license_id: str) -> Stats:
        """Count a license's seats, pool by pool."""
        license_ = self._license(license_id)
        pools = self._ledger.pools(license_id)
        usages = self._usage(pools)
        denials: list[Event] = []
        for pool in pools:
            denials += self._store.events(
                pool_id=pool.id,
                kinds=(EventKind.LEASE_DENIED,),
                limit=20,
                newest_first=True,
            )
        denials.sort(key=lambda e: -e.id)
        return Stats(
            license=license_,
            pools=tuple((p, u) for p, u in zip(pools, usages, strict=True) if u is not None),
            denials=tuple(denials[:20]),
            at=self._store.now(),
            full_in={x.pool_id: self._suspicion.trends.full_in(x) for x in usages if x is not None},
        )

    def _usage(self, pools: Sequence[Pool]) -> list[Usage | None]:
        """Count what is in use. Pools that a store has lost, as a Redis that was emptied, are put back."""
        ids = [pool.id for pool in pools]
        usages = self._store.usage(ids)
        lost = [pool for pool, usage in zip(pools, usages, strict=True) if usage is None]
        if not lost:
            return usages
        names = {pool.id for pool in lost}
        licenses = {pool.license_id for pool in lost}
        define(
            self._store,
            lambda: [p for x in sorted(licenses) for p in self._ledger.pools(x) if p.id in names],
        )
        return self._store.usage(ids)

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        """List leases, and the instant by which to judge them."""
        return self._store.leases(which, after=after, limit=min(limit, LIST_MAX))

    def _end(self, which: LeaseFilter, action: Action, *, suspects_only: bool = False) -> Cleanup:
        ended: list[Lease] = []
        count = 0
        for _ in range(ROUNDS_MAX):
            batch = self._store.revoke(which, action, suspects_only=suspects_only)
            count += len(batch)
            self.freed({lease.pool_id for lease in batch})
            ended += batch[: LIST_MAX - len(ended)]
            if len(batch) < LIST_MAX:
                break
        remaining, now = self._store.leases(which, limit=LIST_MAX)
        return Cleanup(
            ended=tuple(ended),
            ended_count=count,
            remaining=len(remaining),
            at=now,
            names=self.names(ended),
        )

    def _doubted(self, pool: Pool, user_id: str) -> tuple[tuple[Lease, Score], ...]:
        """Score the holders of a pool; of more than LIST_MAX some, by their random ids. Return who is
        doubted, and the user's own leases."""
        which = LeaseFilter(license_id=pool.license_id, feature=pool.feature)
        leases, now = self._store.leases(which, limit=LIST_MAX)
        scores = self._suspicion.assess(leases, pool.policy, now)
        found = [
            (lease, score)
            for lease, score in zip(leases, scores, strict=True)
            if lease.user_id == user_id or score.excused or score.phi >= TOLD_FROM
        ]
        found.sort(key=lambda x: (x[0].user_id != user_id, -x[1].phi, x[0].last_beat_at))
        return tuple(found[:DOUBTED_MAX])

    def _forecast(self, pool: Pool, answer: Lease | Denied) -> Lease | Denied:
        if not isinstance(answer, Denied):
            return answer
        return replace(answer, free_in=self._suspicion.denied(pool.id, answer, pool.policy))

    def sample(self) -> None:
        """Note how many seats are in use where some were taken of late, for `full_in`."""
        if watched := self._suspicion.trends.watched():
            self._suspicion.trends.note(self._store.usage(watched))

    def names(self, leases: Sequence[Lease]) -> dict[str, str]:
        """Return the names of the licenses that these leases are of, by license id."""
        return self._ledger.license_names([x.pool_id.partition(":")[0] for x in leases])

    def require(self, feature: str | None, license_id: str | None) -> None:
        """Refuse what is not there: an answer of nothing would be taken for good news."""
        if license_id is not None:
            self._license(license_id)
        if feature is None:
            return
        check_feature(feature)
        known = self._ledger.features(license_id)
        if feature not in known and (
            len(known) < NAMED_MAX
            or feature not in self._ledger.features(license_id, limit=LIST_MAX)
        ):
            where = "on this license" if license_id else "on any license"
            raise NotFound(
                f"There is no feature {feature!r} {where}.",
                code="feature_unknown",
                hint=f"There are: {', '.join(known) or 'none'}.",
            )

    def _license(self, license_id: str) -> License:
        license_ = self._ledger.license(license_id)
        if license_ is None:
            raise NotFound(
                f"There is no license {license_id!r}.",
                code="license_unknown",
                hint=f"There are: {self._some_licenses() or 'none'}.",
            )
        return license_

    def _some_licenses(self) -> str:
        """Name the first licenses, and say if there are more."""
        found = self._ledger.licenses(limit=LICENSES_NAMED_MAX + 1)
        said = [f"{x.id} ({x.name})" for x in found[:LICENSES_NAMED_MAX]]
        more = ["and more: sojourn license list"] if len(found) > LICENSES_NAMED_MAX else []
        return ", ".join([*said, *more])

    def _denials(self, *, user_id: str, feature: str) -> list[Event]:
        events = self._store.events(
            user_id=user_id,
            kinds=(EventKind.LEASE_DENIED,),
            limit=100,
            newest_first=True,
        )
        suffix = f":{feature}"
        return [e for e in events if e.pool_id is not None and e.pool_id.endswith(suffix)][:20]

    def _views(
        self, pool_ids: list[str], user_id: str, leases: Sequence[Lease]
    ) -> list[PoolStatus]:
        views: list[PoolStatus] = []
        # Reservations may be for groups that were proved, or for a kind of device.
        known = {x.pool_id: x for x in sorted(leases, key=lambda x: x.last_beat_at)}
        # Who could not acquire under such a name is asked about as anybody.
        asked_as = "nobody" if hidden(user_id) else user_id
        answers = self._store.preview(
            [
                Acquire(
                    pool_id=p,
                    user_id=asked_as,
                    client_id=new_id("debug_"),
                    lease_id=new_id("lse_"),
                    member_of=known[p].member_of if p in known else (),
                    device=known[p].device if p in known else None,
                )
                for p in pool_ids
            ]
        )
        found = zip(
            self._store.pools(pool_ids),
            self._store.usage(pool_ids),
            answers,
            strict=True,
        )
        for pool, usage, answer in found:
            if pool is None or usage is None:
                continue
            views.append(
                PoolStatus(
                    license=self._ledger.license(pool.license_id),
                    pool=pool,
                    usage=usage,
                    answer=self._forecast(pool, answer),
                    answer_user=user_id,
                    line=self._line(pool.id),
                    doubted=self._doubted(pool, user_id) if len(views) < DOUBTED_POOLS_MAX else (),
                    full_in=self._suspicion.trends.full_in(usage),
                )
            )
        return views
