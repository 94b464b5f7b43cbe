"""Scores of a pool's holders: order, reasons, and what raises nobody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.device import Device
from sojourn.lease import Beat, Lease, beat_times
from sojourn.license import Policy
from sojourn.staleness.asking import GONE_FROM, gone, unanswered, whom_to_ask
from sojourn.staleness.phi import PHI_MAX
from sojourn.staleness.priors import PRIORS, ClientClass, class_of
from sojourn.staleness.scores import ASK_FROM, ELSEWHERE, Score, Seen, assess, network_of, order
from sojourn.staleness.suspicion import Suspicion

POLICY = Policy(capacity=100)
NOW = 1_800_000_000_000
BEAT = 30_000
OFFICE = "198.51.100."
DESKTOP = Device(kind="desktop")


def lease(name: str, silent_for: int = 0, *, device: Device | None = DESKTOP, **more: Any) -> Lease:
    """Make a lease that beat so long ago."""
    last = NOW - silent_for
    made = Lease(
        id=name,
        pool_id="lic_1:editor",
        user_id=name,
        client_id="app",
        fence=1,
        acquired_at=last,
        last_beat_at=last,
        suspect_at=last,
        expires_at=last,
        device=device,
    )
    suspect_at, expires_at = beat_times(POLICY, made, Beat(next_in=more.pop("next_in", None)), last)
    fields = {"suspect_at": suspect_at, "expires_at": expires_at} | more
    return Lease(**{name: getattr(made, name) for name in made.__struct_fields__} | fields)


def scores(leases: list[Lease], now: int = NOW) -> dict[str, Score]:
    """Score leases that beat elsewhere."""
    seen = [Seen(lease=x, silent_for=max(0, now - x.last_beat_at)) for x in leases]
    return {score.lease_id: score for score in assess(seen, POLICY, now)}


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        (None, ClientClass.UNKNOWN),
        (Device(), ClientClass.UNKNOWN),
        (Device(kind="fridge"), ClientClass.UNKNOWN),
        (Device(kind="desktop"), ClientClass.DESKTOP),
        (Device(kind="program"), ClientClass.DESKTOP),
        (Device(kind="desktop", browser="Firefox"), ClientClass.TAB),
        (Device(kind="phone", browser="Safari"), ClientClass.MOBILE),
        (Device(kind="tablet"), ClientClass.MOBILE),
        (Device(kind="extension", browser="Chrome"), ClientClass.WORKER),
        (Device(kind="server"), ClientClass.SERVICE),
    ],
)
def test_classes_of_clients(device: Device | None, kind: ClientClass) -> None:
    assert class_of(device) is kind
    assert kind in PRIORS


KINDS = st.sampled_from(
    [None, *(Device(kind=x) for x in ("desktop", "phone", "extension", "server"))]
)


@given(
    device=KINDS,
    silence=st.integers(0, 10**7),
    more=st.integers(0, 10**7),
    doubted_in=st.integers(-(10**5), 10**5),
)
def test_a_longer_silence_never_lowers_a_score(
    device: Device | None, silence: int, more: int, doubted_in: int
) -> None:
    """Whatever the client and whenever its socket dropped."""
    held = lease("lse_1", 0, device=device, suspect_at=NOW + doubted_in)
    before, after = (scores([held], now=NOW + x)["lse_1"].phi for x in (silence, silence + more))
    assert 0.0 <= before <= after <= PHI_MAX


def test_the_most_silent_for_its_kind_is_asked_first() -> None:
    """Not who is silent longest: a phone and a throttled tab are silent for longer, and alive."""
    tab = Device(kind="desktop", browser="Chrome")
    held = [
        lease("lse_phone", 50_000, device=Device(kind="phone")),
        lease("lse_tab", 58_000, device=tab),
        lease("lse_program", 45_000),
        lease("lse_living", 4_000),
    ]
    scored = scores(held)
    assert next(x.id for x in order(held, scored)) == "lse_program"
    assert [x.id for x in order(held, scored, at_least=ASK_FROM)] == ["lse_program"]


def test_who_announced_a_late_beat_is_not_doubted_before() -> None:
    kept_word = lease("lse_1", 80_000, next_in=80_000)
    assert scores([kept_word])["lse_1"].phi < ASK_FROM
    assert scores([lease("lse_1", 80_000)])["lse_1"].phi > ASK_FROM


def test_a_phone_that_never_stalled_may_still_do_so() -> None:
    """Stalls are too rare to be known of one lease: its class counts, however steady it has been."""
    clock = [NOW]
    suspicion = Suspicion(now=lambda: clock[0])
    phone = lease("lse_1", device=Device(kind="phone"), suspect_at=NOW + 10**9)
    for _ in range(100):
        suspicion.tick()
        suspicion.heard([("lse_1", None)])
        for _ in range(20):
            clock[0] += 1_000
            suspicion.tick()
    history = suspicion.tracker.history("lse_1")
    assert history is not None
    # A tunnel of 65 s, right before the next beat.
    seen = Seen(lease=phone, silent_for=85_000, history=history)
    [score] = assess([seen], POLICY, NOW)
    assert score.phi < GONE_FROM


def test_a_goodbye_and_a_dropped_socket_are_told_apart() -> None:
    left = lease("lse_1", 4_000, suspect_at=NOW - 4_000)
    dropped = lease("lse_2", 14_000, suspect_at=NOW - 1_000)
    told = scores([left, dropped])
    assert told["lse_1"].reasons[0].startswith("It said goodbye")
    assert told["lse_2"].reasons[0].startswith("Its socket dropped")
    assert told["lse_1"].phi >= ASK_FROM
    assert told["lse_2"].phi >= ASK_FROM


def test_reasons_say_what_a_score_rests_on() -> None:
    [score] = scores([lease("lse_1", 45_000)]).values()
    said = " ".join(score.reasons)
    assert "Silent for 45 s; its next beat was to be expected after 30 s" in said
    assert "once in 1," in said
    assert "class desktop" in said


@given(st.integers(3, 40), st.integers(0, 60_000), st.randoms(use_true_random=False))
def test_an_office_that_falls_silent_raises_nobody(people: int, later: int, random: Any) -> None:
    """All of one network fell silent within one interval, and others beat on: nobody is doubted for it."""
    office = [
        lease(
            f"lse_o{i}",
            later + random.randrange(BEAT),
            device=Device(kind="desktop", ip=OFFICE + str(i)),
        )
        for i in range(people)
    ]
    others = [
        lease(f"lse_x{i}", random.randrange(BEAT), device=Device(kind="desktop", ip=f"203.0.{i}.9"))
        for i in range(50)
    ]
    told = scores(office + others)
    late = [x for x in office if NOW - x.last_beat_at > 1.1 * BEAT]
    if len(late) >= 3:
        assert all(told[x.id].phi == 0.0 and told[x.id].excused for x in late)
        assert "network 198.51.100.0/24" in told[late[0].id].reasons[0]
        assert "doubted, not the people" in told[late[0].id].reasons[0]
    assert not any(told[x.id].excused for x in others)
    assert not set(order(office, told)) & set(late) or len(late) < 3


def test_one_who_leaves_an_office_is_no_outage() -> None:
    office = [
        lease(f"lse_{i}", 1_000 * i, device=Device(kind="desktop", ip=OFFICE + str(i)))
        for i in range(1, 20)
    ]
    office.append(lease("lse_gone", 45_000, device=Device(kind="desktop", ip=OFFICE + "77")))
    told = scores(office)
    assert told["lse_gone"].phi > ASK_FROM
    assert not any(score.excused for score in told.values())


def test_a_server_of_ours_that_died_raises_nobody() -> None:
    """Its clients fell silent together, whatever their networks; those who beat here go on."""
    suspicion = Suspicion(now=lambda: NOW)
    here = [
        lease(f"lse_h{i}", 5_000, device=Device(kind="desktop", ip=f"203.0.{i}.1"))
        for i in range(9)
    ]
    there = [
        lease(f"lse_t{i}", 40_000 + 1_000 * i, device=Device(kind="desktop", ip=f"192.0.{i}.1"))
        for i in range(9)
    ]
    suspicion.heard((x.id, None) for x in here)
    told = {x.lease_id: x for x in suspicion.assess([*here, *there], POLICY, NOW)}
    assert all(told[x.id].excused for x in there)
    assert ELSEWHERE in told["lse_t1"].reasons[0]
    assert not any(told[x.id].excused for x in here)


@given(st.integers(3_001, 10**7), st.integers(0, 29_000))
def test_a_pause_of_this_process_raises_nobody(pause: int, silence: int) -> None:
    """However long it stood still: nobody could have been heard meanwhile."""
    clock = [NOW - silence]
    suspicion = Suspicion(now=lambda: clock[0])
    suspicion.tick()
    held = lease("lse_1", silence)
    suspicion.heard([("lse_1", None)])
    while clock[0] < NOW:
        clock[0] = min(NOW, clock[0] + 1_000)
        suspicion.tick()
    [before] = suspicion.assess([held], POLICY, NOW)
    clock[0] = NOW + pause
    [after] = suspicion.assess([held], POLICY, NOW + pause)
    assert after.phi <= before.phi + 0.01
    assert any("stood still" in reason for reason in after.reasons)


def test_the_later_sign_of_life_counts() -> None:
    """A lease may beat at another server between two beats here, or here before the store is asked."""
    clock = [NOW]
    suspicion = Suspicion(now=lambda: clock[0])
    suspicion.heard([("lse_1", None)])
    clock[0] = NOW + 50_000
    elsewhere = lease("lse_1", -48_000)
    [score] = suspicion.assess([elsewhere], POLICY, NOW + 50_000)
    assert score.silent_for == 2_000
    [score] = suspicion.assess([lease("lse_1", 90_000)], POLICY, NOW + 50_000)
    assert score.silent_for == 50_000


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.77", "network 192.0.2.0/24"),
        ("::ffff:192.0.2.77", "network 192.0.2.0/24"),
        ("2001:db8:7:1::9", "network 2001:db8:7::/48"),
        ("127.0.0.1", None),
        ("::1", None),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_networks(ip: str | None, network: str | None) -> None:
    assert network_of(lease("lse_1", device=Device(ip=ip))) == network


def test_who_does_not_answer_is_gone_unless_its_kind_often_stalls() -> None:
    phone, program, living = (
        lease("lse_phone", 9_000, device=Device(kind="phone")),
        lease("lse_program", 9_000),
        lease("lse_living", 9_000),
    )
    asked = [phone, program, living]
    assert gone(asked, {"lse_living"}, scores(asked), POLICY, waited=1_500, doubtful=()) == [
        program
    ]
    doubts = [
        unanswered(x, POLICY, 1_500, doubtful=doubtful)
        for x in (program, phone)
        for doubtful in (False, True)
    ]
    assert min(doubts[:2]) >= GONE_FROM > max(doubts[2:])


@pytest.mark.parametrize("kind", ["extension", "toaster"])
def test_of_some_kinds_only_who_was_doubted_is_gone(kind: str) -> None:
    """Who seemed to be there is not ended for one answer that is missing, where clients may well stall; a
    socket that drops, or is silent for an interval, is a sign of its own."""
    held = lease("lse_1", 9_000, device=Device(kind=kind))
    told = scores([held])
    assert gone([held], (), told, POLICY, waited=1_500, doubtful=()) == []
    assert gone([held], (), told, POLICY, waited=1_500, doubtful={"lse_1"}) == [held]


def test_a_network_that_answers_nothing_loses_nobody() -> None:
    office = [
        lease(f"lse_{i}", device=Device(kind="desktop", ip=OFFICE + str(i))) for i in range(5)
    ]
    alone = lease("lse_alone", device=Device(kind="desktop", ip="203.0.113.5"))
    asked = [*office, alone]
    assert gone(asked, {"lse_0"}, scores(asked), POLICY, waited=1_500, doubtful=()) == [alone]
    answered = {"lse_0", "lse_1", "lse_2"}
    assert {
        x.id for x in gone(asked, answered, scores(asked), POLICY, waited=1_500, doubtful=())
    } == {
        "lse_3",
        "lse_4",
        "lse_alone",
    }


def test_a_network_that_somebody_was_heard_from_is_not_doubted() -> None:
    """Who wants a seat calls from there: the small office whose machines are gone is no outage."""
    office = [
        lease(f"lse_{i}", device=Device(kind="desktop", ip=OFFICE + str(i))) for i in range(5)
    ]
    network = network_of(office[0])
    assert network is not None
    told = scores(office)
    assert gone(office, {"lse_0"}, told, POLICY, waited=1_500, doubtful=()) == []
    out = gone(office, {"lse_0"}, told, POLICY, waited=1_500, doubtful=(), heard_from={network})
    assert {x.id for x in out} == {"lse_1", "lse_2", "lse_3", "lse_4"}


def test_who_is_excused_is_asked_and_judged_by_the_answer() -> None:
    """Three of five have fallen silent together, as in an outage; asked, they are found to be gone."""
    ips = [f"203.0.{i}.5" for i in range(5)]
    pool = [
        lease(f"lse_{i}", 60_000 if i < 3 else 0, device=Device(kind="desktop", ip=ip))
        for i, ip in enumerate(ips)
    ]
    told = scores(pool)
    assert {x for x, score in told.items() if score.excused} == {"lse_0", "lse_1", "lse_2"}
    asked = whom_to_ask(pool, pool, told, limit=9)
    assert {x.id for x in asked} == {x.id for x in pool}
    out = gone(asked, {"lse_3", "lse_4"}, told, POLICY, waited=1_500, doubtful=())
    assert {x.id for x in out} == {"lse_0", "lse_1", "lse_2"}


def test_peers_are_asked_too_however_lately_they_were_heard() -> None:
    """Whether one person or a network is silent shows by the others there."""
    office = [
        lease(f"lse_{i}", device=Device(kind="desktop", ip=OFFICE + str(i))) for i in range(9)
    ]
    late = lease("lse_late", 40_000, device=Device(kind="desktop", ip=OFFICE + "99"))
    alone = lease("lse_alone", 35_000, device=Device(kind="desktop", ip="203.0.113.5"))
    holders = [*office, late, alone]
    asked = whom_to_ask([alone, late], holders, scores(holders), limit=10)
    assert [x.id for x in asked] == ["lse_late", "lse_0", "lse_1", "lse_2", "lse_alone"]
    assert len(whom_to_ask([alone, late], holders, scores(holders), limit=3)) == 3
