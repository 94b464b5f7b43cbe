"""What the state machine tries of pools: their policies, who counts into their reservations, and what must
hold when somebody is denied a seat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.clock import MINUTE, SECOND
from sojourn.device import Device
from sojourn.lease import Acquire, Denied, Lease
from sojourn.license import CountBy, LicenseStatus, Policy, Pool, Reservation, WhenFull
from sojourn.testing.oracle import Held, Oracle

FEATURES = {"lease": CountBy.LEASE, "user": CountBy.USER, "client": CountBy.CLIENT}
POOLS = tuple(f"lic_1:{feature}" for feature in FEATURES)
GROUPS = {"ann": ("staff",), "bob": ("night", "staff"), "bob ": ("night",)}
"""Which groups a user is proved to be in, whenever it asks."""
DEVICES = {"1": Device(kind="desktop"), "2": Device(name="Phone")}
"""What a client says of its device, likewise."""
RESERVATIONS = (
    Reservation(name="ann", seats=1, users=("ann",)),
    Reservation(name="staff", seats=2, groups=("staff",)),
    Reservation(name="desks", seats=1, kinds=("desktop",)),
    Reservation(name="all", seats=1, users=("Ann",), groups=("night",), kinds=("desktop",)),
)


def _pool(feature: str, reservations: list[Reservation], capacity: int, **more: Any) -> Pool:
    """Build a pool with as many of these reservations as its capacity takes."""
    fitting: list[Reservation] = []
    for each in reservations:
        if sum(x.seats for x in fitting) + each.seats <= capacity:
            fitting.append(each)
    license_ = ("status", "valid_until")
    policy = {name: value for name, value in more.items() if name not in license_}
    return Pool(
        license_id="lic_1",
        feature=feature,
        policy=Policy(
            count_by=FEATURES[feature],
            capacity=capacity,
            reservations=tuple(fitting),
            idle_after=2 * MINUTE,
            **policy,
        ).validate(),
        **{name: more[name] for name in license_},
    )


pools = st.builds(
    _pool,
    feature=st.sampled_from(list(FEATURES)),
    capacity=st.integers(0, 3),
    when_full=st.sampled_from(WhenFull),
    linger=st.sampled_from([10 * SECOND, 0]),
    heartbeat_interval=st.sampled_from([30 * SECOND, 30 * SECOND, 5 * SECOND]),
    suspect_after=st.sampled_from([None, None, 40 * SECOND]),
    lost_after=st.sampled_from([90 * SECOND, 60 * SECOND, 5 * MINUTE]),
    resume_window=st.sampled_from([15 * MINUTE, 0]),
    max_lease=st.sampled_from([None, None, 2 * MINUTE]),
    overdraft=st.sampled_from([0, 0, 1, 2]),
    reservations=st.just([])
    | st.lists(st.sampled_from(RESERVATIONS), max_size=3, unique_by=lambda x: x.name),
    status=st.sampled_from([LicenseStatus.ACTIVE] * 9 + [LicenseStatus.SUSPENDED]),
    valid_until=st.sampled_from([None] * 9 + [1_800_000_600_000]),
)


def check_standing(
    oracle: Oracle, request: Acquire, denied: Denied, live: Sequence[Lease], now: int
) -> None:
    """The last who was denied a seat of a pool: there is none, its evidence is true, and no suspect past
    its linger holds one that it could have had."""
    pool = request.pool_id
    policy, standing = oracle.pools[pool].policy, oracle.standing(pool, now)
    mine = oracle.counts_into(pool, held_of(request))
    if oracle.doubtful(pool, now):
        return
    kept = [seats for place, seats in enumerate(standing.unused) if place != mine]
    own = sum(standing.unused) - sum(kept)
    assert standing.out >= policy.most or (own == 0 and standing.promised >= policy.most)
    assert (denied.in_use, denied.reserved_free) == (standing.in_use, sum(kept))
    assert denied.allotted == standing.allotted
    assert (denied.limit, denied.reserved) == (policy.capacity, policy.reserved)
    if policy.when_full is WhenFull.DENY:
        return
    trusted = {x.seat_key(policy.count_by) for x in live if x.suspect_at + policy.linger > now}
    ghosts: dict[str, list[Held]] = {}
    for lease in live:
        if (key := lease.seat_key(policy.count_by)) not in trusted:
            ghosts.setdefault(key, []).append(held_of(lease))
    assert own == 0 or not ghosts
    for place in (oracle.seat_counts_into(pool, seat) for seat in ghosts.values()):
        assert place not in (mine, len(policy.reservations)), "a suspect outsits a denial"
        assert standing.unused[place] > 0 or (
            standing.used[place] == policy.reservations[place].seats
        ), "a suspect in a common seat outsits a denial"


def as_proved(request: Acquire) -> Acquire:
    """Give a request the groups and the device of its holder."""
    return replace(
        request,
        member_of=GROUPS.get(request.user_id, ()),
        device=DEVICES.get(request.client_id),
    )


def held_of(holder: Acquire | Lease) -> Held:
    """Tell the oracle of somebody what decides into which reservation they count."""
    return Held(
        pool_id=holder.pool_id,
        user_id=holder.user_id,
        client_id=holder.client_id,
        fence=0 if isinstance(holder, Acquire) else holder.fence,
        acquired_at=0 if isinstance(holder, Acquire) else holder.acquired_at,
        expires_at=0,
        heard_at=0,
        groups=frozenset(holder.member_of),
        kind=None if holder.device is None else holder.device.kind,
    )
