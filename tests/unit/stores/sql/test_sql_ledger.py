"""The ledger, on every database it may live on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from msgspec.structs import replace

from sojourn.clock import ManualClock
from sojourn.errors import Conflict
from sojourn.ledger import ApiKey, Audit, Ledger, LicenseChange, Role, SweepRun
from sojourn.license import CountBy, License, LicenseStatus, Policy, Pool, WhenFull
from sojourn.stores.open import open_ledger

START = ManualClock().now()
ACME = License(id="lic_acme", name="Acme \N{SNOWMAN}")
EDITOR = Policy(capacity=5)
VIEWER = Policy(
    capacity=9,
    lost_after=60_000,
    suspect_after=45_000,
    count_by=CountBy.USER,
    when_full=WhenFull.EVICT_IDLE,
    idle_after=5_000,
    max_lease=1_000_000,
)


def key(number: int) -> bytes:
    return number.to_bytes(32)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory:", "empty_sqlite", "empty_postgres", "empty_mariadb"])
def ledger(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Ledger]:
    named = request.param != "memory:"
    url = request.getfixturevalue(request.param) if named else request.param
    with closing(open_ledger(url, clock=clock)) as ledger:
        yield ledger


def acme(ledger: Ledger) -> License:
    features = {"editor": EDITOR, "viewer": VIEWER}
    return ledger.create_license(ACME, features, key(1), actor="key:ops")


def actions(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(x.actor, x.action, x.subject) for x in ledger.audits()]


def test_create_license(ledger: Ledger) -> None:
    created = acme(ledger)
    assert created == replace(ACME, created_at=START)
    assert ledger.license("lic_acme") == created
    assert ledger.licenses_by_key([key(2), key(1), key(1)]) == [None, created, created]
    assert ledger.licenses_by_key([]) == []
    assert ledger.pools() == [
        Pool(license_id="lic_acme", feature="editor", policy=EDITOR),
        Pool(license_id="lic_acme", feature="viewer", policy=VIEWER),
    ]
    [audit] = ledger.audits()
    assert (audit.id, audit.at, audit.actor) == (1, START, "key:ops")
    assert (audit.action, audit.subject) == ("license.create", "lic_acme")
    assert audit.data["features"]["editor"]["capacity"] == 5


def test_create_license_twice(ledger: Ledger) -> None:
    """Neither an id nor a key opens two licenses, and what fails leaves nothing behind."""
    acme(ledger)
    with pytest.raises(Conflict):
        ledger.create_license(ACME, {"x": EDITOR}, key(2), actor="a")
    with pytest.raises(Conflict):
        ledger.create_license(replace(ACME, id="lic_2"), {"x": EDITOR}, key(1), actor="a")
    assert [x.id for x in ledger.licenses()] == ["lic_acme"]
    assert [x.feature for x in ledger.pools()] == ["editor", "viewer"]
    assert len(ledger.audits()) == 1


def test_list_licenses(ledger: Ledger) -> None:
    for number in range(5):
        suspended = number % 2 == 1
        license = License(
            id=f"lic_{number}",
            name="x",
            status=LicenseStatus.SUSPENDED if suspended else LicenseStatus.ACTIVE,
        )
        ledger.create_license(license, {}, key(number), actor="a")
    assert [x.id for x in ledger.licenses(limit=2)] == ["lic_0", "lic_1"]
    assert [x.id for x in ledger.licenses(after="lic_1", limit=2)] == ["lic_2", "lic_3"]
    found = ledger.licenses(status=LicenseStatus.SUSPENDED)
    assert [x.id for x in found] == ["lic_1", "lic_3"]


def test_change_license(ledger: Ledger) -> None:
    created = acme(ledger)
    change = LicenseChange(status=LicenseStatus.SUSPENDED, valid_until=START + 5)
    changed = replace(created, status=LicenseStatus.SUSPENDED, valid_until=START + 5)
    assert ledger.change_license("lic_acme", change, actor="b") == changed
    assert ledger.license("lic_acme") == changed
    assert {pool.status for pool in ledger.pools()} == {LicenseStatus.SUSPENDED}
    assert {pool.valid_until for pool in ledger.pools()} == {START + 5}
    cleared = ledger.change_license("lic_acme", LicenseChange(valid_until=None), actor="b")
    assert cleared == replace(changed, valid_until=None)
    assert ledger.change_license("lic_acme", LicenseChange(), actor="b") == cleared
    assert ledger.change_license("lic_none", change, actor="b") is None
    assert [action for _, action, _ in actions(ledger)] == ["license.create"] + [
        "license.change"
    ] * 2


def test_origins_of_licenses(ledger: Ledger) -> None:
    """They come back as they were given, and of all licenses each once."""
    acme(ledger)
    app, shop = "https://app.example", "https://*.shop.example"
    other = License(id="lic_other", name="Other", allowed_origins=(shop, app))
    assert ledger.create_license(other, {}, key(7), actor="x").allowed_origins == (shop, app)
    assert ledger.license_origins(["lic_other", "lic_acme", "lic_none"]) == {
        "lic_other": (shop, app),
        "lic_acme": (),
    }
    assert ledger.license_origins([]) == {}
    assert ledger.allowed_origins(limit=10) == {app, shop}
    change = LicenseChange(allowed_origins=(app,))
    changed = ledger.change_license("lic_acme", change, actor="x")
    assert changed is not None
    assert changed.allowed_origins == (app,)
    [found] = ledger.licenses_by_key([key(1)])
    assert found == ledger.license("lic_acme") == changed
    for name in ("lic_acme", "lic_other"):
        ledger.change_license(name, LicenseChange(allowed_origins=()), actor="x")
    assert ledger.allowed_origins(limit=10) == set()


def test_rotate_license_key(ledger: Ledger) -> None:
    created = acme(ledger)
    other = ledger.create_license(replace(ACME, id="lic_2"), {}, key(2), actor="a")
    assert ledger.rotate_license_key("lic_acme", key(3), actor="b") == created
    assert ledger.licenses_by_key([key(1), key(2), key(3)]) == [None, other, created]
    assert ledger.rotate_license_key("lic_none", key(4), actor="b") is None
    with pytest.raises(Conflict):
        ledger.rotate_license_key("lic_acme", key(2), actor="b")
    assert actions(ledger)[2:] == [("b", "license.rotate_key", "lic_acme")]


def test_delete_license(ledger: Ledger) -> None:
    acme(ledger)
    assert ledger.delete_license("lic_acme", actor="b") is True
    assert ledger.delete_license("lic_acme", actor="b") is False
    assert ledger.license("lic_acme") is None
    assert ledger.pools() == []
    assert actions(ledger)[1:] == [("b", "license.delete", "lic_acme")]


def test_features(ledger: Ledger) -> None:
    acme(ledger)
    assert ledger.set_feature("lic_acme", "editor", VIEWER, actor="b") is True
    assert ledger.set_feature("lic_acme", "a.new-one_", EDITOR, actor="b") is True
    assert ledger.set_feature("lic_none", "x", EDITOR, actor="b") is False
    assert {pool.feature: pool.policy for pool in ledger.pools("lic_acme")} == {
        "a.new-one_": EDITOR,
        "editor": VIEWER,
        "viewer": VIEWER,
    }
    assert ledger.remove_feature("lic_acme", "viewer", actor="b") is True
    assert ledger.remove_feature("lic_acme", "viewer", actor="b") is False
    assert ledger.remove_feature("lic_none", "viewer", actor="b") is False
    assert [action for _, action, _ in actions(ledger)[1:]] == [
        "feature.set",
        "feature.set",
        "feature.remove",
    ]


def test_a_policy_is_replaced_only_where_it_is_the_one_that_was_read(ledger: Ledger) -> None:
    acme(ledger)
    assert ledger.set_feature("lic_acme", "editor", VIEWER, actor="b", instead_of=EDITOR)
    with pytest.raises(Conflict):  # somebody who still thinks of the first one
        ledger.set_feature("lic_acme", "editor", EDITOR, actor="c", instead_of=EDITOR)
    with pytest.raises(Conflict):
        ledger.set_feature("lic_acme", "none", EDITOR, actor="c", instead_of=EDITOR)
    assert {pool.feature: pool.policy for pool in ledger.pools("lic_acme")} == {
        "editor": VIEWER,
        "viewer": VIEWER,
    }
    assert actions(ledger)[1:] == [("b", "feature.set", "lic_acme")]


def test_pools_by_page(ledger: Ledger) -> None:
    """In the order of pool ids, whatever the license ids: "-" comes before ":"."""
    for number, license_id in enumerate(("lic", "lic-2", "lic2")):
        features = {"a": EDITOR, "b": EDITOR}
        license = License(id=license_id, name="x")
        ledger.create_license(license, features, key(number), actor="a")
    ids = [pool.id for pool in ledger.pools()]
    assert ids == sorted(ids)
    assert len(ids) == 6
    paged: list[str] = []
    while page := ledger.pools(after=paged[-1] if paged else None, limit=2):
        paged += [pool.id for pool in page]
    assert paged == ids
    assert [pool.id for pool in ledger.pools("lic-2")] == ["lic-2:a", "lic-2:b"]


def test_api_keys(ledger: Ledger, clock: ManualClock) -> None:
    made = ledger.create_key(
        ApiKey(id="key_1", name="ops", role=Role.OPERATOR, expires_at=START + 9), key(1), actor="a"
    )
    assert made.created_at == START
    assert ledger.key_by_hash(key(1)) == (made, START)
    assert ledger.key_by_hash(key(2)) is None
    assert ledger.keys_by_id(["key_1", "key_2"]) == {"key_1": (made, key(1), START)}
    assert ledger.keys_by_id([]) == {}
    with pytest.raises(Conflict):
        ledger.create_key(replace(made, id="key_2"), key(1), actor="a")
    clock.advance(seconds=1)
    second = ledger.create_key(ApiKey(id="key_0", name="b", role=Role.APP), key(2), actor="a")
    assert ledger.keys() == [made, second]
    assert ledger.keys(limit=1) == [made]
    assert ledger.keys(after=made.id) == [second]
    assert ledger.keys(after=second.id) == ledger.keys(after="key_none") == []
    third = ledger.create_key(ApiKey(id="key_3", name="c", role=Role.APP), key(3), actor="a")
    assert third.created_at == second.created_at
    assert ledger.keys(newest=True) == [third, second, made]
    assert ledger.keys(newest=True, limit=1, after=third.id) == [second]
    assert ledger.keys(newest=True, after=made.id) == []
    revoked = ledger.revoke_key("key_1", actor="a")
    assert revoked == replace(made, revoked_at=START + 1_000)
    clock.advance(seconds=1)
    assert ledger.revoke_key("key_1", actor="a") == revoked
    assert ledger.revoke_key("key_none", actor="a") is None
    assert ledger.keys() == [revoked, second, third]
    assert [action for _, action, _ in actions(ledger)] == [
        "key.create",
        "key.create",
        "key.create",
        "key.revoke",
    ]


def test_which_keys_are_valid(ledger: Ledger, clock: ManualClock) -> None:
    for number, expires_at in ((1, None), (2, START + 1_000), (3, None)):
        made = ApiKey(id=f"key_{number}", name="n", role=Role.APP, expires_at=expires_at)
        ledger.create_key(made, key(number), actor="t")
    ledger.revoke_key("key_3", actor="t")
    asked = [key(number) for number in range(1, 5)]
    assert ledger.valid_keys(asked) == {key(1), key(2)}
    clock.advance(seconds=1)
    assert ledger.valid_keys(asked) == {key(1)}
    assert ledger.valid_keys([]) == set()


def test_audits(ledger: Ledger) -> None:
    for number in range(5):
        ledger.record(Audit(actor="a", action="b", subject=f"{number}", data={"é": [number]}))
    assert [x.id for x in ledger.audits()] == [1, 2, 3, 4, 5]
    assert [x.subject for x in ledger.audits(after=2, limit=2)] == ["2", "3"]
    assert ledger.audits()[4].data == {"é": [4]}


def test_audit_ids_have_no_gaps(ledger: Ledger) -> None:
    """Whoever follows the trail while many write to it misses nothing."""
    with ThreadPoolExecutor(8) as crowd:
        for number in range(40):
            crowd.submit(ledger.record, Audit(actor="a", action="b", subject=f"{number}"))
    assert [x.id for x in ledger.audits()] == list(range(1, 41))


def test_sweep_runs(ledger: Ledger) -> None:
    runs = [
        SweepRun(
            started_at=START + n, took=n, actor="system:sweep", leases_expired=n, sessions_cut=2 * n
        )
        for n in range(4)
    ]
    for run in runs:
        ledger.record_sweep(run)
    ledger.record_sweep(SweepRun(started_at=START, took=1, actor="b", error="it failed"))
    latest = ledger.sweeps(limit=3)
    assert [x.id for x in latest] == [5, 4, 3]
    assert latest[0].error == "it failed"
    assert latest[1] == replace(runs[3], id=4)


def test_now(ledger: Ledger, clock: ManualClock) -> None:
    clock.advance(seconds=3)
    assert ledger.now() == START + 3_000
