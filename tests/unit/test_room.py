"""Which seats are free for whom, by itself: against a count of every seat, one by one."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.device import Device
from sojourn.lease import Lease
from sojourn.license import CountBy, Policy, Reservation
from sojourn.room import Room, Victim, reservation_of
from sojourn.testing.builders import POOL, acquire

NAMES = ("one", "two", "three")
PLACES = (None, 0, 1, 2)


def lease(user_id: str = "ann", client_id: str = "tab", **fields: object) -> Lease:
    plain = Lease(
        id=f"lea_{user_id}_{client_id}",
        pool_id=POOL,
        user_id=user_id,
        client_id=client_id,
        fence=1,
        acquired_at=0,
        last_beat_at=0,
        suspect_at=60,
        expires_at=90,
    )
    return replace(plain, **fields)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    seats = draw(st.lists(st.integers(1, 3), max_size=3))
    return Policy(
        capacity=sum(seats) + draw(st.integers(0, 3)),
        overdraft=draw(st.integers(0, 2)),
        reservations=tuple(
            Reservation(name=name, seats=n, users=(name,))
            for name, n in zip(NAMES, seats, strict=False)
        ),
    ).validate()


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    """Seats held in any way, also as no sequence of grants under this policy would bring about."""
    policy = draw(policies())
    users = st.sampled_from([*NAMES, "other"])
    held = [lease(user, f"{n}") for n, user in enumerate(draw(st.lists(users, max_size=12)))]
    return Room(policy, len(held), held)


def placed(policy: Policy, place: int | None) -> int | None:
    """A place that the policy has, or none."""
    return None if place is None or place >= len(policy.reservations) else place


def by_hand(room: Room, place: int | None, *, overdraft: bool) -> bool:
    """Seat everybody where the rules want them, and look whether one is left over for `place`."""
    policy = room.policy
    seats: list[int | None] = [
        i for i, each in enumerate(policy.reservations) for _ in range(each.seats)
    ]
    seats += [None] * (policy.capacity - len(seats) + (policy.overdraft if overdraft else 0))
    total = len(seats)
    homeless = room.in_use - sum(room.used)
    for i, used in enumerate(room.used):
        mine = min(used, policy.reservations[i].seats)
        homeless += used - mine
        for _ in range(mine):
            seats.remove(i)
    common = min(homeless, seats.count(None))
    for _ in range(common):
        seats.remove(None)
    entitled = None in seats or (place is not None and place in seats)
    return entitled and room.in_use < total


@given(room=rooms(), place=st.sampled_from(PLACES), overdraft=st.booleans())
def test_a_seat_is_free_if_one_is_left_over(
    room: Room, place: int | None, *, overdraft: bool
) -> None:
    """What is worked out is what is found by taking seats away one after another."""
    place = placed(room.policy, place)
    assert (room.free(place, overdraft=overdraft) > 0) is by_hand(room, place, overdraft=overdraft)


@given(rooms())
def test_what_is_promised_is_kept(room: Room) -> None:
    """Whoever is let in while there is a seat raises what is held and kept to no more than there is; and a
    reservation's holders find its seats as long as nobody sits in them."""
    policy = room.policy
    assert room.overdrawn == max(0, room.in_use + room.kept_from(None) - policy.capacity)
    before = room.overdrawn
    for place in [None, *range(len(policy.reservations))]:
        if room.free(place, overdraft=True) <= 0:
            continue
        then = Room(policy, room.in_use, ())
        then.used = list(room.used)
        then.in_use += 1
        if place is not None:
            then.used[place] += 1
        assert then.overdrawn <= max(policy.overdraft, before)
        assert room.overdraws(place) is (then.overdrawn > before or _full(room, place))


def _full(room: Room, place: int | None) -> bool:
    """Tell whether nothing is kept for `place`, and all that is common is taken."""
    unused = [max(0, r.seats - n) for r, n in zip(room.policy.reservations, room.used, strict=True)]
    mine = 0 if place is None else unused[place]
    return mine == 0 and room.in_use + sum(unused) >= room.policy.capacity


victims = st.lists(st.builds(Victim, st.sampled_from(PLACES), st.booleans()), max_size=6)


def _held(room: Room, some: list[Victim]) -> list[Victim]:
    """Return those of the victims that the room can have."""
    left, common = list(room.used), room.in_use - sum(room.used)
    found = []
    for victim in some:
        place = placed(room.policy, victim.reservation)
        if place is None and common > 0:
            common -= 1
        elif place is not None and left[place] > 0:
            left[place] -= 1
        else:
            continue
        found.append(Victim(place, victim.suspect))
    return found


def _after(room: Room, some: list[Victim]) -> Room:
    then = Room(room.policy, room.in_use - len(some))
    then.used = list(room.used)
    for victim in some:
        if victim.reservation is not None:
            then.used[victim.reservation] -= 1
    return then


def test_a_suspect_that_helps_only_after_an_idle_one() -> None:
    """Above the capacity: neither seat alone is of use, both together are."""
    policy = Policy(
        capacity=3,
        reservations=(
            Reservation(name="one", seats=2, users=("a",)),
            Reservation(name="two", seats=1, users=("b",)),
        ),
    )
    room = Room(policy, 4)
    room.used = [2, 1]
    assert room.to_end(1, [Victim(0, suspect=True), Victim(1, suspect=False)]) == [1, 0]


@given(rooms(), st.sampled_from(PLACES), victims)
def test_nobody_is_ended_in_vain(room: Room, place: int | None, some: list[Victim]) -> None:
    """The idle are ended only for a seat, and no more of them than it takes; suspects, as long as that
    helps; and no suspect who would have helped is left where none is granted."""
    place = placed(room.policy, place)
    some = _held(room, some)
    ended = room.to_end(place, some)
    assert len(ended) == len(set(ended))
    then = _after(room, [some[i] for i in ended])
    idle = [i for i in ended if not some[i].suspect]
    suspects = [some[i] for i in ended if some[i].suspect]
    if idle:
        assert then.free(place, overdraft=True) > 0
        without = _after(room, suspects)
        assert without.free(place, overdraft=True) <= 0
        fewer = [some[i] for i in idle[:-1]]
        assert _after(room, suspects + fewer).free(place, overdraft=True) <= 0
    if then.free(place) <= 0:
        left = [some[i] for i in range(len(some)) if i not in ended and some[i].suspect]
        assert not any(_after(then, [victim]).free(place) > 0 for victim in left)
        everybody = [some[i] for i in range(len(some)) if i not in ended]
        if (
            then.free(place, overdraft=True) <= 0
        ):  # then no choice among all of them would have done
            for count in range(len(everybody) + 1):
                for chosen in combinations(everybody, count):
                    assert _after(then, list(chosen)).free(place, overdraft=True) <= 0
    assert not ended or room.free(place) <= 0


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("12"), st.booleans()), max_size=20)
)
def test_comings_and_goings_add_up(steps: list[tuple[str, str, bool]]) -> None:
    """However leases come and go, the seats of each reservation are those of who is there."""
    policy = Policy(
        capacity=9,
        count_by=CountBy.CLIENT,
        reservations=(
            Reservation(name="one", seats=1, users=("one",)),
            Reservation(name="two", seats=1, users=("two",)),
        ),
    )
    room = Room(policy, 0)
    there: dict[tuple[str, str], int] = {}  # in the order of coming
    for number, (user, client, comes) in enumerate(steps):
        came = there.get((user, client), number)
        row = lease(user, client, acquired_at=came // 2, fence=came)
        (room.enter if comes else room.leave)(row)
        there.pop((user, client), None) if not comes else there.setdefault((user, client), came)
    first = {
        client: next((u for u, c in there if c == client and u != "three"), None) for client in "12"
    }
    assert room.used == [list(first.values()).count(name) for name in ("one", "two")]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("123")), unique=True))
def test_who_joins_a_seat_takes_it_from_no_reservation(steps: list[tuple[str, str]]) -> None:
    """What is held and kept does not grow by those who come to a seat that is held."""
    policy = Policy(
        capacity=3,
        count_by=CountBy.CLIENT,
        reservations=tuple(Reservation(name=name, seats=1, users=(name,)) for name in NAMES),
    )
    room = Room(policy, 3)
    seats: set[str] = set()
    for fence, (user, client) in enumerate(steps):
        before = room.overdrawn
        room.enter(lease(user, client, acquired_at=fence // 2, fence=fence))
        assert client not in seats or room.overdrawn <= before
        seats.add(client)


def test_who_counts() -> None:
    """By user, by a proved group, by the kind of device; into the first that names one of them."""
    policy = Policy(
        capacity=9,
        reservations=(
            Reservation(name="ann", seats=1, users=("ann",)),
            Reservation(name="staff", seats=1, groups=("staff", "board")),
            Reservation(name="desks", seats=1, kinds=("desktop",), users=("ann", "bob")),
        ),
    ).validate()
    desk = Device(kind="desktop")
    asked = [
        (acquire("ann", device=desk, member_of=("staff",)), 0),
        (acquire("bob", member_of=("others", "board"), device=desk), 1),
        (acquire("bob"), 2),
        (acquire("cid", device=desk), 2),
        (acquire("cid", device=Device(name="desktop")), None),
        (acquire("staff", member_of=("Staff", "staff ")), None),
        (acquire("Ann"), None),
    ]
    assert [reservation_of(policy, request) for request, _ in asked] == [each for _, each in asked]
